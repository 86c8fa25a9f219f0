//! The numbers that etcd's dashboards read about watches.

use crate::hub::Counts;
use prometheus::{Histogram, IntCounter, IntGauge};
use rusd_messages::metrics::{counter, gauge, histogram};
use std::sync::LazyLock;

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
static EVENTS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "etcd_debugging_mvcc_events_total",
        "Events sent by this member.",
    )
});

/// How long it took to report their progress to the watches that asked for it.
pub(crate) static PROGRESS_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    histogram(
        "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
        "Time to tell a stream's watches of their progress.",
        (0.001, 2.0, 14),
    )
});

/// Registers everything at zero, as scrapers expect.
pub(crate) fn init() {
    for gauge in [&STREAMS, &WATCHERS, &SLOW, &PENDING] {
        LazyLock::force(gauge);
    }
    LazyLock::force(&EVENTS);
    LazyLock::force(&PROGRESS_SECONDS);
}

/// Publishes what has changed since `before`.
pub(crate) fn publish(before: &Counts, now: &Counts) {
    STREAMS.set(now.streams as i64);
    WATCHERS.set(now.watchers as i64);
    SLOW.set(now.unsynced as i64);
    EVENTS.inc_by(now.events_sent - before.events_sent);
}

/// Publishes how many events wait.
pub(crate) fn publish_waiting(events: usize) {
    PENDING.set(events as i64);
}
