//! etcd's metrics of compaction; `tests/go/differential/metrics_test.go` compares their names.

use prometheus::{Gauge, Histogram, IntCounter};
use rusd_messages::metrics::{counter, float_gauge, histogram};
use std::sync::LazyLock;

/// Records removed.
pub(crate) static KEYS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "etcd_debugging_mvcc_db_compaction_keys_total",
        "Total number of db keys compacted.",
    )
});

/// When the last removal ended.
pub(crate) static LAST: LazyLock<Gauge> = LazyLock::new(|| {
    float_gauge(
        "etcd_debugging_mvcc_db_compaction_last",
        "The unix time of the last db compaction. Resets to 0 on start.",
    )
});

/// How long a step took, from asking for it, the state machine's queue included: 1 ms to 4 s.
pub(crate) static PAUSE: LazyLock<Histogram> = LazyLock::new(|| {
    histogram(
        "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
        "Bucketed histogram of db compaction pause duration.",
        (1.0, 2.0, 13),
    )
});

/// How long a removal took, pauses included: 100 ms to 14 min.
pub(crate) static TOTAL: LazyLock<Histogram> = LazyLock::new(|| {
    histogram(
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        "Bucketed histogram of db compaction total duration.",
        (100.0, 2.0, 14),
    )
});

/// Makes them visible before the first compaction.
pub(crate) fn init() {
    LazyLock::force(&KEYS);
    LazyLock::force(&LAST);
    LazyLock::force(&PAUSE);
    LazyLock::force(&TOTAL);
}
