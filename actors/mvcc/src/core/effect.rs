//! What the core asks for.

use crate::Progress;
use rusd_messages::compactor::{CompactStepped, CompactionPending, RevisionAdvanced};
use rusd_messages::lease::LeasesChanged;
use rusd_messages::raft::{Applied, ConfApplied};
use rusd_messages::watch::{Committed, Compacted, Lagged};
use rusd_messages::{Index, Published, Reply};
use rusd_proto::ApplyResult;
use rusd_storage::{CompactionHash, SealedBatch};
use std::sync::Arc;

/// To be performed in the order in which they come.
pub enum Effect {
    /// The newest view has everything through this entry of the log: wake the reads that wait for it, and set the
    /// gauges.
    Published {
        /// The last entry applied.
        through: Index,
    },
    /// To Raft.
    Applied(Applied),
    /// To members, after this has been published in place.
    Members(Arc<Published>),
    /// To the lease timer.
    Leases(LeasesChanged),
    /// To Raft.
    ConfApplied(ConfApplied),
    /// To the thread that hashes. What is not run there is dropped: the removal waits for either.
    Hash(CompactionHash),
    /// To the watch hub.
    Compacted(Compacted),
    /// To the compactor.
    CompactionPending(CompactionPending),
    /// To the watch hub. If its queue is full: [`Core::committed_refused`](super::Core::committed_refused).
    Committed(Committed),
    /// To the watch hub. If its queue is full: [`Core::lagged_refused`](super::Core::lagged_refused).
    Lagged(Lagged),
    /// To the compactor. If its queue is full: [`Core::revision_refused`](super::Core::revision_refused).
    Revision(RevisionAdvanced),
    /// To callers.
    Replies(Vec<(Reply<ApplyResult>, ApplyResult)>),
    /// To the engine writer; done: [`Core::engine_wrote`](super::Core::engine_wrote).
    Write(Write),
    /// To the compactor.
    Stepped(CompactStepped),
}

/// A batch for the engine. Batches are written in the order in which they come.
#[derive(Debug)]
pub struct Write {
    /// The records.
    pub batch: SealedBatch,
    /// How far the engine is with them.
    pub progress: Progress,
    /// Bytes of the log's entries since the batch before.
    pub log_bytes: u64,
}
