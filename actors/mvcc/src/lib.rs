//! The state machine's thread: it applies the log, and the threads around it read and write for it.
//!
//! ```text
//!   Apply, Tick, CompactStep --> actor --> core --> credits, lease changes, events, replies: in this order
//!                                  |         | views
//!                     Write, Hash  |         +-----> readers, handlers
//!                                  v
//!                          engine (writer, persist) --persisted--> Raft (may truncate its log)
//! ```
//!
//! A batch of entries is applied as a whole: its changes become visible in one new read view, and only
//! then are its callers answered. A compaction is hashed before anything of it is removed.
//!
//! Two cores decide, and have no thread, clock or file: [`core`] what is told to whom, and [`engine::core`] when the
//! engine is written, persisted and copied. Everything else carries out what they say.

#![deny(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod actor;
mod connection;
pub mod core;
pub mod engine;
mod events;
pub mod metrics;
pub mod readers;
mod start;

pub use core::{Core, Effect, Write};
pub use engine::{CheckpointPolicy, EngineSetup, PersistPolicy, Progress};
pub use start::{Links, MvccConfig, Ports, Publications, Started, start};
