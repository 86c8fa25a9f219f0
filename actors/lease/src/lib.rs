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
//! `timer` is the core, `spread` keeps a new leader's deadlines from falling together, `actor` is the shell, and
//! `renewer` is how the others renew.

mod actor;
mod metrics;
mod renewer;
mod spread;
pub mod timer;

pub use actor::{Lease, Links, Ports};
pub use renewer::{Renewer, Renewing};
pub use timer::LeaseConfig;
