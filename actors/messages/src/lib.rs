//! What the actors say to each other, and how it travels.
//!
//! An actor never awaits another: it *tells*, through a [`Port`], and a message that wants an
//! answer carries a [`Reply`]. Dropping a `Reply` unanswered gives its caller an error, never a hang.
//! One file per receiver, named after it; `port`, `reply` and `receive` are the transport, `proposer` the way to propose;
//! `status` has the few
//! numbers that are published instead of asked for, `live_leases` what is renewed in place, and `fatal` is how any of
//! them ends the process.

pub mod clock;
pub mod compactor;
pub mod fatal;
pub mod lease;
pub mod live_leases;
pub mod members;
pub mod metrics;
pub mod mvcc;
pub mod port;
pub mod proposer;
pub mod raft;
pub mod reader;
mod receive;
pub mod renewer;
pub mod reply;
pub mod status;
pub mod watch;

pub use clock::Clock;
pub use fatal::{Fatal, fatal};
pub use live_leases::LiveLeases;
pub use port::{Delivery, Port, Probe, Refused};
pub use proposer::Proposer;
pub use renewer::{Renewer, Renewing};
pub use reply::{Dropped, Pending, Reply};
pub use rusd_proto::ids::{ClusterId, Index, LeaseId, MemberId, RequestId, Term};
pub use status::{Published, RaftStatus, Role};

/// Time passes: sent to the actors that need it from a timer outside. Coalesced: at most one is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Milliseconds of the member's [`Clock`].
    pub now_ms: u64,
}

/// Are you there? Sent once a second to the threads that nothing works without; one that hangs does not answer.
#[derive(Debug)]
pub struct Heartbeat {
    /// Answered at once.
    pub reply: Reply<()>,
}

/// The Raft role or term of this member changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleChanged {
    /// Whether this member leads, and has applied an entry of its term.
    pub role: Role,
    /// The term the role belongs to.
    pub term: Term,
    /// Who leads, if known.
    pub leader: Option<MemberId>,
}

/// Finish what is in hand, refuse what comes after, and answer when done.
#[derive(Debug)]
pub struct Stop {
    /// Answered when the actor has let go of its files and timers.
    pub reply: Reply<()>,
}
