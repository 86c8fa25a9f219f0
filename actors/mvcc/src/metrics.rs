//! Gauges, counters and durations of the store, under etcd's names.

use prometheus::{Histogram, HistogramVec, IntCounter, IntGauge};
use rusd_messages::metrics::{counter, gauge, histogram, histograms};
use rusd_proto::etcdserverpb::{
    DeleteRangeResponse, PutResponse, TxnResponse, response_op::Response,
};
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
        }
    };
}

metrics! {
    /// Puts applied.
    PUTS: IntCounter = counter("etcd_mvcc_put_total", "Puts applied by this member.");
    /// Deletes applied.
    DELETES: IntCounter = counter("etcd_mvcc_delete_total", "Deletes applied by this member.");
    /// Transactions of the store.
    TXNS: IntCounter = counter("etcd_mvcc_txn_total", "Requests with more than one operation on keys.");
    /// Ranges read.
    RANGES: IntCounter = counter("etcd_mvcc_range_total", "Ranges read on this member.");
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

/// Counts a transaction that was answered without the log, and had so many compares.
pub fn count_read_only(compares: usize, response: &TxnResponse) {
    let mut operations = Operations::of(response);
    operations.ranges += Operations::compares(compares, response.succeeded).ranges;
    operations.count();
}

/// Counts the compares of a transaction that writes: for etcd's store they are a transaction before it.
pub fn count_compares(compares: usize, succeeded: bool) {
    Operations::compares(compares, succeeded).count();
}

/// What a request has asked of the store, as etcd counts it: every look at keys is a range, and a transaction is what
/// has more than one operation. Near enough, for what a reply does not show is not counted: a look for a previous
/// record that there was not, a value or lease that was kept, the compares of nested transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Operations {
    ranges: u64,
    puts: u64,
    deletes: u64,
}

impl Operations {
    /// Each is a range, up to the first that does not hold. Which one that was is not known here: most have one.
    fn compares(compares: usize, succeeded: bool) -> Self {
        let looked_at = if succeeded { compares } else { compares.min(1) };
        Self {
            ranges: looked_at as u64,
            ..Self::default()
        }
    }

    fn put(response: &PutResponse) -> Self {
        Self {
            ranges: (!response.prev_kv.is_empty()).into(),
            puts: 1,
            deletes: 0,
        }
    }

    /// A delete counts whether it found keys or not.
    fn delete(response: &DeleteRangeResponse) -> Self {
        Self {
            ranges: (!response.prev_kvs.is_empty()).into(),
            puts: 0,
            deletes: 1,
        }
    }

    fn of(txn: &TxnResponse) -> Self {
        let mut all = Self::default();
        for response in &txn.responses {
            let one = match &response.response {
                Some(Response::ResponseRange(_)) => Self {
                    ranges: 1,
                    ..Self::default()
                },
                Some(Response::ResponsePut(response)) => Self::put(response),
                Some(Response::ResponseDeleteRange(response)) => Self::delete(response),
                Some(Response::ResponseTxn(nested)) => Self::of(nested),
                None => Self::default(),
            };
            all.ranges += one.ranges;
            all.puts += one.puts;
            all.deletes += one.deletes;
        }
        all
    }

    fn count(self) {
        RANGES.inc_by(self.ranges);
        DELETES.inc_by(self.deletes);
        if self.ranges + self.puts + self.deletes > 1 {
            TXNS.inc();
        }
    }
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
    REVISION.set(view.revision());
    COMPACTED.set(view.compacted_revision());
}
