//! The answers of HashKV that are kept: values only, so that what readers and the writer share can hold them.

use std::collections::VecDeque;

use parking_lot::Mutex;
use rusd_proto::ids::Revision;

/// The result of HashKV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C, as etcd computes it.
    pub hash: u32,
    /// The revision that was hashed.
    pub revision: Revision,
    /// The compacted revision it was computed under; -1 for none.
    pub compact_revision: Revision,
}

/// How many are kept.
const KEPT: usize = 10;

/// The hashes of the last compactions, in order of their revisions.
#[derive(Debug, Default)]
pub(super) struct CompactionHashes(Mutex<VecDeque<HashKv>>);

impl CompactionHashes {
    /// The hash of the compaction at `revision`.
    pub(super) fn at(&self, revision: Revision) -> Option<HashKv> {
        let hashes = self.0.lock();
        hashes
            .iter()
            .find(|hash| hash.revision == revision)
            .copied()
    }

    pub(super) fn keep(&self, hash: HashKv) {
        let mut hashes = self.0.lock();
        if hashes.len() == KEPT {
            hashes.pop_front();
        }
        hashes.push_back(hash);
    }
}
