//! What the store promises of itself.

use rusd_proto::ids::Revision;

use super::{FIRST_REVISION, MvccStore};
use crate::revision::REVISION_KEY_BYTES;

impl MvccStore {
    /// Panics unless the parts of the store agree. Visits every key: for scripts, models and fuzzing, between
    /// transactions, of a store whose records this code has written.
    pub fn check(&self) {
        self.check_revisions();
        self.check_batches();
        self.check_sizes();
        self.shared.ring.read().check(self.revision);
    }

    /// Compaction goes up only: what is removed lies behind what is unreadable, and that behind what has happened.
    fn check_revisions(&self) {
        assert!(FIRST_REVISION <= self.revision, "below the first revision");
        assert!(
            self.compacted <= self.revision,
            "compacted beyond the newest revision"
        );
        assert!(
            self.compact_finished <= self.compacted,
            "removal is ahead of compaction"
        );
        assert!(
            self.shared.pins.floor() <= self.compacted.max(Revision(0)),
            "the floor is above the compacted revision"
        );
        let published = self.published.load();
        assert!(published.revision <= self.revision);
        assert!(published.compacted <= self.compacted);
        assert!(published.applied.index <= self.applied.index);
    }

    /// Batches reach the engine in order, and their bytes are counted until they have.
    fn check_batches(&self) {
        let mut last = (0, self.shared.ring.read().written());
        let mut bytes = 0;
        for taken in &self.taken {
            assert!(last.0 < taken.seq, "batches out of order");
            assert!(last.1 <= taken.revision, "revisions of batches go back");
            last = (taken.seq, taken.revision);
            bytes += taken.bytes;
        }
        assert!(
            last.0 < self.next_seq,
            "a batch with a number not given yet"
        );
        assert!(last.1 <= self.sealed_revision && self.sealed_revision <= self.revision);
        assert_eq!(bytes, self.taken_bytes, "bytes of the batches taken");
    }

    /// A record is in the index, or collected for removal from the engine, and counted until it is removed.
    fn check_sizes(&self) {
        let held = self.index.check();
        let mut records = held.records;
        let mut bytes =
            held.record_bytes + held.tombstones + held.records * REVISION_KEY_BYTES as u64;
        for removed in self.removal.collected() {
            assert!(
                removed.revision.main <= self.compacted,
                "a readable record is to be removed"
            );
            records += 1;
            bytes += REVISION_KEY_BYTES as u64
                + u64::from(removed.tombstone)
                + u64::from(removed.record_bytes);
        }
        assert_eq!(records, self.records, "records of the store");
        assert_eq!(bytes, self.logical_bytes, "bytes of the store");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use rusd_proto::ids::LeaseId;

    use super::*;
    use crate::engine::Memory;
    use crate::mvcc::{LogPosition, MvccOptions};

    fn store() -> MvccStore {
        let mut store = MvccStore::open(Arc::new(Memory::new()), MvccOptions::default()).unwrap();
        for value in [b"1", b"2", b"3"] {
            let mut txn = store.begin();
            txn.put(b"k", value, LeaseId::NONE);
            txn.end();
        }
        store.seal(LogPosition { index: 3, term: 1 });
        store.take_sealed().unwrap();
        store.compact(Revision(3)).unwrap();
        store.check();
        store
    }

    #[test]
    #[should_panic(expected = "records of the store")]
    fn a_record_that_is_lost_is_seen() {
        let mut store = store();
        store.index.compact(Revision(3), usize::MAX);
        store.check();
    }

    #[test]
    #[should_panic(expected = "removal is ahead of compaction")]
    fn a_compaction_that_goes_back_is_seen() {
        let mut store = store();
        store.compact_finished = Revision(3);
        store.compacted = Revision(2);
        store.check();
    }

    #[test]
    #[should_panic(expected = "the ring ends at the newest revision")]
    fn a_revision_that_the_ring_lacks_is_seen() {
        let mut store = store();
        store.revision = store.revision.next();
        store.check();
    }

    #[test]
    #[should_panic(expected = "bytes of the batches taken")]
    fn bytes_that_are_forgotten_are_seen() {
        let mut store = store();
        store.taken_bytes = 0;
        store.check();
    }
}
