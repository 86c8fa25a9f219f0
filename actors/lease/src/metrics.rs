//! etcd's counters of leases (section 4.5 of the contract).

use prometheus::{Histogram, HistogramOpts, IntCounter, exponential_buckets};
use std::sync::LazyLock;

/// Leases granted, on every member.
pub(crate) static GRANTED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "etcd_debugging_lease_granted_total",
        "The total number of granted leases.",
    )
});

/// Leases revoked or expired, on every member.
pub(crate) static REVOKED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "etcd_debugging_lease_revoked_total",
        "The total number of revoked leases.",
    )
});

/// Renewals, on the leader.
pub(crate) static RENEWED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "etcd_debugging_lease_renewed_total",
        "The number of renewed leases seen by the leader.",
    )
});

/// Expired leases revoked, on the leader.
pub(crate) static EXPIRED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "etcd_debugging_server_lease_expired_total",
        "The total number of expired leases.",
    )
});

/// Granted times to live, in seconds: from one second to three months.
pub(crate) static TTL: LazyLock<Histogram> = LazyLock::new(|| {
    let options = HistogramOpts::new(
        "etcd_debugging_lease_ttl_total",
        "Bucketed histogram of lease TTLs.",
    );
    let buckets = exponential_buckets(1.0, 2.0, 24).unwrap_or_default();
    registered(Histogram::with_opts(options.buckets(buckets)))
});

/// Makes them visible before the first lease.
pub(crate) fn init() {
    for counter in [&GRANTED, &REVOKED, &RENEWED, &EXPIRED] {
        LazyLock::force(counter);
    }
    LazyLock::force(&TTL);
}

fn counter(name: &str, help: &str) -> IntCounter {
    registered(IntCounter::new(name, help))
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
