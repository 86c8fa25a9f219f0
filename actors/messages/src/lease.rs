//! What the lease timer receives.

use crate::metrics::counter;
use crate::{LeaseId, Reply};
use prometheus::IntCounter;
use rusd_proto::EtcdError;
use std::sync::LazyLock;

/// Renewals that succeeded on the leader: counted by the lease timer and by those who renew in place.
pub static RENEWED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "etcd_debugging_lease_renewed_total",
        "The number of renewed leases seen by the leader.",
    )
});

/// A replicated change of a lease, told by the state machine in log order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// It was found on disk at start, or came with a snapshot: it exists, but was not granted just now.
    Restored {
        /// The lease.
        id: LeaseId,
        /// Its granted time to live, in seconds.
        ttl_s: i64,
        /// Seconds that remained at its last checkpoint; 0 means the full time to live.
        remaining_ttl_s: i64,
    },
    /// It exists now.
    Granted {
        /// The lease.
        id: LeaseId,
        /// Its granted time to live, in seconds.
        ttl_s: i64,
    },
    /// It is gone.
    Revoked {
        /// The lease.
        id: LeaseId,
    },
    /// Its remaining time was written down, so that a new leader goes on from there.
    Checkpointed {
        /// The lease.
        id: LeaseId,
        /// Seconds that remained; 0 means the full time to live.
        remaining_ttl_s: i64,
    },
}

/// Changes of one batch of applied entries.
#[derive(Clone, Debug)]
pub struct LeasesChanged {
    /// In log order.
    pub changes: Vec<LeaseChange>,
}

/// Renew a lease. Answers its granted TTL in seconds, or 0 if it does not exist (any more). Only the leader's
/// timer renews; another member's answers [`EtcdError::NotPrimary`]. The caller has made sure that it still leads.
#[derive(Debug)]
pub struct KeepAlive {
    /// The lease.
    pub id: LeaseId,
    /// The TTL.
    pub reply: Reply<Result<i64, EtcdError>>,
}

/// What is left of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// Seconds left, rounded down; never below 0.
    pub ttl_s: i64,
    /// Seconds granted.
    pub granted_ttl_s: i64,
}

/// Ask what is left of a lease; None if there is no such lease. Only the leader's timer knows; another
/// member's answers [`EtcdError::NotPrimary`].
#[derive(Debug)]
pub struct TimeToLive {
    /// The lease.
    pub id: LeaseId,
    /// What is left.
    pub reply: Reply<Result<Option<Remaining>, EtcdError>>,
}

/// All leases, the next to expire first. Any member answers; one that does not lead knows no deadlines, and
/// lists them by id.
#[derive(Debug)]
pub struct ListLeases {
    /// Their ids.
    pub reply: Reply<Vec<LeaseId>>,
}
