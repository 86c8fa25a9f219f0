//! One stream and its watches.

use crate::watcher::State;
use rusd_messages::watch::{Content, Response, Sink};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The `watch_id` of responses that belong to no watch.
pub const NO_WATCH: i64 = -1;

/// A gRPC stream, as the hub knows it.
#[derive(Debug)]
pub struct Stream {
    /// Where its responses go.
    pub sink: Sink,
    /// Its watchers by watch id.
    pub watchers: BTreeMap<i64, u32>,
    /// Ids of watches that compaction ended and their client has not cancelled yet. As in etcd they stay taken
    /// and hold progress back until then.
    pub lost: BTreeSet<i64>,
    /// The next id that the server picks, unless it is taken.
    next_id: i64,
    /// Watchers to be fed from the ring, in turn.
    pub recent: VecDeque<u32>,
    /// Watchers to be fed from history, in turn.
    pub old: VecDeque<u32>,
    /// Its sink was found full; the stream says when it has room.
    pub blocked: bool,
    /// It is in the hub's queue of streams with watchers to feed.
    pub ready: bool,
    /// The page at hand has not been offered to its old watchers.
    pub page_is_news: bool,
    /// It is in the hub's list of streams with something staged.
    pub dirty: bool,
    /// How many of its watches are told their progress.
    pub progress_watchers: usize,
    /// When they are told next.
    pub progress_at_ms: u64,
    /// Telling them is under way, and goes on with this id when the sink has room.
    pub progress_from: Option<i64>,
    /// How often, the jitter included.
    pub progress_every_ms: u64,
}

impl Stream {
    /// A stream without watches.
    pub fn new(sink: Sink, now_ms: u64, progress_every_ms: u64) -> Self {
        Self {
            sink,
            watchers: BTreeMap::new(),
            lost: BTreeSet::new(),
            next_id: 0,
            recent: VecDeque::new(),
            old: VecDeque::new(),
            blocked: false,
            ready: false,
            page_is_news: false,
            dirty: false,
            progress_watchers: 0,
            progress_at_ms: now_ms.saturating_add(progress_every_ms),
            progress_from: None,
            progress_every_ms,
        }
    }

    /// The id of a new watch: the one asked for, or the next free one for 0; None if it is taken (W-03).
    pub fn assign_id(&mut self, asked: i64) -> Option<i64> {
        if asked != 0 {
            return (!self.is_taken(asked)).then_some(asked);
        }
        while self.is_taken(self.next_id) {
            self.next_id += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        Some(id)
    }

    fn is_taken(&self, id: i64) -> bool {
        self.watchers.contains_key(&id) || self.lost.contains(&id)
    }

    /// The queue of its watchers in an unsynced state.
    pub fn queue(&mut self, state: State) -> &mut VecDeque<u32> {
        match state {
            State::Old => &mut self.old,
            State::Recent | State::Synced => &mut self.recent,
        }
    }

    /// Whether all its watchers follow live events.
    pub fn is_synced(&self) -> bool {
        self.recent.is_empty() && self.old.is_empty()
    }

    /// A response that is not events, taken whether or not there is room.
    pub fn respond(&mut self, watch_id: i64, revision: i64, content: Content) {
        self.sink.push_unbounded(Response {
            watch_id,
            revision,
            content,
        });
    }
}
