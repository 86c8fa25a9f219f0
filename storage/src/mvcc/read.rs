//! Reading keys, the same way for views, transactions and the store itself.

use std::ops::ControlFlow;

use rusd_proto::ids::Revision;

use super::shared::Shared;
use crate::error::{StorageError, StorageResult};
use crate::index::{IndexView, KeyMeta};
use crate::key_range::KeyRange;
use crate::record::Record;
use crate::revision::{At, RecordRevision};

/// How much a range would return now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Keys alive in the range, exactly.
    pub keys: u64,
    /// Bytes of their marshalled records, exactly.
    pub bytes: u64,
}

/// What every reader of keys needs: [`ReadView`](super::ReadView),
/// [`WriteTxn`](super::WriteTxn) (which sees its own writes) and [`MvccStore`](super::MvccStore).
///
/// A reader answers `at` its newest revision or an older one. Above its newest it is
/// [`FutureRevision`](StorageError::FutureRevision), below the compacted revision
/// [`Compacted`](StorageError::Compacted) (KV-R03). When a call fails, discard what it visited before: on a view it
/// may fail at its very end with [`Superseded`](StorageError::Superseded), which a read that registered never sees.
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
/// assert_eq!(txn.count(&KeyRange::all(), At::Newest)?, 1);
/// txn.end();
/// store.publish();
///
/// let view = store.views().load();
/// assert_eq!((view.revision(), view.compacted_revision()), (Revision(2), Revision(-1)));
/// assert_eq!(view.count(&KeyRange::all(), At::Revision(Revision(1)))?, 0);
/// assert!(view.get(b"a", At::Revision(Revision(3))).is_err());
/// # Ok::<(), rusd_storage::StorageError>(())
/// ```
pub trait ReadAt {
    /// The newest revision this reader sees.
    fn revision(&self) -> Revision;
    /// The compacted revision; -1 if nothing was ever compacted.
    fn compacted_revision(&self) -> Revision;
    /// How many keys of the range are alive.
    fn count(&self, range: &KeyRange, at: At) -> StorageResult<i64>;
    /// Visits the keys alive in the range, in key order, until the visitor breaks.
    fn walk(
        &self,
        range: &KeyRange,
        at: At,
        visit: &mut dyn FnMut(&[u8], &KeyMeta) -> ControlFlow<()>,
    ) -> StorageResult<()>;
    /// The key, if alive.
    fn get(&self, key: &[u8], at: At) -> StorageResult<Option<KeyMeta>>;
    /// The record of a revision that `get` or `walk` returned for the same `at`.
    fn record(&self, revision: RecordRevision, at: At) -> StorageResult<Record>;
    /// As [`record`](Self::record) for each of `revisions`, which are all different, in their order, at a fraction
    /// of the cost.
    fn records(&self, revisions: &[RecordRevision], at: At) -> StorageResult<Vec<Record>>;
    /// What the range holds at the newest revision, in O(log n): decides where a read is answered.
    fn estimate(&self, range: &KeyRange) -> Estimate;
}

/// A reader, taken apart.
pub(super) struct Reading<'a> {
    pub shared: &'a Shared,
    pub index: &'a IndexView,
    pub revision: Revision,
    pub compacted: Revision,
}

impl Reading<'_> {
    /// The revision that `at` asks for, if it is readable.
    pub(super) fn resolve(&self, at: At) -> StorageResult<At> {
        match at {
            At::Newest => Ok(At::Newest),
            At::Revision(revision) if revision > self.revision => Err(StorageError::FutureRevision),
            At::Revision(revision) if revision < self.compacted => Err(StorageError::Compacted),
            // Cheaper: at its newest revision a view reads only what it holds itself.
            At::Revision(revision) if revision == self.revision => Ok(At::Newest),
            At::Revision(_) => Ok(at),
        }
    }

    /// To be called after the index was read at `at`.
    fn check_floor(&self, at: At) -> StorageResult<()> {
        match at {
            At::Revision(revision) if revision < self.shared.pins.floor() => {
                Err(StorageError::Superseded)
            }
            _ => Ok(()),
        }
    }

    fn count(&self, range: &KeyRange, at: At) -> StorageResult<i64> {
        let at = self.resolve(at)?;
        let count = self.index.count(range, at, self.revision);
        self.check_floor(at)?;
        Ok(i64::try_from(count).unwrap_or(i64::MAX))
    }

    fn walk(
        &self,
        range: &KeyRange,
        at: At,
        visit: &mut dyn FnMut(&[u8], &KeyMeta) -> ControlFlow<()>,
    ) -> StorageResult<()> {
        let at = self.resolve(at)?;
        self.index.walk(range, at, visit);
        self.check_floor(at)
    }

    fn get(&self, key: &[u8], at: At) -> StorageResult<Option<KeyMeta>> {
        let at = self.resolve(at)?;
        let meta = self.index.get(key, at);
        self.check_floor(at)?;
        Ok(meta)
    }

    fn record(&self, revision: RecordRevision, at: At) -> StorageResult<Record> {
        self.shared.record(revision, at.or_newest(self.revision))
    }

    fn records(
        &self,
        revisions: &[RecordRevision],
        at: At,
        known: impl Fn(RecordRevision) -> Option<Record>,
    ) -> StorageResult<Vec<Record>> {
        self.shared
            .records(revisions, at.or_newest(self.revision), known)
    }

    fn estimate(&self, range: &KeyRange) -> Estimate {
        let (keys, bytes) = self.index.measure(range);
        Estimate { keys, bytes }
    }
}

/// What has a [`Reading`]: a view, the store, a transaction.
pub(super) trait Readable {
    fn reading(&self) -> Reading<'_>;

    /// The record of a change that neither the ring nor the engine has yet.
    fn unpublished(&self, _revision: RecordRevision) -> Option<Record> {
        None
    }
}

impl<R: Readable> ReadAt for R {
    fn revision(&self) -> Revision {
        self.reading().revision
    }

    fn compacted_revision(&self) -> Revision {
        self.reading().compacted
    }

    fn count(&self, range: &KeyRange, at: At) -> StorageResult<i64> {
        self.reading().count(range, at)
    }

    fn walk(
        &self,
        range: &KeyRange,
        at: At,
        visit: &mut dyn FnMut(&[u8], &KeyMeta) -> ControlFlow<()>,
    ) -> StorageResult<()> {
        self.reading().walk(range, at, visit)
    }

    fn get(&self, key: &[u8], at: At) -> StorageResult<Option<KeyMeta>> {
        self.reading().get(key, at)
    }

    fn record(&self, revision: RecordRevision, at: At) -> StorageResult<Record> {
        if let Some(record) = self.unpublished(revision) {
            return Ok(record);
        }
        self.reading().record(revision, at)
    }

    fn records(&self, revisions: &[RecordRevision], at: At) -> StorageResult<Vec<Record>> {
        self.reading()
            .records(revisions, at, |revision| self.unpublished(revision))
    }

    fn estimate(&self, range: &KeyRange) -> Estimate {
        self.reading().estimate(range)
    }
}
