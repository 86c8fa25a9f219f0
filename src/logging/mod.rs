//! The log.
//!
//! ```text
//!   tracing::info!(..) --> filter --> formatter --> bounded queue --> writer thread --> stderr, stdout, files
//!                          (level,    (json,        (never blocks:
//!                           reload)    console,      full means drop
//!                                      text)         and count)
//! ```
//!
//! A line is rendered on the thread that logs it and handed to a queue that is bounded in lines and bytes. If the
//! outputs are slower than the log, lines are dropped and counted (`rusd_log_lines_dropped_total`, and a line that says
//! how many once there is room): a slow disk or a full pipe must never hold up the server. [`flush`] waits, for a
//! bounded time, until everything queued is written; the process calls it before it ends, also when it panics.
//!
//! Two fields of an event mean something to the formatter. `fatal = true` shows an error at the level `fatal`; such
//! lines pass every `--log-level`. `fields = %object` puts the members of a JSON object in the place of the field,
//! which is how the startup line shows a whole configuration. A list logged with `?` becomes a JSON list.

mod format;
mod line;
mod queue;
mod rotate;
mod timestamp;

use std::io::{self, Write as _};
use std::panic::Location;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

use crate::config::{LogFormat, LogLevel, Logging};
use format::{Formatter, Threshold};
use line::Line;
use queue::Queue;

/// How long [`flush`] waits. Longer would turn a stuck disk into a stuck shutdown.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// One of the files of `--log-outputs` cannot be opened.
    #[error("cannot open the log file {}: {source}", path.display())]
    Open {
        /// The file, as `--log-outputs` names it.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The writer thread cannot be started.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(io::Error),
    /// The process already has a log.
    #[error("the log is already set up")]
    AlreadySet,
}

/// What reaches the log after it is set up: the process's one log.
struct Installed {
    queue: Queue,
    filter: reload::Handle<Targets, Registry>,
    threshold: Threshold,
}

static INSTALLED: OnceLock<Installed> = OnceLock::new();

/// Writes what is queued when the process's main function returns.
#[derive(Debug)]
#[must_use = "the last lines are written when the guard is dropped"]
pub struct Guard(());

impl Drop for Guard {
    fn drop(&mut self) {
        flush();
    }
}

/// Sets up the process's log.
pub fn init(config: &Logging) -> Result<Guard, LogError> {
    let Logging {
        level,
        format,
        outputs,
        rotation,
    } = config;
    let queue = Queue::start(outputs, *rotation, *format)?;
    let threshold = Threshold::new(*level);
    let (filter, handle) = reload::Layer::new(targets(*level));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(Formatter::new(*format, threshold.clone()))
        .with_writer(queue.clone());
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|_| LogError::AlreadySet)?;
    let installed = Installed {
        queue,
        filter: handle,
        threshold,
    };
    INSTALLED.set(installed).map_err(|_| LogError::AlreadySet)?;
    Ok(Guard(()))
}

/// Changes the level of the running log.
pub fn set_level(level: LogLevel) {
    if let Some(installed) = INSTALLED.get() {
        installed.threshold.set(level);
        // It only fails when the subscriber is gone, and this one lives as long as the process.
        let _ = installed.filter.reload(targets(level));
    }
}

/// Waits until every line logged so far is written, or a second has passed.
pub fn flush() {
    if let Some(installed) = INSTALLED.get() {
        installed.queue.flush(FLUSH_TIMEOUT);
    }
}

/// Writes one line to standard error at once, as JSON: for what goes wrong before the log is set up.
#[track_caller]
pub fn early(level: LogLevel, message: &str, fields: &[(&str, &str)]) {
    let location = Location::caller();
    let mut line = Line::new(
        level,
        SystemTime::now(),
        line::caller("rusd", location.file(), location.line()),
    );
    line.message = message.to_owned();
    for (name, value) in fields {
        line.text_field(name, value);
    }
    let mut rendered = String::new();
    line.render(LogFormat::Json, &mut rendered);
    // There is nowhere left to report that standard error is gone.
    let _ = io::stderr().write_all(rendered.as_bytes());
}

/// Which events pass. At `debug` the libraries underneath stay at `info`: what they say for debugging would bury what
/// the server says.
fn targets(level: LogLevel) -> Targets {
    let (own, libraries) = match level {
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::INFO),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Error | LogLevel::Panic | LogLevel::Fatal => {
            (LevelFilter::ERROR, LevelFilter::ERROR)
        }
    };
    // A prefix of the targets of all crates of this workspace.
    Targets::new()
        .with_default(libraries)
        .with_target("rusd", own)
}

#[cfg(test)]
mod tests;
