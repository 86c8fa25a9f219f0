//! Proposals of this member: held until they can go to raft-rs, waiting until they are applied.

use crate::log::tail::size_of;
use raft::eraftpb::Entry;
use rusd_messages::raft::Propose;
use rusd_messages::{Reply, RequestId};
use rusd_proto::{ApplyResult, EtcdError};
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// Spreads request ids, which count upwards. They are made by this member, so nobody can choose them to collide.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

struct Held {
    entry: Entry,
    id: RequestId,
    proposed_ms: u64,
}

/// See the module.
#[derive(Default)]
pub(super) struct Proposals {
    held: VecDeque<Held>,
    held_bytes: usize,
    waiting: HashMap<RequestId, Reply<ApplyResult>, BuildHasherDefault<IdHasher>>,
    /// Waiting ones in the order they came, which is the order of their deadlines. May name some that no
    /// longer wait; these are dropped once they are in front.
    order: VecDeque<(RequestId, u64)>,
    failed: u64,
}

impl Proposals {
    pub(super) fn add(&mut self, proposal: Propose, now_ms: u64) {
        let entry = Entry {
            data: proposal.data,
            ..Entry::default()
        };
        self.held_bytes += size_of(&entry);
        self.held.push_back(Held {
            entry,
            id: proposal.id,
            proposed_ms: now_ms,
        });
        self.order.push_back((proposal.id, now_ms));
        self.waiting.insert(proposal.id, proposal.reply);
    }

    /// How many wait to be applied.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many were not applied in time, since the start.
    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// Bytes not yet given to raft-rs.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether any have not been given to raft-rs yet.
    pub(super) fn any_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// The next ones for raft-rs, at least one if any are held.
    pub(super) fn take(&mut self, max_entries: usize, max_bytes: usize) -> Vec<Entry> {
        let mut taken = Vec::with_capacity(self.held.len().min(max_entries));
        let mut bytes = 0;
        while let Some(held) = self.held.front() {
            let size = size_of(&held.entry);
            if !taken.is_empty() && (taken.len() >= max_entries || bytes + size > max_bytes) {
                break;
            }
            bytes += size;
            taken.extend(self.held.pop_front().map(|held| held.entry));
        }
        self.held_bytes -= bytes;
        taken
    }

    /// The caller of a committed entry, if it waits here.
    pub(super) fn claim(&mut self, id: RequestId) -> Option<Reply<ApplyResult>> {
        let reply = self.waiting.remove(&id)?;
        while self.order.len() > self.waiting.len()
            && self
                .order
                .front()
                .is_some_and(|(id, _)| !self.waiting.contains_key(id))
        {
            self.order.pop_front();
        }
        Some(reply)
    }

    /// Fails those proposed before `before_ms`. One that was still held will never be proposed.
    pub(super) fn expire(&mut self, before_ms: u64, error: impl Fn(u64) -> EtcdError) {
        while let Some(held) = self
            .held
            .front()
            .filter(|held| held.proposed_ms < before_ms)
        {
            tracing::debug!(id = %held.id, "a proposal found no leader in time");
            self.held_bytes -= size_of(&held.entry);
            self.held.pop_front();
        }
        while let Some((id, proposed_ms)) = self
            .order
            .front()
            .copied()
            .filter(|(_, at)| *at < before_ms)
        {
            self.order.pop_front();
            if let Some(reply) = self.waiting.remove(&id) {
                self.failed += 1;
                reply.send(Err(error(proposed_ms)));
            }
        }
    }

    /// See [`Core::check`](super::Core::check).
    pub(super) fn check(&self) {
        let held_bytes: usize = self.held.iter().map(|held| size_of(&held.entry)).sum();
        assert_eq!(self.held_bytes, held_bytes);
        let deadlines = self.order.iter();
        assert!(deadlines.is_sorted_by_key(|(_, proposed_ms)| *proposed_ms));
        let ordered: HashSet<RequestId> = self.order.iter().map(|(id, _)| *id).collect();
        for id in self.waiting.keys() {
            assert!(ordered.contains(id), "{id} would wait without end");
        }
    }

    /// Fails all of them.
    pub(super) fn fail_all(&mut self, error: &EtcdError) {
        self.held.clear();
        self.held_bytes = 0;
        self.order.clear();
        for (_, reply) in self.waiting.drain() {
            reply.send(Err(error.clone()));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use rusd_messages::Pending;

    fn add(proposals: &mut Proposals, id: u64, now_ms: u64) -> Pending<ApplyResult> {
        let (reply, pending) = Reply::channel();
        let data = vec![0; 100].into();
        proposals.add(
            Propose {
                id: RequestId(id),
                data,
                reply,
            },
            now_ms,
        );
        pending
    }

    #[test]
    fn taking_stops_at_entries_and_bytes_but_never_at_nothing() {
        let mut proposals = Proposals::default();
        let _callers: Vec<_> = (0..5).map(|id| add(&mut proposals, id, 0)).collect();
        assert_eq!(proposals.take(2, usize::MAX).len(), 2);
        assert_eq!(proposals.take(5, 1).len(), 1);
        assert_eq!(proposals.take(5, usize::MAX).len(), 2);
        assert_eq!(proposals.held_bytes(), 0);
        assert_eq!(proposals.waiting(), 5);
    }

    #[test]
    fn g_13_only_the_old_ones_expire_and_claimed_ones_do_not() {
        let mut proposals = Proposals::default();
        let mut callers: Vec<_> = (0..4).map(|id| add(&mut proposals, id, id * 10)).collect();
        drop(proposals.claim(RequestId(1)));
        proposals.expire(20, |_| EtcdError::Timeout);
        assert!(matches!(
            callers[0].now(),
            Some(Ok(Err(EtcdError::Timeout)))
        ));
        assert!(matches!(callers[1].now(), Some(Err(_))));
        assert!(callers[2].now().is_none() && callers[3].now().is_none());
        assert_eq!(
            proposals.take(9, usize::MAX).len(),
            2,
            "expired ones are not proposed"
        );
        proposals.fail_all(&EtcdError::Stopped);
        assert!(matches!(
            callers[3].now(),
            Some(Ok(Err(EtcdError::Stopped)))
        ));
    }

    #[test]
    fn the_order_is_cleaned_while_claims_come_out_of_order() {
        let mut proposals = Proposals::default();
        let _callers: Vec<_> = (0..100).map(|id| add(&mut proposals, id, 0)).collect();
        for id in (1..100).rev() {
            assert!(proposals.claim(RequestId(id)).is_some());
            assert!(proposals.claim(RequestId(id)).is_none());
        }
        assert_eq!((proposals.order.len(), proposals.waiting()), (100, 1));
        assert!(proposals.claim(RequestId(0)).is_some());
        assert_eq!(proposals.order.len(), 0);
    }
}
