//! The older revisions of keys.
//!
//! They are kept beside the tree, not in it: a tree node is copied on write, and a key that is put ten thousand
//! times between two compactions must not be copied ten thousand times over. They need not be copied at all. What
//! a reader may ask for is bounded by revision, and the revisions of a key below a given one never change except
//! by compaction. So all views share one table, each finding in it what is not newer than the revision it reads.
//!
//! A view older than the last compaction step may find a cell emptied, or used for another key. It must look at
//! how far compaction has gone *after* it has read (`Pins`): a cell is freed only once the compaction has reached the
//! newest revision of its key, and a view that reads older revisions of a key reads below that.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use rusd_proto::ids::Revision;

use super::node::{NEVER, Slot};
use crate::revision::RecordRevision;

/// Number of locks the table is spread over, so that readers of older revisions rarely meet the writer.
const SHARDS: usize = 64;

/// One older revision of a key. A version of 0 is a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OlderRevision {
    pub main: Revision,
    pub create: Revision,
    pub version: i64,
    pub sub: u32,
    pub record_bytes: u32,
}

impl OlderRevision {
    pub(super) fn of(slot: &Slot) -> Self {
        Self {
            main: slot.main,
            create: slot.create,
            version: slot.version,
            sub: slot.sub,
            record_bytes: slot.record_bytes,
        }
    }

    /// The slot of a key whose newest revision this is.
    pub(super) fn into_slot(self, older: u64) -> Slot {
        Slot {
            main: self.main,
            create: self.create,
            version: self.version,
            sub: self.sub,
            record_bytes: self.record_bytes,
            older,
        }
    }

    fn is_tombstone(&self) -> bool {
        self.version == 0
    }
}

/// A record that compaction removes. They sort by revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Removed {
    pub revision: RecordRevision,
    pub tombstone: bool,
    pub record_bytes: u32,
}

impl Removed {
    fn older(older: &OlderRevision) -> Self {
        Self {
            revision: RecordRevision {
                main: older.main,
                sub: i64::from(older.sub),
            },
            tombstone: older.is_tombstone(),
            record_bytes: older.record_bytes,
        }
    }

    fn latest(slot: &Slot) -> Self {
        Self {
            revision: slot.revision(),
            tombstone: !slot.is_alive(),
            record_bytes: slot.record_bytes,
        }
    }
}

/// What pruning left of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pruned {
    /// Where the rest of its older revisions are; 0 once nothing is left and no view looks for it.
    pub older: u64,
    /// The key is gone altogether.
    pub gone: bool,
    /// The compacted revision from which on there is something to remove.
    pub garbage_since: Revision,
}

/// Most keys have at most one older revision between two compactions; that one is stored without a detour.
#[derive(Debug, Default)]
enum Cell {
    #[default]
    Free,
    One(OlderRevision),
    /// Ascending, two or more.
    Many(Vec<OlderRevision>),
}

impl Cell {
    fn as_slice(&self) -> &[OlderRevision] {
        match self {
            Self::Free => &[],
            Self::One(older) => std::slice::from_ref(older),
            Self::Many(revisions) => revisions,
        }
    }

    fn push(&mut self, older: OlderRevision) {
        *self = match std::mem::take(self) {
            Self::Free => Self::One(older),
            Self::One(first) => Self::Many(vec![first, older]),
            Self::Many(mut revisions) => {
                revisions.push(older);
                Self::Many(revisions)
            }
        };
    }

    fn remove_first(&mut self, count: usize) {
        let rest = self.as_slice().len().saturating_sub(count);
        *self = match std::mem::take(self) {
            Self::Many(mut revisions) if rest > 1 => {
                revisions.drain(..count);
                if revisions.capacity() > 4 * revisions.len() {
                    revisions.shrink_to(2 * revisions.len());
                }
                Self::Many(revisions)
            }
            Self::Many(revisions) if rest == 1 => {
                revisions.last().copied().map_or(Self::Free, Self::One)
            }
            Self::One(older) if rest == 1 => Self::One(older),
            _ => Self::Free,
        };
    }

    fn pop(&mut self) -> Option<OlderRevision> {
        let last = self.as_slice().last().copied();
        *self = match std::mem::take(self) {
            Self::Many(revisions) if revisions.len() == 2 => Self::One(revisions[0]),
            Self::Many(mut revisions) => {
                revisions.pop();
                Self::Many(revisions)
            }
            _ => Self::Free,
        };
        last
    }
}

#[derive(Debug, Default)]
struct Shard {
    cells: Vec<Cell>,
    free: Vec<usize>,
}

/// The table. Written by the writer alone, read by everybody.
#[derive(Debug)]
pub(super) struct OlderRevisions {
    shards: Vec<RwLock<Shard>>,
    next_shard: AtomicUsize,
}

/// Where an id points: shard and cell. Ids are never 0.
fn place(id: u64) -> (usize, usize) {
    let place = (id - 1) as usize;
    (place % SHARDS, place / SHARDS)
}

/// The compacted revision from which on a key with these older revisions has something to remove. A cell that is
/// kept although it is empty counts: it goes once compaction reaches the newest revision.
fn garbage_since(older: &[OlderRevision], latest: &Slot, keeps_cell: bool) -> Revision {
    match older {
        [first, ..] if first.is_tombstone() => first.main.next(),
        [_, second, ..] => second.main,
        [_] => latest.main,
        [] if keeps_cell => latest.main,
        [] if latest.is_alive() => NEVER,
        [] => latest.main.next(),
    }
}

impl OlderRevisions {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            next_shard: AtomicUsize::new(0),
        }
    }

    /// Adds the newest of the older revisions of a key, returning where they are.
    pub(super) fn push(&self, id: u64, older: OlderRevision) -> u64 {
        if id != 0 {
            let (shard, cell) = place(id);
            self.shards[shard].write().cells[cell].push(older);
            return id;
        }
        let shard = self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let mut table = self.shards[shard].write();
        let cell = match table.free.pop() {
            Some(cell) => {
                table.cells[cell] = Cell::One(older);
                cell
            }
            None => {
                table.cells.push(Cell::One(older));
                table.cells.len() - 1
            }
        };
        (cell * SHARDS + shard + 1) as u64
    }

    /// Takes the newest back, if there is one. What is left keeps its place.
    pub(super) fn pop(&self, id: u64) -> Option<OlderRevision> {
        if id == 0 {
            return None;
        }
        let (shard, cell) = place(id);
        self.shards[shard].write().cells[cell].pop()
    }

    /// Gives back the empty cell of a key that no view knows.
    pub(super) fn release(&self, id: u64) {
        if id != 0 {
            let (shard, cell) = place(id);
            self.shards[shard].write().free.push(cell);
        }
    }

    /// The newest revision not above `at`.
    pub(super) fn find(&self, id: u64, at: Revision) -> Option<OlderRevision> {
        if id == 0 {
            return None;
        }
        let (shard, cell) = place(id);
        let shard = self.shards[shard].read();
        let revisions = shard.cells.get(cell)?.as_slice();
        let newer = revisions.partition_point(|older| older.main <= at);
        newer.checked_sub(1).map(|newest| revisions[newest])
    }

    /// Removes, oldest first and at most `budget` of them, the revisions of a key that nobody can read once the
    /// store is compacted at `limit` (KV-C02): all older than the newest not above `limit`, and that one too if it
    /// is a tombstone below `limit`.
    pub(super) fn prune(
        &self,
        latest: &Slot,
        limit: Revision,
        budget: usize,
        removed: &mut Vec<Removed>,
    ) -> Pruned {
        let (shard, cell) = if latest.older == 0 {
            (0, usize::MAX)
        } else {
            place(latest.older)
        };
        let mut shard = self.shards[shard].write();
        let revisions = shard.cells.get(cell).map_or(&[][..], Cell::as_slice);
        let readable = |main: Revision, tombstone: bool| main >= limit || !tombstone;
        let garbage = if latest.main <= limit {
            revisions.len()
        } else {
            let upto = revisions.partition_point(|older| older.main <= limit);
            match upto.checked_sub(1).map(|newest| revisions[newest]) {
                Some(newest) if readable(newest.main, newest.is_tombstone()) => upto - 1,
                _ => upto,
            }
        };
        let taken = garbage.min(budget);
        removed.extend(revisions[..taken].iter().map(Removed::older));
        let rest = &revisions[taken..];
        // A view that reads between `limit` and the newest revision still looks here, and must not find another key.
        let keeps_cell = latest.older != 0 && latest.main > limit;
        let garbage_since = garbage_since(rest, latest, keeps_cell);
        let mut gone = rest.is_empty() && !readable(latest.main, !latest.is_alive());
        if gone && taken < budget {
            removed.push(Removed::latest(latest));
        } else {
            gone = false;
        }
        let frees_cell = rest.is_empty() && !keeps_cell && latest.older != 0;
        if let Some(cell) = shard.cells.get_mut(cell) {
            cell.remove_first(taken);
        }
        if frees_cell {
            shard.free.push(cell);
        }
        Pruned {
            older: if frees_cell { 0 } else { latest.older },
            gone,
            garbage_since,
        }
    }

    /// Panics unless the revisions of a key ascend, each continuing the generation of the one before or starting
    /// its own, and `bound` promises no less garbage than there is. Returns them, the newest last.
    pub(super) fn check(&self, latest: &Slot, bound: Revision) -> Vec<OlderRevision> {
        let mut revisions = Vec::new();
        if latest.older != 0 {
            let (shard, cell) = place(latest.older);
            let shard = self.shards[shard].read();
            assert!(!shard.free.contains(&cell), "a key's cell is free");
            revisions.extend_from_slice(shard.cells[cell].as_slice());
        }
        assert!(
            bound <= garbage_since(&revisions, latest, latest.older != 0),
            "garbage below its bound"
        );
        revisions.push(OlderRevision::of(latest));
        for revision in &revisions {
            // A transaction may put a key twice: then the second put is of the revision that created it, too.
            assert!(
                revision.create == revision.main || revision.version != 1,
                "a generation starts at its first put"
            );
            assert!(
                revision.create <= revision.main,
                "a key is created after it was put"
            );
        }
        for pair in revisions.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            assert!(
                (before.main, before.sub) < (after.main, after.sub),
                "revisions of a key out of order"
            );
            let continues = after.version > 1;
            assert!(
                !continues || (before.create, before.version + 1) == (after.create, after.version),
                "a generation is broken"
            );
            assert!(
                !before.is_tombstone() || after.version == 1,
                "only a put follows a tombstone"
            );
        }
        revisions
    }

    /// Memory of the table.
    pub(super) fn heap_bytes(&self) -> usize {
        let shard_bytes = |shard: &RwLock<Shard>| {
            let shard = shard.read();
            let lists = shard.cells.iter().map(|cell| match cell {
                Cell::Many(revisions) => revisions.capacity() * size_of::<OlderRevision>(),
                _ => 0,
            });
            let cells = shard.cells.capacity() * size_of::<Cell>()
                + shard.free.capacity() * size_of::<usize>();
            cells + lists.sum::<usize>()
        };
        self.shards.iter().map(shard_bytes).sum()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn older(main: i64, version: i64) -> OlderRevision {
        OlderRevision {
            main: Revision(main),
            create: Revision(1),
            version,
            sub: 0,
            record_bytes: 1,
        }
    }

    /// put at 2, put at 4, deleted at 6, put at 8; latest put at 10.
    fn example() -> (OlderRevisions, Slot) {
        let older_revisions = OlderRevisions::new();
        let mut id = 0;
        for (main, version) in [(2, 1), (4, 2), (6, 0), (8, 1)] {
            id = older_revisions.push(id, older(main, version));
        }
        (older_revisions, older(10, 2).into_slot(id))
    }

    fn removed_at(limit: i64) -> (Vec<i64>, Pruned) {
        let limit = Revision(limit);
        let (older_revisions, slot) = example();
        let mut removed = Vec::new();
        let pruned = older_revisions.prune(&slot, limit, usize::MAX, &mut removed);
        (
            removed
                .iter()
                .map(|removed| removed.revision.main.0)
                .collect(),
            pruned,
        )
    }

    #[test]
    fn find_returns_the_newest_not_above() {
        let (older_revisions, slot) = example();
        let found = |at| {
            older_revisions
                .find(slot.older, Revision(at))
                .map(|older| older.main.0)
        };
        assert_eq!(
            [1, 2, 3, 4, 7, 99].map(found),
            [None, Some(2), Some(2), Some(4), Some(6), Some(8)]
        );
    }

    #[test]
    fn kv_c02_compaction_keeps_the_newest_revision_not_above() {
        assert_eq!(removed_at(1).0, [0i64; 0]);
        assert_eq!(removed_at(3).0, [0i64; 0]);
        assert_eq!(removed_at(4).0, [2]);
        assert_eq!(removed_at(5).0, [2]);
        assert_eq!(removed_at(8).0, [2, 4, 6]);
        assert_eq!(removed_at(9).0, [2, 4, 6]);
        assert_eq!(removed_at(10).0, [2, 4, 6, 8]);
    }

    #[test]
    fn kv_c02_a_tombstone_goes_only_below_the_compacted_revision() {
        assert_eq!(removed_at(6).0, [2, 4]);
        assert_eq!(removed_at(7).0, [2, 4, 6]);
        let older_revisions = OlderRevisions::new();
        let id = older_revisions.push(0, older(2, 1));
        let deleted = older(5, 0).into_slot(id);
        let mut removed = Vec::new();
        let at_tombstone = older_revisions.prune(&deleted, Revision(5), usize::MAX, &mut removed);
        assert_eq!(
            at_tombstone,
            Pruned {
                older: 0,
                gone: false,
                garbage_since: Revision(6)
            }
        );
        let deleted = older(5, 0).into_slot(0);
        assert!(
            older_revisions
                .prune(&deleted, Revision(6), usize::MAX, &mut removed)
                .gone
        );
        assert_eq!(
            removed
                .iter()
                .map(|removed| removed.revision.main.0)
                .collect::<Vec<_>>(),
            [2, 5]
        );
    }

    #[test]
    fn the_bound_names_the_next_compaction_with_anything_to_remove() {
        for limit in 0..12 {
            let (_, pruned) = removed_at(limit);
            let next = (limit + 1..12)
                .find(|&limit| removed_at(limit).0.len() > removed_at(limit - 1).0.len());
            assert_eq!(
                pruned.garbage_since,
                next.map_or(NEVER, Revision),
                "after {limit}"
            );
        }
    }

    #[test]
    fn a_small_budget_removes_the_oldest_first() {
        let (older_revisions, mut slot) = example();
        let mut removed = Vec::new();
        for _ in 0..4 {
            slot.older = older_revisions
                .prune(&slot, Revision(10), 1, &mut removed)
                .older;
        }
        assert_eq!(slot.older, 0);
        assert_eq!(
            removed
                .iter()
                .map(|removed| removed.revision.main.0)
                .collect::<Vec<_>>(),
            [2, 4, 6, 8]
        );
    }

    #[test]
    fn popping_undoes_pushing() {
        let older_revisions = OlderRevisions::new();
        let id = older_revisions.push(0, older(2, 1));
        older_revisions.push(id, older(3, 2));
        assert_eq!(older_revisions.pop(id), Some(older(3, 2)));
        assert_eq!(older_revisions.pop(id), Some(older(2, 1)));
        assert_eq!(older_revisions.pop(id), None);
        older_revisions.release(id);
        let ids: Vec<u64> = (0..SHARDS as i64)
            .map(|main| older_revisions.push(0, older(main, 1)))
            .collect();
        assert!(ids.contains(&id), "a freed cell is used again");
    }

    #[test]
    fn a_cell_stays_until_compaction_reaches_the_newest_revision() {
        let older_revisions = OlderRevisions::new();
        let id = older_revisions.push(0, older(6, 0));
        let slot = older(10, 1).into_slot(id);
        let mut removed = Vec::new();
        let pruned = older_revisions.prune(&slot, Revision(7), usize::MAX, &mut removed);
        assert_eq!(
            pruned,
            Pruned {
                older: id,
                gone: false,
                garbage_since: Revision(10)
            }
        );
        assert_eq!(removed.len(), 1);
        let others: Vec<u64> = (0..2 * SHARDS as i64)
            .map(|_| older_revisions.push(0, older(7, 1)))
            .collect();
        assert!(!others.contains(&id));
        assert_eq!(older_revisions.find(id, Revision(9)), None);
        let pruned = older_revisions.prune(&slot, Revision(10), usize::MAX, &mut removed);
        assert_eq!(
            pruned,
            Pruned {
                older: 0,
                gone: false,
                garbage_since: NEVER
            }
        );
        assert_eq!(removed.len(), 1);
    }
}
