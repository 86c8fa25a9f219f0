//! The core of the hub: streams, watchers, and what the state machine says.
//!
//! What comes in are the methods here and in `requests`; what goes out are responses on the sinks and at
//! most one request for history. [`Hub::turn`] is called after each message, or after a few.

mod check;

use crate::groups::Groups;
use crate::limits;
use crate::matching::Matching;
use crate::ring::{Ring, revision_bytes};
use crate::slab::Slab;
use crate::stream::Stream;
use crate::watcher::{State, Watcher};
use rusd_messages::watch::{
    Content, HistoryError, HistoryRevisions, Response, RevisionEvents, Sink, StreamId,
};
use std::collections::{HashMap, VecDeque};
use std::task::Waker;

/// Settings of the hub. All but the first two have their values in [`limits`]; tests make them small.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// How often a watch without events is told its progress, before jitter.
    pub progress_interval_ms: u64,
    /// Any number that clients do not know.
    pub seed: u64,
    /// [`limits::BATCH_REVISIONS`].
    pub batch_revisions: usize,
    /// [`limits::APART_REVISIONS`].
    pub apart_revisions: usize,
    /// [`limits::BATCH_BYTES`].
    pub batch_bytes: usize,
    /// [`limits::PAGE_BYTES`].
    pub page_bytes: usize,
    /// [`limits::RING_BYTES`].
    pub ring_bytes: usize,
    /// [`limits::RING_REVISIONS`].
    pub ring_revisions: usize,
}

impl HubConfig {
    /// The settings of a server.
    pub fn new(progress_interval_ms: u64, seed: u64) -> Self {
        Self {
            progress_interval_ms,
            seed,
            batch_revisions: limits::BATCH_REVISIONS,
            apart_revisions: limits::APART_REVISIONS,
            batch_bytes: limits::BATCH_BYTES,
            page_bytes: limits::PAGE_BYTES,
            ring_bytes: limits::RING_BYTES,
            ring_revisions: limits::RING_REVISIONS,
        }
    }
}

/// A page of history that the hub wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryRequest {
    /// To be copied into the page that answers it.
    pub token: u64,
    /// First revision wanted.
    pub from_revision: i64,
    /// Last revision: the newest that the hub knows.
    pub through_revision: i64,
    /// The page ends after the revision that passes this.
    pub max_bytes: usize,
    /// Whether previous records are to be looked up.
    pub with_previous: bool,
}

/// A page of history, kept until the next one: a stream that had no room when it came may have some later.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) from: i64,
    pub(crate) next: i64,
    pub(crate) with_previous: bool,
    pub(crate) revisions: Vec<RevisionEvents>,
}

/// How much there is of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Streams that are open.
    pub streams: usize,
    /// Watchers of all streams.
    pub watchers: usize,
    /// Watchers that are fed from the past.
    pub unsynced: usize,
    /// Distinct ranges that are watched.
    pub groups: usize,
    /// Bytes of recent revisions.
    pub ring_bytes: usize,
    /// Events sent since the start.
    pub events_sent: u64,
}

/// All streams and watchers, and the revisions that they have yet to see.
#[derive(Debug)]
pub struct Hub {
    pub(crate) config: HubConfig,
    /// The newest revision that has been passed on.
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    pub(crate) now_ms: u64,
    pub(crate) streams: Slab<Stream>,
    stream_ids: HashMap<StreamId, u32>,
    pub(crate) watchers: Slab<Watcher>,
    pub(crate) groups: Groups,
    pub(crate) ring: Ring,
    /// Told by the state machine and not passed on yet: what comes in one burst is sent together.
    pending: Vec<RevisionEvents>,
    pending_bytes: usize,
    /// Streams that may have room and have watchers to feed, in turn.
    pub(crate) ready: VecDeque<u32>,
    dirty: Vec<u32>,
    /// Streams that sleep with something in their queues.
    wakers: Vec<Waker>,
    pub(crate) page: Option<Page>,
    pub(crate) asked: Option<HistoryRequest>,
    pub(crate) to_ask: Option<HistoryRequest>,
    pub(crate) retry_at_tick: bool,
    pub(crate) next_token: u64,
    pub(crate) unsynced: usize,
    pub(crate) old: usize,
    pub(crate) wants_previous: usize,
    pub(crate) events_sent: u64,
}

impl Hub {
    /// A hub without streams, at the revision of an empty store.
    pub fn new(config: HubConfig) -> Self {
        Self {
            revision: 1,
            compacted: -1,
            now_ms: 0,
            streams: Slab::default(),
            stream_ids: HashMap::new(),
            watchers: Slab::default(),
            groups: Groups::new(config.seed),
            ring: Ring::new(config.ring_bytes, config.ring_revisions),
            pending: Vec::new(),
            pending_bytes: 0,
            ready: VecDeque::new(),
            dirty: Vec::new(),
            wakers: Vec::new(),
            page: None,
            asked: None,
            to_ask: None,
            retry_at_tick: false,
            next_token: 0,
            unsynced: 0,
            old: 0,
            wants_previous: 0,
            events_sent: 0,
            config,
        }
    }

    /// How many watchers want previous records: the state machine looks them up only if there is one.
    pub fn previous_wanted(&self) -> usize {
        self.wants_previous
    }

    /// How much there is of what.
    pub fn counts(&self) -> Counts {
        Counts {
            streams: self.streams.len(),
            watchers: self.watchers.len(),
            unsynced: self.unsynced,
            groups: self.groups.len(),
            ring_bytes: self.ring.bytes(),
            events_sent: self.events_sent,
        }
    }

    /// Events in the queues of all streams.
    pub fn waiting_events(&self) -> usize {
        self.streams
            .iter()
            .map(|(_, stream)| stream.sink.waiting_events())
            .sum()
    }

    /// A stream has opened. `jitter` is any random number; it spreads periodic progress by up to a tenth
    /// of its interval (W-15).
    pub fn open(&mut self, id: StreamId, sink: Sink, jitter: u64) {
        self.pass_on();
        let interval_ms = self.config.progress_interval_ms;
        let every_ms = interval_ms + jitter % (interval_ms / 10).max(1);
        let stream = Stream::new(sink, self.now_ms, every_ms);
        let stream = self.streams.insert(stream);
        if let Some(replaced) = self.stream_ids.insert(id, stream) {
            self.remove_stream(replaced);
        }
    }

    /// A stream is gone, and its watches with it.
    pub fn close(&mut self, id: StreamId) {
        self.pass_on();
        if let Some(stream) = self.stream_ids.remove(&id) {
            self.remove_stream(stream);
        }
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Closes all streams: what they were sent still reaches them.
    pub fn close_all(&mut self) {
        self.pass_on();
        self.flush();
        let streams: Vec<u32> = self.stream_ids.drain().map(|(_, stream)| stream).collect();
        for stream in streams {
            self.remove_stream(stream);
        }
    }

    fn remove_stream(&mut self, stream: u32) {
        let gone = &mut self.streams[stream];
        let watchers = std::mem::take(&mut gone.watchers);
        gone.recent.clear();
        self.old -= gone.old.len();
        gone.old.clear();
        for watcher in watchers.into_values() {
            self.forget(watcher);
        }
        self.streams.remove(stream);
        self.ready.retain(|ready| *ready != stream);
        self.dirty.retain(|dirty| *dirty != stream);
        if self.streams.is_empty() {
            self.free_everything();
        }
    }

    /// Nobody watches: keep nothing.
    fn free_everything(&mut self) {
        self.streams = Slab::default();
        self.stream_ids = HashMap::new();
        self.watchers = Slab::default();
        self.groups = Groups::new(self.config.seed);
        self.ring.clear();
        self.ready = VecDeque::new();
        self.dirty = Vec::new();
        self.page = None;
        self.asked = None;
        self.to_ask = None;
    }

    /// The stream of an id, if it is still there.
    pub(crate) fn stream(&self, id: StreamId) -> Option<u32> {
        self.stream_ids.get(&id).copied()
    }

    /// Takes in new revisions. They are passed on at the next message that is about something else, at
    /// [`pass_on`](Self::pass_on), or when a batch is full.
    pub fn committed(&mut self, revisions: Vec<RevisionEvents>) {
        for revision in revisions {
            let newest = self
                .pending
                .last()
                .map_or(self.revision, |last| last.revision);
            if revision.revision <= newest {
                continue;
            }
            if revision.revision > newest + 1 {
                self.lagged(revision.revision - 1);
            }
            if self.streams.is_empty() {
                self.revision = revision.revision;
                continue;
            }
            self.pending_bytes += revision_bytes(&revision);
            self.pending.push(revision);
            if self.pending.len() >= self.config.batch_revisions
                || self.pending_bytes >= self.config.batch_bytes
            {
                self.pass_on();
            }
        }
    }

    /// Whether there is something to [`pass_on`](Self::pass_on).
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Sends what was committed to the watchers that follow live events. Those that cannot take it, fall behind.
    pub fn pass_on(&mut self) {
        let revisions = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        if revisions.len() > self.config.apart_revisions {
            self.send_together(revisions);
            return;
        }
        for revision in revisions {
            self.send_together(vec![revision]);
        }
    }

    fn send_together(&mut self, revisions: Vec<RevisionEvents>) {
        let (Some(first), Some(last)) = (revisions.first(), revisions.last()) else {
            return;
        };
        let (first, last) = (first.revision, last.revision);
        let fallen = self.send_live(&revisions);
        self.revision = last;
        for revision in revisions {
            self.ring.push(revision);
        }
        for watcher in fallen {
            self.fall_behind(watcher, first);
        }
    }

    fn send_live(&mut self, revisions: &[RevisionEvents]) -> Vec<u32> {
        let mut fallen = Vec::new();
        let mut matching = Matching::new(revisions, &mut self.groups, |group| {
            !group.synced.is_empty()
        });
        for entry in 0..matching.len() {
            let Some(group) = matching.group(entry) else {
                continue;
            };
            for key in &self.groups.get(group).synced {
                let watcher = &mut self.watchers[*key];
                let Some(batch) = matching.batch(entry, watcher.wants) else {
                    continue;
                };
                let Some((events, newest)) = batch.from(watcher.next_revision) else {
                    continue;
                };
                let stream = &mut self.streams[watcher.stream];
                if stream.blocked || batch.lacks_previous {
                    fallen.push(*key);
                    continue;
                }
                let count = events.len() as u64;
                let response = Response {
                    watch_id: watcher.watch_id,
                    revision: newest,
                    content: Content::Events {
                        events,
                        fragment: watcher.fragment,
                    },
                };
                if stream.sink.offer(response).is_err() {
                    stream.blocked = true;
                    fallen.push(*key);
                    continue;
                }
                watcher.heard = true;
                self.events_sent += count;
                if !stream.dirty {
                    stream.dirty = true;
                    self.dirty.push(watcher.stream);
                }
            }
        }
        matching.finish(&mut self.groups);
        fallen
    }

    /// Everything through `through` is to be read from history.
    pub fn lagged(&mut self, through: i64) {
        self.pass_on();
        if through <= self.revision {
            return;
        }
        let first = self.revision + 1;
        self.revision = through;
        self.ring.clear();
        let synced = self
            .watchers
            .iter()
            .filter(|(_, watcher)| watcher.state == State::Synced);
        let fallen: Vec<u32> = synced
            .filter(|(_, watcher)| watcher.next_revision <= through)
            .map(|(key, _)| key)
            .collect();
        for watcher in fallen {
            self.fall_behind(watcher, first);
        }
        // A compaction may have been told before what the hub has missed.
        self.cancel_compacted();
    }

    /// The compacted revision has moved: watchers that need something below it are cancelled (W-07).
    pub fn compacted(&mut self, revision: i64) {
        self.pass_on();
        self.compacted = self.compacted.max(revision);
        self.cancel_compacted();
    }

    /// Cancels the watchers that wait for what is compacted away.
    fn cancel_compacted(&mut self) {
        let revision = self.compacted;
        let behind = self
            .watchers
            .iter()
            .filter(|(_, watcher)| watcher.state != State::Synced);
        let lost: Vec<u32> = behind
            .filter(|(_, watcher)| watcher.next_revision < revision)
            .map(|(key, _)| key)
            .collect();
        for key in lost {
            let watcher = &self.watchers[key];
            let (stream, watch_id) = (watcher.stream, watcher.watch_id);
            self.streams[stream].watchers.remove(&watch_id);
            self.forget(key);
            self.respond_compacted(stream, watch_id, revision);
        }
    }

    /// A page of history has come.
    pub fn history_page(&mut self, token: u64, result: Result<HistoryRevisions, HistoryError>) {
        let Some(asked) = self.asked.take_if(|asked| asked.token == token) else {
            return;
        };
        match result {
            Ok(found) => {
                let next = found.next_revision.min(asked.through_revision + 1);
                if next <= asked.from_revision {
                    self.retry_at_tick = true;
                    return;
                }
                self.page = Some(Page {
                    from: asked.from_revision,
                    next,
                    with_previous: asked.with_previous,
                    revisions: found.revisions,
                });
                for stream in &self.ready {
                    self.streams[*stream].page_is_news = true;
                }
            }
            Err(HistoryError::Compacted { compacted_revision }) => {
                self.compacted(compacted_revision);
                // Nobody was cancelled by that: do not ask the same again at once.
                self.retry_at_tick = asked.from_revision >= self.compacted;
            }
        }
    }

    /// The request for history could not be passed on.
    pub fn history_refused(&mut self, token: u64) {
        if self.asked.take_if(|asked| asked.token == token).is_some() {
            self.retry_at_tick = true;
        }
    }

    /// The page of history that is wanted, if any; to be passed on once.
    pub fn history_request(&mut self) -> Option<HistoryRequest> {
        self.to_ask.take()
    }

    /// The wakers to call after a [`turn`](Self::turn): the streams that were handed something.
    pub fn wakers(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers)
    }

    /// A stream's sink, found full before, has room.
    pub fn sink_ready(&mut self, id: StreamId) {
        let Some(stream) = self.stream(id) else {
            return;
        };
        self.streams[stream].blocked = false;
        if !self.streams[stream].is_synced() {
            self.streams[stream].page_is_news = true;
            self.make_ready(stream);
            // Before live events take the room.
            self.catch_up();
        }
    }

    /// Time passes. Returns how many streams had watches to be told of their progress.
    pub fn tick(&mut self, now_ms: u64) -> usize {
        self.pass_on();
        self.now_ms = now_ms;
        self.retry_at_tick = false;
        self.tell_progress()
    }

    /// Feeds watchers that are behind, and hands everything to the streams.
    pub fn turn(&mut self) {
        self.catch_up();
        self.flush();
    }

    fn flush(&mut self) {
        for stream in self.dirty.drain(..) {
            let stream = &mut self.streams[stream];
            stream.dirty = false;
            self.wakers.extend(stream.sink.flush());
        }
    }

    pub(crate) fn mark_dirty(&mut self, stream: u32) {
        if !std::mem::replace(&mut self.streams[stream].dirty, true) {
            self.dirty.push(stream);
        }
    }

    /// A response that is not events.
    pub(crate) fn respond(&mut self, stream: u32, watch_id: i64, revision: i64, content: Content) {
        self.streams[stream].respond(watch_id, revision, content);
        self.mark_dirty(stream);
    }

    /// The message that ends a watch because of compaction: no reason, and no revision in its header (W-07).
    pub(crate) fn respond_compacted(
        &mut self,
        stream: u32,
        watch_id: i64,
        compacted_revision: i64,
    ) {
        let content = Content::Compacted { compacted_revision };
        self.streams[stream].lost.insert(watch_id);
        self.respond(stream, watch_id, 0, content);
    }
}
