//! The process: what happens when something breaks, and how it is told to stop.

use rusd_messages::Fatal;
use std::backtrace::Backtrace;
use std::process::ExitCode;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};

static STORAGE_IS_OPEN: AtomicBool = AtomicBool::new(false);

/// From here on only new, empty engines are opened, which no damage makes panic: every panic ends the process.
pub fn storage_is_open() {
    STORAGE_IS_OPEN.store(true, Ordering::Release);
}

/// A panic anywhere ends the process: half a server is worse than none, and restart recovers from disk.
///
/// What was foreseen ([`Fatal`]: a full disk, say) is one line in the log and exit code 1; a bug shows its backtrace and
/// aborts. The one exception is the storage engine's own open, which may panic on a damaged directory and is caught
/// there (`rusd_storage::engine::opening`); [`storage_is_open`] ends it.
pub fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        std::panic::set_hook(Box::new(move |info| {
            if let Some(Fatal { doing, error }) = info.payload().downcast_ref() {
                only_the_first_passes();
                tracing::error!(
                    fatal = true,
                    doing,
                    error,
                    "the process ends; restart recovers from disk"
                );
                crate::logging::flush();
                std::process::exit(1);
            }
            if rusd_storage::engine::opening() && !STORAGE_IS_OPEN.load(Ordering::Acquire) {
                return;
            }
            only_the_first_passes();
            let location = info.location().map(ToString::to_string).unwrap_or_default();
            let reason = info
                .payload()
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| info.payload().downcast_ref::<String>().cloned())
                .unwrap_or_default();
            let backtrace = Backtrace::force_capture();
            tracing::error!(
                fatal = true,
                location,
                reason,
                %backtrace,
                "the process ends; restart recovers from disk"
            );
            crate::logging::flush();
            std::process::abort();
        }));
    });
}

/// One cause often fails several threads (a full disk, the log and the engine); the first is what the log should say.
fn only_the_first_passes() {
    static ENDING: AtomicBool = AtomicBool::new(false);
    while ENDING.swap(true, Ordering::SeqCst) {
        std::thread::park();
    }
}

/// A signal that asks the process to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
}

impl StopSignal {
    /// Its name, for the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "terminated",
            Self::Interrupt => "interrupt",
        }
    }

    /// Ends the process by the signal's own default action, so that whoever started it sees which signal it
    /// was. The first process of a container has no default action: it exits with 0.
    pub fn end_process(self) -> ExitCode {
        const INIT: u32 = 1;
        if std::process::id() != INIT {
            let number = match self {
                Self::Terminate => libc::SIGTERM,
                Self::Interrupt => libc::SIGINT,
            };
            // SAFETY: restoring a default action and raising a signal touch no memory of ours.
            unsafe {
                libc::signal(number, libc::SIG_DFL);
                libc::raise(number);
            }
        }
        ExitCode::SUCCESS
    }
}

/// Resolves with the signal that asks the process to stop. Must be called inside a tokio runtime; signals are
/// caught from the first poll on.
pub async fn stop_signal() -> std::io::Result<StopSignal> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => StopSignal::Terminate,
        _ = interrupt.recv() => StopSignal::Interrupt,
    })
}

/// How many files this process may open; None if unlimited or unknown.
pub fn open_files_limit() -> Option<u64> {
    soft_limit(libc::RLIMIT_NOFILE)
}

/// How much virtual memory this process may use, in bytes; None if unlimited or unknown.
pub fn virtual_memory_limit() -> Option<u64> {
    soft_limit(libc::RLIMIT_AS)
}

fn soft_limit(resource: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit writes one rlimit struct through the pointer, which is valid for that.
    let failed = unsafe { libc::getrlimit(resource, &mut limit) } != 0;
    if failed || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    Some(limit.rlim_cur)
}

/// Raises the soft limit of open files to the hard one, as Go programs do at start.
pub fn raise_open_files_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get a pointer to one valid rlimit struct.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
