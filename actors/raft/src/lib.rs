//! Consensus: the replicated log, and who may append to it.
//!
//! ```text
//!   Propose, ReadIndex, Tick, Applied, ConfApplied, ...          Persisted
//!        |                                                          |
//!        v                                                          |
//!   +---------+   effects   +---------------------------------------+-----+
//!   | actor   |<------------| core (pure): raft-rs around a LogTail       |
//!   | (shell) |------------>|  proposals . reads . applying . local reads |
//!   +---------+   inputs    +---------------------------------------------+
//!    |       |                                            | reads old entries
//!    | Append| inline, or through the writer's queue      v
//!    |       +----------------> log writer thread --> raft-engine (the log on disk)
//!    +--> Apply{entries, reply ports} --> the state machine
//! ```
//!
//! * [`log`] is the log on disk: opening it (and refusing a damaged one), bootstrapping it, writing it.
//! * [`core`] decides. It is pure: its inputs are method calls, time is a number in a tick, and what is to be
//!   done comes out as [`core::Effect`]s. Golden scripts and simulators drive it directly.
//! * `actor` is the shell around it on a thread of its own, which [`start()`] starts.
//! * [`ids`] derives member and cluster ids as etcd does; [`conf_change`] reads membership changes for raft-rs.
//!
//! # The life of a write
//!
//! A `Propose` joins the held proposals. When no write is in flight, all of them go to raft-rs as *one*
//! message, come back as one ready, are copied to the in-memory tail (raft-rs reads them there) and leave as one
//! append batch: one record in the log, one fdatasync. Meanwhile the next ones collect. `Persisted` commits
//! them (at once with a sole voter), and they leave for the state machine with the reply ports of their callers.
//!
//! # What a crash leaves
//!
//! Every acknowledged entry was in a batch that had been synced. A torn last record is an unacknowledged
//! batch, and is cut off at the next start. Anything else that does not verify is damage, and refused: see [`log`].

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod actor;
pub mod conf_change;
pub mod core;
pub mod ids;
pub mod limits;
pub mod log;
pub mod metrics;
mod start;

pub use self::core::{Core, CoreConfig, Counts, StartError};
pub use self::log::{Bootstrap, Identity, Log, LogConfig, LogError};
pub use start::{Links, Ports, RaftConfig, Started, start};

/// The Raft messages between members, for the transport that carries them.
pub use raft::eraftpb::Message as PeerMessage;
