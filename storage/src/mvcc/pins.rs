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
use rusd_proto::ids::Revision;

#[derive(Debug, Default)]
pub(super) struct Pins {
    /// How many readers pin each revision.
    pinned: Mutex<BTreeMap<Revision, usize>>,
    /// Written under the lock, read without it.
    floor: AtomicI64,
}

impl Pins {
    /// Nothing readable at this revision or above has been removed.
    pub(super) fn floor(&self) -> Revision {
        Revision(self.floor.load(Ordering::SeqCst))
    }

    /// Raises the floor towards `target`, as far as the pins allow, and returns it.
    pub(super) fn raise(&self, target: Revision) -> Revision {
        let pinned = self.pinned.lock();
        let oldest = pinned.first_key_value().map(|(&oldest, _)| oldest);
        let reachable = oldest.map_or(target, |oldest| target.min(oldest));
        let floor = self.floor().max(reachable);
        self.floor.store(floor.0, Ordering::SeqCst);
        floor
    }

    /// Pins a revision; `None` if the floor is above it.
    pub(super) fn pin(self: &Arc<Self>, revision: Revision) -> Option<ReadGuard> {
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
    revision: Revision,
}

impl ReadGuard {
    /// The registered revision.
    pub fn revision(&self) -> Revision {
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
        let five = pins.pin(Revision(5)).unwrap();
        let again = pins.pin(Revision(5)).unwrap();
        let nine = pins.pin(Revision(9)).unwrap();
        assert_eq!(pins.raise(Revision(7)), Revision(5));
        drop(five);
        assert_eq!(pins.raise(Revision(7)), Revision(5));
        drop(again);
        assert_eq!(pins.raise(Revision(7)), Revision(7));
        assert_eq!(pins.raise(Revision(20)), Revision(9));
        assert_eq!(nine.revision(), Revision(9));
        assert!(pins.pin(Revision(8)).is_none());
        assert!(pins.pin(Revision(9)).is_some());
        drop(nine);
        assert_eq!(pins.raise(Revision(3)), Revision(9));
    }
}
