//! Write transactions.

use std::ops::ControlFlow;

use bytes::{BufMut, Bytes};
use rusd_proto::ids::LeaseId;
use rusd_proto::ids::Revision;

use super::MvccStore;
use super::read::{Readable, Reading};
use crate::error::StorageResult;
use crate::key_range::KeyRange;
use crate::record::{Encoded, Record, encode_put, encode_tombstone, tombstone_bytes};
use crate::revision::{At, RecordRevision};

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
    pub revision: RecordRevision,
    /// The record it replaced, if the key was alive: the source of prev_kv. Read it at `revision.main.previous()`.
    pub previous: Option<RecordRevision>,
}

impl Change {
    /// What the engine stores of it.
    pub(super) fn stored(&self) -> Bytes {
        match self.kind {
            ChangeKind::Put => self.record.clone(),
            ChangeKind::Delete => self.record.slice(..tombstone_bytes(&self.key)),
        }
    }
}

/// What a transaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnEnd {
    /// Its revision; `None` if it changed nothing.
    pub revision: Option<Revision>,
    /// Its changes, in order.
    pub changes: Vec<Change>,
}

/// A write transaction: sees its own writes, moves the revision by exactly 1 if it changes anything (KV-T06).
///
/// Dropping it without [`end`](WriteTxn::end) takes everything back.
///
/// ```
/// use rusd_proto::ids::{LeaseId, Revision};
/// use rusd_storage::engine::Memory;
/// use rusd_storage::{At, KeyRange, MvccOptions, MvccStore, ReadAt};
/// use std::sync::Arc;
///
/// let mut store = MvccStore::open(Arc::new(Memory::new()), MvccOptions::default())?;
/// let mut txn = store.begin();
/// txn.put(b"a", b"1", LeaseId::NONE);
/// txn.put(b"b", b"2", LeaseId::NONE);
/// assert_eq!(txn.delete(&KeyRange::One("a".into()))?.len(), 1);
/// let end = txn.end();
/// assert_eq!((end.revision, end.changes.len()), (Some(Revision(2)), 3));
///
/// let mut txn = store.begin();
/// txn.put(b"c", b"3", LeaseId::NONE);
/// drop(txn);
/// assert_eq!(store.begin().end().revision, None);
/// assert_eq!(store.count(&KeyRange::all(), At::Newest)?, 1);
/// # Ok::<(), rusd_storage::StorageError>(())
/// ```
pub struct WriteTxn<'a> {
    store: &'a mut MvccStore,
    /// The revision the changes get.
    main: Revision,
    changes: Vec<Change>,
}

impl<'a> WriteTxn<'a> {
    pub(super) fn new(store: &'a mut MvccStore) -> Self {
        let main = store.revision.next();
        Self {
            store,
            main,
            changes: Vec::new(),
        }
    }

    /// Puts a key. The bytes are copied into the record, once.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: LeaseId) -> &Change {
        let revision = self.next_revision();
        let mut encoded = None;
        let previous = self.store.index.put(key, revision, |create, version| {
            let record = encode_put(key, create.0, revision.main.0, version, value, lease.0);
            encoded.insert(record).stored_bytes
        });
        // The index always asks for the record.
        let encoded = encoded.unwrap_or_else(|| {
            encode_put(key, revision.main.0, revision.main.0, 1, value, lease.0)
        });
        self.push(ChangeKind::Put, encoded, previous)
    }

    /// Deletes the keys alive in the range, in key order; returns the changes.
    pub fn delete(&mut self, range: &KeyRange) -> StorageResult<&[Change]> {
        let first = self.changes.len();
        let mut doomed = Vec::new();
        self.store
            .index
            .view()
            .walk(range, At::Newest, &mut |key, _| {
                doomed.push(encode_tombstone(key, self.main.0));
                ControlFlow::Continue(())
            });
        for encoded in doomed {
            let key = &encoded.event[encoded.key.clone()];
            let previous =
                self.store
                    .index
                    .tombstone(key, self.next_revision(), encoded.stored_bytes);
            self.push(ChangeKind::Delete, encoded, previous);
        }
        Ok(&self.changes[first..])
    }

    /// The changes so far.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Ends the transaction. What it changed is visible to the next transaction at once, and to readers once
    /// published.
    pub fn end(mut self) -> TxnEnd {
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() {
            return TxnEnd::default();
        }
        for change in &changes {
            self.store.write_record(change);
        }
        self.store.shared.ring.write().push(&changes);
        self.store.revision = self.main;
        TxnEnd {
            revision: Some(self.main),
            changes,
        }
    }

    fn next_revision(&self) -> RecordRevision {
        RecordRevision {
            main: self.main,
            sub: self.changes.len() as i64,
        }
    }

    fn push(
        &mut self,
        kind: ChangeKind,
        encoded: Encoded,
        previous: Option<RecordRevision>,
    ) -> &Change {
        let revision = self.next_revision();
        let at = self.changes.len();
        self.changes.push(Change {
            key: encoded.key(),
            kind,
            record: encoded.event,
            revision,
            previous,
        });
        &self.changes[at]
    }
}

impl Readable for WriteTxn<'_> {
    fn reading(&self) -> Reading<'_> {
        let mut reading = self.store.reading();
        if !self.changes.is_empty() {
            reading.revision = self.main;
        }
        reading
    }

    /// The record of a change of this transaction.
    fn unpublished(&self, revision: RecordRevision) -> Option<Record> {
        if revision.main != self.main {
            return None;
        }
        let change = self.changes.get(usize::try_from(revision.sub).ok()?)?;
        Some(Record {
            bytes: change.record.clone(),
        })
    }
}

impl Drop for WriteTxn<'_> {
    fn drop(&mut self) {
        for change in self.changes.iter().rev() {
            self.store.index.undo(&change.key);
        }
    }
}

impl MvccStore {
    /// Adds the record of a change to the pending batch.
    fn write_record(&mut self, change: &Change) {
        let (key, length) = change
            .revision
            .engine_key(change.kind == ChangeKind::Delete);
        // Engine keys are cut from one buffer: an allocation for hundreds of records instead of one each.
        self.key_buffer.reserve(length);
        self.key_buffer.put_slice(&key[..length]);
        let key = self.key_buffer.split().freeze();
        let stored = change.stored();
        self.logical_bytes += (length + stored.len()) as u64;
        self.records += 1;
        self.pending.put(key, stored);
    }
}
