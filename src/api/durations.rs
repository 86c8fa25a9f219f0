//! How long requests take, under etcd's names.
//!
//! A series is looked up by its labels when it is first needed and by its place from then on: an observation is
//! a handful of atomic additions. Watch streams count for themselves and add up when they are idle, because many
//! of them send at once.

use prometheus::local::LocalHistogram;
use prometheus::{Histogram, HistogramVec};
use rusd_messages::metrics::{histogram, histograms};
use rusd_proto::RequestKind;
use rusd_proto::etcdserverpb::WatchResponse;
use std::sync::{LazyLock, OnceLock};
use std::time::Instant;

/// Buckets that double from the first on: the first in seconds, the factor, how many.
type Buckets = (f64, f64, usize);

const REQUEST_BUCKETS: Buckets = (0.001, 2.0, 14);
const RANGE_BUCKETS: Buckets = (0.0001, 2.0, 20);
const HASH_BUCKETS: Buckets = (0.01, 2.0, 15);

static REQUEST_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    histograms(
        "etcd_server_request_duration_seconds",
        "Time to answer a request, by its type.",
        &["type", "success"],
        REQUEST_BUCKETS,
    )
});
static RANGE_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    histograms(
        "etcd_server_range_duration_seconds",
        "Time to read a range, once the view is new enough.",
        &["success"],
        RANGE_BUCKETS,
    )
});
static HASH_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    histogram(
        "etcd_mvcc_hash_duration_seconds",
        "Time of a Hash, its wait for a reader included.",
        HASH_BUCKETS,
    )
});
static HASH_KV_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    histogram(
        "etcd_mvcc_hash_rev_duration_seconds",
        "Time of a HashKV, its wait for a reader included.",
        HASH_BUCKETS,
    )
});
static CONTROL_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    histogram(
        "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
        "Time to send a response that creates or cancels a watch.",
        REQUEST_BUCKETS,
    )
});
static WATCH_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    histogram(
        "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
        "Time to send a response of a watch, with all its events.",
        REQUEST_BUCKETS,
    )
});
static EVENT_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    histogram(
        "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
        "Time to send a response of a watch, divided by its events.",
        REQUEST_BUCKETS,
    )
});

/// Registers those without labels, so that they exist from the first scrape on.
pub fn init() {
    for histogram in [
        &HASH_SECONDS,
        &HASH_KV_SECONDS,
        &CONTROL_SECONDS,
        &WATCH_SECONDS,
        &EVENT_SECONDS,
    ] {
        LazyLock::force(histogram);
    }
}

/// The failed and the successful series of a kind of request.
type Series = [OnceLock<Histogram>; 2];

static PROPOSALS: [Series; RequestKind::COUNT] =
    [const { [const { OnceLock::new() }; 2] }; RequestKind::COUNT];
static READ_ONLY_TXNS: Series = [const { OnceLock::new() }; 2];
static RANGES: Series = [const { OnceLock::new() }; 2];

/// A request under way. Counted when it is dropped, as failed unless it was said to have succeeded: a caller that
/// gives up drops it as well.
#[derive(Debug)]
pub struct Timed {
    series: &'static Series,
    vec: &'static LazyLock<HistogramVec>,
    /// The value of the label `type`, where there is one.
    kind: Option<&'static str>,
    started: Instant,
    success: bool,
}

impl Timed {
    fn start(
        series: &'static Series,
        vec: &'static LazyLock<HistogramVec>,
        kind: Option<&'static str>,
    ) -> Self {
        Self {
            series,
            vec,
            kind,
            started: Instant::now(),
            success: false,
        }
    }

    /// A request through the log. It succeeds if it is applied, whatever that comes to.
    pub fn proposal(kind: RequestKind) -> Self {
        let name = match kind {
            RequestKind::Unknown => "Unknown",
            known => known.name(),
        };
        Self::start(&PROPOSALS[kind as usize], &REQUEST_SECONDS, Some(name))
    }

    /// A Range, from the check of leadership on.
    pub fn range_request() -> Self {
        let range = &PROPOSALS[RequestKind::Range as usize];
        Self::start(range, &REQUEST_SECONDS, Some(RequestKind::Range.name()))
    }

    /// A transaction that only reads.
    pub fn read_only_txn() -> Self {
        Self::start(&READ_ONLY_TXNS, &REQUEST_SECONDS, Some("ReadonlyTxn"))
    }

    /// The reading of a range alone.
    pub fn range() -> Self {
        Self::start(&RANGES, &RANGE_SECONDS, None)
    }

    /// Ends with success or not.
    pub fn end(mut self, success: bool) {
        self.success = success;
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        let [failed, succeeded] = self.series;
        let series = if self.success { succeeded } else { failed };
        let series = series.get_or_init(|| {
            let success = if self.success { "true" } else { "false" };
            match self.kind {
                Some(kind) => self.vec.with_label_values(&[kind, success]),
                None => self.vec.with_label_values(&[success]),
            }
        });
        series.observe(self.started.elapsed().as_secs_f64());
    }
}

/// Counts a Hash.
pub fn hashed(started: Instant) {
    HASH_SECONDS.observe(started.elapsed().as_secs_f64());
}

/// Counts a HashKV.
pub fn hashed_kv(started: Instant) {
    HASH_KV_SECONDS.observe(started.elapsed().as_secs_f64());
}

/// What a watch stream sends, timed from taking a response until the transport asks for the next one: flow
/// control is in it.
#[derive(Debug)]
pub struct SendLoop {
    control: LocalHistogram,
    responses: LocalHistogram,
    events: LocalHistogram,
    sending: Option<Sending>,
}

#[derive(Debug)]
struct Sending {
    since: Instant,
    control: bool,
    events: usize,
}

impl SendLoop {
    /// Nothing sent yet.
    pub fn new() -> Self {
        Self {
            control: CONTROL_SECONDS.local(),
            responses: WATCH_SECONDS.local(),
            events: EVENT_SECONDS.local(),
            sending: None,
        }
    }

    /// The transport asks for a response, so it has taken the last one. Returns the time, if it looked at the clock.
    pub fn asked(&mut self) -> Option<Instant> {
        let sent = self.sending.take()?;
        let now = Instant::now();
        let seconds = (now - sent.since).as_secs_f64();
        if sent.control {
            self.control.observe(seconds);
        } else {
            self.responses.observe(seconds);
            if sent.events > 0 {
                self.events.observe(seconds / sent.events as f64);
            }
        }
        Some(now)
    }

    /// Hands a response to the transport; `asked` is when it wanted one.
    pub fn send(&mut self, response: &WatchResponse, asked: Option<Instant>) {
        self.sending = Some(Sending {
            since: asked.unwrap_or_else(Instant::now),
            control: response.created || response.canceled,
            events: response.events.len(),
        });
    }

    /// Adds up what was counted: there is nothing to send.
    pub fn idle(&mut self) {
        self.control.flush();
        self.responses.flush();
        self.events.flush();
    }
}

impl Default for SendLoop {
    fn default() -> Self {
        Self::new()
    }
}
