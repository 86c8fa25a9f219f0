//! What the compactor receives.

/// The store moved on. Coalesced: the last one tells all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevisionAdvanced {
    /// The current revision.
    pub revision: i64,
}

/// Superseded records wait to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionPending {
    /// The compacted revision they are below.
    pub revision: i64,
}

/// A [`crate::mvcc::CompactStep`] is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactStepped {
    /// Records removed by it.
    pub removed: usize,
    /// Whether nothing is left to remove.
    pub finished: bool,
    /// Bytes that the engine does not have yet.
    pub unwritten_bytes: usize,
    /// Whether the next step removes records, which the engine then has to write. If not, it only looks for them.
    pub next_removes: bool,
}
