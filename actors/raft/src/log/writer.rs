//! Writing: one append batch is one record, and one sync.
#![allow(clippy::disallowed_methods)]

use super::state::{self, Conf, Identity, Truncated, Vote};
use super::{Engine, LogConfig, LogError, REGION, RaftEntry};
use crate::metrics;
use raft::eraftpb::Entry;
use raft_engine::{Command, LogBatch};
use rusd_messages::{Port, fatal};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

/// The number that raft-rs gave to a ready; 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadyNumber(pub u64);

/// What is to be written in one piece.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Append {
    /// The newest ready it covers.
    pub ready: ReadyNumber,
    /// Entries; they replace whatever the log has from the first one's index on.
    pub entries: Vec<Entry>,
    /// What the entries count for in bytes, at least: entries replaced by a merge still count.
    pub entry_bytes: usize,
    /// The newest vote, if it changed.
    pub vote: Option<Vote>,
    /// The newest configuration, if it changed.
    pub conf: Option<Box<Conf>>,
    /// Entries through this one may go.
    pub truncate: Option<Truncated>,
    /// Whether anybody waits for it to survive a power loss.
    pub must_sync: bool,
}

impl Append {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.vote.is_none()
            && self.conf.is_none()
            && self.truncate.is_none()
    }

    /// Whether a sole voter's Raft thread may write it itself. Truncations go to the thread that can have segments
    /// removed.
    pub(crate) fn fits_inline(&self, bytes_max: usize) -> bool {
        self.entry_bytes <= bytes_max && self.truncate.is_none()
    }

    /// Joins what comes later to what has not been written yet.
    pub fn merge(&mut self, later: Append) {
        self.ready = later.ready;
        if let Some(first) = later.entries.first() {
            let kept = self
                .entries
                .partition_point(|entry| entry.index < first.index);
            self.entries.truncate(kept);
        }
        self.entries.extend(later.entries);
        self.entry_bytes += later.entry_bytes;
        self.vote = later.vote.or(self.vote);
        self.conf = later.conf.or(self.conf.take());
        self.truncate = later.truncate.or(self.truncate);
        self.must_sync |= later.must_sync;
    }
}

/// Sent to the Raft thread when a batch is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persisted {
    /// The newest ready that the batch covered.
    pub ready: ReadyNumber,
}

/// Writes append batches, one after the other.
pub struct LogWriter {
    engine: Arc<Engine>,
    dir: PathBuf,
    fsync: bool,
    batch: LogBatch,
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWriter")
            .field("dir", &self.dir)
            .field("fsync", &self.fsync)
            .finish_non_exhaustive()
    }
}

impl LogWriter {
    pub(super) fn new(engine: Arc<Engine>, config: &LogConfig) -> Self {
        metrics::init();
        Self {
            engine,
            dir: config.dir.clone(),
            fsync: config.fsync,
            batch: LogBatch::default(),
        }
    }

    /// Writes a batch, and syncs it if it must be. A sync that fails ends the process on the spot.
    pub fn write(&mut self, append: &Append) -> Result<(), LogError> {
        self.write_with_identity(append, None)
    }

    pub(super) fn write_with_identity(
        &mut self,
        append: &Append,
        identity: Option<Identity>,
    ) -> Result<(), LogError> {
        let started = Instant::now();
        let dir = &self.dir;
        let failed = |error| LogError::engine("write to", dir, error);
        let batch = &mut self.batch;
        batch
            .add_entries::<RaftEntry>(REGION, &append.entries)
            .map_err(failed)?;
        let mut put = |key: &[u8], value| batch.put(REGION, key.to_vec(), value).map_err(failed);
        if let Some(identity) = identity {
            put(state::IDENTITY_KEY, identity.encode())?;
        }
        if let Some(vote) = append.vote {
            put(state::VOTE_KEY, vote.encode())?;
        }
        if let Some(conf) = &append.conf {
            put(state::CONF_KEY, conf.encode())?;
        }
        if let Some(truncated) = append.truncate {
            put(state::TRUNCATED_KEY, truncated.encode())?;
            let index = truncated.index + 1;
            batch.add_command(REGION, Command::Compact { index });
        }
        raft_engine::take_perf_context();
        let bytes = self
            .engine
            .write(batch, self.fsync && append.must_sync)
            .map_err(failed)?;
        let synced = raft_engine::take_perf_context().log_sync_duration;
        metrics::WAL_WRITE_BYTES.add(i64::try_from(bytes).unwrap_or(i64::MAX));
        metrics::WAL_WRITE_SECONDS.observe(started.elapsed().as_secs_f64());
        if !synced.is_zero() {
            metrics::WAL_FSYNC_SECONDS.observe(synced.as_secs_f64());
        }
        Ok(())
    }

    /// Another writer of the same log. Only one of them may write at a time.
    pub fn another(&self) -> Self {
        Self {
            engine: self.engine.clone(),
            dir: self.dir.clone(),
            fsync: self.fsync,
            batch: LogBatch::default(),
        }
    }

    /// Removes segments that truncation has emptied. May take a while; runs beside writes.
    pub fn purge(&self) -> Result<(), LogError> {
        self.engine
            .purge_expired_files()
            .map(|_regions_with_much_left| ())
            .map_err(|error| LogError::engine("remove old segments of", &self.dir, error))
    }
}

/// Ends the process: what is on disk is unknown, and only a restart finds out.
pub(crate) fn failed(error: &LogError) -> ! {
    fatal("writing the log", error)
}

/// The thread that writes while the Raft thread collects the next batch, and the one that removes old segments.
#[derive(Debug)]
pub struct WriterThread {
    appends: flume::Sender<Append>,
    writer: JoinHandle<()>,
}

impl WriterThread {
    /// Starts it. Each batch is answered at `persisted`.
    pub fn start(mut writer: LogWriter, persisted: Port<Persisted>) -> std::io::Result<Self> {
        // Room for one: the core has one write in flight.
        let (appends, queue) = flume::bounded::<Append>(1);
        let purger = Purger::start(writer.another())?;
        let thread = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || {
                for append in queue {
                    if let Err(error) = writer.write(&append) {
                        failed(&error);
                    }
                    // The Raft actor may be gone already when the process stops.
                    let _stopping = persisted.deliver(Persisted {
                        ready: append.ready,
                    });
                    if append.truncate.is_some() {
                        purger.wake();
                    }
                }
                purger.stop();
            })?;
        Ok(Self {
            appends,
            writer: thread,
        })
    }

    /// Hands over a batch. The one before it must have been answered.
    pub fn append(&self, append: Append) {
        if self.appends.send(append).is_err() {
            panic!("the log writer has ended");
        }
    }

    /// Waits until everything is written and the files are closed.
    pub fn stop(self) {
        drop(self.appends);
        if self.writer.join().is_err() {
            panic!("the log writer failed");
        }
    }
}

/// Removes old segments; a wake-up while it works makes it work once more.
struct Purger {
    wake: flume::Sender<()>,
    thread: JoinHandle<()>,
}

impl Purger {
    fn start(writer: LogWriter) -> std::io::Result<Self> {
        let (wake, woken) = flume::bounded::<()>(1);
        let thread = std::thread::Builder::new()
            .name("log-purge".to_owned())
            .spawn(move || {
                for () in woken {
                    if let Err(error) = writer.purge() {
                        failed(&error);
                    }
                }
            })?;
        Ok(Self { wake, thread })
    }

    fn wake(&self) {
        let _already_awake = self.wake.try_send(());
    }

    fn stop(self) {
        drop(self.wake);
        if self.thread.join().is_err() {
            panic!("removing old segments failed");
        }
    }
}
