//! Where each watcher stands: synced in its group, or in one of the queues of its stream.
//!
//! Every change of place goes through here, so that the counts and the indices agree with it.

use crate::hub::Hub;
use crate::watcher::{State, Watcher};

impl Hub {
    /// Adds a watcher whose fields are filled in except for its place.
    pub(crate) fn admit(&mut self, watcher: Watcher) {
        let (stream, watch_id) = (watcher.stream, watcher.watch_id);
        self.wants_previous += usize::from(watcher.wants.previous);
        self.streams[stream].progress_watchers += usize::from(watcher.progress_notify);
        let key = self.watchers.insert(watcher);
        self.streams[stream].watchers.insert(watch_id, key);
        self.streams[stream].page_is_news = true;
        self.unsynced += 1;
        self.settle(key);
    }

    /// Removes a watcher from everything but its stream's map.
    pub(crate) fn forget(&mut self, key: u32) {
        if self.watchers[key].state == State::Synced {
            self.unsync(key, 0);
        } else {
            self.unqueue(key);
        }
        self.unsynced -= 1;
        if let Some(watcher) = self.watchers.remove(key) {
            self.groups.leave(watcher.group);
            self.wants_previous -= usize::from(watcher.wants.previous);
            self.streams[watcher.stream].progress_watchers -= usize::from(watcher.progress_notify);
        }
    }

    /// A synced watcher missed `first` and what follows.
    pub(crate) fn fall_behind(&mut self, key: u32, first: i64) {
        self.unsync(key, first);
        self.settle(key);
    }

    /// Takes a watcher from the synced members of its group: everything below `first` it has seen.
    pub(crate) fn unsync(&mut self, key: u32, first: i64) {
        let watcher = &mut self.watchers[key];
        watcher.next_revision = watcher.next_revision.max(first);
        let position = watcher.position as usize;
        let synced = &mut self.groups.get_mut(watcher.group).synced;
        synced.swap_remove(position);
        if let Some(moved) = synced.get(position) {
            self.watchers[*moved].position = position as u32;
        }
        self.unsynced += 1;
    }

    /// Takes an unsynced watcher from the queue it waits in.
    pub(crate) fn unqueue(&mut self, key: u32) {
        let watcher = &self.watchers[key];
        let state = watcher.state;
        let queue = self.streams[watcher.stream].queue(state);
        if let Some(position) = queue.iter().position(|waiting| *waiting == key) {
            queue.remove(position);
            self.old -= usize::from(state == State::Old);
        }
    }

    /// Puts an unsynced watcher where its next revision belongs.
    pub(crate) fn settle(&mut self, key: u32) {
        let watcher = &mut self.watchers[key];
        let stream = watcher.stream;
        if watcher.next_revision > self.revision {
            watcher.state = State::Synced;
            let synced = &mut self.groups.get_mut(watcher.group).synced;
            watcher.position = synced.len() as u32;
            synced.push(key);
            self.unsynced -= 1;
            return;
        }
        watcher.state = if self
            .ring
            .covers(watcher.next_revision, watcher.wants.previous)
        {
            State::Recent
        } else {
            self.old += 1;
            State::Old
        };
        let state = watcher.state;
        self.streams[stream].queue(state).push_back(key);
        self.make_ready(stream);
    }

    pub(crate) fn make_ready(&mut self, stream: u32) {
        let queue = &mut self.streams[stream];
        if !queue.blocked && !queue.ready {
            queue.ready = true;
            self.ready.push_back(stream);
        }
    }
}
