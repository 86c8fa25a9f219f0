//! What requests have asked of the store, as etcd counts it: by the state machine for what it applies, and by those who
//! answer reads for the rest.

use crate::metrics::counter;
use prometheus::IntCounter;
use rusd_proto::etcdserverpb::{
    DeleteRangeResponse, PutResponse, TxnResponse, response_op::Response,
};
use std::sync::LazyLock;

static RANGES: LazyLock<IntCounter> =
    LazyLock::new(|| counter("etcd_mvcc_range_total", "Ranges read on this member."));
static DELETES: LazyLock<IntCounter> =
    LazyLock::new(|| counter("etcd_mvcc_delete_total", "Deletes applied by this member."));
static TXNS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "etcd_mvcc_txn_total",
        "Requests with more than one operation on keys.",
    )
});

/// Registers the counters, so that they exist from the first scrape on.
pub fn init() {
    for counter in [&RANGES, &DELETES, &TXNS] {
        LazyLock::force(counter);
    }
}

/// Counts a range that was read without the log.
pub fn count_range() {
    RANGES.inc();
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
pub struct Operations {
    /// Looks at keys.
    pub ranges: u64,
    /// Puts.
    pub puts: u64,
    /// Deletes.
    pub deletes: u64,
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

    /// Of a put.
    pub fn put(response: &PutResponse) -> Self {
        Self {
            ranges: (!response.prev_kv.is_empty()).into(),
            puts: 1,
            deletes: 0,
        }
    }

    /// A delete counts whether it found keys or not.
    pub fn delete(response: &DeleteRangeResponse) -> Self {
        Self {
            ranges: (!response.prev_kvs.is_empty()).into(),
            puts: 0,
            deletes: 1,
        }
    }

    /// Of all operations of a transaction that ran.
    pub fn of(txn: &TxnResponse) -> Self {
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

    /// Adds them to the counters. Puts are counted by who applies them, with their bytes.
    pub fn count(self) {
        RANGES.inc_by(self.ranges);
        DELETES.inc_by(self.deletes);
        if self.ranges + self.puts + self.deletes > 1 {
            TXNS.inc();
        }
    }
}
