//! Bugs planted in the simulated host, to see that the checks find them. None of them touches the product.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The log's writer says that a batch is durable without having synced it.
    SkippedSync,
    /// Callers are answered while readers still see the view of before.
    ReplyBeforeView,
    /// The applied index is not in the same batch as what it stands for, so that entries are applied again.
    AppliedTwice,
    /// Raft is told that the engine is durable as soon as it is written.
    TruncatedAboveDurable,
    /// The record of a key keeps its old lease when it is put again without one.
    LostDetachment,
    /// What the hub's queue refused is forgotten.
    SkippedEvent,
    /// Raft is told that a batch is durable before it is written.
    AcknowledgedBeforeWritten,
    /// The compacted revision is lost in a crash.
    ForgottenCompaction,
    /// The lease timer's clock runs fast.
    EarlyExpiry,
    /// A defragmentation that is under way misses the batches that come meanwhile.
    CopyWithoutBatches,
}
