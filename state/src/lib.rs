//! The replicated state machine: what every member computes alike from the same log.
//!
//! ```text
//!   committed entry --apply--> Applied { reply, changes, effects }
//!                      |
//!        +-------------+-------------+-----------+------------+
//!        |             |             |           |            |
//!   kv (MvccStore)   lease        alarm       members     compaction
//!        |             |             |           |            |
//!        +-------------+-- one batch per run of entries ------+--seal--> engine (by the shell)
//! ```
//!
//! Everything here is a function of the state and the entry: no clock, no randomness, no configuration, no
//! I/O after [`StateMachine::open`]. That is what makes members agree to the byte, and what the tests check:
//! two machines fed the same log, however it is cut into batches and wherever one of them restarts, give the
//! same replies and the same HashKV.
//!
//! Errors come in two kinds that never mix. A deterministic one (a missing lease, a compacted revision, an
//! alarm) is a *reply*: [`EtcdError`](rusd_proto::EtcdError), the same on every member, and the entry counts as
//! applied. A local one (a failed disk, an entry that cannot be decoded) is a [`StateError`]: this member must stop,
//! because going on would part it from the others.
//!
//! The rules of requests ([`kv`], [`members`]) are public: handlers validate with them before they propose,
//! and answer reads with them from a read view.

#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

pub mod alarm;
mod check;
pub mod error;
pub mod kv;
pub mod lease;
pub mod machine;
pub mod members;
mod request;

pub use error::{KvError, StateError};
pub use lease::{LeaseInfo, Leases};
pub use machine::{Applied, Effect, Entry, EntryKind, StateMachine};
pub use members::{MemberChange, Members};
