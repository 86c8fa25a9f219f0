//! The leases as every thread sees them, so that renewing one takes no hop between threads.
//!
//! Three parties share this table, and each has its own part in it:
//!
//! ```text
//!   state machine   enters a lease and removes it, when it applies the grant or the revocation, before the
//!                   caller is answered and before anybody else is told
//!   lease timer     opens a lease for renewal (only the leader does), and closes it before it revokes it
//!   gRPC handlers   renew a lease that is open: they move its deadline, and nothing else
//! ```
//!
//! A deadline is one atomic number, with one value that stands for "closed". Closing and renewing are both
//! a compare-and-swap on it, so exactly one of them is first: a renewal that succeeded is seen by whoever closes
//! the lease after it, and after the lease is closed none succeeds. So a renewal is never told that it succeeded
//! when its lease is being revoked (L-06).

use crate::LeaseId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Parts of the table that are locked by themselves: several times the number of gRPC threads.
const SHARDS: usize = 64;

/// Instead of a deadline: not to be renewed in place.
const CLOSED: u64 = u64::MAX;

/// A lease that exists.
#[derive(Debug)]
pub struct LiveLease {
    ttl_s: i64,
    deadline_ms: AtomicU64,
}

impl LiveLease {
    /// A lease that is not open.
    pub fn closed(ttl_s: i64) -> Self {
        Self {
            ttl_s,
            deadline_ms: AtomicU64::new(CLOSED),
        }
    }

    /// Lets it be renewed in place from now on. It must be closed.
    pub fn open(&self, deadline_ms: u64) {
        self.deadline_ms
            .store(deadline_ms.min(CLOSED - 1), Ordering::Release);
    }

    /// Ends renewal in place. Returns the deadline it had; None if it was closed.
    pub fn close(&self) -> Option<u64> {
        Some(self.deadline_ms.swap(CLOSED, Ordering::AcqRel)).filter(|at| *at != CLOSED)
    }

    /// Its deadline; None if it is closed.
    pub fn deadline_ms(&self) -> Option<u64> {
        Some(self.deadline_ms.load(Ordering::Acquire)).filter(|at| *at != CLOSED)
    }

    /// Moves the deadline to the full time from `now_ms` on, unless it is later already. False if it is closed, or
    /// the time is over.
    fn renew(&self, now_ms: u64) -> bool {
        let ttl_ms = u64::try_from(self.ttl_s).unwrap_or(0).saturating_mul(1_000);
        let wanted_ms = now_ms.saturating_add(ttl_ms).min(CLOSED - 1);
        let moved = self
            .deadline_ms
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |at_ms| {
                (at_ms != CLOSED && at_ms > now_ms).then_some(at_ms.max(wanted_ms))
            });
        moved.is_ok()
    }
}

/// What became of a renewal in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InPlace {
    /// It has its granted time again, in seconds.
    Renewed(i64),
    /// It does not exist on this member.
    Unknown,
    /// It cannot be renewed in place: the lease timer has to be asked.
    Closed,
}

type Shard = RwLock<HashMap<LeaseId, Arc<LiveLease>>>;

/// The table, in parts that are locked by themselves.
#[derive(Debug)]
pub struct LiveLeases {
    shards: Vec<Shard>,
}

impl Default for LiveLeases {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
        }
    }
}

impl LiveLeases {
    fn shard(&self, id: LeaseId) -> &Shard {
        // The ids that clients and servers choose differ in any of their bits.
        let spread = (id.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.shards[spread as usize % self.shards.len()]
    }

    /// Enters a lease, closed.
    pub fn insert(&self, id: LeaseId, ttl_s: i64) {
        let mut shard = self
            .shard(id)
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        shard.insert(id, Arc::new(LiveLease::closed(ttl_s)));
    }

    /// Removes a lease: handlers do not find it any more.
    pub fn remove(&self, id: LeaseId) {
        let mut shard = self
            .shard(id)
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        shard.remove(&id);
    }

    /// Removes all of them.
    pub fn clear(&self) {
        for shard in &self.shards {
            shard
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
        }
    }

    /// The lease, if it exists.
    pub fn get(&self, id: LeaseId) -> Option<Arc<LiveLease>> {
        let shard = self
            .shard(id)
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        shard.get(&id).cloned()
    }

    /// Renews a lease in place, if it is open.
    pub fn renew(&self, id: LeaseId, now_ms: u64) -> InPlace {
        let shard = self
            .shard(id)
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        match shard.get(&id) {
            None => InPlace::Unknown,
            Some(lease) if lease.renew(now_ms) => InPlace::Renewed(lease.ttl_s),
            Some(_) => InPlace::Closed,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn l_06_only_an_open_lease_is_renewed_and_only_before_its_deadline() {
        let leases = LiveLeases::default();
        let id = LeaseId(7);
        assert_eq!(leases.renew(id, 0), InPlace::Unknown);
        leases.insert(id, 10);
        assert_eq!(leases.renew(id, 0), InPlace::Closed);
        let lease = leases.get(id).unwrap();
        lease.open(5_000);
        assert_eq!(leases.renew(id, 4_999), InPlace::Renewed(10));
        assert_eq!(lease.deadline_ms(), Some(14_999));
        assert_eq!(leases.renew(id, 14_999), InPlace::Closed);
        assert_eq!(lease.close(), Some(14_999));
        assert_eq!((lease.close(), lease.deadline_ms()), (None, None));
        assert_eq!(leases.renew(id, 0), InPlace::Closed);
        leases.remove(id);
        assert_eq!(leases.renew(id, 0), InPlace::Unknown);
    }

    #[test]
    fn l_04_a_renewal_never_shortens_the_time() {
        let leases = LiveLeases::default();
        leases.insert(LeaseId(1), 2);
        let lease = leases.get(LeaseId(1)).unwrap();
        lease.open(60_000);
        assert_eq!(leases.renew(LeaseId(1), 1_000), InPlace::Renewed(2));
        assert_eq!(lease.deadline_ms(), Some(60_000));
    }
}
