//! The most recent revisions, so that a watcher that fell behind for a moment catches up without the store.

use rusd_messages::watch::{Event, RevisionEvents};
use std::collections::VecDeque;

/// What a shared event costs beside its key and its encoding: the struct and the reference counts of its buffers.
const EVENT_OVERHEAD_BYTES: usize = std::mem::size_of::<Event>() + 96;

/// The bytes an event holds on to.
pub fn event_bytes(event: &Event) -> usize {
    let with_previous = event
        .encoded_with_previous
        .as_ref()
        .map_or(0, |encoded| encoded.len());
    EVENT_OVERHEAD_BYTES + event.key.len() + event.encoded.len() + with_previous
}

/// The bytes a revision holds on to.
pub fn revision_bytes(revision: &RevisionEvents) -> usize {
    revision.events.iter().map(event_bytes).sum()
}

/// Contiguous revisions up to the newest, bounded in bytes and in number.
#[derive(Debug)]
pub struct Ring {
    revisions: VecDeque<RevisionEvents>,
    bytes: usize,
    max_bytes: usize,
    max_revisions: usize,
    /// From here on, all revisions in the ring have their previous records looked up.
    previous_from: i64,
}

impl Ring {
    /// An empty ring with its two bounds.
    pub fn new(max_bytes: usize, max_revisions: usize) -> Self {
        Self {
            revisions: VecDeque::new(),
            bytes: 0,
            max_bytes,
            max_revisions,
            previous_from: 0,
        }
    }

    /// Adds the revision after the newest one.
    pub fn push(&mut self, revision: RevisionEvents) {
        if !revision.with_previous {
            self.previous_from = revision.revision + 1;
        }
        self.bytes += revision_bytes(&revision);
        self.revisions.push_back(revision);
        while self.bytes > self.max_bytes || self.revisions.len() > self.max_revisions {
            let Some(oldest) = self.revisions.pop_front() else {
                return;
            };
            self.bytes -= revision_bytes(&oldest);
        }
    }

    /// Forgets everything and gives its memory back.
    pub fn clear(&mut self) {
        *self = Self::new(self.max_bytes, self.max_revisions);
    }

    /// Whether everything from `from` to the newest revision is here, with previous records if those are needed.
    pub fn covers(&self, from: i64, with_previous: bool) -> bool {
        let first = self.revisions.front().map(|oldest| oldest.revision);
        first.is_some_and(|first| first <= from) && (!with_previous || self.previous_from <= from)
    }

    /// Revisions from `from` on, until `max_revisions` or the one that passes `max_bytes`.
    pub fn page(&self, from: i64, max_bytes: usize, max_revisions: usize) -> Vec<RevisionEvents> {
        let Some(oldest) = self.revisions.front() else {
            return Vec::new();
        };
        let skipped = usize::try_from(from - oldest.revision).unwrap_or(0);
        let mut bytes = 0;
        let mut page = Vec::new();
        for revision in self.revisions.iter().skip(skipped).take(max_revisions) {
            page.push(revision.clone());
            bytes += revision_bytes(revision);
            if bytes > max_bytes {
                break;
            }
        }
        page
    }

    /// Asserts that it holds what it says, up to `newest`, and no more than it may.
    pub fn check(&self, newest: i64) {
        let bytes: usize = self.revisions.iter().map(revision_bytes).sum();
        assert_eq!(self.bytes, bytes, "bytes in the ring");
        assert!(self.bytes <= self.max_bytes, "the ring is too large");
        assert!(
            self.revisions.len() <= self.max_revisions,
            "the ring is too long"
        );
        let expected = (1..=newest).rev().take(self.revisions.len());
        let held = self.revisions.iter().rev().map(|held| held.revision);
        assert!(held.eq(expected), "the ring has a gap before {newest}");
    }

    /// The bytes it holds on to.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(revision: i64, with_previous: bool) -> RevisionEvents {
        RevisionEvents {
            revision,
            with_previous,
            events: [Event {
                key: "k".into(),
                deleted: false,
                encoded: vec![0; 100].into(),
                encoded_with_previous: None,
            }]
            .into(),
        }
    }

    #[test]
    fn it_is_bounded_in_number_and_in_bytes() {
        let one = revision_bytes(&revision(1, false));
        for (max_bytes, max_revisions, kept) in
            [(usize::MAX, 3, 3), (one * 2, 100, 2), (one - 1, 100, 0)]
        {
            let mut ring = Ring::new(max_bytes, max_revisions);
            (1..=10).for_each(|n| ring.push(revision(n, false)));
            assert_eq!(ring.bytes(), one * kept);
            assert_eq!(ring.covers(11 - kept as i64, false), kept > 0);
            assert!(!ring.covers(10 - kept as i64, false));
        }
    }

    #[test]
    fn w_10_revisions_whose_previous_records_nobody_looked_up_do_not_serve_those_who_want_them() {
        let mut ring = Ring::new(usize::MAX, 100);
        for (n, with_previous) in [(1, true), (2, false), (3, true), (4, true)] {
            ring.push(revision(n, with_previous));
        }
        assert!(ring.covers(1, false));
        assert!(!ring.covers(2, true));
        assert!(ring.covers(3, true));
    }

    #[test]
    fn a_page_starts_where_asked_and_ends_at_either_bound() {
        let mut ring = Ring::new(usize::MAX, 100);
        (5..=20).for_each(|n| ring.push(revision(n, true)));
        let numbers =
            |page: Vec<RevisionEvents>| page.iter().map(|r| r.revision).collect::<Vec<_>>();
        assert_eq!(numbers(ring.page(18, usize::MAX, 100)), [18, 19, 20]);
        assert_eq!(numbers(ring.page(7, usize::MAX, 2)), [7, 8]);
        let one = revision_bytes(&revision(5, true));
        assert_eq!(numbers(ring.page(5, one, 100)), [5, 6]);
    }
}
