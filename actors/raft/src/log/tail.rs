//! What raft-rs reads: the newest entries in memory, the others from the log on disk.
//!
//! Entries enter the tail before they are written, because raft-rs reads them as soon as it has handed
//! them out (`advance_append_async`). They may leave it once they are both on disk and handed to the state
//! machine, and do so beyond [`TAIL_KEEP_BYTES`](crate::limits::TAIL_KEEP_BYTES). What must stay is bounded by the
//! write in flight and the one collecting.
//!
//! ```text
//!   truncated | ------ on disk only ------ | tail: on disk, handed out | tail: being written |
//!             first_index                  tail.front()            stable, handed        last_index
//! ```
#![deny(clippy::disallowed_methods)]

use super::error::LogError;
use super::state::{Conf, Truncated, Vote};
use crate::limits;
use raft::eraftpb::{Entry, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use rusd_messages::fatal;
use std::collections::VecDeque;

/// Entries that are on disk.
pub trait StableEntries: Send {
    /// The entries `[low, high)`, at least one, at most `max_bytes` in all.
    fn entries(&self, low: u64, high: u64, max_bytes: Option<u64>) -> Result<Vec<Entry>, LogError>;

    /// The term of an entry; None if it is not there.
    fn term(&self, index: u64) -> Result<Option<u64>, LogError>;
}

/// The log as raft-rs sees it.
pub struct LogTail {
    stable: Box<dyn StableEntries>,
    vote: Vote,
    conf: Conf,
    truncated: Truncated,
    last_index: u64,
    entries: VecDeque<Entry>,
    entry_bytes: usize,
    /// Whether Raft works on it: then an entry that cannot be read ends the process.
    serving: bool,
}

impl std::fmt::Debug for LogTail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogTail")
            .field("truncated", &self.truncated)
            .field("last_index", &self.last_index)
            .field("in_memory", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl LogTail {
    /// A tail with nothing in memory yet.
    pub fn new(
        stable: Box<dyn StableEntries>,
        vote: Vote,
        conf: Conf,
        truncated: Truncated,
        last_index: u64,
    ) -> Self {
        Self {
            stable,
            vote,
            conf,
            truncated,
            last_index,
            entries: VecDeque::new(),
            entry_bytes: 0,
            serving: false,
        }
    }

    /// The vote as it was opened, with what `set_commit` made of it.
    pub fn vote(&self) -> Vote {
        self.vote
    }

    /// The configuration as it was opened.
    pub fn conf(&self) -> &Conf {
        &self.conf
    }

    /// The last entry that is gone.
    pub fn truncated(&self) -> Truncated {
        self.truncated
    }

    /// The index of the last entry, on disk or not yet.
    pub fn last(&self) -> u64 {
        self.last_index
    }

    /// How many entries are in memory.
    pub fn in_memory(&self) -> usize {
        self.entries.len()
    }

    /// From here on Raft works on it, and could not go on without an entry that it asks for.
    pub(crate) fn serve(&mut self) {
        self.serving = true;
    }

    pub(crate) fn set_commit(&mut self, commit: u64) {
        self.vote.commit = commit;
    }

    /// Takes entries in; they replace whatever there is from the first one's index on.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return;
        };
        while self
            .entries
            .back()
            .is_some_and(|entry| entry.index >= first.index)
        {
            if let Some(entry) = self.entries.pop_back() {
                self.entry_bytes -= size_of(&entry);
            }
        }
        self.entry_bytes += entries.iter().map(size_of).sum::<usize>();
        self.entries.extend(entries.iter().cloned());
        self.last_index = last.index;
    }

    /// Lets go of the oldest entries through `through` while there are more bytes than are kept.
    pub(crate) fn release(&mut self, through: u64) {
        while self.entry_bytes > limits::TAIL_KEEP_BYTES
            && self
                .entries
                .front()
                .is_some_and(|entry| entry.index <= through)
        {
            if let Some(entry) = self.entries.pop_front() {
                self.entry_bytes -= size_of(&entry);
            }
        }
    }

    /// Forgets the entries through `truncated`.
    pub(crate) fn truncate(&mut self, truncated: Truncated) {
        self.truncated = truncated;
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.index <= truncated.index)
        {
            if let Some(entry) = self.entries.pop_front() {
                self.entry_bytes -= size_of(&entry);
            }
        }
    }

    /// Panics if it contradicts itself.
    pub(crate) fn check(&self) {
        assert!(self.truncated.index <= self.last_index);
        let entry_bytes: usize = self.entries.iter().map(size_of).sum();
        assert_eq!(self.entry_bytes, entry_bytes);
        let first = self.last_index + 1 - self.entries.len() as u64;
        assert!(first > self.truncated.index);
        let indexes = self.entries.iter().map(|entry| entry.index);
        assert!(
            indexes.eq(first..=self.last_index),
            "entries in memory are the last ones"
        );
    }

    /// What raft-rs gets for an entry that cannot be read: it would panic on it, so that is kept for the start.
    fn unreadable(&self, error: &LogError) -> raft::Error {
        if self.serving {
            fatal("reading the log", error);
        }
        StorageError::Other(error.to_string().into()).into()
    }

    /// An entry that is in memory.
    fn in_memory_entry(&self, index: u64) -> Option<&Entry> {
        let first = self.entries.front()?.index;
        self.entries
            .get(usize::try_from(index.checked_sub(first)?).ok()?)
    }
}

/// What an entry counts for.
pub(crate) fn size_of(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + std::mem::size_of::<Entry>()
}

impl Storage for LogTail {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            self.vote.hard_state(),
            self.conf.state.clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.index {
            return Err(StorageError::Compacted.into());
        }
        let mut max_size = max_size.into();
        let mut out = Vec::new();
        let memory_from = self
            .entries
            .front()
            .map_or(self.last_index + 1, |entry| entry.index);
        if low < memory_from {
            let stable_high = high.min(memory_from);
            out = self
                .stable
                .entries(low, stable_high, max_size)
                .map_err(|error| self.unreadable(&error))?;
            let complete = out
                .last()
                .is_some_and(|entry| entry.index + 1 == stable_high);
            if !complete || high <= memory_from {
                return Ok(out);
            }
            let used: u64 = out.iter().map(|entry| size_of(entry) as u64).sum();
            max_size = max_size.map(|max| max.saturating_sub(used));
        }
        let from = usize::try_from(low.max(memory_from) - memory_from).unwrap_or(usize::MAX);
        let to = usize::try_from(high - memory_from)
            .unwrap_or(usize::MAX)
            .min(self.entries.len());
        let mut left = max_size.unwrap_or(u64::MAX);
        for entry in self.entries.range(from.min(to)..to) {
            let size = size_of(entry) as u64;
            if size > left && !out.is_empty() {
                break;
            }
            left = left.saturating_sub(size);
            out.push(entry.clone());
        }
        Ok(out)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.truncated.index {
            return Ok(self.truncated.term);
        }
        if index < self.truncated.index {
            return Err(StorageError::Compacted.into());
        }
        if let Some(entry) = self.in_memory_entry(index) {
            return Ok(entry.term);
        }
        if index > self.last_index {
            return Err(StorageError::Unavailable.into());
        }
        self.stable
            .term(index)
            .map_err(|error| self.unreadable(&error))?
            .ok_or_else(|| StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last_index)
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        // Snapshots are built from the engine, not from the log; raft-rs asks again later.
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    struct Disk(Vec<Entry>);

    impl StableEntries for Disk {
        fn entries(&self, low: u64, high: u64, max: Option<u64>) -> Result<Vec<Entry>, LogError> {
            let mut left = max.unwrap_or(u64::MAX);
            let mut out = Vec::new();
            for entry in self.0.iter().filter(|e| (low..high).contains(&e.index)) {
                let size = size_of(entry) as u64;
                if size > left && !out.is_empty() {
                    break;
                }
                left = left.saturating_sub(size);
                out.push(entry.clone());
            }
            Ok(out)
        }

        fn term(&self, index: u64) -> Result<Option<u64>, LogError> {
            Ok(self.0.iter().find(|e| e.index == index).map(|e| e.term))
        }
    }

    fn entry(index: u64, term: u64, bytes: usize) -> Entry {
        Entry {
            index,
            term,
            data: vec![0; bytes].into(),
            ..Entry::default()
        }
    }

    fn indexes(tail: &LogTail, low: u64, high: u64, max: Option<u64>) -> Vec<u64> {
        let entries = tail
            .entries(low, high, max, GetEntriesContext::empty(false))
            .unwrap();
        entries.iter().map(|e| e.index).collect()
    }

    /// Entries 5 to 8 on disk, 9 to 12 in memory.
    fn tail() -> LogTail {
        let disk = Disk((5..=8).map(|i| entry(i, 2, 10)).collect());
        let truncated = Truncated { index: 4, term: 1 };
        let mut tail = LogTail::new(
            Box::new(disk),
            Vote::default(),
            Conf::default(),
            truncated,
            8,
        );
        let newest: Vec<Entry> = (9..=12).map(|i| entry(i, 3, 10)).collect();
        tail.append(&newest);
        tail
    }

    #[test]
    fn reads_cross_from_disk_to_memory() {
        let tail = tail();
        assert_eq!(indexes(&tail, 5, 13, None), [5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(indexes(&tail, 7, 9, None), [7, 8]);
        assert_eq!(indexes(&tail, 9, 11, None), [9, 10]);
        let one = size_of(&entry(1, 1, 10)) as u64;
        assert_eq!(indexes(&tail, 7, 13, Some(3 * one)), [7, 8, 9]);
        assert_eq!(indexes(&tail, 10, 13, Some(1)), [10]);
        assert_eq!(indexes(&tail, 6, 13, Some(1)), [6]);
        assert!(
            tail.entries(4, 6, None, GetEntriesContext::empty(false))
                .is_err()
        );
    }

    #[test]
    fn terms_are_known_from_the_truncation_point_to_the_end() {
        let tail = tail();
        let terms: Vec<Option<u64>> = (3..=13).map(|i| tail.term(i).ok()).collect();
        let known = [1, 2, 2, 2, 2, 3, 3, 3, 3].map(Some);
        assert_eq!(terms[1..10], known);
        assert_eq!((terms[0], terms[10]), (None, None));
    }

    #[test]
    fn an_unreadable_entry_ends_the_process_only_once_raft_works_on_it() {
        struct Broken;

        impl StableEntries for Broken {
            fn entries(&self, _: u64, _: u64, _: Option<u64>) -> Result<Vec<Entry>, LogError> {
                Err(LogError::damaged("/data/log", "it cannot be read"))
            }

            fn term(&self, _: u64) -> Result<Option<u64>, LogError> {
                Ok(None)
            }
        }

        let (vote, conf) = (Vote::default(), Conf::default());
        let mut tail = LogTail::new(Box::new(Broken), vote, conf, Truncated::default(), 3);
        let read = |tail: &LogTail| tail.entries(1, 4, None, GetEntriesContext::empty(false));
        assert!(read(&tail).is_err());
        tail.serve();
        let reading = std::panic::AssertUnwindSafe(|| read(&tail));
        let payload = std::panic::catch_unwind(reading).unwrap_err();
        let fatal = payload.downcast_ref::<rusd_messages::Fatal>().unwrap();
        assert_eq!(fatal.doing, "reading the log");
        assert!(fatal.error.contains("/data/log"), "{}", fatal.error);
    }

    #[test]
    fn a_conflicting_append_replaces_the_end() {
        let mut tail = tail();
        tail.append(&[entry(11, 4, 10)]);
        assert_eq!(tail.last_index().unwrap(), 11);
        assert_eq!(tail.term(11).unwrap(), 4);
        assert_eq!(tail.in_memory(), 3);
        tail.append(&[entry(7, 5, 10)]);
        assert_eq!((tail.last_index().unwrap(), tail.in_memory()), (7, 1));
        assert_eq!(indexes(&tail, 5, 8, None), [5, 6, 7]);
        assert_eq!(tail.term(7).unwrap(), 5);
    }

    #[test]
    fn only_what_is_beyond_the_kept_bytes_is_released() {
        let mut tail = tail();
        tail.release(12);
        assert_eq!(tail.in_memory(), 4);
        tail.append(&[entry(13, 3, limits::TAIL_KEEP_BYTES)]);
        tail.release(10);
        assert_eq!(tail.in_memory(), 3);
        tail.release(13);
        assert_eq!(tail.in_memory(), 0);
        assert_eq!(tail.entry_bytes, 0);
    }

    #[test]
    fn truncation_moves_the_first_index() {
        let mut tail = tail();
        tail.truncate(Truncated { index: 10, term: 3 });
        assert_eq!(tail.first_index().unwrap(), 11);
        assert_eq!(indexes(&tail, 11, 13, None), [11, 12]);
        assert_eq!(tail.term(10).unwrap(), 3);
    }
}
