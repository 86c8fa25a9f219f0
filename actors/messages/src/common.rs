//! Letters that several actors receive alike.

use crate::{MemberId, Reply, Term};

/// A member's part in Raft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Follows, or looks for a leader.
    #[default]
    Follower,
    /// Proposes what clients ask for, and sends it to the others.
    Leader,
    /// Receives the log without a vote.
    Learner,
}

/// Time passes: sent to the actors that need it from a timer outside. Coalesced: at most one is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Milliseconds of the member's [`Clock`](crate::Clock).
    pub now_ms: u64,
}

/// Are you there? Sent once a second to the threads that nothing works without; one that hangs does not answer.
#[derive(Debug)]
pub struct Heartbeat {
    /// Answered as soon as the thread comes to it.
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
    /// Answered when the actor has closed its files.
    pub reply: Reply<()>,
}
