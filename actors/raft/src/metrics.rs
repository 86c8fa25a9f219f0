//! What this room counts, under etcd's names (contract 4.5).

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, exponential_buckets};
use std::sync::LazyLock;

/// Registers a metric whose name is a constant of this program.
#[allow(clippy::expect_used)] // Only a misspelt constant can fail here, and every test run would show it.
fn registered<M: prometheus::core::Collector + Clone + 'static>(
    metric: prometheus::Result<M>,
) -> M {
    let metric = metric.expect("the metric's name and options are valid");
    prometheus::register(Box::new(metric.clone())).expect("the metric is registered once");
    metric
}

macro_rules! metrics {
    ($($name:ident: $kind:ident = $metric:literal, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $name: LazyLock<$kind> = LazyLock::new(|| registered($kind::new($metric, $help)));
        )*

        /// Registers them all, so that each is exposed from the start.
        pub fn init() {
            $(LazyLock::force(&$name);)*
            LazyLock::force(&WAL_FSYNC_SECONDS);
            LazyLock::force(&WAL_WRITE_SECONDS);
        }
    };
}

metrics! {
    HAS_LEADER: IntGauge = "etcd_server_has_leader", "1 while a leader is known.";
    IS_LEADER: IntGauge = "etcd_server_is_leader", "1 while this member leads.";
    LEADER_CHANGES: IntCounter = "etcd_server_leader_changes_seen_total", "Leaders seen to take over.";
    HEARTBEAT_SEND_FAILURES: IntCounter = "etcd_server_heartbeat_send_failures_total",
        "Heartbeats sent late, most likely because the disk is slow.";
    SLOW_READ_INDEXES: IntCounter = "etcd_server_slow_read_indexes_total",
        "Confirmations of leadership for reads that did not come in time.";
    READ_INDEXES_FAILED: IntCounter = "etcd_server_read_indexes_failed_total",
        "Confirmations of leadership for reads that failed.";
    PROPOSALS_COMMITTED: IntGauge = "etcd_server_proposals_committed_total", "The commit index.";
    PROPOSALS_APPLIED: IntGauge = "etcd_server_proposals_applied_total", "The applied index.";
    PROPOSALS_PENDING: IntGauge = "etcd_server_proposals_pending", "Proposals that wait to be committed.";
    PROPOSALS_FAILED: IntCounter = "etcd_server_proposals_failed_total", "Proposals that failed.";
    WAL_WRITE_BYTES: IntGauge = "etcd_disk_wal_write_bytes_total", "Bytes written to the log.";
}

fn durations(name: &str, help: &str) -> Histogram {
    let opts = exponential_buckets(0.001, 2.0, 14)
        .map(|buckets| HistogramOpts::new(name, help).buckets(buckets));
    registered(opts.and_then(Histogram::with_opts))
}

/// Durations of syncing the log.
pub static WAL_FSYNC_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    durations(
        "etcd_disk_wal_fsync_duration_seconds",
        "Durations of syncing the log.",
    )
});

/// Durations of writing to the log, syncing included.
pub static WAL_WRITE_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    durations(
        "etcd_disk_wal_write_duration_seconds",
        "Durations of writing a batch to the log, syncing included.",
    )
});
