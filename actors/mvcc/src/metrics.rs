//! Gauges, counters and durations of the store, under etcd's names.

use prometheus::{Histogram, HistogramVec, IntCounter, IntGauge};
use rusd_messages::metrics::{counter, gauge, histogram, histograms};
use rusd_messages::operations::{self, Operations};
use rusd_proto::{ApplyReply, ApplyResult, EtcdError, RequestKind};
use rusd_state::Applied;
use rusd_storage::{Change, ChangeKind, ReadAt, ReadView, Record};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $make:expr;)*) => {
        $($(#[$doc])*
        pub static $name: LazyLock<$type> = LazyLock::new(|| $make);)*

        /// Registers all of them, so that they exist from the first scrape on.
        pub fn init() {
            $(LazyLock::force(&$name);)*
            operations::init();
        }
    };
}

metrics! {
    /// Puts applied.
    PUTS: IntCounter = counter("etcd_mvcc_put_total", "Puts applied by this member.");
    /// Keys and values written.
    PUT_BYTES: IntGauge = gauge(
        "etcd_debugging_mvcc_total_put_size_in_bytes",
        "Bytes of the keys and values put on this member.",
    );
    /// 1 while the engine is rewritten.
    DEFRAG_INFLIGHT: IntGauge =
        gauge("etcd_disk_defrag_inflight", "1 while the storage engine is rewritten.");
    /// Logical size.
    DB_SIZE: IntGauge = gauge("etcd_mvcc_db_total_size_in_bytes", "Logical size of the database.");
    /// Logical size again: what is freed is free at once.
    DB_SIZE_IN_USE: IntGauge = gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Logical size of the database in use.",
    );
    /// Live keys.
    KEYS: IntGauge = gauge("etcd_debugging_mvcc_keys_total", "Live keys.");
    /// Current revision.
    REVISION: IntGauge = gauge("etcd_debugging_mvcc_current_revision", "The current revision.");
    /// Compacted revision.
    COMPACTED: IntGauge =
        gauge("etcd_debugging_mvcc_compact_revision", "The last compacted revision.");
    /// Batches that took longer than they should.
    SLOW_APPLIES: IntCounter =
        counter("etcd_server_slow_apply_total", "Applies slower than expected.");
    /// How long the engine's thread took for a batch: 1 ms to 8 s.
    COMMIT_SECONDS: Histogram = histogram(
        "etcd_disk_backend_commit_duration_seconds",
        "Time to write a batch of applied entries to the storage engine.",
        (0.001, 2.0, 14),
    );
    /// How long a rewrite of the engine took: 100 ms to 7 min.
    DEFRAG_SECONDS: Histogram = histogram(
        "etcd_disk_backend_defrag_duration_seconds",
        "Time to rewrite the storage engine, serving meanwhile.",
        (0.1, 2.0, 13),
    );
}

/// How long an entry took to apply: 100 us to 52 s. Made when first used, so that no series exists before it has
/// counted.
static APPLY_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    histograms(
        "etcd_server_apply_duration_seconds",
        "Time to apply a request to the state machine.",
        &["version", "op", "success"],
        (0.0001, 2.0, 20),
    )
});

/// The series of every kind, failed and successful: looked up by label when first needed, by place from then on.
static APPLY_SERIES: [[OnceLock<Histogram>; 2]; RequestKind::COUNT] =
    [const { [const { OnceLock::new() }; 2] }; RequestKind::COUNT];

/// Counts what an applied entry did, and how long it took.
pub(crate) fn applied(kind: Option<RequestKind>, applied: &Applied, took: Duration) {
    count(applied);
    if let Some(kind) = kind {
        applied_in(kind, is_success(&applied.result), took);
    }
}

/// Whether an apply counts as successful: what has been compacted is no failure of the server's.
fn is_success(result: &ApplyResult) -> bool {
    matches!(result, Ok(_) | Err(EtcdError::Compacted))
}

/// Counts how long an entry took to apply.
fn applied_in(kind: RequestKind, success: bool, took: Duration) {
    let [failed, succeeded] = &APPLY_SERIES[kind as usize];
    let series = if success { succeeded } else { failed };
    let series = series.get_or_init(|| {
        let success = if success { "true" } else { "false" };
        APPLY_SECONDS.with_label_values(&["v3", kind.name(), success])
    });
    series.observe(took.as_secs_f64());
}

/// Counts what an applied entry did.
fn count(applied: &Applied) {
    let (mut puts, mut put_bytes, mut deleted) = (0, 0, 0);
    for change in &applied.changes {
        match change.kind {
            ChangeKind::Put => {
                puts += 1;
                put_bytes += key_and_value_bytes(change);
            }
            ChangeKind::Delete => deleted += 1,
        }
    }
    if puts > 0 {
        PUTS.inc_by(puts);
        PUT_BYTES.add(i64::try_from(put_bytes).unwrap_or(i64::MAX));
    }
    let operations = match &applied.result {
        Ok(ApplyReply::Put(response)) => Operations::put(response),
        Ok(ApplyReply::DeleteRange(response)) => Operations::delete(response),
        // Every key of the lease is deleted by itself.
        Ok(ApplyReply::LeaseRevoke(_)) => Operations {
            deletes: deleted,
            ..Operations::default()
        },
        Ok(ApplyReply::Txn(response)) => Operations::of(response),
        // etcd asks its store for the revision with a range.
        Ok(ApplyReply::Compact(_)) => Operations {
            ranges: 1,
            ..Operations::default()
        },
        _ => Operations::default(),
    };
    operations.count();
}

fn key_and_value_bytes(change: &Change) -> usize {
    let record = Record {
        bytes: change.record.clone(),
    };
    change.key.len() + record.value().map_or(0, |value| value.len())
}

/// Publishes sizes and revisions.
pub fn publish(view: &ReadView) {
    let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let sizes = view.sizes();
    DB_SIZE.set(gauge(sizes.reported_bytes()));
    DB_SIZE_IN_USE.set(gauge(sizes.reported_bytes()));
    KEYS.set(gauge(sizes.keys));
    REVISION.set(view.revision().0);
    COMPACTED.set(view.compacted_revision().0);
}
