//! Compaction: logical at once, physical in paced steps.
//!
//! The compacted revision moves when the log says so, on every member alike: from then on nothing below it is
//! readable. Removing what nobody can read any more is each member's own business. A step finds a bounded number of
//! records in the index, or removes a bounded number from the engine ([`removal`](super::removal)), in the same batch
//! as whatever else is pending. The index knows, per subtree, from which compacted revision on there is something to
//! remove, so a step goes straight there. Nothing needs to be remembered for a restart: what the engine still has, the
//! index has again.

use rusd_proto::ids::Revision;

use super::meta;
use super::removal::SWEPT_PER_REMOVED;
use super::{CompactionHash, MvccStore};
use crate::error::{StorageError, StorageResult};

/// One paced step of physical compaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactStep {
    /// Records found by this step, and taken out of the index.
    pub found: usize,
    /// Records removed by this step, from the engine.
    pub removed: usize,
    /// Nothing is left to remove for the compacted revision.
    pub finished: bool,
    /// Not finished, but held up by a registered reader: nothing to do until it is gone.
    pub blocked: bool,
}

impl MvccStore {
    /// Compacts logically (KV-C01): once published, nothing below `revision` is readable any more.
    /// [`Compacted`](StorageError::Compacted) if that is so already, and
    /// [`FutureRevision`](StorageError::FutureRevision) above the current revision.
    ///
    /// ```
    /// use rusd_proto::ids::{LeaseId, Revision};
    /// use rusd_storage::engine::Memory;
    /// use rusd_storage::{At, MvccOptions, MvccStore, ReadAt};
    /// use std::sync::Arc;
    ///
    /// let mut store = MvccStore::open(Arc::new(Memory::new()), MvccOptions::default())?;
    /// for value in [b"1", b"2", b"3"] {
    ///     let mut txn = store.begin();
    ///     txn.put(b"k", value, LeaseId::NONE);
    ///     txn.end();
    /// }
    /// store.compact(Revision(3))?;
    /// assert!(store.get(b"k", At::Revision(Revision(2))).is_err());
    /// assert_eq!(store.get(b"k", At::Revision(Revision(3)))?.map(|meta| meta.version), Some(2));
    /// let step = store.compact_step(1000)?;
    /// assert_eq!((step.removed, step.finished), (1, true));
    /// # Ok::<(), rusd_storage::StorageError>(())
    /// ```
    pub fn compact(&mut self, revision: Revision) -> StorageResult<()> {
        if revision <= self.compacted {
            return Err(StorageError::Compacted);
        }
        if revision > self.revision {
            return Err(StorageError::FutureRevision);
        }
        // HashKV at 0 asks for the newest revision, not for a compaction's.
        let hashed = self.compaction_pending().is_none() && revision > Revision(0);
        self.compaction_hash = hashed
            .then(|| CompactionHash::new(self.view(), revision))
            .flatten();
        self.compacted = revision;
        meta::put_compact_scheduled(&mut self.pending, revision);
        Ok(())
    }

    /// The last compaction, to be hashed before anything of it is removed; `None` if it has no hash, or a step has been
    /// taken already.
    pub fn take_compaction_hash(&mut self) -> Option<CompactionHash> {
        self.compaction_hash.take()
    }

    /// Whether the next [`compact_step`](Self::compact_step) only looks for records, which costs the engine nothing.
    pub fn compaction_only_looks(&self) -> bool {
        self.removal.is_sweeping()
    }

    /// Removes up to `max_records` superseded records; none while it still looks for them. What it removes goes into
    /// the pending batch like any write.
    pub fn compact_step(&mut self, max_records: usize) -> StorageResult<CompactStep> {
        if self.compaction_pending().is_none() {
            return Ok(CompactStep {
                finished: true,
                ..CompactStep::default()
            });
        }
        // What nobody took must not hold up the removal.
        self.compaction_hash = None;
        let max_records = max_records.max(1);
        let floor = self.shared.pins.raise(self.compacted);
        let mut found = 0;
        if self.removal.is_sweeping() {
            let swept_max = max_records.saturating_mul(SWEPT_PER_REMOVED);
            let records = self.index.compact(floor, swept_max);
            found = records.len();
            self.removal
                .collect(records, self.index.garbage_since() > floor);
        }
        let removed = self.removal.take(max_records);
        for record in &removed {
            let (key, length) = record.revision.engine_key(record.tombstone);
            self.logical_bytes = self
                .logical_bytes
                .saturating_sub(length as u64 + u64::from(record.record_bytes));
            self.records = self.records.saturating_sub(1);
            self.pending.delete(key[..length].to_vec());
        }
        let left_since = self.index.garbage_since();
        let removed_all_found = self.removal.is_empty();
        let finished = removed_all_found && floor == self.compacted && left_since > self.compacted;
        if finished {
            self.compact_finished = self.compacted;
            meta::put_compact_finished(&mut self.pending, self.compacted);
        }
        Ok(CompactStep {
            found,
            removed: removed.len(),
            finished,
            blocked: !finished && removed_all_found && left_since > floor,
        })
    }

    /// The compacted revision whose superseded records are not all removed yet.
    pub fn compaction_pending(&self) -> Option<Revision> {
        (self.compact_finished < self.compacted).then_some(self.compacted)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use rusd_proto::ids::LeaseId;

    use crate::engine::{Memory, Op, Tree};
    use crate::mvcc::{LogPosition, MvccOptions, MvccStore};

    /// However the keys lie, engines are asked to remove neighbours: what a step removes comes after what the one
    /// before did.
    #[test]
    fn kv_c05_records_leave_the_engine_in_order_of_revision() {
        const KEYS: usize = 50;
        const REVISIONS: usize = 1000;
        let mut store = MvccStore::open(Arc::new(Memory::new()), MvccOptions::default()).unwrap();
        for put in 0..REVISIONS {
            let mut txn = store.begin();
            txn.put(&[(put * 7 % KEYS) as u8], b"value", LeaseId::NONE);
            txn.end();
        }
        store.seal(LogPosition { index: 1, term: 1 });
        store.take_sealed().unwrap();
        store.compact(store.current_revision()).unwrap();
        let mut removed = Vec::new();
        for index in 2.. {
            let finished = store.compact_step(10).unwrap().finished;
            store.seal(LogPosition { index, term: 1 });
            let batch = store.take_sealed().unwrap().batch;
            let deleted = batch.ops().iter().filter_map(|op| match op {
                Op::Delete { key } if key.starts_with(&Tree::KvRev.key(b"")) => Some(key.clone()),
                _ => None,
            });
            removed.extend(deleted);
            if finished {
                break;
            }
        }
        assert_eq!(removed.len(), REVISIONS - KEYS);
        assert!(removed.is_sorted());
    }
}
