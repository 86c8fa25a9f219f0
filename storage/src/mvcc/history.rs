//! History, for watchers that catch up.

use rusd_proto::ids::Revision;

use super::ring::StoredRecord;
use super::view::ReadView;
use super::{Change, ChangeKind};
use crate::error::{StorageError, StorageResult};
use crate::record::Fields;
use crate::revision::At;

/// A page of history, whole revisions only (W-12).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// Main revision and its changes, in order.
    pub changes: Vec<(Revision, Vec<Change>)>,
    /// Where the next page begins; beyond `through` when this was the last.
    pub next_revision: Revision,
}

impl ReadView {
    /// The changes of the revisions `from..=through` that this view has, until about `max_bytes` (at least one
    /// revision, whatever its size).
    ///
    /// [`Compacted`](StorageError::Compacted) if `from` lies below the compacted revision; that revision itself is
    /// still there (W-07). [`Superseded`](StorageError::Superseded) if compaction overtook the page. With
    /// `with_previous`, `previous` is filled where the record replaced is still retained (W-10).
    ///
    /// ```
    /// use rusd_proto::ids::{LeaseId, Revision};
    /// use rusd_storage::engine::Memory;
    /// use rusd_storage::{MvccOptions, MvccStore, RecordRevision};
    /// use std::sync::Arc;
    ///
    /// let mut store = MvccStore::open(Arc::new(Memory::new()), MvccOptions::default())?;
    /// for value in [b"1", b"2"] {
    ///     let mut txn = store.begin();
    ///     txn.put(b"k", value, LeaseId::NONE);
    ///     txn.end();
    /// }
    /// store.publish();
    /// let page = store.views().load().history(Revision(3), Revision(3), 1 << 20, true)?;
    /// assert_eq!(page.next_revision, Revision(4));
    /// assert_eq!(page.changes[0].1[0].previous, Some(RecordRevision { main: Revision(2), sub: 0 }));
    /// # Ok::<(), rusd_storage::StorageError>(())
    /// ```
    pub fn history(
        &self,
        from: Revision,
        through: Revision,
        max_bytes: usize,
        with_previous: bool,
    ) -> StorageResult<HistoryPage> {
        if from < self.compacted {
            return Err(StorageError::Compacted);
        }
        let from = from.max(Revision(1));
        let through = through.min(self.revision);
        if from > through {
            return Ok(HistoryPage {
                changes: Vec::new(),
                next_revision: from,
            });
        }
        let (records, next_revision) = self.shared.page(from, through, max_bytes)?;
        let mut page = HistoryPage {
            changes: Vec::new(),
            next_revision,
        };
        for record in records {
            let main = record.revision.main;
            let change = self.change(record, with_previous)?;
            match page.changes.last_mut() {
                Some((last, changes)) if *last == main => changes.push(change),
                _ => page.changes.push((main, vec![change])),
            }
        }
        let floor = self.shared.pins.floor();
        if from < floor {
            return Err(StorageError::Superseded);
        }
        // What was looked up below the floor may have been gone already. Only the first revision can be affected.
        for (main, changes) in page
            .changes
            .iter_mut()
            .take_while(|(main, _)| *main <= floor)
        {
            debug_assert_eq!(*main, floor);
            changes.iter_mut().for_each(|change| change.previous = None);
        }
        Ok(page)
    }

    fn change(&self, record: StoredRecord, with_previous: bool) -> StorageResult<Change> {
        let key = record.event.slice(Fields::read(&record.event)?.key);
        let before = record.revision.main.previous();
        let previous = if with_previous && before >= self.compacted {
            self.index
                .get(&key, At::from(before))
                .map(|meta| meta.mod_revision)
        } else {
            None
        };
        let kind = if record.tombstone {
            ChangeKind::Delete
        } else {
            ChangeKind::Put
        };
        Ok(Change {
            key,
            kind,
            record: record.event,
            revision: record.revision,
            previous,
        })
    }
}
