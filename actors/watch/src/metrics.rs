//! The numbers that etcd's dashboards read about watches.

use crate::hub::Counts;
use prometheus::{IntCounter, IntGauge, register_int_counter, register_int_gauge};
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

/// Registers everything at zero, as scrapers expect.
pub fn init() {
    for gauge in [&STREAMS, &WATCHERS, &SLOW, &PENDING] {
        LazyLock::force(gauge);
    }
    LazyLock::force(&EVENTS);
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
