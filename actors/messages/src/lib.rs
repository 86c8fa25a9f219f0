//! What the actors say to each other, and how it travels.
//!
//! An actor never awaits another: it *tells*, through a [`Port`], and a message that wants an
//! answer carries a [`Reply`]. Dropping a `Reply` unanswered gives its caller an error, never a hang.
//!
//! ```text
//!   transport/   port, reply, receive, probe: how a message travels
//!   cells/       what is published instead of asked for, and who writes it
//!   raft, mvcc, reader, watch, lease, compactor, members: the letters to each of them; common: to several
//!   proposer     how an actor proposes          renewer   how a lease is renewed
//!   clock, metrics, fatal: the time, the counters, and the end of a process, each in one place
//! ```

#![forbid(unsafe_code)]

pub mod cells;
mod clock;
mod common;
pub mod compactor;
mod fatal;
pub mod lease;
pub mod members;
pub mod metrics;
pub mod mvcc;
pub mod operations;
mod proposer;
pub mod raft;
pub mod reader;
pub mod renewer;
mod transport;
pub mod watch;

pub use cells::live_leases::{self, LiveLeases};
pub use cells::published::Published;
pub use cells::raft_status::RaftStatus;
pub use clock::Clock;
pub use common::{Heartbeat, Role, RoleChanged, Stop, Tick};
pub use fatal::{Fatal, fatal};
pub use proposer::Proposer;
pub use renewer::{Renewer, Renewing};
pub use rusd_proto::ids::{ClusterId, Index, LeaseId, MemberId, RequestId, Term};
pub use transport::port::{Delivery, Port, Refused};
pub use transport::probe::Probe;
pub use transport::reply::{Dropped, Pending, Reply};
