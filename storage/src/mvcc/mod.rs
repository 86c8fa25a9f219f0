//! The multi-version store.
//!
//! ```text
//!            begin .. put/delete .. end          publish
//!   writer ------------------------------> index ---------> view -> readers
//!                 |             |
//!                 |             `---------> ring of recent records, read first
//!                 v
//!              pending --seal(applied)--> sealed --take_sealed--> engine, read second
//!                                                                 (written elsewhere; then `wrote`)
//! ```
//!
//! The tree `kv_rev` holds every retained revision with its record ([`crate::revision`] draws the key,
//! [`crate::record`] the value). It is all there is: the newest revision of each key is kept by the key index, in
//! memory, which is rebuilt from `kv_rev` at open. A second record per put, by key, would double the engine's work to
//! save a second at the start.
//!
//! The store is one state machine with one writer. Readers take the latest published [`ReadView`]; its index is a tree
//! that never changes, and the records it refers to are found in the ring or in the engine. Physical compaction, which
//! does take things away, stays below registered readers and tells the others when it was faster ([`ReadAt`]).
//!
//! Files: `txn` writes, `read` and `view` read, `ring` holds recent records, `history` and `hash` page through
//! all of them, `compaction` and `pins` remove, `compaction_hash` hashes before a removal and `kept_hashes` keeps the
//! results, `shared` is what writer and readers have in common, `meta` what is stored about the store itself, and
//! `embedded` is the store without a server. `read` knows none of its three readers: each implements `Readable`.

mod check;
mod compaction;
mod compaction_hash;
mod embedded;
mod hash;
mod history;
mod kept_hashes;
mod meta;
mod pins;
mod read;
mod removal;
mod ring;
mod shared;
mod txn;
mod view;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use rusd_proto::ids::Revision;

pub use compaction::CompactStep;
pub use compaction_hash::CompactionHash;
pub use embedded::{
    Compare, CompareResult, CompareTarget, RangeResult, TxnOp, TxnOpResult, TxnResult,
};
pub use history::HistoryPage;
pub use kept_hashes::HashKv;
pub use pins::ReadGuard;
pub use read::{Estimate, ReadAt};
pub use txn::{Change, ChangeKind, TxnEnd, WriteTxn};
pub use view::{ReadView, Views};

use crate::engine::{Direction, Engine, Tree, WriteBatch};
use crate::error::{StorageError, StorageResult};
use crate::index::{BIRTHS_MAX, KeyIndex};
use crate::key_range::KeyRange;
use crate::record::Fields;
use crate::revision::RecordRevision;
use meta::Meta;
use read::{Readable, Reading};
use removal::Removal;
use shared::Shared;

/// The revision of an empty store.
const FIRST_REVISION: Revision = Revision(1);
/// No store counts as far: a revision or a version beyond was never written. Keeps every sum of a few of them in range.
const COUNT_MAX: i64 = i64::MAX / 4;
/// The compacted revision of a store that was never compacted.
const NEVER_COMPACTED: Revision = Revision(-1);
/// Size of the buffer that engine keys are cut from. It lives as long as the batches its keys are in.
const KEY_BUFFER_BYTES: usize = 4 << 10;
/// How many records the index is rebuilt from between two lines in the log.
const OPEN_LOG_RECORDS: u64 = 1_000_000;

/// How far the log is contained in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPosition {
    /// Index of the last entry applied.
    pub index: u64,
    /// Its term.
    pub term: u64,
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

/// Sizes, logical: what the records add up to, whatever the engine allocates for them (PR-10). Records of the other
/// trees are few and are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Every retained record with its engine key. Falls as compaction removes records: what is freed is free at once.
    pub logical_bytes: u64,
    /// The records of live keys at the newest revision.
    pub live_bytes: u64,
    /// Live keys.
    pub keys: u64,
    /// Retained records.
    pub records: u64,
}

/// What an empty database is said to take: a page.
const EMPTY_BYTES: u64 = 4096;

impl Sizes {
    /// What clients are told, for all of it and for what is in use: what compaction frees is free at once. Never 0, as
    /// etcd's never is, for they divide by it (`etcdctl endpoint status` does).
    pub fn reported_bytes(&self) -> u64 {
        self.logical_bytes.saturating_add(EMPTY_BYTES)
    }
}

/// Settings of the store.
#[derive(Clone, Debug)]
pub struct MvccOptions {
    /// How many bytes of records that the engine already has stay in memory as well.
    pub ring_bytes: usize,
    /// How many births and deaths of keys are remembered, for counting at past revisions.
    pub births_max: usize,
}

impl Default for MvccOptions {
    fn default() -> Self {
        Self {
            ring_bytes: 8 << 20,
            births_max: BIRTHS_MAX,
        }
    }
}

/// The store: the only writer.
///
/// ```
/// use rusd_proto::ids::{LeaseId, Revision};
/// use rusd_storage::engine::{Engine, Memory};
/// use rusd_storage::{LogPosition, MvccOptions, MvccStore, ReadAt};
/// use std::sync::Arc;
///
/// let engine = Arc::new(Memory::new());
/// let mut store = MvccStore::open(engine.clone(), MvccOptions::default())?;
/// let mut txn = store.begin();
/// txn.put(b"k", b"v", LeaseId::NONE);
/// assert_eq!(txn.end().revision, Some(Revision(2)));
///
/// store.seal(LogPosition { index: 5, term: 1 });
/// store.publish();
/// let sealed = store.take_sealed().expect("something was sealed");
/// engine.write(&sealed.batch)?;
/// store.wrote(sealed.seq);
///
/// let again = MvccStore::open(engine, MvccOptions::default())?;
/// assert_eq!((again.revision(), again.applied().index), (Revision(2), 5));
/// # Ok::<(), rusd_storage::StorageError>(())
/// ```
pub struct MvccStore {
    shared: Arc<Shared>,
    published: Arc<ArcSwap<ReadView>>,
    index: KeyIndex,
    revision: Revision,
    compacted: Revision,
    /// The last compacted revision whose superseded records are all removed.
    compact_finished: Revision,
    /// The last compaction, until somebody takes it to hash it.
    compaction_hash: Option<CompactionHash>,
    /// What compaction has still to remove from the engine.
    removal: Removal,
    applied: LogPosition,
    logical_bytes: u64,
    records: u64,
    /// Written since the last seal.
    pending: WriteBatch,
    /// Sealed and not yet taken.
    sealed: WriteBatch,
    /// Something was sealed since the last take, if only the applied index.
    sealed_any: bool,
    /// The revision as of the last seal.
    sealed_revision: Revision,
    next_seq: u64,
    /// Taken and not yet written.
    taken: VecDeque<Taken>,
    taken_bytes: usize,
    key_buffer: BytesMut,
}

/// A batch that somebody is writing.
struct Taken {
    seq: u64,
    revision: Revision,
    bytes: usize,
}

impl MvccStore {
    /// Opens the store that `engine` holds (an empty engine is an empty store) and rebuilds the key index.
    pub fn open(engine: Arc<dyn Engine>, options: MvccOptions) -> StorageResult<Self> {
        let opened = Opened::read(engine.as_ref(), &options)?;
        let mut pending = WriteBatch::new();
        if opened.meta.format.is_none() {
            meta::put_format(&mut pending);
        }
        let shared = Arc::new(Shared::new(
            engine,
            opened.revision,
            opened.compacted,
            options.ring_bytes,
        ));
        let view = ReadView {
            shared: Arc::clone(&shared),
            index: opened.index.view().clone(),
            revision: opened.revision,
            compacted: opened.compacted,
            applied: opened.meta.applied,
            sizes: Sizes::default(),
        };
        let mut store = Self {
            shared,
            published: Arc::new(ArcSwap::from_pointee(view)),
            index: opened.index,
            revision: opened.revision,
            compacted: opened.compacted,
            compact_finished: opened.meta.compact_finished.unwrap_or(NEVER_COMPACTED),
            compaction_hash: None,
            removal: Removal::default(),
            applied: opened.meta.applied,
            logical_bytes: opened.logical_bytes,
            records: opened.records,
            pending,
            sealed: WriteBatch::new(),
            sealed_any: false,
            sealed_revision: opened.revision,
            next_seq: 1,
            taken: VecDeque::new(),
            taken_bytes: 0,
            key_buffer: BytesMut::with_capacity(KEY_BUFFER_BYTES),
        };
        store.publish();
        Ok(store)
    }

    /// Goes on with another engine that holds the same (a rewrite was switched in).
    pub fn replace_engine(&mut self, engine: Arc<dyn Engine>) {
        self.shared.replace_engine(engine);
    }

    /// The engine in use.
    pub fn engine(&self) -> Arc<dyn Engine> {
        self.shared.engine()
    }

    /// How far the log is contained: from the engine at open, then as last sealed.
    pub fn applied(&self) -> LogPosition {
        self.applied
    }

    /// Begins a transaction at the current revision + 1. Nothing changes if nothing is written.
    pub fn begin(&mut self) -> WriteTxn<'_> {
        WriteTxn::new(self)
    }

    /// Makes everything up to here visible to readers. Seal first, so that the view carries the applied index.
    pub fn publish(&mut self) {
        self.published.store(Arc::new(self.view()));
    }

    fn view(&self) -> ReadView {
        ReadView {
            shared: Arc::clone(&self.shared),
            index: self.index.view().clone(),
            revision: self.revision,
            compacted: self.compacted,
            applied: self.applied,
            sizes: self.sizes(),
        }
    }

    /// The handle through which readers get the latest published view.
    pub fn views(&self) -> Views {
        Views {
            current: Arc::clone(&self.published),
        }
    }

    /// The pending batch: other trees put their records here, atomically with the keys. Never `kv_rev`, and never the
    /// notes of this store in `meta`.
    pub fn batch(&mut self) -> &mut WriteBatch {
        &mut self.pending
    }

    /// Closes what is pending, together with `applied`: the engine will have all of it or nothing.
    pub fn seal(&mut self, applied: LogPosition) {
        debug_assert!(self.applied.index <= applied.index);
        self.sealed.append(std::mem::take(&mut self.pending));
        self.applied = applied;
        self.sealed_any = true;
        self.sealed_revision = self.revision;
    }

    /// Everything sealed and not yet taken, as one batch. Batches must be written in the order they were taken.
    pub fn take_sealed(&mut self) -> Option<SealedBatch> {
        if !std::mem::take(&mut self.sealed_any) {
            return None;
        }
        let mut batch = std::mem::take(&mut self.sealed);
        meta::put_applied(&mut batch, self.applied, self.sealed_revision);
        let (seq, bytes) = (self.next_seq, batch.bytes());
        self.next_seq += 1;
        self.taken.push_back(Taken {
            seq,
            revision: self.sealed_revision,
            bytes,
        });
        self.taken_bytes += bytes;
        Some(SealedBatch { seq, batch, bytes })
    }

    /// The engine has every batch up to this one.
    pub fn wrote(&mut self, seq: u64) {
        while let Some(taken) = self.taken.front().filter(|taken| taken.seq <= seq) {
            self.taken_bytes -= taken.bytes;
            self.shared.ring.write().wrote(taken.revision);
            self.taken.pop_front();
        }
    }

    /// Bytes that the engine does not have yet.
    pub fn unwritten_bytes(&self) -> usize {
        self.pending.bytes() + self.sealed.bytes() + self.taken_bytes
    }

    /// Logical sizes.
    pub fn sizes(&self) -> Sizes {
        let (keys, live_bytes) = self.index.view().measure(&KeyRange::all());
        Sizes {
            logical_bytes: self.logical_bytes,
            live_bytes,
            keys,
            records: self.records,
        }
    }

    /// Memory held by the key index and by the ring of recent records.
    pub fn memory_bytes(&self) -> (usize, usize) {
        (self.index.heap_bytes(), self.shared.ring.read().bytes())
    }
}

impl Readable for MvccStore {
    fn reading(&self) -> Reading<'_> {
        Reading {
            shared: &self.shared,
            index: self.index.view(),
            revision: self.revision,
            compacted: self.compacted,
        }
    }
}

/// What a scan of the engine found.
struct Opened {
    meta: Meta,
    index: KeyIndex,
    revision: Revision,
    compacted: Revision,
    logical_bytes: u64,
    records: u64,
}

/// A record as the engine has it.
struct StoredRecord {
    revision: RecordRevision,
    fields: Fields,
    /// The revision that created the key, and its version, unless this is a tombstone.
    alive: Option<(Revision, i64)>,
}

impl StoredRecord {
    fn read(key: &[u8], value: &[u8]) -> StorageResult<Self> {
        let (revision, tombstone) =
            RecordRevision::from_engine_key(key).ok_or_else(|| shared::damaged_key(key))?;
        let fields = Fields::read(value)?;
        let alive = (!tombstone).then_some((Revision(fields.create), fields.version));
        let impossible = |(create, version)| {
            Revision(fields.modified) != revision.main
                || create > revision.main
                || !(1..=COUNT_MAX).contains(&version)
        };
        if alive.is_some_and(impossible) {
            return Err(StorageError::Damaged(format!(
                "the record of revision {revision} is of another revision"
            )));
        }
        Ok(Self {
            revision,
            fields,
            alive,
        })
    }
}

/// Whether an entry of the engine can be what a store has written, as far as that shows in it alone:
/// [`Damaged`](StorageError::Damaged) if not, and then no store opens with it.
pub fn check_entry(key: &[u8], value: &[u8]) -> StorageResult<()> {
    match key.split_first() {
        Some((&prefix, _)) if prefix == Tree::KvRev.prefix() => {
            StoredRecord::read(key, value).map(drop)
        }
        _ => Ok(()),
    }
}

impl Opened {
    fn read(engine: &dyn Engine, options: &MvccOptions) -> StorageResult<Self> {
        let meta = Meta::read(engine)?;
        if let Some(format) = meta.format.filter(|&format| format != meta::FORMAT) {
            return Err(StorageError::Damaged(format!(
                "format {format} is not the format {} that this build reads",
                meta::FORMAT
            )));
        }
        let compacted = meta
            .compact_scheduled
            .max(meta.compact_finished)
            .unwrap_or(NEVER_COMPACTED);
        if meta.revision.max(compacted) > Revision(COUNT_MAX) {
            return Err(StorageError::Damaged(format!(
                "revision {} with compacted revision {compacted} was never reached",
                meta.revision
            )));
        }
        let mut opened = Self {
            meta,
            index: KeyIndex::with_births(options.births_max),
            revision: meta.revision.max(compacted).max(FIRST_REVISION),
            compacted,
            logical_bytes: 0,
            records: 0,
        };
        let (start, end) = Tree::KvRev.range();
        let mut result = Ok(());
        engine.scan(&start, &end, Direction::Forward, &mut |key, value| {
            result = opened.add(key, value);
            if result.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        result?;
        if opened.records > 0 {
            tracing::info!(
                revision = opened.revision.0,
                compacted_revision = opened.compacted.0,
                records = opened.records,
                keys = opened.index.view().measure(&KeyRange::all()).0,
                "rebuilt the key index"
            );
        }
        Ok(opened)
    }

    fn add(&mut self, key: &[u8], value: &[u8]) -> StorageResult<()> {
        let StoredRecord {
            revision,
            fields,
            alive,
        } = StoredRecord::read(key, value)?;
        if self.meta.format.is_none() || revision.main > self.revision {
            return Err(StorageError::Damaged(format!(
                "the record of revision {revision} lies beyond the applied revision {}",
                self.meta.revision
            )));
        }
        self.index
            .restore(&value[fields.key], revision, alive, value.len());
        self.logical_bytes += (key.len() + value.len()) as u64;
        self.records += 1;
        if self.records.is_multiple_of(OPEN_LOG_RECORDS) {
            tracing::info!(
                records = self.records,
                revision = revision.main.0,
                "rebuilding the key index"
            );
        }
        Ok(())
    }
}
