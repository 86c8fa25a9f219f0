//! The thread that writes sealed batches to the engine, and the one that persists it.
//!
//! Neither is on the path of an acknowledgement: the log is durable already, and readers find what is not
//! written yet in the store's ring. `persist` runs after every so many bytes or after a quiet while, beside
//! further writes, and tells Raft how much of the log it covers.

use crate::reader::fatal;
use prometheus::{Histogram, HistogramOpts, exponential_buckets, register_histogram};
use rusd_messages::mvcc::EngineWrote;
use rusd_messages::raft::EnginePersisted;
use rusd_messages::{Index, Port, Reply};
use rusd_storage::SealedBatch;
use rusd_storage::engine::Engine;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// A batch in the writer's hands and one behind it: the state machine collects meanwhile.
const QUEUED_BATCHES: usize = 1;

#[allow(clippy::expect_used)] // A constant name and constant buckets.
static COMMIT_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    let buckets = exponential_buckets(0.001, 2.0, 14).expect("valid buckets");
    let options = HistogramOpts::new(
        "etcd_disk_backend_commit_duration_seconds",
        "Time to write a batch of applied entries to the storage engine.",
    )
    .buckets(buckets);
    register_histogram!(options).expect("registered once")
});

/// When the engine is persisted.
#[derive(Clone, Copy, Debug)]
pub struct PersistPolicy {
    /// After this many bytes written since the last one.
    pub bytes: usize,
    /// Or this long after the first write since the last one.
    pub interval: Duration,
}

/// Work for the writer thread.
pub enum Work {
    /// Write a batch; everything through `applied` is then in the engine.
    Write {
        /// The batch.
        batch: SealedBatch,
        /// The applied index it carries.
        applied: Index,
    },
    /// Go on with another engine, which holds everything written so far and is persisted through `applied`.
    Switch {
        /// The new engine.
        engine: Arc<dyn Engine>,
        /// What it holds.
        applied: Index,
    },
    /// Persist and close the engine, then answer.
    Close {
        /// Answered when the engine is closed.
        reply: Reply<()>,
    },
}

/// The sending side of the writer thread.
#[derive(Clone, Debug)]
pub struct EngineWriter {
    work: flume::Sender<Work>,
}

impl EngineWriter {
    /// Starts the threads.
    pub fn spawn(
        engine: Arc<dyn Engine>,
        policy: PersistPolicy,
        wrote: Port<EngineWrote>,
        persisted: Port<EnginePersisted>,
    ) -> io::Result<Self> {
        LazyLock::force(&COMMIT_SECONDS);
        let (work, queue) = flume::bounded(QUEUED_BATCHES);
        let persister = Persister::spawn(persisted)?;
        std::thread::Builder::new()
            .name("engine-writer".to_owned())
            .spawn(move || {
                let mut writer = Writer {
                    engine,
                    policy,
                    wrote,
                    persister,
                    unpersisted_bytes: 0,
                    unpersisted_since: None,
                    applied: Index(0),
                };
                writer.run(&queue);
            })?;
        Ok(Self { work })
    }

    /// Hands work over, unless the writer is busy with more than enough: then it comes back.
    pub fn try_send(&self, work: Work) -> Result<(), Work> {
        self.work.try_send(work).map_err(flume::TrySendError::into_inner)
    }

    /// Whether [`EngineWriter::try_send`] would take work now. Only one thread sends, so the answer holds.
    pub fn has_room(&self) -> bool {
        !self.work.is_full()
    }

    /// Hands work over, waiting for the writer if it must.
    pub fn send(&self, work: Work) {
        // The writer thread ends only after Close, which is the last thing sent.
        let _closed = self.work.send(work);
    }
}

struct Writer {
    engine: Arc<dyn Engine>,
    policy: PersistPolicy,
    wrote: Port<EngineWrote>,
    persister: Persister,
    unpersisted_bytes: usize,
    unpersisted_since: Option<Instant>,
    applied: Index,
}

impl Writer {
    fn run(&mut self, queue: &flume::Receiver<Work>) {
        loop {
            let work = match self.unpersisted_since {
                None => queue.recv().ok(),
                Some(since) => match queue.recv_deadline(since + self.policy.interval) {
                    Ok(work) => Some(work),
                    Err(flume::RecvTimeoutError::Timeout) => {
                        self.persist_if_due();
                        continue;
                    }
                    Err(flume::RecvTimeoutError::Disconnected) => None,
                },
            };
            match work {
                Some(Work::Write { batch, applied }) => self.write(&batch, applied),
                Some(Work::Switch { engine, applied }) => {
                    self.engine = engine;
                    self.applied = applied;
                }
                Some(Work::Close { reply }) => {
                    self.persister.finish();
                    if let Err(error) = self.engine.close() {
                        fatal("closing the engine", &error);
                    }
                    reply.send(());
                    return;
                }
                None => return,
            }
        }
    }

    fn write(&mut self, batch: &SealedBatch, applied: Index) {
        let started = Instant::now();
        if let Err(error) = self.engine.write(&batch.batch) {
            fatal("writing to the engine", &error);
        }
        COMMIT_SECONDS.observe(started.elapsed().as_secs_f64());
        self.applied = applied;
        self.unpersisted_bytes += batch.bytes;
        self.unpersisted_since.get_or_insert(started);
        // A stopped state machine needs no news.
        let _stopped = self.wrote.deliver(EngineWrote { seq: batch.seq });
        if self.unpersisted_bytes >= self.policy.bytes {
            self.persist_if_due();
        }
    }

    fn persist_if_due(&mut self) {
        let due = self.unpersisted_bytes >= self.policy.bytes
            || self
                .unpersisted_since
                .is_some_and(|since| since.elapsed() >= self.policy.interval);
        if !due {
            return;
        }
        if self.persister.start(self.engine.clone(), self.applied) {
            self.unpersisted_bytes = 0;
            self.unpersisted_since = None;
        } else {
            // The last one still runs: look again after another interval, or the next batch.
            self.unpersisted_since = Some(Instant::now());
        }
    }
}

struct Persister {
    work: flume::Sender<(Arc<dyn Engine>, Index)>,
    busy: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Persister {
    fn spawn(persisted: Port<EnginePersisted>) -> io::Result<Self> {
        let (work, queue) = flume::bounded::<(Arc<dyn Engine>, Index)>(1);
        let busy = Arc::new(AtomicBool::new(false));
        let working = busy.clone();
        let thread = std::thread::Builder::new()
            .name("engine-persist".to_owned())
            .spawn(move || {
                for (engine, applied) in queue {
                    if let Err(error) = engine.persist() {
                        fatal("persisting the engine", &error);
                    }
                    working.store(false, Ordering::Release);
                    let _stopped = persisted.deliver(EnginePersisted { applied });
                }
            })?;
        Ok(Self {
            work,
            busy,
            thread: Some(thread),
        })
    }

    /// Starts a persist unless one runs.
    fn start(&self, engine: Arc<dyn Engine>, applied: Index) -> bool {
        !self.busy.swap(true, Ordering::AcqRel) && self.work.send((engine, applied)).is_ok()
    }

    fn finish(&mut self) {
        let (closed, _) = flume::bounded(0);
        self.work = closed;
        if let Some(thread) = self.thread.take() {
            let _aborted_already = thread.join();
        }
    }
}
