//! Read views: what readers see, and where they find the latest.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rusd_proto::ids::Revision;

use super::pins::ReadGuard;
use super::read::{Readable, Reading};
use super::shared::Shared;
use super::{HashKv, LogPosition, Sizes};
use crate::error::{StorageError, StorageResult};
use crate::index::IndexView;
use crate::revision::At;

/// Where readers find the latest published view. Cheap to clone, usable from any thread.
///
/// ```
/// use rusd_proto::ids::{LeaseId, Revision};
/// use rusd_storage::engine::Memory;
/// use rusd_storage::{LogPosition, MvccOptions, MvccStore, ReadAt};
/// use std::sync::Arc;
///
/// let mut store = MvccStore::open(Arc::new(Memory::new()), MvccOptions::default())?;
/// let views = store.views();
/// let before = views.load();
/// let mut txn = store.begin();
/// txn.put(b"k", b"v", LeaseId::NONE);
/// txn.end();
/// store.seal(LogPosition { index: 10, term: 1 });
/// store.publish();
///
/// assert_eq!((before.revision(), before.applied_index()), (Revision(1), 0));
/// assert_eq!((views.load().revision(), views.load().applied_index()), (Revision(2), 10));
/// # Ok::<(), rusd_storage::StorageError>(())
/// ```
#[derive(Clone)]
pub struct Views {
    pub(super) current: Arc<ArcSwap<ReadView>>,
}

impl Views {
    /// The latest published view.
    pub fn load(&self) -> Arc<ReadView> {
        self.current.load_full()
    }

    /// As [`load`](Self::load), without touching a reference count that all threads share: for a read that is over
    /// at once.
    pub fn peek(&self) -> impl std::ops::Deref<Target = Arc<ReadView>> + use<> {
        self.current.load()
    }

    /// HashKV: what was kept of the compaction at that revision, or else computed on the latest view, again on a newer
    /// one if compaction overtook it.
    pub fn hash_kv(&self, at: At) -> StorageResult<HashKv> {
        loop {
            let view = self.load();
            if let At::Revision(revision) = at
                && let Some(kept) = view.shared.hashes.at(revision)
            {
                return Ok(kept);
            }
            match view.hash_kv(at) {
                Err(StorageError::Superseded) if !Arc::ptr_eq(&view, &self.load()) => {}
                result => return result,
            }
        }
    }
}

/// An immutable view of the store as of one publication. Reading it never holds up the writer.
pub struct ReadView {
    pub(super) shared: Arc<Shared>,
    pub(super) index: IndexView,
    pub(super) revision: Revision,
    pub(super) compacted: Revision,
    pub(super) applied: LogPosition,
    pub(super) sizes: Sizes,
}

impl ReadView {
    /// The index of the last log entry this view contains.
    pub fn applied_index(&self) -> u64 {
        self.applied.index
    }

    /// Logical sizes as of this view.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Keeps physical compaction from removing what is readable at `at` until the guard is
    /// dropped. [`Superseded`](StorageError::Superseded) if it already went further: load a newer view.
    pub fn register(&self, at: At) -> StorageResult<ReadGuard> {
        self.reading().resolve(at)?;
        let revision = at.or_newest(self.revision);
        self.shared
            .pins
            .pin(revision)
            .ok_or(StorageError::Superseded)
    }
}

impl Readable for ReadView {
    fn reading(&self) -> Reading<'_> {
        Reading {
            shared: &self.shared,
            index: &self.index,
            revision: self.revision,
            compacted: self.compacted,
        }
    }
}
