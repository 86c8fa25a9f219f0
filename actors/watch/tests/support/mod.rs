//! What the tests of the hub share: a store with a history, and streams whose clients read when told to.

// Each test program uses a part of it.
#![allow(dead_code)]

use bytes::Bytes;
use rusd_messages::watch::{
    Event, HistoryError, HistoryRevisions, Response, RevisionEvents, SinkLimits, SinkReader,
    StreamId, sink,
};
use rusd_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use rusd_watch::{HistoryRequest, Hub, HubConfig};
use std::collections::{BTreeMap, HashMap};

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: String,
    pub deleted: bool,
    /// The revision of the record it replaced.
    pub previous: Option<i64>,
}

/// All revisions there ever were; the first is 2. Events are encoded as text: `5:put a (was 3)`.
#[derive(Debug, Default)]
pub struct Store {
    pub log: Vec<Vec<Change>>,
    pub compacted: i64,
    live: HashMap<String, i64>,
}

impl Store {
    pub fn new() -> Self {
        Self {
            compacted: -1,
            ..Self::default()
        }
    }

    pub fn revision(&self) -> i64 {
        self.log.len() as i64 + 1
    }

    /// Applies `(key, deleted)` pairs as one revision, and returns its number.
    pub fn commit(&mut self, changes: &[(String, bool)]) -> i64 {
        let revision = self.revision() + 1;
        let mut logged = Vec::new();
        for (key, deleted) in changes {
            let previous = if *deleted {
                self.live.remove(key)
            } else {
                self.live.insert(key.clone(), revision)
            };
            logged.push(Change {
                key: key.clone(),
                deleted: *deleted,
                previous,
            });
        }
        self.log.push(logged);
        revision
    }

    pub fn changes(&self, revision: i64) -> &[Change] {
        &self.log[(revision - 2) as usize]
    }

    /// A revision as the state machine tells it.
    pub fn told(&self, revision: i64, with_previous: bool) -> RevisionEvents {
        let events = self.changes(revision).iter().map(|change| {
            let text = text(revision, change, false);
            let full =
                (with_previous && change.previous.is_some()).then(|| text_bytes(revision, change));
            Event {
                key: change.key.clone().into(),
                deleted: change.deleted,
                encoded: text.into(),
                encoded_with_previous: full,
            }
        });
        RevisionEvents {
            revision,
            with_previous,
            events: events.collect(),
        }
    }

    /// Answers as the reader of history does.
    pub fn page(&self, request: &HistoryRequest) -> Result<HistoryRevisions, HistoryError> {
        if request.from_revision < self.compacted {
            return Err(HistoryError::Compacted {
                compacted_revision: self.compacted,
            });
        }
        let mut revisions = Vec::new();
        let mut bytes = 0;
        let mut next = request.from_revision.max(2);
        while next <= request.through_revision && bytes <= request.max_bytes {
            let revision = self.told(next, request.with_previous);
            bytes += revision
                .events
                .iter()
                .map(|e| e.encoded.len())
                .sum::<usize>();
            revisions.push(revision);
            next += 1;
        }
        Ok(HistoryRevisions {
            revisions,
            next_revision: next,
        })
    }
}

fn text_bytes(revision: i64, change: &Change) -> Bytes {
    text(revision, change, true).into()
}

/// The text of an event.
pub fn text(revision: i64, change: &Change, with_previous: bool) -> String {
    let verb = if change.deleted { "delete" } else { "put" };
    let was = match change.previous {
        Some(previous) if with_previous => format!(" (was {previous})"),
        _ => String::new(),
    };
    format!("{revision}:{verb} {}{was}", change.key)
}

/// The hub with a store before it and readers behind it.
pub struct Rig {
    pub hub: Hub,
    pub store: Store,
    pub readers: BTreeMap<u64, SinkReader>,
    /// The page that the hub waits for.
    pub asked: Option<HistoryRequest>,
}

impl Rig {
    pub fn new(config: HubConfig) -> Self {
        Self {
            hub: Hub::new(config),
            store: Store::new(),
            readers: BTreeMap::new(),
            asked: None,
        }
    }

    pub fn open(&mut self, stream: u64, limits: SinkLimits, jitter: u64) {
        let (sink, reader, _) = sink(limits);
        self.readers.insert(stream, reader);
        self.hub.open(StreamId(stream), sink, jitter);
    }

    pub fn close(&mut self, stream: u64) {
        self.readers.remove(&stream);
        self.hub.close(StreamId(stream));
    }

    /// What the shell does after a message.
    pub fn turn(&mut self) {
        self.hub.turn();
        self.hub.check();
        if let Some(request) = self.hub.history_request() {
            assert!(self.asked.is_none(), "one request at a time");
            self.asked = Some(request);
        }
    }

    /// Turns until the hub has nothing left to do by itself.
    pub fn settle(&mut self) {
        self.hub.pass_on();
        self.turn();
        while self.hub.has_more() {
            self.turn();
        }
    }

    /// Answers the hub's question from the store.
    pub fn answer(&mut self) -> bool {
        let Some(request) = self.asked.take() else {
            return false;
        };
        self.hub
            .history_page(request.token, self.store.page(&request));
        true
    }

    /// The client of a stream reads at most `count` responses.
    pub fn read(&mut self, stream: u64, count: usize) -> Vec<Response> {
        let Some(reader) = self.readers.get_mut(&stream) else {
            return Vec::new();
        };
        let mut responses = Vec::new();
        let mut wake = false;
        while responses.len() < count
            && let Some((response, wake_hub)) = reader.try_next()
        {
            wake |= wake_hub;
            responses.push(response);
        }
        if wake {
            self.hub.sink_ready(StreamId(stream));
        }
        responses
    }
}

/// A response as clients get it, and whether it may be sent in pieces.
pub fn on_wire(response: Response) -> (WatchResponse, bool) {
    response.into_message(ResponseHeader::default())
}
