//! The shell between probes: the actor on a real arbiter, everything around it recorded.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use actix::System;
use rusd_messages::reader::History;
use rusd_messages::watch::{
    CloseStream, Committed, Content, FromStream, HistoryPage, Lagged, OpenStream, Response, Seen,
    SinkLimits, SinkReader, SinkReady, StreamId, StreamRequest, WakeThrough, WatchDemand, sink,
};
use rusd_messages::{Port, Probe, Reply, Stop, Tick};
use rusd_proto::etcdserverpb::WatchCreateRequest;
use rusd_watch::{HistoryRequest, Links, Ports, WatchConfig};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;
use support::Store;

/// Long enough for a busy machine; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

struct Around {
    ports: Ports,
    demand: Arc<WatchDemand>,
    history: Probe<History>,
    runtime: tokio::runtime::Runtime,
    system: System,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Around {
    fn start() -> Self {
        Self::with_ring(1 << 20)
    }

    fn with_ring(ring_bytes: usize) -> Self {
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runner = System::new();
            sender.send(System::current()).unwrap();
            runner.run().unwrap();
        });
        let system = receiver.recv().unwrap();
        let config = WatchConfig {
            progress_notify_interval: Duration::from_millis(500),
            ring_bytes,
        };
        let started = rusd_watch::start(system.arbiter(), config);
        let (history, probe) = Port::probe(1);
        let demand = started.demand.clone();
        let ports = started.connect(Links { history });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        Self {
            ports,
            demand,
            history: probe,
            runtime,
            system,
            thread: Some(thread),
        }
    }

    fn open(&self, stream: u64, limits: SinkLimits) -> SinkReader {
        let (sink, reader, _) = sink(limits);
        let stream = StreamId(stream);
        self.ports.open.tell(OpenStream { stream, sink }).unwrap();
        reader
    }

    fn create(&self, stream: u64, start_revision: i64, prev_kv: bool) {
        let request = WatchCreateRequest {
            key: "k".into(),
            start_revision,
            prev_kv,
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        let seen = Seen {
            revision: 0,
            compacted_revision: -1,
        };
        let request = FromStream {
            stream: StreamId(stream),
            request: StreamRequest::Create { request, seen },
        };
        self.ports.request.deliver(request).unwrap();
    }

    fn next(&self, reader: &mut SinkReader) -> Option<(Response, bool)> {
        let next = async { tokio::time::timeout(PATIENCE, reader.next()).await };
        self.runtime.block_on(next).expect("the hub says something")
    }

    fn events(&self, reader: &mut SinkReader) -> (Vec<String>, bool) {
        match self.next(reader) {
            Some((response, wake)) => match response.content {
                Content::Events { events, .. } => {
                    let texts = events
                        .as_slice()
                        .iter()
                        .map(|e| String::from_utf8(e.to_vec()).unwrap());
                    (texts.collect(), wake)
                }
                other => panic!("{other:?}"),
            },
            None => panic!("the stream has ended"),
        }
    }

    fn content(&self, reader: &mut SinkReader) -> Option<Content> {
        self.next(reader).map(|(response, _)| response.content)
    }

    fn commit(&self, store: &mut Store) {
        let revision = store.commit(&[("k".to_owned(), false)]);
        let with_previous = self.demand.previous();
        let revisions = vec![store.told(revision, with_previous)];
        self.ports.committed.tell(Committed { revisions }).unwrap();
    }

    fn answer(&self, store: &Store) {
        let asked = self.history.wait(PATIENCE).expect("history is asked for");
        let request = HistoryRequest {
            token: asked.token,
            from_revision: asked.from_revision,
            through_revision: asked.through_revision,
            max_bytes: asked.max_bytes,
            with_previous: asked.with_previous,
        };
        let page = HistoryPage {
            token: asked.token,
            result: store.page(&request),
        };
        asked.reply.deliver(page).unwrap();
    }
}

impl Drop for Around {
    fn drop(&mut self) {
        self.system.stop();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

const ROOMY: SinkLimits = SinkLimits {
    responses: 100,
    bytes: 10_000,
    requests: 10,
};

#[test]
fn w_05_a_watch_from_the_past_reads_history_and_goes_on_live() {
    let around = Around::start();
    let mut store = Store::new();
    for _ in 0..3 {
        store.commit(&[("k".to_owned(), false)]);
    }
    around.ports.lagged.tell(Lagged { through: 4 }).unwrap();
    let mut reader = around.open(1, ROOMY);
    around.create(1, 3, true);
    assert_eq!(around.content(&mut reader), Some(Content::Created));
    assert!(around.demand.previous());
    around.commit(&mut store);
    around.answer(&store);
    assert_eq!(
        around.events(&mut reader).0,
        ["3:put k (was 2)", "4:put k (was 3)"]
    );
    assert_eq!(around.events(&mut reader).0, ["5:put k (was 4)"]);
}

/// While there is no stream the state machine does not tell the hub what is written.
#[test]
fn w_16_the_first_stream_knows_what_was_written_before_it() {
    let around = Around::start();
    let mut store = Store::new();
    for _ in 0..3 {
        store.commit(&[("k".to_owned(), false)]);
    }
    assert!(!around.demand.published(4));
    let mut reader = around.open(1, ROOMY);
    around.create(1, 0, false);
    assert_eq!(around.content(&mut reader), Some(Content::Created));
    let stream = StreamId(1);
    let request = StreamRequest::Progress;
    let progress = FromStream { stream, request };
    around.ports.request.deliver(progress).unwrap();
    let (response, _) = around.next(&mut reader).unwrap();
    assert_eq!(response.content, Content::ProgressOfAll);
    assert_eq!(response.revision, 4);
    assert!(around.demand.published(5));
    around.commit(&mut store);
    assert_eq!(around.events(&mut reader).0, ["5:put k"]);
}

#[test]
fn w_18_a_stalled_stream_is_fed_when_it_says_that_it_has_room() {
    let around = Around::start();
    let mut store = Store::new();
    let limits = SinkLimits {
        responses: 1,
        ..ROOMY
    };
    let mut reader = around.open(1, limits);
    around.create(1, 0, false);
    assert_eq!(around.content(&mut reader), Some(Content::Created));
    around.commit(&mut store);
    // Waits until the first revision is in the queue, so that the others find it full.
    let (first, _) = around.events(&mut reader);
    assert_eq!(first, ["2:put k"]);
    for _ in 0..20 {
        around.commit(&mut store);
    }
    let mut received = Vec::new();
    while received.len() < 20 {
        let (events, wake) = around.events(&mut reader);
        received.extend(events);
        if wake {
            let stream = StreamId(1);
            around
                .ports
                .sink_ready
                .deliver(SinkReady { stream })
                .unwrap();
        }
    }
    let expected: Vec<_> = (3..23)
        .map(|revision| format!("{revision}:put k"))
        .collect();
    assert_eq!(received, expected);
}

/// A watch from revision 2 while the hub remembers everything since then, if it may.
#[test]
fn a_ring_of_no_bytes_leaves_the_recent_past_to_history() {
    for (ring_bytes, asks) in [(1 << 20, false), (0, true)] {
        let around = Around::with_ring(ring_bytes);
        let mut store = Store::new();
        let mut live = around.open(1, ROOMY);
        around.create(1, 0, false);
        assert_eq!(around.content(&mut live), Some(Content::Created));
        around.commit(&mut store);
        assert_eq!(around.events(&mut live).0, ["2:put k"]);

        let mut late = around.open(2, ROOMY);
        around.create(2, 2, false);
        assert_eq!(around.content(&mut late), Some(Content::Created));
        if asks {
            around.answer(&store);
        }
        assert_eq!(around.events(&mut late).0, ["2:put k"]);
        assert!(around.history.next().is_none());
    }
}

#[test]
fn w_15_ticks_drive_periodic_progress() {
    let around = Around::start();
    let mut reader = around.open(1, ROOMY);
    around.create(1, 0, false);
    assert_eq!(around.content(&mut reader), Some(Content::Created));
    around.ports.tick.tell(Tick { now_ms: 10_000 }).unwrap();
    assert_eq!(around.content(&mut reader), Some(Content::Progress));
}

#[test]
fn closing_a_stream_forgets_its_watches() {
    let around = Around::start();
    let mut reader = around.open(1, ROOMY);
    around.create(1, 0, true);
    assert_eq!(around.content(&mut reader), Some(Content::Created));
    let stream = StreamId(1);
    around.ports.close.deliver(CloseStream { stream }).unwrap();
    assert_eq!(around.content(&mut reader), None);
    // The hub lets go of the sink while it handles the message, and publishes after.
    let mut last = around.open(2, ROOMY);
    around.create(2, 0, false);
    assert_eq!(around.content(&mut last), Some(Content::Created));
    assert!(!around.demand.previous());
}

#[test]
fn stopping_ends_every_stream_after_what_it_was_sent() {
    let around = Around::start();
    let mut reader = around.open(1, ROOMY);
    around.create(1, 0, false);
    let (reply, stopped) = Reply::channel();
    around.ports.stop.tell(Stop { reply }).unwrap();
    stopped.wait().unwrap();
    assert_eq!(around.content(&mut reader), Some(Content::Created));
    assert_eq!(around.content(&mut reader), None);
    let mut late = around.open(2, ROOMY);
    assert_eq!(around.content(&mut late), None);
}

#[test]
fn many_streams_are_woken_with_one_message() {
    let around = Around::start();
    let (port, woken) = Port::probe(10);
    around
        .ports
        .wake_through
        .tell(WakeThrough { port })
        .unwrap();
    let mut readers: Vec<_> = (1..=3).map(|stream| around.open(stream, ROOMY)).collect();
    for (stream, reader) in (1..).zip(&mut readers) {
        around.create(stream, 0, false);
        assert_eq!(around.content(reader), Some(Content::Created));
        // Goes to sleep on an empty queue.
        let mut context = Context::from_waker(Waker::noop());
        assert!(reader.poll_next(&mut context).is_pending());
    }
    around.commit(&mut Store::new());
    let wake = woken.wait(PATIENCE).expect("the hub wakes the streams");
    assert_eq!(wake.wakers.len(), 3);
    for reader in &mut readers {
        assert_eq!(around.events(reader).0, ["2:put k"]);
    }
}
