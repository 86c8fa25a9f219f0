//! The lease timer: counts down, and proposes what follows from it.
//!
//! Which leases exist is replicated state. How long each still has is not: only the leader counts, from the
//! moment it leads, and what it concludes becomes true only by going through the log.
//!
//! ```text
//!   state machine --LeasesChanged--> +-------------+ --Propose(LeaseRevoke)------> Raft
//!   rpc --KeepAlive, TimeToLive----> | LeaseTimer  | --Propose(LeaseCheckpoint)--> Raft
//!   Raft --RoleChanged-------------> +-------------+
//!   clock --Tick------------------->
//! ```
//!
//! `timer` is the core, `spread` keeps a new leader's deadlines from falling together, `actor` is the shell.

mod actor;
mod metrics;
mod spread;
pub mod timer;

pub use actor::{Lease, Links, Ports};
pub use timer::LeaseConfig;
