//! What an event costs the hub for each watcher that gets it: matching, one response, its queue. The reading side
//! of the queues is not measured.
//!
//! `ns per event and watcher` is the time of an iteration divided by events times watchers, which criterion
//! shows as elements per second.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rusd_messages::watch::{
    Event, RevisionEvents, Seen, SinkLimits, SinkReader, StreamId, StreamRequest, sink,
};
use rusd_proto::etcdserverpb::WatchCreateRequest;
use rusd_watch::{Hub, HubConfig};

/// Room for a whole iteration, so that nobody falls behind.
const LIMITS: SinkLimits = SinkLimits {
    responses: usize::MAX,
    bytes: usize::MAX,
    requests: 1,
};

struct World {
    hub: Hub,
    readers: Vec<SinkReader>,
    revision: i64,
}

fn key(range: usize) -> String {
    format!("/registry/pods/{range:06}/")
}

impl World {
    /// `watchers` watchers on `streams` streams, spread over `ranges` prefixes (0: all on one key).
    fn new(streams: usize, watchers: usize, ranges: usize) -> Self {
        let mut hub = Hub::new(HubConfig::new(600_000, 1));
        let mut readers = Vec::new();
        for stream in 0..streams {
            let (sink, reader, _) = sink(LIMITS);
            readers.push(reader);
            hub.open(StreamId(stream as u64), sink, 0);
        }
        for watcher in 0..watchers {
            let (key, end) = match ranges {
                0 => (key(0), String::new()),
                ranges => {
                    let prefix = key(watcher % ranges);
                    let end = format!("{}0", &prefix[..prefix.len() - 1]);
                    (prefix, end)
                }
            };
            let request = WatchCreateRequest {
                key: key.into(),
                range_end: end.into(),
                ..WatchCreateRequest::default()
            };
            let seen = Seen {
                revision: 1,
                compacted_revision: -1,
            };
            let stream = StreamId((watcher % streams) as u64);
            hub.request(stream, StreamRequest::Create { request, seen });
        }
        let mut world = Self {
            hub,
            readers,
            revision: 1,
        };
        world.hub.turn();
        world.drain();
        world
    }

    fn drain(&mut self) {
        for reader in &mut self.readers {
            while reader.try_next().is_some() {}
        }
    }

    fn burst(&mut self, revisions: usize, ranges: usize) -> Vec<RevisionEvents> {
        let encoded = Bytes::from(vec![b'v'; 300]);
        let revisions = (0..revisions).map(|n| {
            self.revision += 1;
            let key = key((self.revision as usize + n) % ranges.max(1));
            RevisionEvents {
                revision: self.revision,
                with_previous: false,
                events: [Event {
                    key: key.into(),
                    deleted: false,
                    encoded: encoded.clone(),
                    encoded_with_previous: None,
                }]
                .into(),
            }
        });
        revisions.collect()
    }
}

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    for (name, streams, watchers, ranges, burst, hits) in [
        (
            "1 event, 100 watchers of a key, 1 stream",
            1,
            100,
            0,
            1,
            100,
        ),
        (
            "1 event, 100 watchers of a key, 100 streams",
            100,
            100,
            0,
            1,
            100,
        ),
        (
            "64 events, 100 watchers of a key, 100 streams",
            100,
            100,
            0,
            64,
            6400,
        ),
        (
            "1 event, 10000 watchers of a key, 100 streams",
            100,
            10_000,
            0,
            1,
            10_000,
        ),
        (
            "64 events, 10000 watchers of a prefix, 100 streams",
            100,
            10_000,
            1,
            64,
            640_000,
        ),
        (
            "64 events, 10000 watchers of 10000 prefixes, 100 streams",
            100,
            10_000,
            10_000,
            64,
            64,
        ),
    ] {
        let world = std::cell::RefCell::new(World::new(streams, watchers, ranges));
        group.throughput(Throughput::Elements(hits));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    let mut world = world.borrow_mut();
                    world.drain();
                    world.burst(burst, ranges)
                },
                |revisions| {
                    let hub = &mut world.borrow_mut().hub;
                    hub.committed(revisions);
                    hub.pass_on();
                    hub.turn();
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// One stream with 10,000 watchers of one key and the queue of the server: every event is sent in many rounds.
fn narrow_stream(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("narrow_stream");
    let mut world = World::new(1, 10_000, 0);
    // The same watchers, but on a queue with bounds.
    let (sink, reader, _) = sink(rusd_watch::limits::SINK);
    world.hub.close(StreamId(0));
    world.hub.open(StreamId(0), sink, 0);
    world.readers = vec![reader];
    for _ in 0..10_000 {
        let request = WatchCreateRequest {
            key: key(0).into(),
            ..WatchCreateRequest::default()
        };
        let seen = Seen {
            revision: world.revision,
            compacted_revision: -1,
        };
        world
            .hub
            .request(StreamId(0), StreamRequest::Create { request, seen });
    }
    world.hub.turn();
    world.drain();
    world.hub.sink_ready(StreamId(0));
    group.throughput(Throughput::Elements(10_000));
    group.bench_function(
        "1 event, 10000 watchers of a key, with its reader",
        |bencher| {
            bencher.iter(|| {
                let revisions = world.burst(1, 0);
                world.hub.committed(revisions);
                world.hub.pass_on();
                world.hub.turn();
                let mut received = 0;
                while received < 10_000 {
                    let (_, wake) = world.readers[0].try_next().unwrap();
                    received += 1;
                    if wake {
                        world.hub.sink_ready(StreamId(0));
                        world.hub.turn();
                    }
                }
            });
        },
    );
    group.finish();
}

criterion_group!(benches, fan_out, narrow_stream);
criterion_main!(benches);
