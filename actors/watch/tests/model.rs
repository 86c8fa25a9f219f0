//! Random streams, watches, commits, stalls, lags and compactions, held against what a watch is promised: the
//! events of its range and filters from its start on, once, in order, whole revisions at a time, or a
//! compaction cancel; and no progress report that runs ahead of them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use proptest::prelude::*;
use rusd_messages::watch::{Seen, SinkLimits, StreamId, StreamRequest};
use rusd_proto::etcdserverpb::watch_create_request::FilterType;
use rusd_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use rusd_watch::HubConfig;
use std::collections::BTreeMap;
use support::{Rig, on_wire, text};

const KEYS: [&str; 4] = ["a", "b", "ba", "c"];
const RANGES: [(&str, &str); 6] = [
    ("a", ""),
    ("b", ""),
    ("b", "c"),
    ("a", "c"),
    ("b", "\0"),
    ("\0", "\0"),
];
const STREAMS: u64 = 3;

#[derive(Clone, Debug)]
enum Step {
    Create {
        stream: u64,
        range: usize,
        /// 0 is from now, 1 from the past, 2 from the future.
        when: u8,
        how_far: u8,
        no_put: bool,
        no_delete: bool,
        previous: bool,
        progress: bool,
    },
    Cancel(u64, u8),
    Progress(u64),
    Commit {
        changes: Vec<(usize, bool)>,
        bare: bool,
        untold: bool,
    },
    Lag,
    PassOn,
    Turn,
    Read(u64, usize),
    Answer,
    Refuse,
    Compact(u8, bool),
    Tick(u16),
    Reopen(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let stream = || 0..STREAMS;
    prop_oneof![
        3 => (stream(), 0..RANGES.len(), 0..3_u8, 0..12_u8, any::<[bool; 4]>()).prop_map(
            |(stream, range, when, how_far, [no_put, no_delete, previous, progress])| Step::Create {
                stream, range, when, how_far, no_put: no_put && how_far % 2 == 0, no_delete, previous, progress,
            }
        ),
        1 => (stream(), 0..6_u8).prop_map(|(s, id)| Step::Cancel(s, id)),
        2 => stream().prop_map(Step::Progress),
        9 => (
            prop::collection::vec((0..KEYS.len(), prop::bool::weighted(0.3)), 1..4),
            any::<bool>(),
            prop::bool::weighted(0.1),
        )
            .prop_map(|(changes, bare, untold)| Step::Commit { changes, bare, untold }),
        1 => Just(Step::Lag),
        3 => Just(Step::PassOn),
        3 => Just(Step::Turn),
        6 => (stream(), 1..6_usize).prop_map(|(s, n)| Step::Read(s, n)),
        3 => Just(Step::Answer),
        1 => Just(Step::Refuse),
        1 => (0..10_u8, any::<bool>()).prop_map(|(back, heard)| Step::Compact(back, heard)),
        1 => (0..800_u16).prop_map(Step::Tick),
        1 => stream().prop_map(Step::Reopen),
    ]
}

#[derive(Debug)]
struct Watch {
    range: usize,
    start: i64,
    no_put: bool,
    no_delete: bool,
    previous: bool,
    created: bool,
    /// Ended by compaction.
    lost: bool,
    /// Ended by its client.
    canceled: bool,
    received: Vec<String>,
}

impl Watch {
    fn ended(&self) -> bool {
        self.lost || self.canceled
    }
}

struct World {
    rig: Rig,
    /// By stream and id; a stream that is reopened starts afresh.
    watches: BTreeMap<(u64, i64), Watch>,
    next_id: i64,
    now_ms: u64,
    batch_revisions: usize,
    limits: SinkLimits,
}

fn in_range(range: usize, key: &str) -> bool {
    let (start, end) = RANGES[range];
    match end {
        "" => key == start,
        "\0" => key >= start,
        end => key >= start && key < end,
    }
}

impl World {
    fn new(config: HubConfig, limits: SinkLimits) -> Self {
        let batch_revisions = config.batch_revisions;
        let mut rig = Rig::new(config);
        for stream in 0..STREAMS {
            rig.open(stream, limits, stream);
        }
        Self {
            rig,
            watches: BTreeMap::new(),
            next_id: 1,
            now_ms: 0,
            batch_revisions,
            limits,
        }
    }

    /// What a watch is to see of revisions up to `through`.
    fn expected(&self, watch: &Watch, through: i64) -> Vec<String> {
        let mut expected = Vec::new();
        for revision in watch.start.max(2)..=through {
            for change in self.rig.store.changes(revision) {
                let filtered = if change.deleted {
                    watch.no_delete
                } else {
                    watch.no_put
                };
                if in_range(watch.range, &change.key) && !filtered {
                    expected.push(text(revision, change, watch.previous));
                }
            }
        }
        expected
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Create {
                stream,
                range,
                when,
                how_far,
                no_put,
                no_delete,
                previous,
                progress,
            } => {
                let current = self.rig.store.revision();
                let start_revision = match when {
                    0 => 0,
                    1 => (current - i64::from(how_far)).max(1),
                    _ => current + 1 + i64::from(how_far / 3),
                };
                let mut filters = Vec::new();
                filters.extend(no_put.then_some(FilterType::Noput as i32));
                filters.extend(no_delete.then_some(FilterType::Nodelete as i32));
                let watch_id = self.next_id;
                self.next_id += 1;
                let request = WatchCreateRequest {
                    key: RANGES[range].0.into(),
                    range_end: RANGES[range].1.into(),
                    start_revision,
                    watch_id,
                    filters,
                    prev_kv: previous,
                    progress_notify: progress,
                    fragment: false,
                };
                let seen = Seen {
                    revision: current,
                    compacted_revision: self.rig.store.compacted,
                };
                let watch = Watch {
                    range,
                    start: if when == 0 {
                        current + 1
                    } else {
                        start_revision
                    },
                    no_put,
                    no_delete,
                    previous,
                    created: false,
                    lost: false,
                    canceled: false,
                    received: Vec::new(),
                };
                self.watches.insert((stream, watch_id), watch);
                let request = StreamRequest::Create { request, seen };
                self.rig.hub.request(StreamId(stream), request);
            }
            Step::Cancel(stream, nth) => {
                let mut ids = self.watches.keys().filter(|(of, _)| *of == stream);
                if let Some((_, watch_id)) = ids.nth(usize::from(nth)).copied() {
                    let cancel = StreamRequest::Cancel { watch_id };
                    self.rig.hub.request(StreamId(stream), cancel);
                }
            }
            Step::Progress(stream) => self
                .rig
                .hub
                .request(StreamId(stream), StreamRequest::Progress),
            Step::Commit {
                changes,
                bare,
                untold,
            } => {
                let changes: Vec<_> = changes
                    .iter()
                    .map(|(key, deleted)| (KEYS[*key].to_owned(), *deleted))
                    .collect();
                let revision = self.rig.store.commit(&changes);
                if !untold {
                    let with_previous = self.rig.hub.previous_wanted() > 0 && !bare;
                    let told = self.rig.store.told(revision, with_previous);
                    self.rig.hub.committed(vec![told]);
                }
            }
            Step::Lag => self.rig.hub.lagged(self.rig.store.revision()),
            Step::PassOn => self.rig.hub.pass_on(),
            Step::Turn => self.rig.turn(),
            Step::Read(stream, count) => self.read(stream, count),
            Step::Answer => {
                self.rig.answer();
            }
            Step::Refuse => {
                if let Some(request) = self.rig.asked.take() {
                    self.rig.hub.history_refused(request.token);
                }
            }
            Step::Compact(back, heard) => {
                let revision = self.rig.store.revision() - i64::from(back);
                if revision > self.rig.store.compacted && revision > 1 {
                    self.rig.store.compacted = revision;
                    if heard {
                        self.rig.hub.compacted(revision);
                    }
                }
            }
            Step::Tick(ms) => {
                self.now_ms += u64::from(ms);
                self.rig.hub.tick(self.now_ms);
            }
            Step::Reopen(stream) => {
                self.rig.close(stream);
                self.watches.retain(|(of, _), _| *of != stream);
                // The last stream takes the hub's question with it.
                if self.rig.hub.counts().streams == 0 {
                    self.rig.asked = None;
                }
                self.rig.open(stream, self.limits, stream);
            }
        }
    }

    fn read(&mut self, stream: u64, count: usize) {
        for response in self.rig.read(stream, count) {
            let (response, _) = on_wire(response);
            self.check(stream, response);
        }
    }

    fn check(&mut self, stream: u64, response: WatchResponse) {
        let revision = response.header.unwrap().revision;
        assert!(revision <= self.rig.store.revision());
        if response.watch_id == -1 {
            assert!(response.events.is_empty());
            let mut live = 0;
            for ((_, _), watch) in self
                .watches
                .iter()
                .filter(|((of, _), watch)| *of == stream && watch.created)
            {
                assert!(
                    !watch.lost || watch.canceled,
                    "w_16: {watch:?} is not cancelled"
                );
                live += usize::from(!watch.ended());
                assert!(
                    watch.ended() || watch.start <= revision + 1,
                    "w_16: {watch:?} at {revision}"
                );
                assert!(
                    watch.ended() || watch.received == self.expected(watch, revision),
                    "w_16: progress {revision} runs ahead of {watch:?}"
                );
            }
            assert!(live > 0, "w_16: no watch on the stream");
            return;
        }
        let watch = self
            .watches
            .get(&(stream, response.watch_id))
            .expect("a watch of this stream");
        assert!(
            !watch.canceled && (!watch.lost || response.canceled),
            "nothing comes after the end: {response:?}"
        );
        assert_eq!(
            response.created, !watch.created,
            "w_02: created comes first, once: {response:?}"
        );
        if response.canceled && response.compact_revision != 0 {
            assert!(
                !watch.lost && watch.start < response.compact_revision,
                "w_07: {watch:?}"
            );
            assert!(response.compact_revision <= self.rig.store.compacted);
            assert_eq!((revision, response.cancel_reason.as_str()), (0, ""));
        } else if !response.events.is_empty() {
            self.check_events(watch, &response, revision);
        } else if !response.created && !response.canceled {
            assert_eq!(
                watch.received,
                self.expected(watch, revision),
                "w_15: progress runs ahead"
            );
            assert!(watch.start <= revision + 1);
        }
        let watch = self.watches.get_mut(&(stream, response.watch_id)).unwrap();
        watch.created = true;
        watch.lost |= response.compact_revision != 0;
        watch.canceled |= response.canceled && response.compact_revision == 0;
        for event in &response.events {
            watch
                .received
                .push(String::from_utf8(event.to_vec()).unwrap());
        }
    }

    fn check_events(&self, watch: &Watch, response: &WatchResponse, revision: i64) {
        let events: Vec<_> = response
            .events
            .iter()
            .map(|e| String::from_utf8(e.to_vec()).unwrap())
            .collect();
        let expected = self.expected(watch, self.rig.store.revision());
        let from = watch.received.len();
        let until = from + events.len();
        assert_eq!(
            expected.get(from..until),
            Some(events.as_slice()),
            "w_12: in order, once, without gaps: {watch:?}"
        );
        let revision_of = |event: &String| event.split(':').next().unwrap().parse::<i64>().unwrap();
        let last = revision_of(events.last().unwrap());
        assert!(last <= revision, "w_13");
        if let Some(after) = expected.get(until) {
            assert!(revision_of(after) > last, "w_12: revision {last} is split");
        }
        let mut revisions: Vec<_> = events.iter().map(revision_of).collect();
        revisions.dedup();
        assert!(
            revisions.len() <= self.batch_revisions,
            "w_12: too many revisions"
        );
    }

    /// Everybody reads, the store answers, and nothing new happens: what is left comes.
    fn finish(&mut self) {
        self.rig.hub.lagged(self.rig.store.revision());
        for _ in 0..10_000 {
            self.now_ms += 1;
            self.rig.hub.tick(self.now_ms);
            self.rig.settle();
            self.rig.answer();
            for stream in 0..STREAMS {
                self.read(stream, usize::MAX);
            }
            self.rig.settle();
            if self.rig.asked.is_none() && self.rig.hub.counts().unsynced == 0 {
                break;
            }
        }
        for stream in 0..STREAMS {
            self.read(stream, usize::MAX);
        }
        assert_eq!(self.rig.hub.counts().unsynced, 0, "everybody catches up");
        for (at, watch) in &self.watches {
            assert!(watch.created, "{at:?}");
            let complete = watch.received == self.expected(watch, self.rig.store.revision());
            assert!(watch.ended() || complete, "{at:?} {watch:?}");
        }
        for stream in 0..STREAMS {
            self.rig.close(stream);
        }
        let counts = self.rig.hub.counts();
        assert_eq!(
            (counts.watchers, counts.groups, counts.ring_bytes),
            (0, 0, 0)
        );
        assert_eq!(self.rig.hub.previous_wanted(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn w_12_w_18_w_20_each_watch_sees_its_events_once_and_in_order(
        steps in prop::collection::vec(step(), 1..120),
        (batch_revisions, page_bytes, ring_revisions) in (1..5_usize, 1..60_usize, 0..8_usize),
        apart_revisions in 0..4_usize,
        (responses, bytes) in (1..6_usize, 5..60_usize),
    ) {
        let mut config = HubConfig::new(1000, 3);
        config.batch_revisions = batch_revisions;
        config.apart_revisions = apart_revisions;
        config.page_bytes = page_bytes;
        config.ring_revisions = ring_revisions;
        let limits = SinkLimits { responses, bytes, requests: 1000 };
        let mut world = World::new(config, limits);
        for step in steps {
            world.perform(step);
            world.rig.hub.check();
        }
        world.finish();
        world.rig.hub.check();
    }
}
