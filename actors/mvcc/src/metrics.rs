//! Gauges and counters of the store, under etcd's names.

use prometheus::{IntCounter, IntGauge, register_int_counter, register_int_gauge};
use rusd_proto::ApplyReply;
use rusd_storage::Sizes;
use std::sync::LazyLock;

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident: $type:ident = $register:ident($metric:literal, $help:literal);)*) => {
        $($(#[$doc])*
        #[allow(clippy::expect_used)] // A constant name, registered once.
        pub static $name: LazyLock<$type> =
            LazyLock::new(|| $register!($metric, $help).expect("registered once"));)*

        /// Registers all of them, so that they exist from the first scrape on.
        pub fn init() {
            $(LazyLock::force(&$name);)*
        }
    };
}

metrics! {
    /// Puts applied.
    PUTS: IntCounter = register_int_counter("etcd_mvcc_put_total", "Puts applied by this member.");
    /// Deletes applied.
    DELETES: IntCounter = register_int_counter("etcd_mvcc_delete_total", "Deletes applied by this member.");
    /// Transactions applied.
    TXNS: IntCounter = register_int_counter("etcd_mvcc_txn_total", "Transactions applied by this member.");
    /// Ranges read.
    RANGES: IntCounter = register_int_counter("etcd_mvcc_range_total", "Ranges read on this member.");
    /// Logical size.
    DB_SIZE: IntGauge = register_int_gauge("etcd_mvcc_db_total_size_in_bytes", "Logical size of the database.");
    /// Logical size again: what is freed is free at once.
    DB_SIZE_IN_USE: IntGauge =
        register_int_gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Logical size of the database in use.");
    /// Live keys.
    KEYS: IntGauge = register_int_gauge("etcd_debugging_mvcc_keys_total", "Live keys.");
    /// Current revision.
    REVISION: IntGauge = register_int_gauge("etcd_debugging_mvcc_current_revision", "The current revision.");
    /// Compacted revision.
    COMPACTED: IntGauge = register_int_gauge("etcd_debugging_mvcc_compact_revision", "The last compacted revision.");
    /// Batches that took longer than they should.
    SLOW_APPLIES: IntCounter = register_int_counter("etcd_server_slow_apply_total", "Applies slower than expected.");
}

/// Counts what an applied entry did.
pub fn count(reply: &ApplyReply) {
    match reply {
        ApplyReply::Put(_) => PUTS.inc(),
        ApplyReply::DeleteRange(_) => DELETES.inc(),
        ApplyReply::Txn(_) => TXNS.inc(),
        _ => {}
    }
}

/// Publishes sizes and revisions.
pub fn publish(sizes: &Sizes, revision: i64, compacted: i64) {
    let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    DB_SIZE.set(gauge(sizes.logical_bytes));
    DB_SIZE_IN_USE.set(gauge(sizes.in_use_bytes));
    KEYS.set(gauge(sizes.keys));
    REVISION.set(revision);
    COMPACTED.set(compacted);
}
