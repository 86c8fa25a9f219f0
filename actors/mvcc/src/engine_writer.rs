//! The thread that writes sealed batches to the engine, and the one that persists it.
//!
//! Neither is on the path of an acknowledgement: the log is durable already, and readers find what is not
//! written yet in the store's ring. `persist` runs after every so many bytes or after a quiet while, beside
//! further writes, and tells Raft how much of the log it covers.

use crate::metrics::DEFRAG_INFLIGHT;
use crate::rewrite::Copy;
use prometheus::{Histogram, HistogramOpts, exponential_buckets, register_histogram};
use rusd_messages::mvcc::EngineWrote;
use rusd_messages::raft::EnginePersisted;
use rusd_messages::{Index, Port, Reply, fatal};
use rusd_proto::EtcdError;
use rusd_storage::SealedBatch;
use rusd_storage::engine::{Engine, EngineDir, Retired};
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

#[allow(clippy::expect_used)] // A constant name and constant buckets.
static DEFRAG_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    let buckets = exponential_buckets(0.1, 2.0, 13).expect("valid buckets");
    let options = HistogramOpts::new(
        "etcd_disk_backend_defrag_duration_seconds",
        "Time to rewrite the storage engine, serving meanwhile.",
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
    /// Rewrite the engine into a fresh directory, writing meanwhile.
    Rewrite {
        /// Answered when the new directory is current, or with why not.
        reply: Reply<Result<(), EtcdError>>,
    },
    /// Nobody reads from this engine any more.
    Retire {
        /// The engine that was replaced.
        retired: Retired,
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
        engines: EngineDir,
        policy: PersistPolicy,
        wrote: Port<EngineWrote>,
        replaced: Port<EngineReplaced>,
        persisted: Port<EnginePersisted>,
    ) -> io::Result<Self> {
        LazyLock::force(&COMMIT_SECONDS);
        LazyLock::force(&DEFRAG_SECONDS);
        let (work, queue) = flume::bounded(QUEUED_BATCHES);
        let persister = Persister::spawn(persisted)?;
        std::thread::Builder::new()
            .name("engine-writer".to_owned())
            .spawn(move || {
                let mut writer = Writer {
                    engine: engines.engine(),
                    engines,
                    policy,
                    wrote,
                    replaced,
                    copy: None,
                    persister,
                    unpersisted_bytes: 0,
                    unpersisted_since: None,
                    applied: Index(0),
                };
                writer.run(&queue);
            })?;
        Ok(Self { work })
    }

    /// Whether [`EngineWriter::send`] would not wait now. Only one thread sends, so the answer holds.
    pub fn has_room(&self) -> bool {
        !self.work.is_full()
    }

    /// Hands work over, waiting for the writer if it must.
    pub fn send(&self, work: Work) {
        // The writer thread ends only after Close, which is the last thing sent.
        let _closed = self.work.send(work);
    }
}

/// The engine was rewritten into another directory: read from there.
pub struct EngineReplaced {
    /// The new engine.
    pub engine: Arc<dyn Engine>,
    /// The old one, to be handed back once readers have been pointed to the new one.
    pub retired: Retired,
}

/// A rewrite and those who wait for it.
struct Rewriting {
    copy: Copy,
    started: Instant,
    replies: Vec<Reply<Result<(), EtcdError>>>,
}

struct Writer {
    engines: EngineDir,
    engine: Arc<dyn Engine>,
    policy: PersistPolicy,
    wrote: Port<EngineWrote>,
    replaced: Port<EngineReplaced>,
    copy: Option<Rewriting>,
    persister: Persister,
    unpersisted_bytes: usize,
    unpersisted_since: Option<Instant>,
    applied: Index,
}

impl Writer {
    fn run(&mut self, queue: &flume::Receiver<Work>) {
        loop {
            if self.copy.is_some() && queue.is_empty() {
                self.copy_page();
                continue;
            }
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
                Some(Work::Rewrite { reply }) => self.begin_rewrite(reply),
                Some(Work::Retire { retired }) => {
                    if let Err(error) = retired.destroy() {
                        tracing::warn!(%error, "cannot remove the engine that was replaced; the next start removes it");
                    }
                }
                Some(Work::Close { reply }) => {
                    if let Some(rewriting) = self.copy.take() {
                        self.give_up(rewriting, &"the server is stopping");
                    }
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
        if let Some(rewriting) = self.copy.take() {
            match rewriting.copy.tee(&batch.batch) {
                Ok(()) => self.copy = Some(rewriting),
                Err(error) => self.give_up(rewriting, &error),
            }
        }
        self.applied = applied;
        self.unpersisted_bytes += batch.bytes;
        self.unpersisted_since.get_or_insert(started);
        // A stopped state machine needs no news.
        let _stopped = self.wrote.deliver(EngineWrote { seq: batch.seq });
        if self.unpersisted_bytes >= self.policy.bytes {
            self.persist_if_due();
        }
    }

    fn begin_rewrite(&mut self, reply: Reply<Result<(), EtcdError>>) {
        if let Some(rewriting) = &mut self.copy {
            rewriting.replies.push(reply);
            return;
        }
        match Copy::begin(&self.engines) {
            Ok(copy) => {
                tracing::info!("starting defragmentation");
                DEFRAG_INFLIGHT.set(1);
                self.copy = Some(Rewriting {
                    copy,
                    started: Instant::now(),
                    replies: vec![reply],
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot begin to defragment");
                reply.send(Err(EtcdError::Defragment(error.to_string())));
            }
        }
    }

    /// A disk too full for a second copy is no reason to end the process: the live engine is as it was.
    fn give_up(&mut self, rewriting: Rewriting, why: &dyn std::fmt::Display) {
        tracing::warn!(error = %why, "gave up defragmentation");
        DEFRAG_INFLIGHT.set(0);
        if let Err(error) = rewriting.copy.abandon() {
            tracing::warn!(%error, "cannot remove the unfinished copy; the next start removes it");
        }
        for reply in rewriting.replies {
            reply.send(Err(EtcdError::Defragment(why.to_string())));
        }
    }

    fn copy_page(&mut self) {
        let Some(mut rewriting) = self.copy.take() else {
            return;
        };
        match rewriting.copy.step() {
            Ok(false) => self.copy = Some(rewriting),
            Ok(true) => self.switch(rewriting),
            Err(error) => self.give_up(rewriting, &error),
        }
    }

    fn switch(&mut self, rewriting: Rewriting) {
        let retired = match rewriting.copy.switch(&self.engines) {
            Ok(retired) => retired,
            Err(error) => fatal("switching to the rewritten engine", &error),
        };
        let took = rewriting.started.elapsed();
        DEFRAG_SECONDS.observe(took.as_secs_f64());
        DEFRAG_INFLIGHT.set(0);
        tracing::info!(
            took_ms = took.as_millis() as u64,
            "finished defragmentation"
        );
        self.engine = self.engines.engine();
        // The switch has persisted everything written so far.
        self.unpersisted_bytes = 0;
        self.unpersisted_since = None;
        self.persister.covers(self.applied);
        let engine = self.engine.clone();
        let _stopped = self.replaced.deliver(EngineReplaced { engine, retired });
        for reply in rewriting.replies {
            reply.send(Ok(()));
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
    persisted: Port<EnginePersisted>,
    busy: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Persister {
    fn spawn(persisted: Port<EnginePersisted>) -> io::Result<Self> {
        let (work, queue) = flume::bounded::<(Arc<dyn Engine>, Index)>(1);
        let busy = Arc::new(AtomicBool::new(false));
        let working = busy.clone();
        let finished = persisted.clone();
        let thread = std::thread::Builder::new()
            .name("engine-persist".to_owned())
            .spawn(move || {
                for (engine, applied) in queue {
                    if let Err(error) = engine.persist() {
                        fatal("persisting the engine", &error);
                    }
                    working.store(false, Ordering::Release);
                    let _stopped = finished.deliver(EnginePersisted { applied });
                }
            })?;
        Ok(Self {
            work,
            persisted,
            busy,
            thread: Some(thread),
        })
    }

    /// Starts a persist unless one runs.
    fn start(&self, engine: Arc<dyn Engine>, applied: Index) -> bool {
        !self.busy.swap(true, Ordering::AcqRel) && self.work.send((engine, applied)).is_ok()
    }

    /// Something else has made everything through `applied` durable.
    fn covers(&self, applied: Index) {
        let _stopped = self.persisted.deliver(EnginePersisted { applied });
    }

    fn finish(&mut self) {
        let (closed, _) = flume::bounded(0);
        self.work = closed;
        if let Some(thread) = self.thread.take() {
            let _aborted_already = thread.join();
        }
    }
}
