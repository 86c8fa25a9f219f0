//! Automatic compaction for the embedded store.
//!
//! Two modes: keep the history of the last so many milliseconds, or the last so many revisions. Time comes from the
//! caller: [`Compactor::run`] is told what time it is and does what is due.
//!
//! This is not the policy of the server, and shares no code with it. The server's is etcd's to the sample: fixed
//! intervals, a leader that alone compacts, a compaction that is proposed and may fail. Here the caller chooses the
//! interval and the retention apart, and may call at any pace, so samples carry their time; the compaction is done
//! when the call returns, and an error is the caller's. What the two have in common is a queue of sampled revisions.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use rusd_proto::ids::Revision;

use crate::error::StorageResult;
use crate::mvcc::{MvccStore, ReadAt};

/// How many superseded records are removed before others get at the store.
const STEP_RECORDS: usize = 1000;
/// In how many steps the retention is measured.
const SAMPLES: u64 = 10;

/// What is retained, and how often the rest is compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionMode {
    /// Compacts every so many milliseconds; the retention is in milliseconds.
    Periodic(u64),
    /// Compacts every so many milliseconds; the retention is in revisions.
    Revision(u64),
}

/// Compacts a store by itself.
///
/// ```
/// use parking_lot::Mutex;
/// use rusd_proto::ids::{LeaseId, Revision};
/// use rusd_storage::compactor::{CompactionMode, Compactor};
/// use rusd_storage::engine::Memory;
/// use rusd_storage::{MvccOptions, MvccStore, ReadAt};
/// use std::sync::Arc;
///
/// let store = MvccStore::open(Arc::new(Memory::new()), MvccOptions::default())?;
/// let store = Arc::new(Mutex::new(store));
/// let mut compactor = Compactor::new(store.clone(), CompactionMode::Revision(60_000), 10);
/// for n in 0..100u8 {
///     store.lock().put(b"k", &[n], LeaseId::NONE)?;
/// }
/// assert_eq!(compactor.run(60_000)?, Some(Revision(91)));
/// assert_eq!(store.lock().compacted_revision(), Revision(91));
/// assert_eq!(store.lock().sizes().records, 11);
/// assert_eq!(compactor.run(60_001)?, None);
/// # Ok::<(), rusd_storage::StorageError>(())
/// ```
pub struct Compactor {
    store: Arc<Mutex<MvccStore>>,
    mode: CompactionMode,
    retention: u64,
    /// When it last compacted, or began.
    last_ms: u64,
    /// When the store was at which revision, oldest first.
    samples: VecDeque<(u64, Revision)>,
}

impl Compactor {
    /// A compactor for `store`; time starts at 0. What `retention` counts is up to the mode.
    pub fn new(store: Arc<Mutex<MvccStore>>, mode: CompactionMode, retention: u64) -> Self {
        Self {
            store,
            mode,
            retention,
            last_ms: 0,
            samples: VecDeque::new(),
        }
    }

    /// Does what is due at `now_ms`. Returns the revision it compacted to, if it did. To be called often enough: ten
    /// times per retention or interval.
    pub fn run(&mut self, now_ms: u64) -> StorageResult<Option<Revision>> {
        let (revision, compacted) = {
            let store = self.store.lock();
            (store.current_revision(), store.compacted_revision())
        };
        let (interval_ms, target) = match self.mode {
            CompactionMode::Periodic(interval_ms) => (interval_ms, self.sample(now_ms, revision)),
            CompactionMode::Revision(interval_ms) => (
                interval_ms,
                Some(Revision(revision.0.saturating_sub_unsigned(self.retention))),
            ),
        };
        let due = now_ms.saturating_sub(self.last_ms) >= interval_ms;
        let Some(target) = target.filter(|&target| due && target > compacted.max(Revision(0)))
        else {
            return Ok(None);
        };
        self.last_ms = now_ms;
        self.compact_to(target)?;
        Ok(Some(target))
    }

    /// Compacts to `revision` and removes everything that supersedes, some records at a time.
    pub fn compact_to(&self, revision: Revision) -> StorageResult<()> {
        self.store.lock().compact(revision)?;
        loop {
            let mut store = self.store.lock();
            let step = store.compact_step(STEP_RECORDS)?;
            store.commit()?;
            if step.finished || step.blocked {
                return Ok(());
            }
        }
    }

    /// Notes the revision of now and returns that of one retention ago.
    fn sample(&mut self, now_ms: u64, revision: Revision) -> Option<Revision> {
        let apart_ms = (self.retention / SAMPLES).max(1);
        if self
            .samples
            .back()
            .is_none_or(|&(at_ms, _)| now_ms >= at_ms.saturating_add(apart_ms))
        {
            self.samples.push_back((now_ms, revision));
        }
        let old_enough =
            |&(at_ms, _): &(u64, Revision)| now_ms.saturating_sub(at_ms) >= self.retention;
        while self.samples.get(1).is_some_and(old_enough) {
            self.samples.pop_front();
        }
        self.samples
            .front()
            .copied()
            .filter(old_enough)
            .map(|(_, revision)| revision)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use rusd_proto::ids::LeaseId;

    use super::*;
    use crate::engine::Memory;
    use crate::mvcc::MvccOptions;

    #[test]
    fn periodic_keeps_the_history_of_the_retention() {
        let store = MvccStore::open(Arc::new(Memory::new()), MvccOptions::default()).unwrap();
        let store = Arc::new(Mutex::new(store));
        let mut compactor =
            Compactor::new(Arc::clone(&store), CompactionMode::Periodic(5_000), 10_000);
        let mut compacted = Vec::new();
        // One put a second; the revision at second n is n + 2.
        for second in 0..=21 {
            store.lock().put(b"k", b"v", LeaseId::NONE).unwrap();
            compacted.extend(
                compactor
                    .run(second * 1000)
                    .unwrap()
                    .map(|revision| (second, revision.0)),
            );
        }
        assert_eq!(compacted, [(10, 2), (15, 7), (20, 12)]);
    }

    #[test]
    fn a_store_younger_than_its_retention_is_left_alone() {
        let store = MvccStore::open(Arc::new(Memory::new()), MvccOptions::default()).unwrap();
        let store = Arc::new(Mutex::new(store));
        let mut compactor = Compactor::new(Arc::clone(&store), CompactionMode::Revision(0), 1000);
        store.lock().put(b"k", b"v", LeaseId::NONE).unwrap();
        assert_eq!(compactor.run(1).unwrap(), None);
        assert_eq!(store.lock().compacted_revision(), Revision(-1));
    }
}
