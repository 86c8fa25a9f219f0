//! The queue between whoever logs and the outputs, and the thread that empties it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use flume::{Receiver, Sender};
use prometheus::IntCounter;
use rusd_messages::metrics::counter;
use tracing_subscriber::fmt::MakeWriter;

use super::LogError;
use super::line::{Line, caller};
use super::rotate::RotatingFile;
use crate::config::{LogFormat, LogLevel, LogOutput, LogRotation};

/// Lines that may wait: seconds of a busy log.
const QUEUED_LINES_MAX: usize = 16 * 1024;
/// Bytes that may wait, whatever the lines' lengths.
const QUEUED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Lines are written together up to this size: one system call for a burst.
const WRITE_BYTES: usize = 64 * 1024;

static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "rusd_log_lines_dropped_total",
        "Log lines dropped because the outputs were slower than the log",
    )
});
static WRITE_FAILURES: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "rusd_log_write_failures_total",
        "Writes to a log output that failed",
    )
});

/// What travels through the queue.
enum Item {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

/// The sending half. Cloning it is cheap.
#[derive(Clone)]
pub(super) struct Queue {
    sender: Sender<Item>,
    state: Arc<State>,
}

/// What both halves count.
#[derive(Default)]
struct State {
    queued_bytes: AtomicUsize,
    dropped: AtomicU64,
}

/// One output.
enum Sink {
    Stderr,
    Stdout,
    File(File),
    Rotating(RotatingFile),
    #[cfg(test)]
    Test(Box<dyn Write + Send>),
}

impl Sink {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Sink::Stderr => io::stderr().write_all(bytes),
            Sink::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Sink::File(file) => file.write_all(bytes),
            Sink::Rotating(file) => file.write_all(bytes),
            #[cfg(test)]
            Sink::Test(sink) => sink.write_all(bytes),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Queue {
    /// Opens the outputs and starts the writer.
    pub(super) fn start(
        outputs: &[LogOutput],
        rotation: Option<LogRotation>,
        format: LogFormat,
    ) -> Result<Self, LogError> {
        let mut sinks = Vec::new();
        for output in outputs {
            sinks.push(match output {
                LogOutput::Stderr => Sink::Stderr,
                LogOutput::Stdout => Sink::Stdout,
                LogOutput::File(path) => {
                    let opened = match rotation {
                        Some(rotation) => RotatingFile::open(path, rotation).map(Sink::Rotating),
                        None => open(path).map(Sink::File),
                    };
                    opened.map_err(|source| LogError::Open {
                        path: path.clone(),
                        source,
                    })?
                }
            });
        }
        Self::spawn(sinks, format, QUEUED_LINES_MAX)
    }

    fn spawn(sinks: Vec<Sink>, format: LogFormat, lines_max: usize) -> Result<Self, LogError> {
        LazyLock::force(&DROPPED);
        LazyLock::force(&WRITE_FAILURES);
        let (sender, receiver) = flume::bounded(lines_max);
        let state = Arc::new(State::default());
        let writer = Writer {
            sinks,
            format,
            state: Arc::clone(&state),
            reported: 0,
        };
        std::thread::Builder::new()
            .name("log-output".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(LogError::Thread)?;
        Ok(Queue { sender, state })
    }

    #[cfg(test)]
    pub(super) fn to_test_sink(
        sink: Box<dyn Write + Send>,
        format: LogFormat,
        lines_max: usize,
    ) -> Self {
        #[allow(clippy::unwrap_used)]
        Self::spawn(vec![Sink::Test(sink)], format, lines_max).unwrap()
    }

    /// Queues a line, or drops and counts it.
    fn push(&self, line: Vec<u8>) {
        let bytes = line.len();
        let waiting = self.state.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting + bytes > QUEUED_BYTES_MAX || self.sender.try_send(Item::Line(line)).is_err() {
            self.state.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
            DROPPED.inc();
        }
    }

    /// Waits until all that is queued is written, but no longer than `timeout`. Says whether it was.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let (done, written) = flume::bounded(1);
        self.sender.send_timeout(Item::Flush(done), timeout).is_ok()
            && written.recv_timeout(timeout).is_ok()
    }

    /// Lines dropped so far.
    #[cfg(test)]
    pub(super) fn dropped(&self) -> u64 {
        self.state.dropped.load(Ordering::Relaxed)
    }
}

/// One event's way into the queue: the formatter writes a whole line at once.
pub(super) struct LineWriter<'a>(&'a Queue);

impl Write for LineWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.0.push(bytes.to_vec());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter(self)
    }
}

/// The receiving half.
struct Writer {
    sinks: Vec<Sink>,
    format: LogFormat,
    state: Arc<State>,
    /// How many of the dropped lines a line has already told of.
    reported: u64,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Item>) {
        let mut burst = Vec::with_capacity(WRITE_BYTES);
        while let Ok(first) = receiver.recv() {
            let mut next = Some(first);
            let mut flush = None;
            while let Some(item) = next.take() {
                match item {
                    Item::Line(line) => burst.extend_from_slice(&line),
                    Item::Flush(done) => flush = Some(done),
                }
                if flush.is_none() && burst.len() < WRITE_BYTES {
                    next = receiver.try_recv().ok();
                }
            }
            self.write(&mut burst);
            self.report_dropped();
            if let Some(done) = flush {
                // Whoever asked may have stopped waiting.
                let _ = done.try_send(());
            }
        }
    }

    fn write(&mut self, burst: &mut Vec<u8>) {
        if burst.is_empty() {
            return;
        }
        for sink in &mut self.sinks {
            if sink.write_all(burst).is_err() {
                WRITE_FAILURES.inc();
            }
        }
        self.state
            .queued_bytes
            .fetch_sub(burst.len(), Ordering::Relaxed);
        burst.clear();
    }

    /// Tells of lines that were dropped since the last time.
    fn report_dropped(&mut self) {
        let dropped = self.state.dropped.load(Ordering::Relaxed);
        let missing = dropped - self.reported;
        if missing == 0 {
            return;
        }
        self.reported = dropped;
        let mut line = Line::new(
            LogLevel::Warn,
            SystemTime::now(),
            caller("rusd", file!(), line!()),
        );
        line.message = "log lines were dropped: the outputs are slower than the log".to_owned();
        line.json_field("count", missing.to_string());
        let mut rendered = String::new();
        line.render(self.format, &mut rendered);
        for sink in &mut self.sinks {
            if sink.write_all(rendered.as_bytes()).is_err() {
                WRITE_FAILURES.inc();
            }
        }
    }
}
