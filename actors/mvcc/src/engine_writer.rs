//! The thread that writes sealed batches to the engine, and copies it when a copy is wanted.
//!
//! It is not on the path of an acknowledgement: the log is durable already, and readers find what is not written yet
//! in the store's ring. The engine is persisted after every so many bytes or after a quiet while, beside further
//! writes (`persister.rs`).
//!
//! One copy runs at a time ([`struct@Copy`]): a defragmentation takes the place of the live engine, a checkpoint is put beside
//! it ([`checkpoint`](crate::checkpoint)). Nobody waits for a checkpoint, so it takes at most half of this thread's time.

use crate::checkpoint::{CheckpointPolicy, Due, Schedule};
use crate::core::Write;
use crate::core::batching::BATCHES_OUT_MAX;
use crate::metrics::DEFRAG_INFLIGHT;
use crate::persister::Persister;
use crate::rewrite::{Copy, CopyError, Damage};
use prometheus::{Histogram, HistogramOpts, exponential_buckets, register_histogram};
use rusd_messages::mvcc::EngineWrote;
use rusd_messages::raft::EnginePersisted;
use rusd_messages::{Index, Port, Reply, fatal};
use rusd_proto::EtcdError;
use rusd_storage::engine::{Engine, EngineDir, Retired};
use rusd_storage::{Applied, SealedBatch, Sizes};
use std::io;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Work that may wait for the writer: batches, of which the state machine hands out few, and rare requests.
const QUEUED_WORK: usize = BATCHES_OUT_MAX + 2;
/// How long a copy lets waiting batches go first: under constant load it would never end otherwise.
const COPY_PATIENCE: Duration = Duration::from_millis(50);

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

/// The engine that the writer takes over, and how.
pub struct EngineSetup {
    /// Its directory.
    pub engines: EngineDir,
    /// How far it is, and how large.
    pub progress: Progress,
    /// When it is persisted.
    pub persist: PersistPolicy,
    /// When checkpoints are made; None if none are kept.
    pub checkpoints: Option<CheckpointPolicy>,
}

/// How far the engine is, and how large.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// The last entry of the log that is in it.
    pub applied: Applied,
    /// What it holds then.
    pub sizes: Sizes,
}

/// Work for the writer thread.
pub enum Work {
    /// Write a batch.
    Write(Write),
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
        setup: EngineSetup,
        wrote: Port<EngineWrote>,
        replaced: Port<EngineReplaced>,
        persisted: Port<EnginePersisted>,
    ) -> io::Result<Self> {
        LazyLock::force(&COMMIT_SECONDS);
        LazyLock::force(&DEFRAG_SECONDS);
        let (work, queue) = flume::bounded(QUEUED_WORK);
        let persister = Persister::spawn(persisted)?;
        std::thread::Builder::new()
            .name("engine-writer".to_owned())
            .spawn(move || Writer::new(setup, wrote, replaced, persister).run(&queue))?;
        Ok(Self { work })
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

type Defragmented = Reply<Result<(), EtcdError>>;

/// What a copy is for.
enum Purpose {
    /// To take the place of the live engine, and those who wait for that.
    Defragment(Vec<Defragmented>),
    /// To be the next checkpoint.
    Checkpoint,
}

/// A copy under way.
struct Copying {
    copy: Copy,
    purpose: Purpose,
    started: Instant,
    /// When the next page is due.
    next_page: Instant,
}

struct Writer {
    engines: EngineDir,
    engine: Arc<dyn Engine>,
    policy: PersistPolicy,
    /// None if no checkpoints are kept.
    checkpoints: Option<Schedule>,
    wrote: Port<EngineWrote>,
    replaced: Port<EngineReplaced>,
    copying: Option<Copying>,
    /// Those who want a defragmentation once the checkpoint under way is done.
    waiting: Vec<Defragmented>,
    persister: Persister,
    unpersisted_bytes: usize,
    unpersisted_since: Option<Instant>,
    progress: Progress,
}

impl Writer {
    fn new(
        setup: EngineSetup,
        wrote: Port<EngineWrote>,
        replaced: Port<EngineReplaced>,
        persister: Persister,
    ) -> Self {
        let EngineSetup {
            engines,
            progress,
            persist,
            checkpoints,
        } = setup;
        let found = engines.checkpoint().map(|checkpoint| {
            // A clock that was set back makes it look as if it were of the future: then it is new.
            let age = checkpoint.made.elapsed().unwrap_or(Duration::ZERO);
            (Index(checkpoint.index), age)
        });
        Self {
            checkpoints: checkpoints.map(|policy| Schedule::new(policy, found, Instant::now())),
            engine: engines.engine(),
            engines,
            policy: persist,
            wrote,
            replaced,
            copying: None,
            waiting: Vec::new(),
            persister,
            unpersisted_bytes: 0,
            unpersisted_since: None,
            progress,
        }
    }

    fn run(&mut self, queue: &flume::Receiver<Work>) {
        loop {
            self.make_checkpoint_if_due();
            let patience = if queue.is_empty() {
                Duration::ZERO
            } else {
                COPY_PATIENCE
            };
            if let Some(copying) = &self.copying
                && copying.next_page + patience <= Instant::now()
            {
                self.copy_page();
                continue;
            }
            let work = match self.next_deadline() {
                None => queue.recv().ok(),
                Some(deadline) => match queue.recv_deadline(deadline) {
                    Ok(work) => Some(work),
                    Err(flume::RecvTimeoutError::Timeout) => {
                        self.persist_if_due();
                        continue;
                    }
                    Err(flume::RecvTimeoutError::Disconnected) => None,
                },
            };
            match work {
                Some(Work::Write(write)) => {
                    self.write(&write.batch, write.progress, write.log_bytes)
                }
                Some(Work::Rewrite { reply }) => self.defragment(reply),
                Some(Work::Retire { retired }) => {
                    if let Err(error) = retired.destroy() {
                        tracing::warn!(%error, "cannot remove the engine that was replaced; the next start removes it");
                    }
                }
                Some(Work::Close { reply }) => {
                    self.close();
                    reply.send(());
                    return;
                }
                None => return,
            }
        }
    }

    /// When there is something to do even if nothing comes.
    fn next_deadline(&self) -> Option<Instant> {
        let persist = self
            .unpersisted_since
            .map(|since| since + self.policy.interval);
        let next = match (&self.copying, &self.checkpoints) {
            (Some(copying), _) => Some(copying.next_page),
            (None, Some(schedule)) => schedule.due_at(Index(self.progress.applied.index)),
            (None, None) => None,
        };
        [persist, next].into_iter().flatten().min()
    }

    fn close(&mut self) {
        for reply in self.waiting.drain(..) {
            reply.send(Err(EtcdError::Stopped));
        }
        if let Some(copying) = self.copying.take() {
            self.give_up(copying, &"the server is stopping");
        }
        self.persister.finish();
        if let Err(error) = self.engine.close() {
            fatal("closing the engine", &error);
        }
    }

    fn write(&mut self, batch: &SealedBatch, progress: Progress, log_bytes: u64) {
        let started = Instant::now();
        if let Err(error) = self.engine.write(&batch.batch) {
            fatal("writing to the engine", &error);
        }
        COMMIT_SECONDS.observe(started.elapsed().as_secs_f64());
        if let Some(copying) = self.copying.take() {
            match copying.copy.tee(&batch.batch) {
                Ok(()) => self.copying = Some(copying),
                Err(error) => self.copy_failed(copying, error),
            }
        }
        self.progress = progress;
        if let Some(schedule) = &mut self.checkpoints {
            schedule.applied(log_bytes);
        }
        self.unpersisted_bytes += batch.bytes;
        self.unpersisted_since.get_or_insert(started);
        // A stopped state machine needs no news.
        let _stopped = self.wrote.deliver(EngineWrote { seq: batch.seq });
        if self.unpersisted_bytes >= self.policy.bytes {
            self.persist_if_due();
        }
    }

    fn defragment(&mut self, reply: Defragmented) {
        match &mut self.copying {
            None => self.begin_defragmentation(vec![reply]),
            Some(Copying {
                purpose: Purpose::Defragment(replies),
                ..
            }) => replies.push(reply),
            Some(_) => self.waiting.push(reply),
        }
    }

    fn begin_defragmentation(&mut self, replies: Vec<Defragmented>) {
        match self.engines.begin_rewrite() {
            Ok(target) => {
                tracing::info!("starting defragmentation");
                DEFRAG_INFLIGHT.set(1);
                let copy = Copy::begin(self.engine.clone(), target, Damage::Copied);
                self.begin(copy, Purpose::Defragment(replies));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot begin to defragment");
                for reply in replies {
                    reply.send(Err(EtcdError::Defragment(error.to_string())));
                }
            }
        }
    }

    fn begin(&mut self, copy: Copy, purpose: Purpose) {
        let now = Instant::now();
        self.copying = Some(Copying {
            copy,
            purpose,
            started: now,
            next_page: now,
        });
    }

    fn make_checkpoint_if_due(&mut self) {
        let Some(schedule) = &mut self.checkpoints else {
            return;
        };
        let now = Instant::now();
        let applied = Index(self.progress.applied.index);
        match schedule.due(now, applied, &self.progress.sizes) {
            Due::GiveUp if self.copying.is_none() => self.give_up_the_checkpoint(),
            Due::Make if self.copying.is_none() => match self.engines.begin_checkpoint() {
                Ok(target) => {
                    tracing::info!("starting a checkpoint");
                    let copy = Copy::begin(self.engine.clone(), target, Damage::Refused);
                    self.begin(copy, Purpose::Checkpoint);
                }
                Err(error) => {
                    schedule.failed(now);
                    tracing::warn!(%error, "cannot begin a checkpoint; trying again later");
                }
            },
            Due::GiveUp | Due::Make | Due::Nothing => {}
        }
    }

    /// A bounded disk wins over a second copy of the data.
    fn give_up_the_checkpoint(&mut self) {
        tracing::warn!(
            applied = self.progress.applied.index,
            "the log kept for the checkpoint has outgrown its bounds, and no new checkpoint could be made: giving the old \
             one up. Until the next one succeeds, only a backup helps against damage to the storage engine. Is the disk full?"
        );
        if let Err(error) = self.engines.remove_checkpoint() {
            tracing::warn!(%error, "cannot remove the checkpoint");
        }
        if let Some(schedule) = &mut self.checkpoints {
            schedule.given_up();
        }
        self.unpersisted_since.get_or_insert_with(Instant::now);
    }

    /// Damage of the live engine ends the process, which finds it again when it starts. Anything else is no reason to: the
    /// live engine is as it was.
    fn copy_failed(&mut self, copying: Copying, error: CopyError) {
        match error {
            CopyError::Live(error) if error.is_rebuild() => {
                fatal("reading the engine to copy it", &error)
            }
            CopyError::Damaged(error) => fatal("looking through the engine to copy it", &error),
            error => self.give_up(copying, &error),
        }
    }

    fn give_up(&mut self, copying: Copying, why: &dyn std::fmt::Display) {
        if let Err(error) = copying.copy.into_target().abandon() {
            tracing::warn!(%error, "cannot remove the unfinished copy; the next start removes it");
        }
        match copying.purpose {
            Purpose::Defragment(replies) => {
                tracing::warn!(error = %why, "gave up defragmentation");
                DEFRAG_INFLIGHT.set(0);
                for reply in replies {
                    reply.send(Err(EtcdError::Defragment(why.to_string())));
                }
            }
            Purpose::Checkpoint => self.checkpoint_failed(why),
        }
    }

    fn checkpoint_failed(&mut self, why: &dyn std::fmt::Display) {
        tracing::warn!(error = %why, "gave up a checkpoint; the one before stays, and another is tried later");
        if let Some(schedule) = &mut self.checkpoints {
            schedule.failed(Instant::now());
        }
        self.begin_what_waits();
    }

    fn begin_what_waits(&mut self) {
        if !self.waiting.is_empty() {
            let replies = std::mem::take(&mut self.waiting);
            self.begin_defragmentation(replies);
        }
    }

    fn copy_page(&mut self) {
        let Some(mut copying) = self.copying.take() else {
            return;
        };
        let began = Instant::now();
        match copying.copy.step() {
            Ok(false) => {
                let ended = Instant::now();
                // Batches that wait get their turn between any two pages.
                copying.next_page = match copying.purpose {
                    Purpose::Defragment(_) => ended,
                    Purpose::Checkpoint => ended + (ended - began),
                };
                self.copying = Some(copying);
            }
            Ok(true) => self.copied(copying),
            Err(error) => self.copy_failed(copying, error),
        }
    }

    /// The copy holds what the live engine holds.
    fn copied(&mut self, copying: Copying) {
        match copying.purpose {
            Purpose::Defragment(replies) => self.switch(copying.copy, replies, copying.started),
            Purpose::Checkpoint => self.complete_checkpoint(copying.copy, copying.started),
        }
    }

    fn switch(&mut self, copy: Copy, replies: Vec<Defragmented>, started: Instant) {
        let retired = match self.engines.switch(copy.into_target()) {
            Ok(retired) => retired,
            Err(error) => fatal("switching to the rewritten engine", &error),
        };
        let took = started.elapsed();
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
        self.persister.covers(self.persisted());
        let engine = self.engine.clone();
        let _stopped = self.replaced.deliver(EngineReplaced { engine, retired });
        for reply in replies {
            reply.send(Ok(()));
        }
    }

    fn complete_checkpoint(&mut self, copy: Copy, started: Instant) {
        let Applied { index, term } = self.progress.applied;
        match self
            .engines
            .complete_checkpoint(copy.into_target(), index, term)
        {
            Ok(_) => {
                let took_ms = started.elapsed().as_millis() as u64;
                tracing::info!(index, term, took_ms, "finished a checkpoint");
                if let Some(schedule) = &mut self.checkpoints {
                    schedule.made(Index(index), Instant::now());
                }
                // The next persist tells Raft; it follows soon even if nothing more is written.
                self.unpersisted_since.get_or_insert_with(Instant::now);
                self.begin_what_waits();
            }
            Err(error) => self.checkpoint_failed(&error),
        }
    }

    /// What is durable once everything written so far is.
    fn persisted(&self) -> EnginePersisted {
        EnginePersisted {
            applied: Index(self.progress.applied.index),
            checkpoint: self.checkpoints.as_ref().and_then(Schedule::kept_beyond),
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
        if self.persister.start(self.engine.clone(), self.persisted()) {
            self.unpersisted_bytes = 0;
            self.unpersisted_since = None;
        } else {
            // The last one still runs: look again after another interval, or the next batch.
            self.unpersisted_since = Some(Instant::now());
        }
    }
}
