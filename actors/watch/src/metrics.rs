//! The numbers that etcd's dashboards read about watches.

use crate::hub::Counts;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntGauge, exponential_buckets, register_histogram,
    register_int_counter, register_int_gauge,
};
use std::sync::LazyLock;

#[allow(clippy::expect_used)] // Fails only for a name that is misspelt or registered twice: constants here.
fn gauge(name: &str, help: &str) -> IntGauge {
    register_int_gauge!(name, help).expect("a valid metric, registered once")
}

static STREAMS: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "etcd_debugging_mvcc_watch_stream_total",
        "Open watch streams.",
    )
});
static WATCHERS: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("etcd_debugging_mvcc_watcher_total", "Watchers."));
static SLOW: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "etcd_debugging_mvcc_slow_watcher_total",
        "Watchers that are fed from the past because they are behind.",
    )
});
static PENDING: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "etcd_debugging_mvcc_pending_events_total",
        "Events that wait in the queues of streams.",
    )
});
#[allow(clippy::expect_used)] // As in `gauge`.
static EVENTS: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "etcd_debugging_mvcc_events_total",
        "Events sent by this member."
    )
    .expect("a valid metric, registered once")
});

/// How long it took to tell those watches of their progress that are told periodically.
#[allow(clippy::expect_used)] // As in `gauge`; the buckets are constants as well.
pub(crate) static PROGRESS_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    let buckets = exponential_buckets(0.001, 2.0, 14).expect("valid buckets");
    let options = HistogramOpts::new(
        "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
        "Time to tell a stream's watches of their progress.",
    )
    .buckets(buckets);
    register_histogram!(options).expect("a valid metric, registered once")
});

/// Registers everything at zero, as scrapers expect.
pub fn init() {
    for gauge in [&STREAMS, &WATCHERS, &SLOW, &PENDING] {
        LazyLock::force(gauge);
    }
    LazyLock::force(&EVENTS);
    LazyLock::force(&PROGRESS_SECONDS);
}

/// Publishes what has changed since `before`.
pub fn publish(before: &Counts, now: &Counts) {
    STREAMS.set(now.streams as i64);
    WATCHERS.set(now.watchers as i64);
    SLOW.set(now.unsynced as i64);
    EVENTS.inc_by(now.events_sent - before.events_sent);
}

/// Publishes how many events wait.
pub fn publish_waiting(events: usize) {
    PENDING.set(events as i64);
}
