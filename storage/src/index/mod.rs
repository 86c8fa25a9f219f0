//! The key index: from key to revisions, in memory.
//!
//! ```text
//!   KeyIndex (the writer)                     IndexView (any number, any thread)
//!     tree: B+tree, copied on write    ---->    tree as it was
//!       key -> newest revision, create revision, version, record size, where its older revisions are
//!     older_revisions: by key                 <--->    the same table, filtered by revision
//!     liveness_log: recent births and deaths <--->    the same ring, filtered by revision
//! ```
//!
//! The rules are those of etcd's generations. A put on a key that is not alive starts a generation: create revision
//! is its own, version 1. A tombstone ends one. A key is alive at revision R if the newest of its revisions not
//! above R is not a tombstone. Compaction at C removes, per key, everything older than the newest revision not
//! above C, and that one too if it is a tombstone below C.
//!
//! Getting a key and counting a range at the newest revision is O(log n). Counting at a past revision takes as many
//! steps as keys were born or died since then while the ring remembers, and a walk of the range beyond. Compaction
//! visits only subtrees that hold something to remove.
//!
//! What a million keys take, by [`KeyIndex::heap_bytes`]: 93 bytes each for 20 random bytes, 82 for paths of 40 bytes
//! put in random order, 57 for the same in ascending order; every older revision that is retained adds 40 or more.
#![deny(clippy::disallowed_methods)]

mod check;
mod liveness_log;
mod node;
mod older_revisions;
mod packed;
mod tree;

use std::ops::ControlFlow;
use std::sync::Arc;

use rusd_proto::ids::Revision;

use liveness_log::LivenessLog;
use node::{NEVER, Slot};
use older_revisions::{OlderRevision, OlderRevisions};
use tree::{Edit, Fate, Tree};

pub(crate) use older_revisions::Removed;

use crate::key_range::KeyRange;
use crate::revision::{At, RecordRevision};

/// How many births and deaths are remembered unless told otherwise.
pub const BIRTHS_MAX: usize = 65_536;

/// What is known about a key that is alive at the revision asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMeta {
    /// The revision of its record.
    pub mod_revision: RecordRevision,
    /// The revision that created it.
    pub create_revision: Revision,
    /// How many times it was put since then.
    pub version: i64,
    /// The size of its marshalled record.
    pub record_bytes: u32,
}

/// The index as its one writer holds it.
///
/// ```
/// use rusd_proto::ids::Revision;
/// use rusd_storage::{At, KeyIndex, KeyRange, RecordRevision};
///
/// let at = |main| RecordRevision { main: Revision(main), sub: 0 };
/// let mut index = KeyIndex::new();
/// index.put(b"pod", at(2), |_, _| 100);
/// let before = index.view().clone();
/// index.put(b"pod", at(3), |create, version| {
///     assert_eq!((create, version), (Revision(2), 2));
///     120
/// });
/// index.tombstone(b"pod", at(4), 8);
///
/// assert_eq!(index.view().get(b"pod", At::Newest), None);
/// assert_eq!(index.view().get(b"pod", At::from(Revision(3))).map(|meta| meta.version), Some(2));
/// assert_eq!(before.get(b"pod", At::Newest).map(|meta| meta.version), Some(1));
/// assert_eq!(index.view().count(&KeyRange::all(), At::from(Revision(2)), Revision(4)), 1);
/// ```
#[derive(Debug)]
pub struct KeyIndex {
    view: IndexView,
}

/// What never changes when the index goes on: a tree of its own, and tables that it reads up to its revision.
///
/// Reads at a past revision are right only while compaction has not gone beyond it; whoever compacts has to tell
/// readers how far it went.
#[derive(Clone, Debug)]
pub struct IndexView {
    tree: Tree,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    older_revisions: OlderRevisions,
    liveness_log: LivenessLog,
}

impl Default for KeyIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyIndex {
    /// An empty index.
    pub fn new() -> Self {
        Self::with_births(BIRTHS_MAX)
    }

    /// An empty index that remembers about `entries_max` births and deaths.
    pub fn with_births(entries_max: usize) -> Self {
        let shared = Shared {
            older_revisions: OlderRevisions::new(),
            liveness_log: LivenessLog::new(entries_max),
        };
        Self {
            view: IndexView {
                tree: Tree::new(),
                shared: Arc::new(shared),
            },
        }
    }

    /// The index as it is now, for readers.
    pub fn view(&self) -> &IndexView {
        &self.view
    }

    /// Puts a key. `record_bytes` is told its create revision and version and returns the size of the record.
    /// Returns the revision it replaces, if the key was alive.
    pub fn put(
        &mut self,
        key: &[u8],
        revision: RecordRevision,
        record_bytes: impl FnOnce(Revision, i64) -> usize,
    ) -> Option<RecordRevision> {
        let shared = &self.view.shared;
        let mut record_bytes = Some(record_bytes);
        let mut replaced = None;
        self.view.tree.upsert(key, &mut |before| {
            debug_assert!(before.is_none_or(|slot| slot.revision() < revision));
            let alive = before.filter(|slot| slot.is_alive());
            replaced = alive.map(Slot::revision);
            let (create, version) =
                alive.map_or((revision.main, 1), |slot| (slot.create, slot.version + 1));
            let size = record_bytes
                .take()
                .map_or(0, |record_bytes| record_bytes(create, version));
            shared.advance(before, revision, create, version, size)
        });
        if replaced.is_none() {
            shared.liveness_log.push(revision.main, key, true);
        }
        replaced
    }

    /// Deletes a key. Returns the revision it replaces; `None`, and nothing changes, if the key was not alive.
    pub fn tombstone(
        &mut self,
        key: &[u8],
        revision: RecordRevision,
        record_bytes: usize,
    ) -> Option<RecordRevision> {
        let replaced = self
            .view
            .tree
            .get(key)
            .filter(|slot| slot.is_alive())?
            .revision();
        let shared = &self.view.shared;
        self.view.tree.upsert(key, &mut |before| {
            shared.advance(before, revision, Revision(0), 0, record_bytes)
        });
        shared.liveness_log.push(revision.main, key, false);
        Some(replaced)
    }

    /// Adds a revision read back from storage, in ascending order; `alive` has its create revision and version, or
    /// is `None` for a tombstone.
    pub fn restore(
        &mut self,
        key: &[u8],
        revision: RecordRevision,
        alive: Option<(Revision, i64)>,
        record_bytes: usize,
    ) {
        let shared = &self.view.shared;
        let (create, version) = alive.unwrap_or((Revision(0), 0));
        self.view.tree.upsert(key, &mut |before| {
            shared.advance(before, revision, create, version, record_bytes)
        });
        if version <= 1 {
            shared.liveness_log.push(revision.main, key, version == 1);
        }
    }

    /// Takes back the newest put or tombstone of a key. Only in the reverse order of what is taken back.
    pub fn undo(&mut self, key: &[u8]) {
        let shared = &self.view.shared;
        let Some(slot) = self.view.tree.get(key).copied() else {
            return;
        };
        if slot.version <= 1 {
            shared.liveness_log.pop();
        }
        match shared.older_revisions.pop(slot.older) {
            Some(past) => {
                let edit = Edit {
                    slot: past.into_slot(slot.older),
                    garbage_since: past.main,
                };
                self.view.tree.upsert(key, &mut |_| edit);
            }
            None => {
                shared.older_revisions.release(slot.older);
                self.view.tree.remove(key);
            }
        }
    }

    /// Removes at most about `removed_max` of what nobody can read once the store is compacted at `limit`, and
    /// returns it. Call again until [`garbage_since`](Self::garbage_since) is above `limit`.
    pub(crate) fn compact(&mut self, limit: Revision, removed_max: usize) -> Vec<Removed> {
        let older_revisions = &self.view.shared.older_revisions;
        let mut removed = Vec::new();
        // Leaves in which nothing is removed after all (their bound was too small) cost as well.
        self.view.tree.sweep(limit, removed_max, &mut |_, slot| {
            let budget = removed_max.saturating_sub(removed.len());
            if budget == 0 {
                return Fate::Stop;
            }
            let pruned = older_revisions.prune(slot, limit, budget, &mut removed);
            slot.older = pruned.older;
            if pruned.gone {
                Fate::Remove
            } else if pruned.garbage_since <= limit {
                Fate::Stop
            } else {
                Fate::Keep(pruned.garbage_since)
            }
        });
        removed
    }

    /// A compaction below this revision finds nothing to remove.
    pub fn garbage_since(&self) -> Revision {
        self.view.tree.summary().garbage_since
    }

    /// Memory of the index.
    pub fn heap_bytes(&self) -> usize {
        self.view.tree.heap_bytes() + self.view.shared.older_revisions.heap_bytes()
    }
}

impl Shared {
    /// The slot of a key after one more revision, with the one before it moved to the older revisions.
    fn advance(
        &self,
        before: Option<&Slot>,
        revision: RecordRevision,
        create: Revision,
        version: i64,
        size: usize,
    ) -> Edit {
        let older = before.map_or(0, |slot| {
            self.older_revisions
                .push(slot.older, OlderRevision::of(slot))
        });
        let slot = Slot {
            main: revision.main,
            create,
            version,
            sub: u32::try_from(revision.sub).unwrap_or(u32::MAX),
            record_bytes: u32::try_from(size).unwrap_or(u32::MAX),
            older,
        };
        let garbage_since = match before {
            // A tombstone without older revisions goes only once the compaction is above it.
            None if version == 0 => revision.main.next(),
            None => NEVER,
            Some(before) if before.is_alive() => revision.main,
            Some(before) => before.main.next().min(revision.main),
        };
        Edit {
            slot,
            garbage_since,
        }
    }
}

impl IndexView {
    /// The key, if alive at `at`.
    pub fn get(&self, key: &[u8], at: At) -> Option<KeyMeta> {
        self.alive_at(self.tree.get(key)?, at)
    }

    /// Visits the keys of the range that are alive at `at`, in key order, until the visitor breaks.
    pub fn walk(
        &self,
        range: &KeyRange,
        at: At,
        visit: &mut dyn FnMut(&[u8], &KeyMeta) -> ControlFlow<()>,
    ) {
        self.tree
            .walk(range, &mut |key, slot| match self.alive_at(slot, at) {
                Some(meta) => visit(key, &meta),
                None => ControlFlow::Continue(()),
            });
    }

    /// How many keys of the range are alive at `at`, given that the newest revision of this view is `newest`.
    pub fn count(&self, range: &KeyRange, at: At, newest: Revision) -> u64 {
        let (now, _) = self.tree.measure(range);
        let revision = at.or_newest(newest);
        if revision >= newest {
            return now;
        }
        let balance =
            self.shared
                .liveness_log
                .balance(range, revision, newest, now.max(CHEAP_BALANCE));
        if let Some(count) = balance.and_then(|balance| now.checked_add_signed(-balance)) {
            return count;
        }
        let mut count = 0;
        self.walk(range, at, &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        });
        count
    }

    /// Keys of the range alive now, and the bytes of their records.
    pub fn measure(&self, range: &KeyRange) -> (u64, u64) {
        self.tree.measure(range)
    }

    fn alive_at(&self, slot: &Slot, at: At) -> Option<KeyMeta> {
        let revision = match at {
            At::Revision(revision) if revision < slot.main => revision,
            _ => return slot.meta(),
        };
        self.shared
            .older_revisions
            .find(slot.older, revision)?
            .into_slot(0)
            .meta()
    }
}

/// So many births and deaths are added up whatever the size of the range.
const CHEAP_BALANCE: u64 = 4096;
