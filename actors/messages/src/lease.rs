//! What the lease timer receives.

use crate::{LeaseId, Reply};
use rusd_proto::EtcdError;

/// A replicated change of a lease, told by the state machine in log order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// It was found on disk at start, or came with a snapshot: it exists, but was not granted just now.
    Restored {
        /// Which lease was found.
        id: LeaseId,
        /// Its granted time to live, in seconds.
        ttl_s: i64,
        /// Seconds that remained at its last checkpoint; 0 means the full time to live.
        remaining_ttl_s: i64,
    },
    /// It was granted just now, and has its full time.
    Granted {
        /// Chosen by the client, or by the member that took the request.
        id: LeaseId,
        /// Its granted time to live, in seconds.
        ttl_s: i64,
    },
    /// It was revoked, by a client or because it expired, and its keys are deleted.
    Revoked {
        /// Which lease was revoked.
        id: LeaseId,
    },
    /// Its remaining time was written down, so that a new leader goes on from there.
    Checkpointed {
        /// Which lease was written down.
        id: LeaseId,
        /// Seconds that remained; 0 means the full time to live.
        remaining_ttl_s: i64,
    },
}

/// Changes of one batch of applied entries.
#[derive(Clone, Debug)]
pub struct LeasesChanged {
    /// In log order, at least one.
    pub changes: Vec<LeaseChange>,
}

/// Renew a lease. Answers its granted TTL in seconds, or 0 if it does not exist (any more). Only the leader's
/// timer renews; another member's answers [`EtcdError::NotPrimary`]. The caller has made sure that it still leads.
#[derive(Debug)]
pub struct KeepAlive {
    /// Which lease to renew; it need not exist.
    pub id: LeaseId,
    /// Seconds granted, or 0.
    pub reply: Reply<Result<i64, EtcdError>>,
}

/// What is left of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// Seconds left, rounded down; never below 0.
    pub ttl_s: i64,
    /// Seconds that it was granted, and has again after each renewal.
    pub granted_ttl_s: i64,
}

/// Ask what is left of a lease; None if there is no such lease. Only the leader's timer knows; another
/// member's answers [`EtcdError::NotPrimary`].
#[derive(Debug)]
pub struct TimeToLive {
    /// Which lease is asked about; it need not exist.
    pub id: LeaseId,
    /// None if there is no such lease.
    pub reply: Reply<Result<Option<Remaining>, EtcdError>>,
}

/// All leases, the next to expire first. Any member answers; one that does not lead knows no deadlines, and
/// lists them by id.
#[derive(Debug)]
pub struct ListLeases {
    /// Every lease that exists, once.
    pub reply: Reply<Vec<LeaseId>>,
}
