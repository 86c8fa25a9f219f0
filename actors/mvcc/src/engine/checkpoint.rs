//! When a checkpoint is made, and when the last one is given up.
//!
//! A checkpoint is a second copy of the engine as of one entry of the log, its index C
//! ([`rusd_storage::engine::Checkpoint`]). A sole voter has nobody to fetch its data from should the live engine be
//! damaged, so its log is kept from C on: the two together are the data once more. Until there is a first checkpoint
//! the whole log is that.
//!
//! ```text
//!   log     |- gone -| C |------------- kept -------------| applied |- to be applied -|
//!   disk    checkpoint: all through C    the log: all beyond C
//! ```
//!
//! # When
//!
//! * After `checkpoint-interval`, if anything was applied.
//! * When the kept log has grown beyond the larger of [`KEPT_BYTES_MIN`] and half of the store's logical bytes, or
//!   beyond the larger of [`KEPT_ENTRIES_MIN`] and half of its records: raft-engine has an index of all entries in
//!   memory.
//! * When there is none, and the log has no beginning: at once.
//!
//! One that fails (a full disk) is tried again after [`RETRY_PAUSE_MS`], and the old one stays. But a disk that is too
//! full for a checkpoint must not be filled by the log that is kept for the old one: beyond twice the bounds above, if
//! the last attempt has failed, the old one is given up, with a warning, and the log is truncated as if none were kept.
//!
//! # What it costs
//!
//! Disk: one more copy of the data, two while the next one is made, and the kept log. Memory: the index of the kept
//! entries, 48 to 96 bytes each, and the cache of the copy while it is filled. Processor and disk: the whole data is
//! read and written once per checkpoint, by the engine writer between its batches and at most half of the time.
//!
//! Measured on two busy cores, 256-byte values, nothing else to do meanwhile:
//!
//! | engine, keys | takes | processor | disk | resident memory |
//! |---|---|---|---|---|
//! | redb, 100,000 | 0.84 s | 0.4 s | 30 MB | 98 to 140 MB |
//! | sled, 100,000 | 0.34 s | 0.4 s | 51 MB | 119 to 197 MB |
//! | sled, 400,000 | 1.05 s | 0.5 s | 174 MB | 280 to 367 MB |
//!
//! Under 64 writers in a closed loop (6000 puts a second) the kept log had the sled store of 270,000 keys copied within
//! 1.1 s, with no put slower than 87 ms in two runs. Rebuilding from a checkpoint of 67 MB copies it in 0.1 s, and the
//! start with 7600 entries to replay took 0.28 s; of a checkpoint of 52 MB with 40,000 entries to replay, 0.32 s.
//!
//! This file is the rule; [`core`](super::core) follows it.

use rusd_messages::Index;
use rusd_storage::Sizes;
use std::time::Duration;

/// Bytes of log that may be kept whatever the size of the store.
pub const KEPT_BYTES_MIN: u64 = 128 << 20;
/// Entries of log that may be kept whatever the number of records in the store.
pub const KEPT_ENTRIES_MIN: u64 = 1 << 18;
/// How long to wait after one that failed, if the interval is not shorter.
pub const RETRY_PAUSE_MS: u64 = 10 * 60 * 1000;

/// What a member starts with.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointPolicy {
    /// `checkpoint-interval`.
    pub interval: Duration,
    /// Whether the log still has its very first entry.
    pub log_is_whole: bool,
    /// Bytes of the log that is kept already, estimated.
    pub kept_bytes: u64,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Neither: the last checkpoint is new enough.
    Nothing,
    /// Make one.
    Make,
    /// Give up the one there is.
    GiveUp,
}

/// When the next one is due.
#[derive(Debug)]
pub struct Schedule {
    interval_ms: u64,
    /// The log is kept beyond this entry; None while there is nothing to keep it for.
    kept_beyond: Option<Index>,
    kept_bytes: u64,
    /// When the newest one is so old that another is due.
    old_at_ms: u64,
    /// When a failed one may be tried again; None if the last one did not fail.
    not_before_ms: Option<u64>,
}

impl Schedule {
    /// Goes on with the checkpoint found at start, which covers the log through an index and has some age.
    pub fn new(policy: CheckpointPolicy, found: Option<(Index, Duration)>, now_ms: u64) -> Self {
        let interval_ms = millis(policy.interval);
        let (index, age) = match found {
            Some((index, age)) => (Some(index), age),
            None => (policy.log_is_whole.then_some(Index(0)), Duration::ZERO),
        };
        Self {
            interval_ms,
            kept_beyond: index,
            kept_bytes: policy.kept_bytes,
            old_at_ms: now_ms.saturating_add(interval_ms.saturating_sub(millis(age))),
            not_before_ms: None,
        }
    }

    /// The log is needed beyond this entry; None if nothing needs it.
    pub fn kept_beyond(&self) -> Option<Index> {
        self.kept_beyond
    }

    /// Entries of so many bytes were applied.
    pub fn applied(&mut self, log_bytes: u64) {
        self.kept_bytes += log_bytes;
    }

    /// What is due, given how far the engine is and how large.
    pub fn due(&self, now_ms: u64, applied: Index, sizes: &Sizes) -> Due {
        let may = self.not_before_ms.is_none_or(|at_ms| now_ms >= at_ms);
        let Some(kept_beyond) = self.kept_beyond else {
            return if may { Due::Make } else { Due::Nothing };
        };
        let entries = applied.0.saturating_sub(kept_beyond.0);
        let bytes_max = (sizes.logical_bytes / 2).max(KEPT_BYTES_MIN);
        let entries_max = (sizes.records / 2).max(KEPT_ENTRIES_MIN);
        let overgrown = self.kept_bytes > 2 * bytes_max || entries > 2 * entries_max;
        if overgrown && self.not_before_ms.is_some() {
            return Due::GiveUp;
        }
        let grown = self.kept_bytes > bytes_max || entries > entries_max;
        let old = now_ms >= self.old_at_ms;
        if entries > 0 && may && (grown || old) {
            Due::Make
        } else {
            Due::Nothing
        }
    }

    /// When time alone makes one due.
    pub fn due_at_ms(&self, applied: Index) -> Option<u64> {
        let by_age = match self.kept_beyond {
            Some(index) if index >= applied => return None,
            Some(_) => Some(self.old_at_ms),
            None => None,
        };
        by_age.max(self.not_before_ms)
    }

    /// One was made that covers the log through `index`.
    pub fn made(&mut self, index: Index, now_ms: u64) {
        self.kept_beyond = Some(index);
        self.kept_bytes = 0;
        self.old_at_ms = now_ms.saturating_add(self.interval_ms);
        self.not_before_ms = None;
    }

    /// One could not be made.
    pub fn failed(&mut self, now_ms: u64) {
        let pause_ms = RETRY_PAUSE_MS.min(self.interval_ms);
        self.not_before_ms = Some(now_ms.saturating_add(pause_ms));
    }

    /// The one there was is gone.
    pub fn given_up(&mut self) {
        self.kept_beyond = None;
        self.kept_bytes = 0;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 60 * 60 * 1000;
    const INTERVAL: u64 = 24 * HOUR;
    const START: u64 = 7;
    const AN_HOUR: Duration = Duration::from_secs(60 * 60);

    fn policy(log_is_whole: bool) -> CheckpointPolicy {
        CheckpointPolicy {
            interval: Duration::from_millis(INTERVAL),
            log_is_whole,
            kept_bytes: 0,
        }
    }

    fn sizes(logical_bytes: u64, records: u64) -> Sizes {
        Sizes {
            logical_bytes,
            records,
            ..Sizes::default()
        }
    }

    #[test]
    fn a_new_member_makes_one_after_the_interval() {
        let start = START;
        let schedule = Schedule::new(policy(true), None, start);
        assert_eq!(schedule.kept_beyond(), Some(Index(0)));
        let small = sizes(0, 0);
        let after = |time| schedule.due(start + time, Index(5), &small);
        assert_eq!(after(INTERVAL - HOUR), Due::Nothing);
        assert_eq!(after(INTERVAL), Due::Make);
        assert_eq!(schedule.due_at_ms(Index(5)), Some(start + INTERVAL));
    }

    #[test]
    fn nothing_is_made_while_nothing_is_applied() {
        let start = START;
        let schedule = Schedule::new(policy(false), Some((Index(9), AN_HOUR)), start);
        let due = |applied| schedule.due(start + 9 * INTERVAL, Index(applied), &sizes(0, 0));
        assert_eq!(due(9), Due::Nothing);
        assert_eq!(schedule.due_at_ms(Index(9)), None);
        assert_eq!(due(10), Due::Make);
        assert_eq!(schedule.due_at_ms(Index(10)), Some(start + INTERVAL - HOUR));
    }

    #[test]
    fn without_one_and_without_the_beginning_of_the_log_it_is_due_at_once() {
        let start = START;
        let mut schedule = Schedule::new(policy(false), None, start);
        assert_eq!(schedule.kept_beyond(), None);
        assert_eq!(schedule.due(start, Index(7), &sizes(0, 0)), Due::Make);
        schedule.failed(start);
        assert_eq!(schedule.due(start, Index(7), &sizes(0, 0)), Due::Nothing);
        assert_eq!(schedule.due_at_ms(Index(7)), Some(start + RETRY_PAUSE_MS));
        let later = start + RETRY_PAUSE_MS;
        assert_eq!(schedule.due(later, Index(7), &sizes(0, 0)), Due::Make);
        schedule.made(Index(7), later);
        assert_eq!(schedule.kept_beyond(), Some(Index(7)));
        assert_eq!(schedule.due(later, Index(8), &sizes(0, 0)), Due::Nothing);
    }

    #[test]
    fn the_kept_log_is_bounded_by_the_size_of_the_store() {
        let now = START;
        for (logical_bytes, bytes_max) in [(0, KEPT_BYTES_MIN), (1 << 30, 1 << 29)] {
            let mut schedule = Schedule::new(policy(true), None, now);
            let due = |schedule: &Schedule| schedule.due(now, Index(5), &sizes(logical_bytes, 0));
            schedule.applied(bytes_max);
            assert_eq!(due(&schedule), Due::Nothing);
            schedule.applied(1);
            assert_eq!(due(&schedule), Due::Make);
            // The disk is full: the old one stays until the log that it needs is twice as long.
            schedule.failed(now);
            schedule.applied(bytes_max - 1);
            assert_eq!(due(&schedule), Due::Nothing);
            schedule.applied(1);
            assert_eq!(due(&schedule), Due::GiveUp);
            schedule.given_up();
            assert_eq!(schedule.kept_beyond(), None);
            assert_eq!(due(&schedule), Due::Nothing);
            assert_eq!(
                schedule.due(now + RETRY_PAUSE_MS, Index(5), &sizes(0, 0)),
                Due::Make
            );
        }
    }

    #[test]
    fn the_number_of_kept_entries_is_bounded_too() {
        let now = START;
        for (records, entries_max) in [(0, KEPT_ENTRIES_MIN), (1 << 20, 1 << 19)] {
            let schedule = Schedule::new(policy(false), Some((Index(100), AN_HOUR)), now);
            let due = |entries| schedule.due(now, Index(100 + entries), &sizes(0, records));
            assert_eq!(due(entries_max), Due::Nothing);
            assert_eq!(due(entries_max + 1), Due::Make);
            // Not before one has failed: the log may grow that fast, or the store shrink.
            assert_eq!(due(2 * entries_max + 1), Due::Make);
            let mut failed = schedule;
            failed.failed(now);
            let due = |entries| failed.due(now, Index(100 + entries), &sizes(0, records));
            assert_eq!(due(2 * entries_max), Due::Nothing);
            assert_eq!(due(2 * entries_max + 1), Due::GiveUp);
        }
    }

    #[test]
    fn a_short_interval_means_a_short_pause() {
        let now = START;
        let interval = 1000;
        let short = CheckpointPolicy {
            interval: Duration::from_millis(interval),
            ..policy(true)
        };
        let mut schedule = Schedule::new(short, None, now);
        schedule.failed(now + interval);
        assert_eq!(schedule.due_at_ms(Index(1)), Some(now + 2 * interval));
    }
}
