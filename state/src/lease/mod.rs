//! Replicated leases: which exist, and which keys hang on them.
//!
//! Deadlines are no business of the state machine: the lease actor of the leader counts them, and proposes the
//! revocation. Here a lease is an id, a time to live in seconds, the last checkpoint of its remaining time, and
//! the keys attached to it.
//!
//! A lease is stored in the lease tree, under its id as eight big-endian bytes, as etcd stores it. Attachments are
//! not stored a second time: the record of a key names its lease, and at open the attachments are gathered
//! from the records. So a key without a lease costs nothing, and one with a lease only memory:
//!
//! ```text
//!   of_key:  key -> lease          what a put or delete has to detach; not even asked while it is empty
//!   keys:    (lease, key)          one ordered set for all leases: a revocation walks a slice of it, in key order
//! ```

mod record;

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use bytes::Bytes;
use prost::Message;
use rusd_proto::EtcdError;
use rusd_proto::ids::LeaseId;
use rusd_storage::engine::{Direction, Engine, Tree, WriteBatch};
use rusd_storage::{Change, ChangeKind};

use crate::error::StateError;
use record::{LeaseRecord, key_and_lease};

/// The longest time to live that may be granted, in seconds (L-01).
pub const MAX_TTL_S: i64 = 9_000_000_000;

/// A lease as it is replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Seconds granted.
    pub ttl_s: i64,
    /// Seconds that remained at the last checkpoint; 0 means all of them.
    pub remaining_ttl_s: i64,
}

/// All leases and their attachments.
#[derive(Debug, Default)]
pub struct Leases {
    leases: HashMap<LeaseId, LeaseInfo>,
    of_key: HashMap<Bytes, LeaseId>,
    keys: BTreeSet<(LeaseId, Bytes)>,
}

impl Leases {
    /// Whether the lease exists.
    pub fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// The lease, if it exists.
    pub fn get(&self, id: LeaseId) -> Option<LeaseInfo> {
        self.leases.get(&id).copied()
    }

    /// How many leases exist.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is no lease at all.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Every lease, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, LeaseInfo)> {
        self.leases.iter().map(|(&id, &lease)| (id, lease))
    }

    /// The keys attached to the lease, in order; None if it does not exist.
    pub fn keys(&self, id: LeaseId) -> Option<impl Iterator<Item = &Bytes>> {
        self.contains(id).then(|| self.attached(id))
    }

    /// L-01. Minimum times to live depend on the proposer's configuration and are its business; below one second
    /// there is nothing to count.
    pub(crate) fn grant(
        &mut self,
        id: LeaseId,
        ttl_s: i64,
        batch: &mut WriteBatch,
    ) -> Result<LeaseInfo, EtcdError> {
        if !id.is_some() {
            return Err(EtcdError::LeaseNotFound);
        }
        if ttl_s > MAX_TTL_S {
            return Err(EtcdError::LeaseTtlTooLarge);
        }
        if self.contains(id) {
            return Err(EtcdError::LeaseExists);
        }
        let lease = LeaseInfo {
            ttl_s: ttl_s.max(1),
            remaining_ttl_s: 0,
        };
        self.store(id, lease, batch);
        Ok(lease)
    }

    /// Notes what remains of a lease. False if it does not exist.
    pub(crate) fn checkpoint(
        &mut self,
        id: LeaseId,
        remaining_ttl_s: i64,
        batch: &mut WriteBatch,
    ) -> bool {
        let Some(lease) = self.get(id) else {
            return false;
        };
        self.store(
            id,
            LeaseInfo {
                remaining_ttl_s,
                ..lease
            },
            batch,
        );
        true
    }

    /// Removes a lease whose keys have been deleted and detached.
    pub(crate) fn remove(&mut self, id: LeaseId, batch: &mut WriteBatch) {
        self.leases.remove(&id);
        batch.delete(Tree::Lease.key(&id.0.to_be_bytes()));
    }

    fn store(&mut self, id: LeaseId, lease: LeaseInfo, batch: &mut WriteBatch) {
        self.leases.insert(id, lease);
        let record = LeaseRecord {
            id: id.0,
            ttl_s: lease.ttl_s,
            remaining_ttl_s: lease.remaining_ttl_s,
        };
        batch.put(Tree::Lease.key(&id.0.to_be_bytes()), record.encode_to_vec());
    }

    /// Follows the changes of a transaction. `leased` names the changes that are puts with a lease, in order; any
    /// other put detaches its key (KV-P02), and so does a delete.
    pub(crate) fn follow(&mut self, changes: &[Change], leased: &[(usize, LeaseId)]) {
        if leased.is_empty() && self.of_key.is_empty() {
            return;
        }
        let mut leased = leased.iter().copied().peekable();
        for (n, change) in changes.iter().enumerate() {
            let lease = leased
                .next_if(|&(at, _)| at == n)
                .map_or(LeaseId::NONE, |(_, lease)| lease);
            debug_assert!(change.kind == ChangeKind::Put || !lease.is_some());
            self.attach(&change.key, lease);
        }
    }

    /// Attaches `key` to `lease`, and only to it; to none if the lease does not exist.
    pub(crate) fn attach(&mut self, key: &[u8], lease: LeaseId) {
        match self.of_key.get_key_value(key) {
            Some((_, &now)) if now == lease => return,
            Some((kept, &now)) => {
                let kept = kept.clone();
                self.keys.remove(&(now, kept.clone()));
                self.of_key.remove(&kept);
            }
            None => {}
        }
        if self.contains(lease) {
            // A copy: the change's key would keep its whole record in memory.
            let key = Bytes::copy_from_slice(key);
            self.of_key.insert(key.clone(), lease);
            self.keys.insert((lease, key));
        }
    }

    /// The lease that the key is attached to.
    pub(crate) fn of_key(&self, key: &[u8]) -> LeaseId {
        self.of_key.get(key).copied().unwrap_or(LeaseId::NONE)
    }

    /// How many keys are attached to a lease.
    pub(crate) fn attachments(&self) -> usize {
        self.of_key.len()
    }

    /// Panics unless keys and leases name each other, and every lease was granted as L-01 allows.
    pub(crate) fn check(&self) {
        assert_eq!(self.of_key.len(), self.keys.len(), "attachments");
        for (lease, key) in &self.keys {
            assert_eq!(self.of_key(key), *lease, "a key does not know its lease");
            assert!(self.contains(*lease), "a key is attached to no lease");
        }
        for (id, lease) in &self.leases {
            assert!(id.is_some(), "a lease without an id");
            assert!(
                (1..=MAX_TTL_S).contains(&lease.ttl_s),
                "a time to live that cannot be granted"
            );
        }
    }

    fn attached(&self, id: LeaseId) -> impl Iterator<Item = &Bytes> {
        self.keys
            .range((id, Bytes::new())..)
            .take_while(move |(lease, _)| *lease == id)
            .map(|(_, key)| key)
    }

    /// Reads the leases, and gathers the attachments from the history of records, whose last word on a key counts. The
    /// history is only read if there are leases.
    pub(crate) fn load(engine: &dyn Engine) -> Result<Self, StateError> {
        let mut leases = Self::default();
        let mut failure = None;
        let (start, end) = Tree::Lease.range();
        engine.scan(
            &start,
            &end,
            Direction::Forward,
            &mut |key, value| match LeaseRecord::read(key, value) {
                Ok(record) => {
                    let lease = LeaseInfo {
                        ttl_s: record.ttl_s,
                        remaining_ttl_s: record.remaining_ttl_s,
                    };
                    leases.leases.insert(LeaseId(record.id), lease);
                    ControlFlow::Continue(())
                }
                Err(reason) => {
                    failure = Some(StateError::Damaged {
                        tree: "lease",
                        reason,
                    });
                    ControlFlow::Break(())
                }
            },
        )?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        if !leases.is_empty() {
            leases.gather_attachments(engine)?;
        }
        Ok(leases)
    }

    fn gather_attachments(&mut self, engine: &dyn Engine) -> Result<(), StateError> {
        let mut failure = None;
        let (start, end) = Tree::KvRev.range();
        engine.scan(&start, &end, Direction::Forward, &mut |_, value| {
            // A tombstone holds a key only: its lease reads as none, which detaches the key.
            match key_and_lease(value) {
                Ok((key, lease)) => {
                    if lease.is_some() || !self.of_key.is_empty() {
                        self.attach(key, lease);
                    }
                    ControlFlow::Continue(())
                }
                Err(reason) => {
                    failure = Some(StateError::Damaged {
                        tree: "kv_rev",
                        reason,
                    });
                    ControlFlow::Break(())
                }
            }
        })?;
        match failure {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached(leases: &Leases, id: i64) -> Vec<&[u8]> {
        leases
            .attached(LeaseId(id))
            .map(|key| key.as_ref())
            .collect()
    }

    #[test]
    fn kv_p02_a_key_hangs_on_one_lease_at_most() {
        let mut leases = Leases::default();
        let mut batch = WriteBatch::new();
        for id in [1, 2] {
            assert!(leases.grant(LeaseId(id), 10, &mut batch).is_ok());
        }
        leases.attach(b"b", LeaseId(1));
        leases.attach(b"a", LeaseId(1));
        leases.attach(b"a", LeaseId(1));
        assert_eq!(attached(&leases, 1), [&b"a"[..], b"b"]);
        leases.attach(b"a", LeaseId(2));
        assert_eq!(attached(&leases, 1), [b"b"]);
        assert_eq!(attached(&leases, 2), [b"a"]);
        leases.attach(b"a", LeaseId::NONE);
        leases.attach(b"b", LeaseId(3));
        assert_eq!((leases.of_key.len(), leases.keys.len()), (0, 0));
    }

    #[test]
    #[should_panic(expected = "a key does not know its lease")]
    fn an_attachment_that_is_known_on_one_side_is_seen() {
        let mut leases = Leases::default();
        let mut batch = WriteBatch::new();
        for id in [1, 2] {
            assert!(leases.grant(LeaseId(id), 10, &mut batch).is_ok());
        }
        leases.attach(b"a", LeaseId(1));
        leases.check();
        leases.of_key.insert("a".into(), LeaseId(2));
        leases.check();
    }

    #[test]
    fn l_01_what_cannot_be_granted() {
        let mut leases = Leases::default();
        let mut batch = WriteBatch::new();
        assert_eq!(
            leases.grant(LeaseId(0), 10, &mut batch),
            Err(EtcdError::LeaseNotFound)
        );
        assert_eq!(
            leases.grant(LeaseId(1), MAX_TTL_S + 1, &mut batch),
            Err(EtcdError::LeaseTtlTooLarge)
        );
        assert!(batch.is_empty());
        assert_eq!(
            leases
                .grant(LeaseId(1), -5, &mut batch)
                .map(|lease| lease.ttl_s),
            Ok(1)
        );
        assert_eq!(
            leases.grant(LeaseId(1), 10, &mut batch),
            Err(EtcdError::LeaseExists)
        );
        assert_eq!(batch.len(), 1);
    }
}
