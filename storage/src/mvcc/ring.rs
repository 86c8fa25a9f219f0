//! The ring of recent records.
//!
//! Records that the engine does not have yet are served from here, and some MiB of those it has: a key that was just
//! written is likely to be read, and watchers that fell behind catch up from here without a scan.
//!
//! Every revision has at least one record, so the ring knows where each revision begins and finds a record in O(1).

use std::collections::VecDeque;

use bytes::Bytes;
use rusd_proto::ids::Revision;

use super::Change;
use super::ChangeKind;
use crate::revision::RecordRevision;

/// What an entry costs besides its record.
const ENTRY_BYTES: usize = size_of::<StoredRecord>() + 64;

/// A record as history has it.
#[derive(Clone, Debug)]
pub(super) struct StoredRecord {
    pub revision: RecordRevision,
    pub tombstone: bool,
    /// As events carry it.
    pub event: Bytes,
}

#[derive(Debug)]
pub(super) struct Ring {
    records: VecDeque<StoredRecord>,
    /// For each revision from `first_main` on, the number of its first record, counted from the first ever pushed.
    starts: VecDeque<u64>,
    first_main: Revision,
    /// How many records have left.
    popped: u64,
    bytes: usize,
    bytes_max: usize,
    /// The engine has every record up to this revision.
    written: Revision,
}

impl Ring {
    /// An empty ring of a store whose newest revision is `revision`.
    pub(super) fn new(revision: Revision, bytes_max: usize) -> Self {
        Self {
            records: VecDeque::new(),
            starts: VecDeque::new(),
            first_main: revision.next(),
            popped: 0,
            bytes: 0,
            bytes_max,
            written: revision,
        }
    }

    /// The oldest revision in the ring; the next one if it is empty.
    pub(super) fn first_main(&self) -> Revision {
        self.first_main
    }

    /// Adds the next revision.
    pub(super) fn push(&mut self, changes: &[Change]) {
        debug_assert!(changes.first().is_some_and(|first| {
            Some(first.revision.main.0)
                == self
                    .first_main
                    .0
                    .checked_add_unsigned(self.starts.len() as u64)
        }));
        self.starts
            .push_back(self.popped + self.records.len() as u64);
        for change in changes {
            self.bytes += change.record.len() + ENTRY_BYTES;
            self.records.push_back(StoredRecord {
                revision: change.revision,
                tombstone: change.kind == ChangeKind::Delete,
                event: change.record.clone(),
            });
        }
    }

    /// The record of a revision.
    pub(super) fn get(&self, revision: RecordRevision) -> Option<&StoredRecord> {
        let at = self
            .start_of(revision.main)?
            .checked_add(usize::try_from(revision.sub).ok()?)?;
        self.records
            .get(at)
            .filter(|record| record.revision == revision)
    }

    /// Where the records of `main` begin; `None` if the ring does not have it.
    fn start_of(&self, main: Revision) -> Option<usize> {
        let at = usize::try_from(main.0.checked_sub(self.first_main.0)?).ok()?;
        self.starts
            .get(at)
            .map(|start| (start - self.popped) as usize)
    }

    /// The records of `from..=through`, whole revisions, until `bytes_max` are exceeded, and the revision after
    /// them. `None` if the ring does not reach back to `from`.
    pub(super) fn page(
        &self,
        from: Revision,
        through: Revision,
        bytes_max: usize,
    ) -> Option<(Vec<StoredRecord>, Revision)> {
        if from < self.first_main {
            return None;
        }
        let mut page = Vec::new();
        let mut bytes = 0;
        for record in self
            .start_of(from)
            .into_iter()
            .flat_map(|start| self.records.range(start..))
        {
            let main = record.revision.main;
            let starts_revision = record.revision.sub == 0;
            if main > through {
                break;
            }
            if starts_revision && bytes > bytes_max {
                return Some((page, main));
            }
            bytes += record.event.len();
            page.push(record.clone());
        }
        Some((page, through.next()))
    }

    /// The engine has everything up to `main`.
    pub(super) fn wrote(&mut self, main: Revision) {
        self.written = self.written.max(main);
        self.trim();
    }

    fn trim(&mut self) {
        while self.bytes > self.bytes_max
            && self.first_main <= self.written
            && !self.starts.is_empty()
        {
            self.starts.pop_front();
            self.first_main = self.first_main.next();
            let next = self
                .starts
                .front()
                .copied()
                .unwrap_or(self.popped + self.records.len() as u64);
            while self.popped < next {
                if let Some(record) = self.records.pop_front() {
                    self.bytes -= record.event.len() + ENTRY_BYTES;
                }
                self.popped += 1;
            }
        }
    }

    /// Panics unless the ring holds every change of the revisions from its first to `newest`, without a gap, and no
    /// more of what the engine has than it may.
    pub(super) fn check(&self, newest: Revision) {
        let mut expected = RecordRevision {
            main: self.first_main,
            sub: 0,
        };
        let mut starts = self.starts.iter();
        let (mut bytes, mut written_bytes) = (0, 0);
        for (at, record) in (self.popped..).zip(&self.records) {
            if record.revision.main != expected.main || at == self.popped {
                expected = RecordRevision {
                    main: record.revision.main.max(self.first_main),
                    sub: 0,
                };
                let start = self.start_of(expected.main);
                assert_eq!(
                    start,
                    Some((at - self.popped) as usize),
                    "where a revision begins"
                );
                assert_eq!(starts.next(), Some(&at), "a gap in the ring");
            }
            assert_eq!(record.revision, expected, "a change is missing in the ring");
            expected.sub += 1;
            bytes += record.event.len() + ENTRY_BYTES;
            if record.revision.main <= self.written {
                written_bytes = bytes;
            }
        }
        assert_eq!(
            starts.next(),
            None,
            "a revision without changes in the ring"
        );
        assert_eq!(bytes, self.bytes, "bytes of the ring");
        let next = self.first_main.0 + self.starts.len() as i64;
        assert_eq!(
            next,
            newest.next().0,
            "the ring ends at the newest revision"
        );
        assert!(
            written_bytes <= self.bytes_max,
            "the ring outgrows its bound"
        );
    }

    /// The engine has every record up to this revision.
    pub(super) fn written(&self) -> Revision {
        self.written
    }

    /// Memory of the ring.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn change(main: i64, sub: i64, bytes: usize) -> Change {
        Change {
            key: Bytes::new(),
            kind: ChangeKind::Put,
            record: vec![b'x'; bytes].into(),
            revision: RecordRevision {
                main: Revision(main),
                sub,
            },
            previous: None,
        }
    }

    fn push(ring: &mut Ring, main: i64, count: i64, bytes: usize) {
        let changes: Vec<Change> = (0..count).map(|sub| change(main, sub, bytes)).collect();
        ring.push(&changes);
    }

    fn mains(page: Option<(Vec<StoredRecord>, Revision)>) -> (Vec<i64>, i64) {
        let (records, next) = page.unwrap();
        (
            records
                .iter()
                .map(|record| record.revision.main.0)
                .collect(),
            next.0,
        )
    }

    #[test]
    fn what_the_engine_lacks_never_leaves() {
        let mut ring = Ring::new(Revision(1), 2 * (10 + ENTRY_BYTES));
        for main in 2..=6 {
            push(&mut ring, main, 1, 10);
        }
        assert_eq!(ring.first_main(), Revision(2));
        ring.wrote(Revision(3));
        assert_eq!(ring.first_main(), Revision(4));
        ring.wrote(Revision(6));
        assert_eq!(ring.first_main(), Revision(5));
        assert!(
            ring.get(RecordRevision {
                main: Revision(4),
                sub: 0
            })
            .is_none()
        );
        assert!(
            ring.get(RecordRevision {
                main: Revision(5),
                sub: 0
            })
            .is_some()
        );
        assert!(
            ring.get(RecordRevision {
                main: Revision(5),
                sub: 1
            })
            .is_none()
        );
        assert!(
            ring.get(RecordRevision {
                main: Revision(7),
                sub: 0
            })
            .is_none()
        );
    }

    #[test]
    fn w_12_pages_hold_whole_revisions() {
        let mut ring = Ring::new(Revision(1), 1 << 20);
        push(&mut ring, 2, 3, 10);
        push(&mut ring, 3, 1, 10);
        push(&mut ring, 4, 2, 10);
        assert_eq!(
            mains(ring.page(Revision(2), Revision(4), 5)),
            (vec![2, 2, 2], 3)
        );
        assert_eq!(
            mains(ring.page(Revision(3), Revision(4), 15)),
            (vec![3, 4, 4], 5)
        );
        assert_eq!(
            mains(ring.page(Revision(2), Revision(3), 1000)),
            (vec![2, 2, 2, 3], 4)
        );
        assert_eq!(
            mains(ring.page(Revision(5), Revision(4), 1000)),
            (vec![], 5)
        );
        assert!(ring.page(Revision(1), Revision(4), 1000).is_none());
        assert!(ring.bytes() > 60);
    }
}
