//! What the lease timer receives.

use crate::{LeaseId, Reply};
use rusd_proto::EtcdError;

/// A replicated change of a lease, told by the state machine in log order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
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

/// Renew a lease. Answers its granted TTL in seconds, or 0 if it does not exist (any more).
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

/// Ask what is left of a lease; None if there is no such lease.
#[derive(Debug)]
pub struct TimeToLive {
    /// The lease.
    pub id: LeaseId,
    /// What is left.
    pub reply: Reply<Result<Option<Remaining>, EtcdError>>,
}

/// All leases, the next to expire first.
#[derive(Debug)]
pub struct ListLeases {
    /// Their ids.
    pub reply: Reply<Vec<LeaseId>>,
}
