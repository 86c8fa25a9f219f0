//! The members actor: what a member says about itself to the cluster.
//!
//! Members, alarms and the cluster version are replicated; this actor only proposes changes to them, and goes on
//! proposing until it sees them:
//!
//! ```text
//!   a leader is known      --> publish name and client URLs (O-24); once that is applied: joined
//!   leading                --> decide the cluster version (O-14)
//!   RaiseAlarm             --> raise the alarm for this member, once, however often it is asked for; answer all who did
//!
//!   Raft --RoleChanged--> +---------+
//!   state machine         | Members | --Propose--> Raft --> state machine --+
//!     --MembersChanged--> +---------+                                       |
//!            ^------------------------------------------------------------- +
//! ```
//!
//! `wishes` is the core, `version` compares versions, `actor` is the shell.

mod actor;
mod metrics;
pub mod version;
pub mod wishes;

pub use actor::{Links, Members, Ports};
pub use wishes::MembersConfig;
