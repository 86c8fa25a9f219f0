//! The engine's threads: one writes sealed batches to it, and copies it when a copy is wanted; one makes it durable
//! meanwhile.
//!
//! They are not on the path of an acknowledgement: the log is durable already, and readers find what is not written yet
//! in the store's ring.
//!
//! ```text
//!   Write, Defragment, Close --> thread --asks--> core (when to write, persist, copy a page, give up, close)
//!                                  |  \---------> persist (a thread of its own)
//!                                  v
//!                                copy (into a fresh engine), checkpoint (the rule when)
//! ```
#![allow(clippy::disallowed_methods)]

pub mod checkpoint;
pub mod copy;
mod copying;
pub mod core;
mod persist;
mod thread;

pub use self::core::{Action, Core, Purpose};
pub use checkpoint::{CheckpointPolicy, Schedule};

use crate::core::Write;
use crate::core::batching::BATCHES_OUT_MAX;
use persist::Persister;
use rusd_messages::mvcc::EngineWrote;
use rusd_messages::raft::EnginePersisted;
use rusd_messages::{Index, Port, Reply};
use rusd_proto::EtcdError;
use rusd_storage::engine::{Engine, EngineDir, Retired};
use rusd_storage::{LogPosition, Sizes};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thread::Writer;

/// Work that may wait for the writer: batches, of which the state machine hands out few, and rare requests.
const QUEUED_WORK: usize = BATCHES_OUT_MAX + 2;

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
    pub applied: LogPosition,
    /// What it holds then.
    pub sizes: Sizes,
}

/// Work for the writer thread.
pub enum Work {
    /// Write a batch.
    Write(Write),
    /// Rewrite the engine into a fresh directory, writing meanwhile.
    Defragment {
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
    /// Starts the threads. What is durable goes to `persisted`. An error if the operating system gives no thread.
    pub fn spawn(
        setup: EngineSetup,
        wrote: Port<EngineWrote>,
        replaced: Port<EngineReplaced>,
        persisted: Port<EnginePersisted>,
    ) -> io::Result<Self> {
        let (work, queue) = flume::bounded(QUEUED_WORK);
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
        let schedule = checkpoints.map(|policy| Schedule::new(policy, found, 0));
        let writer = Writer {
            core: Core::new(persist, schedule, progress),
            epoch: Instant::now(),
            engine: engines.engine(),
            engines,
            copying: None,
            persister: Persister::spawn(persisted.clone())?,
            wrote,
            replaced,
            persisted,
        };
        std::thread::Builder::new()
            .name("engine-writer".to_owned())
            .spawn(move || writer.run(&queue))?;
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
