//! The store without a server: each call is a transaction, published and handed to the engine before it returns.
//!
//! Whether it survives power loss on return is up to the engine below: a [`Backend`] flushes as its configuration
//! says.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use rusd_proto::ids::{LeaseId, Revision};
use rusd_proto::mvccpb::KeyValue;

use super::{Change, LogPosition, MvccOptions, MvccStore, ReadAt};
use crate::backend::Backend;
use crate::error::StorageResult;
use crate::key_range::KeyRange;
use crate::record::Record;
use crate::revision::{At, RecordRevision};

/// How much history is read at a time.
const PAGE_BYTES: usize = 1 << 20;

/// What a range returned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RangeResult {
    /// The keys with their values, in key order.
    pub kvs: Vec<KeyValue>,
    /// The limit cut something off.
    pub more: bool,
    /// Keys in the range, whatever the limit.
    pub count: i64,
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// The version; 0 for a key that does not exist.
    Version(i64),
    /// The create revision; 0 for a key that does not exist.
    CreateRevision(Revision),
    /// The mod revision; 0 for a key that does not exist.
    ModRevision(Revision),
    /// The value; no comparison with a key that does not exist is true (KV-T03).
    Value(Bytes),
    /// The lease; 0 for a key that does not exist.
    Lease(LeaseId),
}

/// How the key has to compare with the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    /// The same.
    Equal,
    /// Not the same.
    NotEqual,
    /// The key's is larger.
    Greater,
    /// The key's is smaller.
    Less,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: Bytes,
    /// What of it, and with what.
    pub target: CompareTarget,
    /// How it has to compare.
    pub result: CompareResult,
}

/// An operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOp {
    /// Puts a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its value.
        value: Bytes,
        /// Its lease.
        lease: LeaseId,
    },
    /// Deletes a range.
    Delete(KeyRange),
    /// Reads a range, with what the transaction did before.
    Range {
        /// Which keys.
        range: KeyRange,
        /// At which revision.
        at: At,
        /// At most so many; 0 for all.
        limit: usize,
    },
}

/// What an operation returned.
#[derive(Clone, Debug, PartialEq)]
pub enum TxnOpResult {
    /// Where the put stands.
    Put(RecordRevision),
    /// How many keys were deleted.
    Deleted(usize),
    /// What the range returned.
    Range(RangeResult),
}

/// What a transaction returned.
#[derive(Clone, Debug, PartialEq)]
pub struct TxnResult {
    /// All conditions held.
    pub succeeded: bool,
    /// The revision of the store afterwards.
    pub revision: Revision,
    /// The results of the operations, in order.
    pub results: Vec<TxnOpResult>,
}

impl Compare {
    /// Whether the condition holds for what `reader` sees.
    fn holds(&self, reader: &impl ReadAt) -> StorageResult<bool> {
        let meta = reader.get(&self.key, At::Newest)?;
        let number = |of: fn(&crate::index::KeyMeta) -> i64| meta.as_ref().map_or(0, of);
        let record = || {
            meta.as_ref()
                .map(|meta| reader.record(meta.mod_revision, At::Newest))
                .transpose()
        };
        let ordering = match &self.target {
            CompareTarget::Version(target) => number(|meta| meta.version).cmp(target),
            CompareTarget::CreateRevision(target) => {
                number(|meta| meta.create_revision.0).cmp(&target.0)
            }
            CompareTarget::ModRevision(target) => {
                number(|meta| meta.mod_revision.main.0).cmp(&target.0)
            }
            CompareTarget::Lease(target) => record()?
                .map_or(Ok(LeaseId::NONE), |record| record.lease())?
                .cmp(target),
            CompareTarget::Value(target) => match record()? {
                Some(record) => record.value()?.cmp(target),
                None => return Ok(false),
            },
        };
        Ok(match self.result {
            CompareResult::Equal => ordering.is_eq(),
            CompareResult::NotEqual => ordering.is_ne(),
            CompareResult::Greater => ordering.is_gt(),
            CompareResult::Less => ordering.is_lt(),
        })
    }
}

/// Reads a range with its records.
fn read_range(
    reader: &impl ReadAt,
    range: &KeyRange,
    at: At,
    limit: usize,
    count_only: bool,
) -> StorageResult<RangeResult> {
    let count = reader.count(range, at)?;
    if count_only {
        return Ok(RangeResult {
            count,
            ..RangeResult::default()
        });
    }
    let limit = if limit == 0 { usize::MAX } else { limit };
    let mut found = Vec::new();
    reader.walk(range, at, &mut |_, meta| {
        if found.len() == limit {
            return ControlFlow::Break(());
        }
        found.push(meta.mod_revision);
        ControlFlow::Continue(())
    })?;
    let decode = |&revision: &RecordRevision| reader.record(revision, at)?.decode();
    let kvs = found
        .iter()
        .map(decode)
        .collect::<StorageResult<Vec<_>>>()?;
    Ok(RangeResult {
        more: count as usize > kvs.len(),
        kvs,
        count,
    })
}

/// The store embedded in a program, without a log or a server above it.
///
/// ```
/// use rusd_proto::ids::{LeaseId, Revision};
/// use rusd_storage::backend::{Backend, BackendConfig};
/// use rusd_storage::mvcc::{Compare, CompareResult, CompareTarget, TxnOp};
/// use rusd_storage::{At, KeyRange, MvccStore};
///
/// let dir = tempfile::tempdir()?;
/// let config = BackendConfig { data_dir: dir.path().to_owned(), ..BackendConfig::default() };
/// let backend = Backend::new(config)?;
/// let mut store = MvccStore::new(backend.clone())?;
///
/// let (revision, kv) = store.put(b"color", b"blue", LeaseId::NONE)?;
/// assert_eq!((revision.main, kv.version), (Revision(2), 1));
/// let key = KeyRange::One("color".into());
/// let is_blue = Compare {
///     key: "color".into(),
///     target: CompareTarget::Value("blue".into()),
///     result: CompareResult::Equal,
/// };
/// let repaint = TxnOp::Put { key: "color".into(), value: "red".into(), lease: LeaseId::NONE };
/// assert!(store.txn(&[is_blue], &[repaint], &[])?.succeeded);
/// assert_eq!(store.range(b"color", b"", At::Newest, 0, false)?.kvs[0].value, "red");
/// assert_eq!(store.range(b"color", b"", At::Revision(Revision(2)), 0, false)?.kvs[0].value, "blue");
///
/// assert_eq!(store.delete_range(b"a", b"z")?, 1);
/// assert_eq!(store.watch_events(Revision(2))?.len(), 3);
/// assert_eq!(store.current_revision(), Revision(4));
/// drop(store);
/// backend.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl MvccStore {
    /// Opens the store that a backend holds.
    pub fn new(backend: Backend) -> StorageResult<Self> {
        Self::open(Arc::new(backend), MvccOptions::default())
    }

    /// The newest revision. An empty store is at 1, its first put at 2.
    pub fn current_revision(&self) -> Revision {
        self.revision
    }

    /// Puts a key. Returns where the put stands and what is stored.
    pub fn put(
        &mut self,
        key: &[u8],
        value: &[u8],
        lease: LeaseId,
    ) -> StorageResult<(RecordRevision, KeyValue)> {
        let mut txn = self.begin();
        let change = txn.put(key, value, lease).clone();
        txn.end();
        self.commit()?;
        Ok((
            change.revision,
            Record {
                bytes: change.record,
            }
            .decode()?,
        ))
    }

    /// Deletes the keys in `[start, end)`, by etcd's rules for the end of a range. Returns how many there were.
    pub fn delete_range(&mut self, start: &[u8], end: &[u8]) -> StorageResult<usize> {
        let mut txn = self.begin();
        let deleted = txn.delete(&wire_range(start, end))?.len();
        txn.end();
        self.commit()?;
        Ok(deleted)
    }

    /// Reads the keys in `[start, end)`, by etcd's rules for the end of a range, at a revision, at most
    /// `limit` of them (0: all), or only counts them.
    pub fn range(
        &self,
        start: &[u8],
        end: &[u8],
        at: At,
        limit: usize,
        count_only: bool,
    ) -> StorageResult<RangeResult> {
        read_range(self, &wire_range(start, end), at, limit, count_only)
    }

    /// Applies `success` if all of `compares` hold, `failure` otherwise: all of it under one revision, or nothing if an
    /// operation fails.
    pub fn txn(
        &mut self,
        compares: &[Compare],
        success: &[TxnOp],
        failure: &[TxnOp],
    ) -> StorageResult<TxnResult> {
        let mut succeeded = true;
        for compare in compares {
            succeeded &= compare.holds(self)?;
        }
        let mut txn = self.begin();
        let mut results = Vec::new();
        for op in if succeeded { success } else { failure } {
            results.push(match op {
                TxnOp::Put { key, value, lease } => {
                    TxnOpResult::Put(txn.put(key, value, *lease).revision)
                }
                TxnOp::Delete(range) => TxnOpResult::Deleted(txn.delete(range)?.len()),
                TxnOp::Range { range, at, limit } => {
                    TxnOpResult::Range(read_range(&txn, range, *at, *limit, false)?)
                }
            });
        }
        txn.end();
        self.commit()?;
        Ok(TxnResult {
            succeeded,
            revision: self.revision,
            results,
        })
    }

    /// Every change from `start_revision` on, by revision. [`Compacted`](crate::StorageError::Compacted) if it lies
    /// below the compacted revision.
    pub fn watch_events(
        &self,
        start_revision: Revision,
    ) -> StorageResult<BTreeMap<Revision, Vec<Change>>> {
        let view = self.views().load();
        let (mut events, mut next) = (BTreeMap::new(), start_revision);
        loop {
            let page = view.history(next, view.revision(), PAGE_BYTES, true)?;
            events.extend(page.changes);
            next = page.next_revision;
            if next > view.revision() {
                return Ok(events);
            }
        }
    }

    /// Seals, publishes and writes what was done since the last time. The calls above do it themselves; after
    /// [`compact`](Self::compact) and [`compact_step`](Self::compact_step) it is up to the caller.
    pub fn commit(&mut self) -> StorageResult<()> {
        let applied = LogPosition {
            index: self.applied().index + 1,
            ..self.applied()
        };
        self.seal(applied);
        self.publish();
        if let Some(sealed) = self.take_sealed() {
            self.engine().write(&sealed.batch)?;
            self.wrote(sealed.seq);
        }
        Ok(())
    }
}

fn wire_range(start: &[u8], end: &[u8]) -> KeyRange {
    KeyRange::from_wire(Bytes::copy_from_slice(start), Bytes::copy_from_slice(end))
}
