//! What always holds between two messages. It looks at everything: for tests and simulations.

use super::Hub;
use crate::ring::revision_bytes;
use crate::stream::Stream;
use crate::watcher::{State, Watcher};
use std::collections::{HashMap, HashSet};

impl Hub {
    /// Asserts that counts, queues and indices agree with each other.
    pub fn check(&self) {
        self.check_counts();
        for (key, watcher) in self.watchers.iter() {
            self.check_watcher(key, watcher);
        }
        for (index, stream) in self.streams.iter() {
            self.check_stream(index, stream);
        }
        self.check_lists();
        self.check_revisions();
        self.ring.check(self.revision);
        if let Some(request) = self.to_ask {
            assert_eq!(
                self.asked,
                Some(request),
                "what is to be asked is not noted"
            );
        }
        if self.streams.is_empty() {
            let kept = (self.watchers.len(), self.groups.len(), self.ring.bytes());
            assert_eq!(kept, (0, 0, 0), "something is kept for nobody");
        }
    }

    fn check_counts(&self) {
        let count = |holds: fn(&Watcher) -> bool| {
            let watchers = self.watchers.iter();
            watchers.filter(|(_, watcher)| holds(watcher)).count()
        };
        assert_eq!(
            self.unsynced,
            count(|w| w.state != State::Synced),
            "unsynced watchers"
        );
        assert_eq!(self.old, count(|w| w.state == State::Old), "old watchers");
        assert_eq!(
            self.wants_previous,
            count(|w| w.wants.previous),
            "watchers that want previous records"
        );
        let mapped: usize = self
            .streams
            .iter()
            .map(|(_, stream)| stream.watchers.len())
            .sum();
        assert_eq!(self.watchers.len(), mapped, "watchers of streams");
        let mut members: HashMap<u32, usize> = HashMap::new();
        for (_, watcher) in self.watchers.iter() {
            *members.entry(watcher.group).or_default() += 1;
        }
        self.groups.check(&members);
    }

    fn check_watcher(&self, key: u32, watcher: &Watcher) {
        let stream = &self.streams[watcher.stream];
        assert_eq!(
            stream.watchers.get(&watcher.watch_id),
            Some(&key),
            "a stream and {watcher:?}"
        );
        let synced = &self.groups.get(watcher.group).synced;
        match watcher.state {
            State::Synced => {
                assert_eq!(
                    synced.get(watcher.position as usize),
                    Some(&key),
                    "a group and {watcher:?}"
                );
            }
            State::Recent | State::Old => {
                let queue = if watcher.state == State::Old {
                    &stream.old
                } else {
                    &stream.recent
                };
                let places = queue.iter().filter(|waiting| **waiting == key).count();
                assert_eq!(places, 1, "a queue and {watcher:?}");
                assert!(!synced.contains(&key), "live events reach {watcher:?}");
                assert!(
                    watcher.next_revision <= self.revision,
                    "nothing to feed to {watcher:?}"
                );
            }
        }
    }

    fn check_stream(&self, index: u32, stream: &Stream) {
        let watchers = stream.watchers.values().map(|key| &self.watchers[*key]);
        let unsynced = watchers
            .clone()
            .filter(|watcher| watcher.state != State::Synced);
        assert_eq!(
            stream.recent.len() + stream.old.len(),
            unsynced.count(),
            "queues of stream {index}"
        );
        let told = watchers.filter(|watcher| watcher.progress_notify).count();
        assert_eq!(stream.progress_watchers, told, "progress of stream {index}");
        let both = stream
            .lost
            .iter()
            .any(|id| stream.watchers.contains_key(id));
        assert!(!both, "a watch of stream {index} is both ended and alive");
        assert!(
            stream.blocked || stream.is_synced() || stream.ready,
            "nobody feeds stream {index}"
        );
    }

    /// The flags of streams and the lists of those that have them.
    fn check_lists(&self) {
        assert_eq!(self.stream_ids.len(), self.streams.len(), "ids of streams");
        let known: HashSet<u32> = self.stream_ids.values().copied().collect();
        let streams: HashSet<u32> = self.streams.iter().map(|(index, _)| index).collect();
        assert_eq!(known, streams, "ids of streams");
        let flagged = |flag: fn(&Stream) -> bool| {
            let streams = self.streams.iter().filter(|(_, stream)| flag(stream));
            let mut indices: Vec<u32> = streams.map(|(index, _)| index).collect();
            indices.sort_unstable();
            indices
        };
        let sorted = |mut listed: Vec<u32>| {
            listed.sort_unstable();
            listed
        };
        let ready = sorted(self.ready.iter().copied().collect());
        assert_eq!(ready, flagged(|stream| stream.ready), "ready streams");
        assert_eq!(
            sorted(self.dirty.clone()),
            flagged(|stream| stream.dirty),
            "dirty streams"
        );
    }

    /// What was committed and not passed on follows what was.
    fn check_revisions(&self) {
        let bytes: usize = self.pending.iter().map(revision_bytes).sum();
        assert_eq!(self.pending_bytes, bytes, "bytes of pending revisions");
        let expected = (self.revision + 1..).take(self.pending.len());
        let pending = self.pending.iter().map(|pending| pending.revision);
        assert!(pending.eq(expected), "pending revisions have a gap");
    }
}
