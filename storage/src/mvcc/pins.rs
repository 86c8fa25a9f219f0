//! Who still reads what: revisions that physical compaction has to leave readable.
//!
//! Two numbers meet here. Readers *pin* the revision they read at. Compaction raises a *floor*, never above the
//! oldest pin; what it removes is unreadable only below the floor. Both happen under one lock, so that a reader
//! either pins in time or learns that it came too late. A reader that does not pin looks at the floor after it has
//! read: what it saw is right if the floor is not above its revision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;

#[derive(Debug, Default)]
pub(super) struct Pins {
    /// How many readers pin each revision.
    pinned: Mutex<BTreeMap<i64, usize>>,
    /// Written under the lock, read without it.
    floor: AtomicI64,
}

impl Pins {
    /// Nothing readable at this revision or above has been removed.
    pub(super) fn floor(&self) -> i64 {
        self.floor.load(Ordering::SeqCst)
    }

    /// Raises the floor towards `target`, as far as the pins allow, and returns it.
    pub(super) fn raise(&self, target: i64) -> i64 {
        let pinned = self.pinned.lock();
        let oldest = pinned
            .first_key_value()
            .map_or(i64::MAX, |(&oldest, _)| oldest);
        let floor = self.floor().max(target.min(oldest));
        self.floor.store(floor, Ordering::SeqCst);
        floor
    }

    /// Pins a revision; `None` if the floor is above it.
    pub(super) fn pin(self: &Arc<Self>, revision: i64) -> Option<ReadGuard> {
        let mut pinned = self.pinned.lock();
        if revision < self.floor() {
            return None;
        }
        *pinned.entry(revision).or_default() += 1;
        Some(ReadGuard {
            pins: Arc::clone(self),
            revision,
        })
    }
}

/// Holds physical compaction below the revision it registered, until it is dropped.
#[derive(Debug)]
pub struct ReadGuard {
    pins: Arc<Pins>,
    revision: i64,
}

impl ReadGuard {
    /// The registered revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }
}

impl Drop for ReadGuard {
    fn drop(&mut self) {
        let mut pinned = self.pins.pinned.lock();
        if let Some(count) = pinned.get_mut(&self.revision) {
            *count -= 1;
            if *count == 0 {
                pinned.remove(&self.revision);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_stays_below_the_oldest_pin() {
        let pins = Arc::new(Pins::default());
        let five = pins.pin(5).unwrap();
        let again = pins.pin(5).unwrap();
        let nine = pins.pin(9).unwrap();
        assert_eq!(pins.raise(7), 5);
        drop(five);
        assert_eq!(pins.raise(7), 5);
        drop(again);
        assert_eq!(pins.raise(7), 7);
        assert_eq!(pins.raise(20), 9);
        assert_eq!(nine.revision(), 9);
        assert!(pins.pin(8).is_none());
        assert!(pins.pin(9).is_some());
        drop(nine);
        assert_eq!(pins.raise(3), 9);
    }
}
