//! The members actor: what a member says about itself to the cluster.
//!
//! Members, alarms and the cluster version are replicated; this actor only proposes changes to them, and goes on
//! proposing until it sees them:
//!
//! ```text
//!   a leader is known      --> publish name and client URLs (O-24); once that is applied: joined
//!   leading                --> decide the cluster version (O-14)
//!   RaiseAlarm             --> raise the alarm for this member, once, however often it is asked for; answer all who
//! did
//!
//!   Raft --RoleChanged--> +---------+
//!   state machine         | Members | --Propose--> Raft --> state machine --+
//!     --MembersChanged--> +---------+                                       |
//!            ^------------------------------------------------------------- +
//! ```
//!
//! `reconciler` is the core and `proposal` what it proposes, `waiting` holds those who asked for an alarm, `version`
//! compares versions, `report` tells operators what changed, `start` is how it is started, and `actor` is the shell.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod actor;
mod metrics;
mod proposal;
pub mod reconciler;
mod report;
mod start;
pub mod version;
mod waiting;

pub use proposal::Proposal;
pub use reconciler::MembersConfig;
pub use start::{Links, Ports, Started, start};
