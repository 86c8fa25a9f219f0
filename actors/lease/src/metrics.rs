//! etcd's counters of leases.

use crate::timer::Settled;
use prometheus::{Histogram, IntCounter};
use rusd_messages::lease::LeaseChange;
use rusd_messages::metrics::{counter, histogram};
pub(crate) use rusd_messages::renewer::RENEWED;
use std::sync::LazyLock;

/// Leases granted, on every member.
static GRANTED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "etcd_debugging_lease_granted_total",
        "The total number of granted leases.",
    )
});

/// Leases revoked or expired, on every member.
static REVOKED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "etcd_debugging_lease_revoked_total",
        "The total number of revoked leases.",
    )
});

/// Expired leases revoked, on the leader.
static EXPIRED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "etcd_debugging_server_lease_expired_total",
        "The total number of expired leases.",
    )
});

/// Granted times to live, in seconds: from one second to three months.
static TTL: LazyLock<Histogram> = LazyLock::new(|| {
    histogram(
        "etcd_debugging_lease_ttl_total",
        "Bucketed histogram of lease TTLs.",
        (1.0, 2.0, 24),
    )
});

/// Makes them visible before the first lease.
pub(crate) fn init() {
    for counter in [&GRANTED, &REVOKED, &RENEWED, &EXPIRED] {
        LazyLock::force(counter);
    }
    LazyLock::force(&TTL);
}

/// Counts a replicated change and what it settled.
pub(crate) fn count(change: &LeaseChange, settled: Settled) {
    match change {
        LeaseChange::Granted { ttl_s, .. } => {
            GRANTED.inc();
            TTL.observe(*ttl_s as f64);
        }
        LeaseChange::Revoked { .. } => REVOKED.inc(),
        LeaseChange::Checkpointed { .. } | LeaseChange::Restored { .. } => {}
    }
    if settled == (Settled::Gone { expired: true }) {
        EXPIRED.inc();
    }
}
