//! The compactor: decides when history may go, and paces its removal.
//!
//! Compaction happens in two halves. The *decision* is replicated: an entry in the log moves the compacted
//! revision, on all members alike, and from then on older revisions cannot be read. The *removal* is each member's
//! own business: small steps with pauses between them, so that neither reads nor writes notice.
//!
//! ```text
//!   RevisionAdvanced, Tick --> policy (leader only) --Propose(Compact)--> Raft --> state machine
//!                                                                                    |
//!   CompactionPending, CompactStepped <----------------------------------------------+
//!        |                                                                           ^
//!        +------------------> pacing --CompactStep, pause, CompactStep, ... ---------+
//! ```
//!
//! `policy` and `pacing` are the cores, `actor` is the shell.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

mod actor;
mod metrics;
pub mod pacing;
pub mod policy;
mod report;
mod start;

pub use policy::AutoMode;
pub use start::{CompactorConfig, Links, Ports, Started, start};
