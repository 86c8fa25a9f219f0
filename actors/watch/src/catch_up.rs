//! Feeding the watchers that are behind.
//!
//! They wait in two queues per stream: *recent* ones, which the ring can serve, and *old* ones, which need
//! history. Both are served in rounds. A round takes a part of the past (whole revisions), matches it once, and goes
//! over the streams that have room, in turn; a watcher whose next revision lies in the part is sent what it
//! wants of it, moves on to its end, and lines up again at the back or becomes synced. So one page serves
//! everybody who needs it, each stream and each watcher gets its turn, and a stream whose client does not read
//! waits alone. There is one request for history at a time; which watcher's revision it starts at, rotates.

use crate::hub::{HistoryRequest, Hub, Page};
use crate::limits::ROUNDS_PER_TURN;
use crate::matching::Matching;
use crate::watcher::State;
use rusd_messages::watch::{Content, Response, RevisionEvents};

/// Whole revisions of the past, as much as one response may hold.
struct Part<'r> {
    revisions: &'r [RevisionEvents],
    /// The first revision; it may have no events.
    from: i64,
    /// The one after the last.
    next: i64,
    /// Whether previous records were looked up.
    with_previous: bool,
}

/// What became of a watcher's turn.
enum Served {
    /// It has what it wants of the part.
    Done,
    /// Its stream has no room.
    Full,
    /// The part is not for it.
    Elsewhere,
}

impl Hub {
    /// Feeds watchers from the ring and the page at hand, as far as a turn goes, and asks for history.
    pub(crate) fn catch_up(&mut self) {
        for _ in 0..ROUNDS_PER_TURN {
            if !self.ring_round() {
                break;
            }
        }
        self.page_round();
        self.ask();
    }

    /// Whether [`turn`](Self::turn) has more to do without waiting for anything.
    pub fn has_more(&self) -> bool {
        let streams = self.ready.iter().map(|stream| &self.streams[*stream]);
        streams
            .into_iter()
            .any(|stream| !stream.blocked && !stream.recent.is_empty())
    }

    /// Serves a page of the ring to the recent watchers; false if there is none that could be served.
    fn ring_round(&mut self) -> bool {
        let Some(from) = self.earliest_recent() else {
            return false;
        };
        let revisions = self
            .ring
            .page(from, self.config.batch_bytes, self.config.batch_revisions);
        let Some(last) = revisions.last() else {
            return false;
        };
        let part = Part {
            revisions: &revisions,
            from,
            next: last.revision + 1,
            with_previous: self.ring.covers(from, true),
        };
        self.serve(&part, State::Recent);
        true
    }

    /// The smallest next revision at the heads of the queues of recent watchers. Those that the ring cannot
    /// serve any more move to the old ones.
    fn earliest_recent(&mut self) -> Option<i64> {
        let mut earliest = None;
        for stream in &self.ready {
            let stream = &mut self.streams[*stream];
            if stream.blocked {
                continue;
            }
            while let Some(key) = stream.recent.front().copied() {
                let watcher = &mut self.watchers[key];
                if self
                    .ring
                    .covers(watcher.next_revision, watcher.wants.previous)
                {
                    let next = watcher.next_revision;
                    earliest = Some(earliest.map_or(next, |earliest: i64| earliest.min(next)));
                    break;
                }
                stream.recent.pop_front();
                watcher.state = State::Old;
                stream.old.push_back(key);
                stream.page_is_news = true;
                self.old += 1;
            }
        }
        earliest
    }

    /// Offers the page at hand to the streams that have not had the chance.
    fn page_round(&mut self) {
        let Some(page) = self.page.take() else {
            return;
        };
        let mut new_to_some = false;
        for stream in &self.ready {
            let stream = &mut self.streams[*stream];
            new_to_some |= std::mem::take(&mut stream.page_is_news) && !stream.old.is_empty();
        }
        if new_to_some {
            self.serve_page(&page);
        }
        if self.old > 0 {
            self.page = Some(page);
        }
    }

    /// Serves a page of history to the old watchers. It is bounded in bytes only: one response takes a part of it.
    fn serve_page(&mut self, page: &Page) {
        let mut rest = page.revisions.as_slice();
        let mut from = page.from;
        // At least once: a page without any revision still says that nothing happened.
        loop {
            let (revisions, more) = rest.split_at(rest.len().min(self.config.batch_revisions));
            let next = more.first().map_or(page.next, |first| first.revision);
            let part = Part {
                revisions,
                from,
                next,
                with_previous: page.with_previous,
            };
            self.serve(&part, State::Old);
            if more.is_empty() {
                return;
            }
            (from, rest) = (next, more);
        }
    }

    /// Gives every ready stream its turn with a part of the past.
    fn serve(&mut self, part: &Part<'_>, queue: State) {
        let mut matching = Matching::new(part.revisions, &mut self.groups, |group| {
            group.has_unsynced()
        });
        let ready = std::mem::take(&mut self.ready);
        for stream in &ready {
            for _ in 0..self.streams[*stream].queue(queue).len() {
                if self.streams[*stream].blocked {
                    break;
                }
                let Some(key) = self.streams[*stream].queue(queue).pop_front() else {
                    break;
                };
                match self.serve_watcher(key, part, &mut matching) {
                    Served::Full => {
                        self.streams[*stream].queue(queue).push_front(key);
                        self.streams[*stream].blocked = true;
                    }
                    Served::Done => {
                        self.watchers[key].next_revision = part.next;
                        self.requeue(key);
                    }
                    Served::Elsewhere => self.requeue(key),
                }
            }
        }
        matching.finish(&mut self.groups);
        for stream in ready {
            let queue = &mut self.streams[stream];
            queue.ready = !queue.blocked && !queue.is_synced();
            if queue.ready {
                self.ready.push_back(stream);
            }
        }
    }

    /// Lines a watcher up again that was taken from the head of its queue.
    fn requeue(&mut self, key: u32) {
        self.old -= usize::from(self.watchers[key].state == State::Old);
        self.settle(key);
    }

    fn serve_watcher(&mut self, key: u32, part: &Part<'_>, matching: &mut Matching<'_>) -> Served {
        let watcher = &mut self.watchers[key];
        let next = watcher.next_revision;
        if next < part.from || next >= part.next || (watcher.wants.previous && !part.with_previous)
        {
            return Served::Elsewhere;
        }
        let entry = self.groups.get(watcher.group).entry;
        let batch = entry.and_then(|entry| matching.batch(entry as usize, watcher.wants));
        let Some((events, _)) = batch.and_then(|batch| batch.from(next)) else {
            return Served::Done;
        };
        let count = events.len() as u64;
        let response = Response {
            watch_id: watcher.watch_id,
            revision: self.revision,
            content: Content::Events {
                events,
                fragment: watcher.fragment,
            },
        };
        let stream = watcher.stream;
        if self.streams[stream].sink.offer(response).is_err() {
            return Served::Full;
        }
        watcher.heard = true;
        self.events_sent += count;
        self.mark_dirty(stream);
        Served::Done
    }

    /// Asks for history, unless it is asked already. The next request is on behalf of somebody else.
    fn ask(&mut self) {
        if self.asked.is_some() || self.retry_at_tick {
            return;
        }
        for _ in 0..self.ready.len() {
            self.ready.rotate_left(1);
            let Some(stream) = self.ready.back() else {
                return;
            };
            let stream = &mut self.streams[*stream];
            if stream.blocked {
                continue;
            }
            let Some(key) = stream.old.pop_front() else {
                continue;
            };
            stream.old.push_back(key);
            let request = HistoryRequest {
                token: self.next_token,
                from_revision: self.watchers[key].next_revision,
                through_revision: self.revision,
                max_bytes: self.config.page_bytes,
                with_previous: self.previous_wanted() > 0,
            };
            self.next_token += 1;
            self.asked = Some(request);
            self.to_ask = Some(request);
            return;
        }
    }
}
