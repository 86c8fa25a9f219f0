//! Recent births and deaths of keys, by revision.
//!
//! Every page of a list after the first asks for a count at the revision of the first. That is the count now, less
//! the keys born since, plus those that died since: as many steps as there were births and deaths in between,
//! instead of a walk over the range. The ring is bounded in entries and bytes; what it has forgotten is walked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use rusd_proto::ids::Revision;

use crate::key_range::KeyRange;

/// Entries of one chunk: what a push copies if a reader happens to look at the newest chunk.
const CHUNK_ENTRIES: usize = 1024;
/// Key bytes at which a chunk is closed early.
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, Debug)]
struct Entry {
    main: Revision,
    /// Where the key ends in the bytes of the chunk.
    end: u32,
    birth: bool,
}

/// A run of entries with their keys packed.
#[derive(Clone, Debug, Default)]
struct Chunk {
    entries: Vec<Entry>,
    keys: Vec<u8>,
}

impl Chunk {
    fn key(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.entries[at - 1].end };
        &self.keys[start as usize..self.entries[at].end as usize]
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= CHUNK_ENTRIES || self.keys.len() >= CHUNK_BYTES
    }
}

#[derive(Debug)]
struct Ring {
    chunks: VecDeque<Arc<Chunk>>,
    /// Nothing above this revision has been forgotten.
    complete_above: Revision,
}

/// The ring of births and deaths, shared by the writer and all views. Each view ignores what is newer than itself.
#[derive(Debug)]
pub(super) struct LivenessLog {
    ring: Mutex<Ring>,
    chunks_max: usize,
}

impl LivenessLog {
    /// Remembers about as many births and deaths as `entries_max` says.
    pub(super) fn new(entries_max: usize) -> Self {
        let ring = Ring {
            chunks: VecDeque::new(),
            complete_above: Revision(0),
        };
        Self {
            ring: Mutex::new(ring),
            chunks_max: entries_max.div_ceil(CHUNK_ENTRIES),
        }
    }

    /// Notes that `key` came to life, or died.
    pub(super) fn push(&self, main: Revision, key: &[u8], birth: bool) {
        let mut ring = self.ring.lock();
        if ring.chunks.back().is_none_or(|chunk| chunk.is_full()) {
            ring.chunks.push_back(Arc::default());
            if ring.chunks.len() > self.chunks_max
                && let Some(oldest) = ring.chunks.pop_front()
                && let Some(last) = oldest.entries.last()
            {
                ring.complete_above = last.main;
            }
        }
        match ring.chunks.back_mut().map(Arc::make_mut) {
            Some(chunk) => {
                chunk.keys.extend_from_slice(key);
                chunk.entries.push(Entry {
                    main,
                    end: chunk.keys.len() as u32,
                    birth,
                });
            }
            None => ring.complete_above = main,
        }
    }

    /// Panics unless the log is bounded and in order, and its last word on each key is whether the key is alive.
    pub(super) fn check(&self, is_alive: impl Fn(&[u8]) -> bool) {
        let ring = self.ring.lock();
        assert!(
            ring.chunks.len() <= self.chunks_max,
            "the liveness log outgrows its bound"
        );
        let mut last_main = ring.complete_above;
        let mut last_words: BTreeMap<&[u8], bool> = BTreeMap::new();
        for chunk in &ring.chunks {
            let end = chunk.entries.last().map_or(0, |last| last.end);
            assert_eq!(end as usize, chunk.keys.len(), "keys of a chunk");
            for (at, entry) in chunk.entries.iter().enumerate() {
                assert!(last_main <= entry.main, "births and deaths out of order");
                last_main = entry.main;
                last_words.insert(chunk.key(at), entry.birth);
            }
        }
        for (key, birth) in last_words {
            assert_eq!(birth, is_alive(key), "the last word on a key");
        }
    }

    /// Takes the newest entry back.
    pub(super) fn pop(&self) {
        let mut ring = self.ring.lock();
        while let Some(chunk) = ring.chunks.back_mut().map(Arc::make_mut) {
            if chunk.entries.pop().is_some() {
                let end = chunk.entries.last().map_or(0, |entry| entry.end);
                chunk.keys.truncate(end as usize);
                return;
            }
            ring.chunks.pop_back();
        }
    }

    /// Births less deaths in the range, at the revisions in `(after, through]`. `None` if the ring does not reach
    /// back that far, or would take more than `entries_max` steps.
    pub(super) fn balance(
        &self,
        range: &KeyRange,
        after: Revision,
        through: Revision,
        entries_max: u64,
    ) -> Option<i64> {
        let chunks: Vec<Arc<Chunk>> = {
            let ring = self.ring.lock();
            if after < ring.complete_above {
                return None;
            }
            let ends_before =
                |chunk: &Arc<Chunk>| chunk.entries.last().is_some_and(|last| last.main <= after);
            let first = ring.chunks.partition_point(ends_before);
            ring.chunks.range(first..).cloned().collect()
        };
        if chunks
            .iter()
            .skip(1)
            .map(|chunk| chunk.entries.len() as u64)
            .sum::<u64>()
            > entries_max
        {
            return None;
        }
        let mut balance = 0;
        for chunk in chunks {
            let first = chunk.entries.partition_point(|entry| entry.main <= after);
            for (at, entry) in chunk.entries.iter().enumerate().skip(first) {
                if entry.main > through {
                    return Some(balance);
                }
                if range.contains(chunk.key(at)) {
                    balance += if entry.birth { 1 } else { -1 };
                }
            }
        }
        Some(balance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balance_covers_a_window_and_a_range() {
        let log = LivenessLog::new(4096);
        for (main, key, birth) in [
            (2, "a", true),
            (3, "b", true),
            (3, "a", false),
            (5, "c", true),
        ] {
            log.push(Revision(main), key.as_bytes(), birth);
        }
        let all = KeyRange::all();
        assert_eq!(log.balance(&all, Revision(0), Revision(9), 99), Some(2));
        assert_eq!(log.balance(&all, Revision(2), Revision(3), 99), Some(0));
        assert_eq!(
            log.balance(&KeyRange::One("a".into()), Revision(2), Revision(9), 99),
            Some(-1)
        );
        log.pop();
        assert_eq!(log.balance(&all, Revision(3), Revision(9), 99), Some(0));
    }

    #[test]
    fn what_is_forgotten_is_not_guessed() {
        let log = LivenessLog::new(2 * CHUNK_ENTRIES);
        for main in 1..=(3 * CHUNK_ENTRIES as i64 + 1) {
            log.push(Revision(main), b"k", true);
        }
        let forgotten = 2 * CHUNK_ENTRIES as i64;
        assert_eq!(
            log.balance(
                &KeyRange::all(),
                Revision(forgotten - 1),
                Revision(i64::MAX),
                u64::MAX
            ),
            None
        );
        assert_eq!(
            log.balance(
                &KeyRange::all(),
                Revision(forgotten),
                Revision(i64::MAX),
                u64::MAX
            ),
            Some(CHUNK_ENTRIES as i64 + 1)
        );
        assert_eq!(
            log.balance(&KeyRange::all(), Revision(forgotten), Revision(i64::MAX), 0),
            None
        );
    }

    #[test]
    fn a_ring_of_nothing_remembers_nothing() {
        let log = LivenessLog::new(0);
        log.push(Revision(7), b"k", true);
        assert_eq!(
            log.balance(&KeyRange::all(), Revision(6), Revision(7), 99),
            None
        );
        assert_eq!(
            log.balance(&KeyRange::all(), Revision(7), Revision(7), 99),
            Some(0)
        );
    }
}
