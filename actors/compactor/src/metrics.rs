//! etcd's metrics of compaction (section 4.5 of the contract).

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, exponential_buckets};
use std::sync::LazyLock;

/// Records removed.
pub(crate) static KEYS: LazyLock<IntCounter> = LazyLock::new(|| {
    registered(IntCounter::new(
        "etcd_debugging_mvcc_db_compaction_keys_total",
        "Total number of db keys compacted.",
    ))
});

/// When the last removal ended.
pub(crate) static LAST: LazyLock<Gauge> = LazyLock::new(|| {
    registered(Gauge::new(
        "etcd_debugging_mvcc_db_compaction_last",
        "The unix time of the last db compaction. Resets to 0 on start.",
    ))
});

/// How long a step took, from asking for it, the state machine's queue included: 1 ms to 4 s.
pub(crate) static PAUSE: LazyLock<Histogram> = LazyLock::new(|| {
    histogram(
        "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
        "Bucketed histogram of db compaction pause duration.",
        (1.0, 13),
    )
});

/// How long a removal took, pauses included: 100 ms to 14 min.
pub(crate) static TOTAL: LazyLock<Histogram> = LazyLock::new(|| {
    histogram(
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        "Bucketed histogram of db compaction total duration.",
        (100.0, 14),
    )
});

/// Makes them visible before the first compaction.
pub(crate) fn init() {
    LazyLock::force(&KEYS);
    LazyLock::force(&LAST);
    LazyLock::force(&PAUSE);
    LazyLock::force(&TOTAL);
}

/// Buckets that double from the first one on.
fn histogram(name: &str, help: &str, (first, count): (f64, usize)) -> Histogram {
    let buckets = exponential_buckets(first, 2.0, count).unwrap_or_default();
    registered(Histogram::with_opts(
        HistogramOpts::new(name, help).buckets(buckets),
    ))
}

/// Registers a metric whose name is a constant of this program.
#[allow(clippy::expect_used)] // Only a misspelt constant can fail here, and every test run would show it.
fn registered<M: prometheus::core::Collector + Clone + 'static>(
    metric: prometheus::Result<M>,
) -> M {
    let metric = metric.expect("the metric's name and labels are valid");
    prometheus::register(Box::new(metric.clone())).expect("the metric is registered once");
    metric
}
