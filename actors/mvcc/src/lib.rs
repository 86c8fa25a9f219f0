//! The shell of the state machine: one thread that applies the log, and the threads that read and write for it.
//!
//! ```text
//!   Apply --> actor (apply, seal, publish, then reply) --batches--> engine_writer --> engine
//!               |                                                        | persisted
//!               | views                                                  v
//!               +-----> reader, handlers                               Raft (may truncate its log)
//! ```
//!
//! A batch of entries is applied as a whole: its changes become visible in one new read view, and only
//! then are its callers answered. A compaction is hashed by `compaction_hasher` before anything of it is removed.

mod actor;
pub mod compaction_hasher;
pub mod core;
pub mod engine;
pub mod events;
pub mod metrics;
mod priority;
pub mod reader;
mod start;

pub use core::{Core, Effect, Write};
pub use engine::{CheckpointPolicy, EngineSetup, PersistPolicy, Progress};
pub use start::{Links, MvccConfig, Ports, Publications, Started, start};
