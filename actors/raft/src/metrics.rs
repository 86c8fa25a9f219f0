//! What this room counts, under etcd's names, which `tests/go/differential/metrics_test.go` compares.

use crate::core::Counts;
use prometheus::{Histogram, IntCounter, IntGauge};
use rusd_messages::metrics::{counter, gauge, histogram};
use std::sync::LazyLock;

/// From one millisecond on, each bucket twice the one before: etcd's buckets for the disk.
const DISK_SECONDS: (f64, f64, usize) = (0.001, 2.0, 14);

macro_rules! metrics {
    ($($name:ident: $kind:ident = $register:ident($metric:literal, $help:literal $(, $buckets:expr)?);)*) => {
        $(
            #[doc = $help]
            pub(crate) static $name: LazyLock<$kind> =
                LazyLock::new(|| $register($metric, $help $(, $buckets)?));
        )*

        /// Registers them all, so that each is exposed from the start.
        pub fn init() {
            $(LazyLock::force(&$name);)*
        }
    };
}

metrics! {
    HAS_LEADER: IntGauge = gauge("etcd_server_has_leader", "1 while a leader is known.");
    IS_LEADER: IntGauge = gauge("etcd_server_is_leader", "1 while this member leads.");
    LEADER_CHANGES: IntCounter = counter("etcd_server_leader_changes_seen_total", "Leaders seen to take over.");
    HEARTBEAT_SEND_FAILURES: IntCounter = counter("etcd_server_heartbeat_send_failures_total",
        "Heartbeats sent late, most likely because the disk is slow.");
    SLOW_READ_INDEXES: IntCounter = counter("etcd_server_slow_read_indexes_total",
        "Confirmations of leadership for reads that did not come in time.");
    READ_INDEXES_FAILED: IntCounter = counter("etcd_server_read_indexes_failed_total",
        "Confirmations of leadership for reads that failed.");
    PROPOSALS_COMMITTED: IntGauge = gauge("etcd_server_proposals_committed_total", "The commit index.");
    PROPOSALS_APPLIED: IntGauge = gauge("etcd_server_proposals_applied_total", "The applied index.");
    PROPOSALS_PENDING: IntGauge = gauge("etcd_server_proposals_pending", "Proposals that wait to be committed.");
    PROPOSALS_FAILED: IntCounter = counter("etcd_server_proposals_failed_total", "Proposals that failed.");
    WAL_WRITE_BYTES: IntGauge = gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log.");
    WAL_FSYNC_SECONDS: Histogram = histogram("etcd_disk_wal_fsync_duration_seconds",
        "Durations of syncing the log.", DISK_SECONDS);
    WAL_WRITE_SECONDS: Histogram = histogram("etcd_disk_wal_write_duration_seconds",
        "Durations of writing a batch to the log, syncing included.", DISK_SECONDS);
}

/// Makes public what the core has counted. `before` is what the same core had counted the last time: gauges and
/// counters of the process move by the difference.
pub(crate) fn publish(before: &Counts, now: &Counts) {
    if before == now {
        return;
    }
    LEADER_CHANGES.inc_by(now.leader_changes - before.leader_changes);
    HEARTBEAT_SEND_FAILURES.inc_by(now.late_heartbeats - before.late_heartbeats);
    SLOW_READ_INDEXES.inc_by(now.slow_read_rounds - before.slow_read_rounds);
    READ_INDEXES_FAILED.inc_by(now.failed_read_rounds - before.failed_read_rounds);
    PROPOSALS_FAILED.inc_by(now.failed_proposals - before.failed_proposals);
    PROPOSALS_PENDING.add(as_gauge(now.waiting_proposals) - as_gauge(before.waiting_proposals));
    PROPOSALS_COMMITTED.set(as_gauge(now.committed.0));
    PROPOSALS_APPLIED.set(as_gauge(now.applied.0));
    HAS_LEADER.set(i64::from(now.has_leader));
    IS_LEADER.set(i64::from(now.leads));
}

fn as_gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
