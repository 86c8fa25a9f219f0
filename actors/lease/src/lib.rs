//! The lease timer: counts down, and proposes what follows from it.
//!
//! Which leases exist is replicated state. How long each still has is not: only the leader counts, from the
//! moment it leads, and what it concludes becomes true only by going through the log.
//!
//! ```text
//!   state machine --LeasesChanged--> +-------------+ --Propose(LeaseRevoke)------> Raft
//!   rpc --KeepAlive, TimeToLive----> | LeaseTimer  | --Propose(LeaseCheckpoint)--> Raft
//!   Raft --RoleChanged, clock--Tick> +-------------+
//!                                      | opens, closes, reads back
//!   rpc --most renewals, in place--> LiveLeases <--enters, removes-- state machine
//! ```
//!
//! `timer` is the core and `proposal` what it proposes, `spread` keeps a new leader's deadlines from falling together,
//! `waiting` holds renewals that cannot be answered yet, `start` is how
//! it is started, and `actor` is the shell.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod actor;
mod metrics;
mod proposal;
mod spread;
mod start;
pub mod timer;
mod waiting;

pub use proposal::Proposal;
pub use start::{Links, Ports, Started, start};
pub use timer::LeaseConfig;
