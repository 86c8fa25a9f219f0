//! Which compacted revision a HashKV at a freshly compacted revision is told with.
//!
//! etcd hashes what a compaction keeps while it removes the rest, and answers HashKV at exactly that revision from the
//! stored result: under the compacted revision of *before* (KV-C05, M-04). The hash itself is the same as one
//! computed now, so only the revisions are kept here. etcd answers for the last ten compactions, even where
//! a later one has passed; here for the last one, since a hash of what is gone would have to be computed ahead.

use parking_lot::Mutex;
use std::sync::Arc;

/// Shared between the state machine's thread, which notes, and the readers, which ask.
#[derive(Clone, Debug, Default)]
pub struct LastCompaction(Arc<Mutex<Option<Finished>>>);

#[derive(Clone, Copy, Debug)]
struct Finished {
    revision: i64,
    compacted_before: i64,
}

impl LastCompaction {
    /// A compaction at `revision` has removed everything; `compacted_before` was the compacted revision until then.
    pub fn finished(&self, revision: i64, compacted_before: i64) {
        *self.0.lock() = Some(Finished {
            revision,
            compacted_before,
        });
    }

    /// The compacted revision that a hash at `revision` is told with, if that is the last compaction's.
    pub fn compacted_before(&self, revision: i64) -> Option<i64> {
        let last = self.0.lock().filter(|last| last.revision == revision);
        last.map(|last| last.compacted_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kv_c05_only_the_last_compaction_counts() {
        let last = LastCompaction::default();
        assert_eq!(last.compacted_before(3), None);
        last.finished(3, -1);
        assert_eq!(last.compacted_before(3), Some(-1));
        last.finished(7, 3);
        assert_eq!(
            (last.compacted_before(3), last.compacted_before(7)),
            (None, Some(3))
        );
    }
}
