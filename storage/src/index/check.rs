//! What the index promises of itself.

use std::collections::HashSet;

use super::{KeyIndex, older_revisions::OlderRevision};

/// What a whole index holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Records of all keys, tombstones included.
    pub records: u64,
    /// The tombstones among them.
    pub tombstones: u64,
    /// Bytes of the records, without their keys in the engine.
    pub record_bytes: u64,
}

impl Held {
    fn add(&mut self, revisions: &[OlderRevision]) {
        for revision in revisions {
            self.records += 1;
            self.tombstones += u64::from(revision.version == 0);
            self.record_bytes += u64::from(revision.record_bytes);
        }
    }
}

impl KeyIndex {
    /// Panics unless tree, older revisions and liveness log agree. Visits every key. Between transactions only, and
    /// of an index whose records this code has written.
    pub(crate) fn check(&self) -> Held {
        let (tree, shared) = (&self.view.tree, &self.view.shared);
        tree.check();
        let mut held = Held::default();
        let mut cells = HashSet::new();
        tree.for_each(&mut |_, slot, bound| {
            assert!(
                slot.older == 0 || cells.insert(slot.older),
                "two keys share their older revisions"
            );
            held.add(&shared.older_revisions.check(slot, bound));
        });
        let is_alive = |key: &[u8]| tree.get(key).is_some_and(|slot| slot.is_alive());
        shared.liveness_log.check(is_alive);
        held
    }
}

#[cfg(test)]
mod tests {
    use rusd_proto::ids::Revision;

    use super::*;
    use crate::revision::RecordRevision;

    fn at(main: i64) -> RecordRevision {
        RecordRevision {
            main: Revision(main),
            sub: 0,
        }
    }

    fn index() -> KeyIndex {
        let mut index = KeyIndex::new();
        index.put(b"a", at(2), |_, _| 10);
        index.put(b"a", at(3), |_, _| 10);
        index.tombstone(b"a", at(4), 3);
        index
    }

    #[test]
    fn records_are_counted() {
        let held = Held {
            records: 3,
            tombstones: 1,
            record_bytes: 23,
        };
        assert_eq!(index().check(), held);
    }

    #[test]
    #[should_panic(expected = "a generation is broken")]
    fn a_version_that_is_skipped_is_seen() {
        let mut index = index();
        index.restore(b"b", at(5), Some((Revision(5), 1)), 10);
        index.restore(b"b", at(6), Some((Revision(5), 3)), 10);
        index.check();
    }

    #[test]
    #[should_panic(expected = "the last word on a key")]
    fn a_birth_that_is_not_logged_is_seen() {
        let index = index();
        index.view.shared.liveness_log.pop();
        index.check();
    }
}
