//! Raft's numbers. Writer: the Raft thread. Readers: the handlers of requests, health and metrics.

use crate::{Index, MemberId, Term};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the Raft thread publishes; each number by itself, so two of them may be of different moments.
#[derive(Debug, Default)]
pub struct RaftStatus {
    term: AtomicU64,
    leader: AtomicU64,
    committed: AtomicU64,
    applied: AtomicU64,
    reads_are_local: AtomicBool,
}

impl RaftStatus {
    /// The term that this member is in; 0 before the first.
    pub fn term(&self) -> Term {
        Term(self.term.load(Ordering::Acquire))
    }

    /// The leader this member knows of.
    pub fn leader(&self) -> Option<MemberId> {
        match self.leader.load(Ordering::Acquire) {
            0 => None,
            id => Some(MemberId(id)),
        }
    }

    /// The index through which this member knows entries to be committed.
    pub fn committed(&self) -> Index {
        Index(self.committed.load(Ordering::Acquire))
    }

    /// The index through which Raft knows entries to be applied.
    pub fn applied(&self) -> Index {
        Index(self.applied.load(Ordering::Acquire))
    }

    /// Whether a linearizable read may be answered from the read view without a ReadIndex round: this
    /// member leads, the first entry of its term is applied, and nobody else has or is about to get a vote.
    pub fn reads_are_local(&self) -> bool {
        self.reads_are_local.load(Ordering::Acquire)
    }

    /// Publishes term and leader.
    pub fn set_leadership(&self, term: Term, leader: Option<MemberId>) {
        self.term.store(term.0, Ordering::Release);
        self.leader
            .store(leader.map_or(0, |m| m.0), Ordering::Release);
    }

    /// Publishes the commit index.
    pub fn set_committed(&self, index: Index) {
        self.committed.store(index.0, Ordering::Release);
    }

    /// Publishes the applied index.
    pub fn set_applied(&self, index: Index) {
        self.applied.store(index.0, Ordering::Release);
    }

    /// Grants or withdraws the local-read shortcut.
    pub fn set_reads_are_local(&self, granted: bool) {
        self.reads_are_local.store(granted, Ordering::Release);
    }
}
