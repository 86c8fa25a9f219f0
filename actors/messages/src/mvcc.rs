//! What the state machine's thread receives.

use crate::{Index, LeaseId, Reply, Term};
use bytes::Bytes;
use rusd_proto::{ApplyResult, EtcdError};

/// What a log entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// An `InternalRaftRequest`, or nothing (the entry a new leader appends).
    Request,
    /// A `raftpb.ConfChange` whose context is etcd's member JSON.
    ConfChange,
}

/// A committed entry, with the reply port of the caller that proposed it on this member.
#[derive(Debug)]
pub struct CommittedEntry {
    /// Its position in the log.
    pub index: Index,
    /// The term it was proposed in.
    pub term: Term,
    /// How to read `data`.
    pub kind: EntryKind,
    /// The entry's payload.
    pub data: Bytes,
    /// Who waits for it here, if anyone.
    pub reply: Option<Reply<ApplyResult>>,
}

/// Apply committed entries, in order. A batch is capped in entries and bytes by Raft, and ends at a conf change.
#[derive(Debug)]
pub struct Apply {
    /// In log order, without gaps.
    pub entries: Vec<CommittedEntry>,
}

/// Remove some of what compaction has superseded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactStep {
    /// At most this many records.
    pub max_records: usize,
}

/// The engine-writer thread has written (not persisted) a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineWrote {
    /// The sequence number of the batch.
    pub seq: u64,
}

/// The keys attached to a lease, in order; None if there is no such lease.
#[derive(Debug)]
pub struct LeaseKeys {
    /// The lease's id; there need not be such a lease.
    pub lease: LeaseId,
    /// The attached keys.
    pub reply: Reply<Option<Vec<Bytes>>>,
}

/// Rewrite the engine into a fresh directory, serving meanwhile, and switch to it.
#[derive(Debug)]
pub struct Defragment {
    /// Answered when the new directory is current, or with why not.
    pub reply: Reply<Result<(), EtcdError>>,
}
