//! What a client's watch has to see: every event of its range once, in order, whole revisions at a time, or that they
//! are compacted.

use bytes::Bytes;
use prost::Message;
use rusd_model::{Event, Model};
use rusd_proto::etcdserverpb::watch_create_request::FilterType;
use rusd_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use rusd_proto::mvccpb;

/// A watch of a client.
#[derive(Debug)]
pub struct Watch {
    request: WatchCreateRequest,
    /// The newest revision that the client knew of when it asked.
    floor: i64,
    /// The first revision that it wants; known once it is created.
    start: i64,
    /// What the model has before this, it has seen.
    position: usize,
    created: bool,
    /// It was told that what it needs is compacted.
    lost: bool,
    /// It was told that it is turned down or cancelled.
    ended: bool,
    /// The newest revision of which it has seen an event.
    seen: i64,
}

impl Watch {
    /// A watch that is asked for by a client who knows of `floor`.
    pub fn new(request: WatchCreateRequest, floor: i64) -> Self {
        Self {
            start: request.start_revision,
            seen: request.start_revision - 1,
            request,
            floor,
            position: 0,
            created: false,
            lost: false,
            ended: false,
        }
    }

    /// What its client asks for to go on with it on another stream; None if there is nothing to go on with.
    pub fn resumed(&self) -> Option<WatchCreateRequest> {
        (self.created && !self.lost && !self.ended).then(|| WatchCreateRequest {
            start_revision: self.start.max(self.seen + 1),
            ..self.request.clone()
        })
    }

    fn wants(&self, event: &Event) -> bool {
        let (key, end) = (&self.request.key[..], &self.request.range_end[..]);
        let within = match end {
            b"" => event.key == key,
            b"\0" => event.key >= key,
            _ => event.key >= key && event.key < end,
        };
        let filter = match event.kv {
            Some(_) => FilterType::Noput,
            None => FilterType::Nodelete,
        };
        within && event.revision >= self.start && !self.request.filters.contains(&(filter as i32))
    }

    /// The next event it is to see, from a place in the model's events on.
    fn next<'m>(&self, model: &'m Model, from: usize) -> Option<(usize, &'m Event)> {
        let events = model.events().iter().enumerate().skip(from);
        events.into_iter().find(|(_, event)| self.wants(event))
    }

    /// A response comes.
    pub fn response(&mut self, response: &WatchResponse, model: &Model) {
        let revision = response.header.unwrap_or_default().revision;
        let over = self.ended || self.lost && !response.canceled;
        assert!(!over, "something comes after the end: {response:?}");
        assert_ne!(response.created, self.created, "created comes first, once");
        assert!(
            revision <= model.revision,
            "a revision of the future: {response:?}"
        );
        if response.created {
            self.created = true;
            self.ended = response.canceled;
            if self.start == 0 {
                assert!(
                    revision >= self.floor,
                    "a watch from {revision} on, after {} was known",
                    self.floor
                );
                (self.start, self.seen) = (revision + 1, revision);
            }
            return;
        }
        if response.compact_revision > 0 {
            let compacted = response.compact_revision;
            assert!(
                compacted <= model.compacted,
                "compacted only through {}",
                model.compacted
            );
            assert!(
                self.start < compacted,
                "{self:?} needs nothing below {compacted}"
            );
        }
        for event in &response.events {
            self.event(event, model);
        }
        if response.canceled {
            self.lost = response.compact_revision > 0;
            self.ended = !self.lost;
            return;
        }
        assert!(
            self.seen <= revision,
            "the header is behind its events: {response:?}"
        );
        if let Some((_, missed)) = self.next(model, self.position) {
            // Behind events the header may be ahead of them, if they are of the past (W-13).
            let through = if response.events.is_empty() {
                revision
            } else {
                self.seen
            };
            assert!(
                missed.revision > through,
                "says {through} and lacks {missed:?}"
            );
        }
    }

    /// Everything of every watch of its stream through the header's revision is said to have come.
    pub fn progress(&self, response: &WatchResponse, model: &Model) {
        let revision = response.header.unwrap_or_default().revision;
        if let Some((_, missed)) = self
            .next(model, self.position)
            .filter(|_| self.created && !self.lost && !self.ended)
        {
            assert!(
                missed.revision > revision,
                "says {revision} and lacks {missed:?}"
            );
        }
    }

    fn event(&mut self, encoded: &[u8], model: &Model) {
        let event = mvccpb::Event::decode(encoded).unwrap();
        let Some((place, expected)) = self.next(model, self.position) else {
            panic!("{event:?} never happened");
        };
        let kv = mvccpb::KeyValue::decode(event.kv).unwrap();
        let wanted = expected.kv.clone().unwrap_or(mvccpb::KeyValue {
            key: expected.key.clone(),
            mod_revision: expected.revision,
            ..Default::default()
        });
        assert_eq!(kv, wanted, "in order, once, without gaps: {self:?}");
        self.previous(&event.prev_kv, expected, model);
        (self.position, self.seen) = (place + 1, expected.revision);
    }

    fn previous(&self, encoded: &Bytes, event: &Event, model: &Model) {
        let before = event.revision - 1;
        let previous = model
            .get(&event.key, before)
            .filter(|_| self.request.prev_kv);
        // Not for what the same transaction created, either (W-10).
        let created = event.kv.as_ref().is_some_and(|kv| kv.version == 1);
        let previous = previous.filter(|_| !created);
        if encoded.is_empty() {
            let lost = previous.is_none() || before < model.compacted;
            assert!(lost, "{event:?} comes without what it replaced");
            return;
        }
        let found = mvccpb::KeyValue::decode(encoded.clone()).unwrap();
        assert_eq!(Some(found), previous, "what {event:?} replaced");
    }

    /// What it still has to see, once it was created; None if that is nothing.
    pub fn lacks(&self, model: &Model) -> Option<String> {
        if self.ended || self.lost {
            return None;
        }
        if !self.created {
            return Some(format!("{self:?} was never created"));
        }
        let missed = self.next(model, self.position);
        missed.map(|(_, missed)| format!("{self:?} never saw {missed:?}"))
    }
}
