//! How a panic on any thread ends the process: half a server is worse than none, and restart recovers from disk.
//!
//! ```text
//!   panic                                      log                        exit
//!   Fatal: a full disk, a broken rule          one line                   1
//!   while the storage opens: a damaged file
//!   may cause one, and is caught there         nothing: it is an answer   -
//!   any other: a bug of this program           one line with a backtrace  abort
//! ```

use rusd_messages::Fatal;
use std::any::Any;
use std::backtrace::Backtrace;
use std::panic::PanicHookInfo;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the log says last.
const LAST_WORDS: &str = "the process ends; restart recovers from disk";

static STORAGE_IS_OPEN: AtomicBool = AtomicBool::new(false);

/// From here on only new, empty engines are opened, which no damage makes panic: every panic ends the process.
pub fn storage_is_open() {
    STORAGE_IS_OPEN.store(true, Ordering::Release);
}

/// Makes every panic end the process, except those of the table above that are caught.
pub fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| std::panic::set_hook(Box::new(end_unless_caught)));
}

fn end_unless_caught(info: &PanicHookInfo<'_>) {
    if let Some(Fatal { doing, error }) = info.payload().downcast_ref() {
        only_the_first_passes();
        tracing::error!(fatal = true, doing, error, "{LAST_WORDS}");
        crate::logging::flush();
        std::process::exit(1);
    }
    let storage_opens = rusd_storage::engine::opening() && !STORAGE_IS_OPEN.load(Ordering::Acquire);
    if storage_opens {
        return;
    }
    only_the_first_passes();
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let reason = text(info.payload());
    let backtrace = Backtrace::force_capture();
    tracing::error!(fatal = true, location, reason, %backtrace, "{LAST_WORDS}");
    crate::logging::flush();
    std::process::abort();
}

/// What a panic says; empty if its payload is no text.
fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or_default()
}

/// One cause often fails several threads (a full disk, the log and the engine); the first is what the log should say.
fn only_the_first_passes() {
    static ENDING: AtomicBool = AtomicBool::new(false);
    while ENDING.swap(true, Ordering::SeqCst) {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use crate::config::{LogFormat, LogLevel, LogOutput, Logging};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Output};

    const HOW: &str = "RUSD_TEST_END";

    /// Not a test by itself: what the process that the others start does.
    #[test]
    fn the_process_that_ends() {
        let Ok(how) = std::env::var(HOW) else { return };
        let logging = Logging {
            level: LogLevel::Info,
            format: LogFormat::Json,
            outputs: vec![LogOutput::Stderr],
            rotation: None,
        };
        let _flushed_last = crate::logging::init(&logging).unwrap();
        install_panic_hook();
        let ends = move || match how.as_str() {
            "fatal" => rusd_messages::fatal("writing the log in /data", &"no space left"),
            "caught" => {
                let caught: Result<(), String> =
                    rusd_storage::engine::caught(|| panic!("a damaged file's"));
                assert!(caught.is_err());
            }
            _ => panic!("a bug of ours"),
        };
        std::thread::spawn(ends).join().unwrap();
    }

    fn end(how: &str) -> (Output, Vec<String>) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::end::tests::the_process_that_ends"])
            .env(HOW, how)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr.clone()).unwrap();
        (output, stderr.lines().map(str::to_owned).collect())
    }

    #[test]
    fn what_was_foreseen_is_one_line_and_exit_code_1() {
        let (output, lines) = end("fatal");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(lines.len(), 1, "{lines:?}");
        for part in ["fatal", "writing the log in /data", "no space left"] {
            assert!(lines[0].contains(part), "{part}: {lines:?}");
        }
        assert!(!lines[0].contains("backtrace"));
    }

    #[test]
    fn a_bug_shows_its_backtrace_and_aborts() {
        let (output, lines) = end("bug");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT));
        assert_eq!(lines.len(), 1, "{lines:?}");
        for part in ["a bug of ours", "end.rs", "backtrace"] {
            assert!(lines[0].contains(part), "{part}: {lines:?}");
        }
    }

    #[test]
    fn a_panic_while_the_storage_opens_says_nothing() {
        let (output, lines) = end("caught");
        assert!(output.status.success(), "{lines:?}");
        assert_eq!(lines, Vec::<String>::new());
    }
}
