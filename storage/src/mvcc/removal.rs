//! What compaction has still to remove from the engine.
//!
//! The index finds superseded records key by key, whereas engines keep them in order of revision, many to a page. To
//! remove them as they are found would rewrite a page for nearly every record: a store of a million revisions of some
//! thousand keys was rewritten twenty times over. So they are collected first and leave in order of revision:
//!
//! ```text
//!   sweep   index -> collected   a few times as many a step as are removed in one, until all or enough are collected
//!   drain   collected -> engine  the oldest first, until none are left; then the next sweep
//! ```
//!
//! The index has let go of a record before the engine does. A restart in between finds it in the engine, and so
//! in the index, again. Since the oldest leave first, a tombstone outlives what it deleted.
//!
//! Collecting takes less memory than the index gives back for the same records.

use std::collections::BTreeSet;

use crate::index::Removed;

/// Collected at most before they are removed.
const COLLECTED_MAX: usize = 1 << 21;
/// Records found in one step for each that may be removed in one: finding costs that much less.
pub(super) const SWEPT_PER_REMOVED: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Removal {
    collected: BTreeSet<Removed>,
    draining: bool,
}

impl Removal {
    pub(super) fn is_empty(&self) -> bool {
        self.collected.is_empty()
    }

    pub(super) fn collected(&self) -> impl Iterator<Item = &Removed> {
        self.collected.iter()
    }

    /// Whether the next records are to be found before any is removed.
    pub(super) fn is_sweeping(&self) -> bool {
        !self.draining
    }

    /// Takes in what the index has let go of; `found_all` if it has no more.
    pub(super) fn collect(&mut self, found: Vec<Removed>, found_all: bool) {
        self.collected.extend(found);
        self.draining = found_all || self.collected.len() >= COLLECTED_MAX;
    }

    /// The oldest records, while draining.
    pub(super) fn take(&mut self, max: usize) -> Vec<Removed> {
        if !self.draining {
            return Vec::new();
        }
        let taken = std::iter::from_fn(|| self.collected.pop_first())
            .take(max)
            .collect();
        self.draining = !self.collected.is_empty();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::RecordRevision;
    use rusd_proto::ids::Revision;

    fn records(mains: impl IntoIterator<Item = i64>) -> Vec<Removed> {
        let record = |main| Removed {
            revision: RecordRevision {
                main: Revision(main),
                sub: 0,
            },
            tombstone: false,
            record_bytes: 10,
        };
        mains.into_iter().map(record).collect()
    }

    #[test]
    fn records_leave_in_order_once_all_are_found() {
        let mut removal = Removal::default();
        removal.collect(records([9, 4]), false);
        assert!(removal.is_sweeping() && removal.take(5).is_empty());
        removal.collect(records([7, 2]), true);
        assert!(!removal.is_sweeping());
        assert_eq!(removal.take(3), records([2, 4, 7]));
        assert!(!removal.is_sweeping() && !removal.is_empty());
        assert_eq!(removal.take(3), records([9]));
        assert!(removal.is_sweeping() && removal.is_empty());
    }

    #[test]
    fn what_is_collected_is_bounded() {
        let mut removal = Removal::default();
        removal.collect(records(0..COLLECTED_MAX as i64), false);
        assert!(!removal.is_sweeping());
    }
}
