//! The multi-version store.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use rusd_proto::ids::LeaseId;

use crate::engine::{Engine, WriteBatch};
use crate::error::StorageResult;
use crate::key_range::KeyRange;
use crate::record::Record;
use crate::revision::Revision;

/// What is known about a key that is alive at the revision asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMeta {
    /// The revision of its record.
    pub mod_revision: Revision,
    /// The revision that created it.
    pub create_revision: i64,
    /// How many times it was put since then.
    pub version: i64,
    /// The size of its marshalled record.
    pub record_bytes: u32,
}

/// How much a range would return now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Keys alive in the range, exactly.
    pub keys: u64,
    /// Bytes of their marshalled records, exactly.
    pub bytes: u64,
}

/// What every reader of keys needs: [`ReadView`], [`WriteTxn`] (which sees its own writes) and [`MvccStore`].
///
/// `at` is the revision to read at: 0 or less means the newest this reader sees. Above that it is
/// [`FutureRevision`](crate::StorageError::FutureRevision), below the compacted revision
/// [`Compacted`](crate::StorageError::Compacted) (KV-R03). When a call fails, discard what it visited before.
pub trait ReadAt {
    /// The newest revision this reader sees.
    fn revision(&self) -> i64;
    /// The compacted revision; -1 if nothing was ever compacted.
    fn compacted_revision(&self) -> i64;
    /// How many keys of the range are alive.
    fn count(&self, range: &KeyRange, at: i64) -> StorageResult<i64>;
    /// Visits the keys alive in the range, in key order, until the visitor breaks.
    fn walk(
        &self,
        range: &KeyRange,
        at: i64,
        visit: &mut dyn FnMut(&[u8], &KeyMeta) -> ControlFlow<()>,
    ) -> StorageResult<()>;
    /// The key, if alive.
    fn get(&self, key: &[u8], at: i64) -> StorageResult<Option<KeyMeta>>;
    /// The record of a revision that `get` or `walk` returned for the same `at`.
    fn record(&self, revision: Revision, at: i64) -> StorageResult<Record>;
    /// What the range holds at the newest revision, in O(log n): decides where a read is answered.
    fn estimate(&self, range: &KeyRange) -> Estimate;
}

/// How far the log is contained in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Index of the last entry applied.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// Put or delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The key was written.
    Put,
    /// The key was deleted.
    Delete,
}

/// One change of one key: what an event is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, sharing the memory of `record`.
    pub key: Bytes,
    /// Put or delete.
    pub kind: ChangeKind,
    /// The `KeyValue` of the event, marshalled. Of a delete: key and mod_revision only (W-11).
    pub record: Bytes,
    /// Where the change stands.
    pub revision: Revision,
    /// The record it replaced, if the key was alive: the source of prev_kv. Read it at `revision.main - 1`, or at
    /// `revision.main` inside the transaction.
    pub previous: Option<Revision>,
}

/// What a transaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnEnd {
    /// Its revision; `None` if it changed nothing.
    pub revision: Option<i64>,
    /// Its changes, in order.
    pub changes: Vec<Change>,
}

/// Everything sealed since the last one was taken, as one batch for the engine.
#[derive(Debug)]
pub struct SealedBatch {
    /// To be handed back to [`MvccStore::wrote`].
    pub seq: u64,
    /// The writes, including `applied`.
    pub batch: WriteBatch,
    /// Their size.
    pub bytes: usize,
}

/// One paced step of physical compaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactStep {
    /// Records removed by this step.
    pub removed: usize,
    /// Nothing is left to remove for the compacted revision.
    pub finished: bool,
    /// Not finished, but held up by a registered reader: nothing to do until it is gone.
    pub blocked: bool,
}

/// Sizes, logical: what the records add up to, whatever the engine allocates for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Every retained record with its key. Falls when compaction removes records.
    pub logical_bytes: u64,
    /// The same: what compaction frees is free at once.
    pub in_use_bytes: u64,
    /// The records of live keys at the newest revision.
    pub live_bytes: u64,
    /// Live keys.
    pub keys: u64,
    /// Retained records.
    pub records: u64,
}

/// A page of history, whole revisions only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// Main revision and its changes, in order.
    pub changes: Vec<(i64, Vec<Change>)>,
    /// Where the next page begins; beyond `through` when this was the last.
    pub next_revision: i64,
}

/// The result of HashKV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C, as etcd computes it.
    pub hash: u32,
    /// The revision that was hashed.
    pub revision: i64,
    /// The compacted revision it was computed under; -1 for none.
    pub compact_revision: i64,
}

/// Settings of the store.
#[derive(Clone, Debug)]
pub struct MvccOptions {
    /// How many bytes of records that the engine already has stay in memory as well.
    pub ring_bytes: usize,
}

impl Default for MvccOptions {
    fn default() -> Self {
        Self { ring_bytes: 8 << 20 }
    }
}

/// The store: the only writer.
pub struct MvccStore {}

impl MvccStore {
    /// Opens the store that `engine` holds (an empty engine is an empty store) and rebuilds the key index.
    pub fn open(engine: Arc<dyn Engine>, options: MvccOptions) -> StorageResult<Self> {
        todo!()
    }
    /// Replaces everything by the store that another engine holds (a snapshot was installed). Handles from
    /// [`views`](Self::views) stay valid and see the new store.
    pub fn reopen(&mut self, engine: Arc<dyn Engine>) -> StorageResult<()> {
        todo!()
    }
    /// Goes on with another engine that holds the same (a rewrite was switched in).
    pub fn replace_engine(&mut self, engine: Arc<dyn Engine>) {
        todo!()
    }
    /// The engine in use.
    pub fn engine(&self) -> Arc<dyn Engine> {
        todo!()
    }
    /// How far the log is contained: from the engine at open, then as last sealed.
    pub fn applied(&self) -> Applied {
        todo!()
    }
    /// Begins a transaction at the current revision + 1. Nothing changes if nothing is written.
    pub fn begin(&mut self) -> WriteTxn<'_> {
        todo!()
    }
    /// Makes everything up to here visible to readers. Seal first, so that the view carries the applied index.
    pub fn publish(&mut self) {
        todo!()
    }
    /// The handle through which readers get the latest published view.
    pub fn views(&self) -> Views {
        todo!()
    }
    /// The pending batch: other trees put their records here, atomically with the keys. Never `kv_rev`.
    pub fn batch(&mut self) -> &mut WriteBatch {
        todo!()
    }
    /// Closes what is pending together with `applied`.
    pub fn seal(&mut self, applied: Applied) {
        todo!()
    }
    /// Everything sealed and not yet taken, as one batch. Batches must be written in the order they were taken.
    pub fn take_sealed(&mut self) -> Option<SealedBatch> {
        todo!()
    }
    /// The engine has every batch up to this one.
    pub fn wrote(&mut self, seq: u64) {
        todo!()
    }
    /// Bytes that the engine does not have yet.
    pub fn unwritten_bytes(&self) -> usize {
        todo!()
    }
    /// Compacts logically (KV-C01): below `revision` nothing is readable any more.
    pub fn compact(&mut self, revision: i64) -> StorageResult<()> {
        todo!()
    }
    /// Removes up to about `max_records` superseded records. Goes into the pending batch like any write.
    pub fn compact_step(&mut self, max_records: usize) -> StorageResult<CompactStep> {
        todo!()
    }
    /// The compacted revision whose superseded records are not all removed yet.
    pub fn compaction_pending(&self) -> Option<i64> {
        todo!()
    }
    /// Logical sizes.
    pub fn sizes(&self) -> Sizes {
        todo!()
    }
}

/// A write transaction. Dropping it without [`end`](WriteTxn::end) takes everything back.
pub struct WriteTxn<'a> {
    store: &'a mut MvccStore,
}

impl WriteTxn<'_> {
    /// Puts a key. The bytes are copied into the record, once.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: LeaseId) -> &Change {
        todo!()
    }
    /// Deletes the keys alive in the range, in key order; returns the changes.
    pub fn delete(&mut self, range: &KeyRange) -> StorageResult<&[Change]> {
        todo!()
    }
    /// The changes so far.
    pub fn changes(&self) -> &[Change] {
        todo!()
    }
    /// Ends the transaction.
    pub fn end(self) -> TxnEnd {
        todo!()
    }
}

/// Where readers find the latest published view. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Views {}

impl Views {
    /// The latest published view.
    pub fn load(&self) -> Arc<ReadView> {
        todo!()
    }
    /// HashKV on the latest view, again on a newer one if compaction overtook it.
    pub fn hash_kv(&self, revision: i64) -> StorageResult<HashKv> {
        todo!()
    }
}

/// An immutable view of the store as of one publication.
pub struct ReadView {}

impl ReadView {
    /// The index of the last log entry this view contains.
    pub fn applied_index(&self) -> u64 {
        todo!()
    }
    /// Logical sizes as of this view.
    pub fn sizes(&self) -> Sizes {
        todo!()
    }
    /// The changes of the revisions `from..=through`, whole revisions, until about `max_bytes` (at least one
    /// revision). [`Compacted`](crate::StorageError::Compacted) if `from` lies below the compacted revision
    /// (W-07). `previous` is filled where it is still retained, if `with_previous`.
    pub fn history(
        &self,
        from: i64,
        through: i64,
        max_bytes: usize,
        with_previous: bool,
    ) -> StorageResult<HistoryPage> {
        todo!()
    }
    /// HashKV at `revision` (0: the newest of this view), equal to etcd's.
    pub fn hash_kv(&self, revision: i64) -> StorageResult<HashKv> {
        todo!()
    }
    /// Keeps physical compaction from removing what is readable at `at` (0: the newest) until the guard is
    /// dropped. [`Superseded`](crate::StorageError::Superseded) if it already went further.
    pub fn register(&self, at: i64) -> StorageResult<ReadGuard> {
        todo!()
    }
}

/// Holds physical compaction below the revision it registered.
pub struct ReadGuard {}

macro_rules! read_at {
    ($name:ty) => {
        impl ReadAt for $name {
            fn revision(&self) -> i64 {
                todo!()
            }
            fn compacted_revision(&self) -> i64 {
                todo!()
            }
            fn count(&self, range: &KeyRange, at: i64) -> StorageResult<i64> {
                todo!()
            }
            fn walk(
                &self,
                range: &KeyRange,
                at: i64,
                visit: &mut dyn FnMut(&[u8], &KeyMeta) -> ControlFlow<()>,
            ) -> StorageResult<()> {
                todo!()
            }
            fn get(&self, key: &[u8], at: i64) -> StorageResult<Option<KeyMeta>> {
                todo!()
            }
            fn record(&self, revision: Revision, at: i64) -> StorageResult<Record> {
                todo!()
            }
            fn estimate(&self, range: &KeyRange) -> Estimate {
                todo!()
            }
        }
    };
}
read_at!(ReadView);
read_at!(WriteTxn<'_>);
read_at!(MvccStore);
