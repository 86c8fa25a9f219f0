//! What Raft receives.

use crate::{Index, MemberId, Reply, RequestId};
use bytes::Bytes;
use rusd_proto::{ApplyResult, EtcdError};

/// Put `data` (an encoded `InternalRaftRequest` whose header id is `id`) into the log.
/// The reply is answered by the state machine, when the entry is applied on this member.
#[derive(Debug)]
pub struct Propose {
    /// The header id of `data`.
    pub id: RequestId,
    /// The encoded request; owns its memory.
    pub data: Bytes,
    /// Answered when the entry is applied on this member, or with why that did not happen in time.
    pub reply: Reply<ApplyResult>,
}

/// Confirm leadership, and answer with the commit index of that moment: a read that waits until the
/// view has applied it is linearizable.
#[derive(Debug)]
pub struct ReadIndex {
    /// The index to wait for, or why leadership could not be confirmed.
    pub reply: Reply<Result<Index, EtcdError>>,
}

/// The state machine has applied entries: returns their credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Everything through this index is applied and visible to readers.
    pub through: Index,
}

/// A conf-change entry has been applied by the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfApplied {
    /// Index of the entry.
    pub index: Index,
    /// Whether the state machine turned it down, so that Raft must not take it either.
    pub rejected: bool,
}

/// The engine has made everything through `applied` durable: the log may be truncated that far, except for what a
/// checkpoint needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnginePersisted {
    /// The applied index that a completed `persist` covers.
    pub applied: Index,
    /// What the engine would be rebuilt from has the log through here, and needs it from there on; None if there is
    /// no such thing. It binds a sole voter only: the data of others is with the others.
    pub checkpoint: Option<Index>,
}

/// Hand leadership to `target`.
#[derive(Debug)]
pub struct TransferLeader {
    /// A voting member.
    pub target: MemberId,
    /// Answered when it leads, or with the reason why not.
    pub reply: Reply<Result<(), EtcdError>>,
}
