//! What must hold, compared with a model of etcd at every step. A check that fails panics, which ends the seed.

use crate::clock::Micros;
use prost::Message;
use rusd_messages::mvcc::{CommittedEntry, EntryKind};
use rusd_messages::{Index, LeaseId, RequestId};
use rusd_model::Model;
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};
use rusd_proto::request::request_id;
use rusd_proto::{ApplyResult, EtcdError};
use rusd_state::kv::range::range;
use rusd_state::{Applied, StateMachine};
use rusd_storage::{HashKv, ReadAt};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Time to live and remaining time of each lease, in seconds.
type Leases = BTreeMap<i64, (i64, i64)>;

/// An entry that was applied, and what the store was then.
struct Entry {
    data: bytes::Bytes,
    /// None for an entry that changes neither keys nor leases.
    reply: Option<ApplyResult>,
    revision: i64,
    compacted: i64,
    leases: Rc<Leases>,
    changes: usize,
}

/// See the module.
#[derive(Default)]
pub struct Checks {
    model: Model,
    /// Entry `i` at `i - 1`.
    log: Vec<Entry>,
    /// Where a request is in the log.
    places: BTreeMap<RequestId, usize>,
    hashes: BTreeMap<(i64, i64), u32>,
    /// A compaction's own counts a key that is deleted at its revision as kept, so it is another hash.
    compaction_hashes: BTreeMap<(i64, i64), u32>,
    /// Until when a lease was promised to its clients.
    promised_us: BTreeMap<i64, Micros>,
    /// Revocations proposed by lease timers.
    expiries: BTreeSet<RequestId>,
    /// Leases that the running timer has proposed to revoke.
    revoking: BTreeSet<i64>,
    /// The newest revision that a client was told of.
    acknowledged: i64,
}

impl Checks {
    /// The store as it has to be now.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The newest revision that a client was told of.
    pub fn acknowledged(&self) -> i64 {
        self.acknowledged
    }

    /// An entry reaches the state machine, perhaps not for the first time.
    pub fn entry(&mut self, entry: &CommittedEntry, durable_last: u64, now_us: Micros) {
        let index = usize::try_from(entry.index.0).unwrap();
        assert!(
            entry.index.0 <= durable_last,
            "entry {index} is applied before it is durable"
        );
        if let Some(known) = self.log.get(index - 1) {
            assert_eq!(
                known.data, entry.data,
                "entry {index} is another one than before"
            );
            return;
        }
        assert_eq!(index, self.log.len() + 1, "entries are applied in order");
        let (revision, leases) = (self.model.revision, self.newest_leases());
        let request = decoded(entry);
        let reply = request.as_ref().map(|request| self.model.apply(request));
        if let (Some(request), Some(Ok(_))) = (&request, &reply) {
            self.note_lease(request, request_id(&entry.data), now_us);
        }
        if let Some(id) = request_id(&entry.data) {
            let before = self.places.insert(id, index);
            assert_eq!(before, None, "request {id} is twice in the log");
        }
        let unchanged = *leases == self.model.leases;
        let changed = self.model.revision > revision;
        let events = self.model.events().iter().rev();
        let changes = events.take_while(|event| event.revision > revision).count();
        assert_eq!(changed, changes > 0);
        self.log.push(Entry {
            data: entry.data.clone(),
            reply,
            revision: self.model.revision,
            compacted: self.model.compacted,
            leases: if unchanged {
                leases
            } else {
                Rc::new(self.model.leases.clone())
            },
            changes,
        });
    }

    fn newest_leases(&self) -> Rc<Leases> {
        self.log
            .last()
            .map(|entry| entry.leases.clone())
            .unwrap_or_default()
    }

    fn note_lease(&mut self, request: &InternalRaftRequest, id: Option<RequestId>, now_us: Micros) {
        if let Some(grant) = &request.lease_grant {
            let ttl_us = u64::try_from(grant.ttl).unwrap_or(0) * 1_000_000;
            self.promised_us.insert(grant.id, now_us + ttl_us);
        }
        if let Some(revoke) = &request.lease_revoke {
            let promised_us = self.promised_us.remove(&revoke.id).unwrap_or(0);
            self.revoking.remove(&revoke.id);
            let expired = id.is_some_and(|id| self.expiries.contains(&id));
            // A member's clock shows milliseconds.
            let early = expired && now_us + 1_000 < promised_us;
            assert!(
                !early,
                "lease {} ends {} us early",
                revoke.id,
                promised_us - now_us
            );
        }
    }

    /// What the state machine made of an entry, unless it had it already.
    pub fn applied(&self, index: Index, wanted: bool, applied: &Applied) {
        let at = usize::try_from(index.0).unwrap();
        let entry = &self.log[at - 1];
        let before = at.checked_sub(2).map_or(1, |at| self.log[at].revision);
        let moved = (entry.revision > before).then_some(entry.revision);
        assert_eq!(
            applied.revision.map(|moved| moved.0),
            moved,
            "the revision of entry {at}"
        );
        assert_eq!(
            applied.changes.len(),
            entry.changes,
            "the changes of entry {at}"
        );
        if let Some(reply) = entry.reply.as_ref().filter(|_| wanted) {
            assert_eq!(&applied.result, reply, "the result of entry {at}");
        }
    }

    /// A client has the answer to its request.
    pub fn answered(&mut self, id: RequestId, answer: &ApplyResult) {
        if answer == &Err(EtcdError::Timeout) {
            return;
        }
        let Some(place) = self.places.get(&id) else {
            assert!(
                answer.is_err(),
                "{id} is acknowledged and was never applied"
            );
            return;
        };
        let entry = &self.log[place - 1];
        let reply = entry.reply.as_ref();
        let physical = decoded_data(&entry.data).and_then(|request| request.compaction);
        if physical.is_some_and(|compaction| compaction.physical) {
            assert_eq!(
                reply.map(Result::is_ok),
                Some(answer.is_ok()),
                "the answer to {id}"
            );
        } else {
            assert_eq!(reply, Some(answer), "the answer to {id}");
        }
        self.acknowledged = self.acknowledged.max(entry.revision);
    }

    /// A lease timer proposes to revoke a lease.
    pub fn expires(&mut self, lease: LeaseId, id: RequestId) {
        self.expiries.insert(id);
        self.revoking.insert(lease.0);
    }

    /// A client renews a lease in place, at this moment.
    pub fn renewed_in_place(&mut self, lease: i64, ttl_s: i64, now_us: Micros) {
        assert!(
            self.model.leases.contains_key(&lease),
            "lease {lease} is renewed after its end"
        );
        self.renewed(lease, ttl_s, now_us);
    }

    /// The lease timer renews a lease at this moment.
    pub fn renewed(&mut self, lease: i64, ttl_s: i64, now_us: Micros) {
        assert!(
            !self.revoking.contains(&lease),
            "lease {lease} is renewed on its way out"
        );
        self.promised(lease, ttl_s, now_us);
    }

    /// A client was told that its lease, if it is still there, lasts for so many seconds from a moment on.
    pub fn promised(&mut self, lease: i64, ttl_s: i64, from_us: Micros) {
        if let Some(promised_us) = self.promised_us.get_mut(&lease) {
            let until_us = from_us + u64::try_from(ttl_s).unwrap_or(0) * 1_000_000;
            *promised_us = until_us.max(*promised_us);
        }
    }

    /// Leases that should have ended before `before_us`.
    pub fn overdue(&self, before_us: Micros) -> Vec<i64> {
        let promised = self.promised_us.iter();
        promised
            .filter(|(_, at_us)| **at_us < before_us)
            .map(|(id, _)| *id)
            .collect()
    }

    /// A linearizable read, asked for when `floor` was acknowledged, is answered from the view of an entry.
    pub fn range(
        &mut self,
        floor: i64,
        view: u64,
        request: &pb::RangeRequest,
        answer: &Result<pb::RangeResponse, EtcdError>,
    ) {
        let (revision, compacted) = self.store_at(view);
        assert!(
            revision >= floor,
            "a read at {revision} does not see what was acknowledged at {floor}"
        );
        let expected = self.model.range_as_of(revision, compacted, request);
        assert_eq!(answer, &expected, "{request:?} at {revision}");
        self.acknowledged = self.acknowledged.max(revision);
    }

    fn store_at(&self, index: u64) -> (i64, i64) {
        let at = usize::try_from(index).unwrap();
        match at.checked_sub(1) {
            None => (1, -1),
            Some(at) => (self.log[at].revision, self.log[at].compacted),
        }
    }

    /// A member starts with what its engine has. `log_last`: where its log ends.
    pub fn restarted(&mut self, machine: &StateMachine, log_last: u64) {
        assert!(
            log_last >= self.log.len() as u64,
            "the log ends at {log_last} and lacks applied entries"
        );
        self.revoking.clear();
        self.machine(machine);
    }

    /// The state machine is what the model was when it had applied as much.
    pub fn machine(&self, machine: &StateMachine) {
        machine.check();
        let applied = machine.applied().0.0;
        assert!(
            applied <= self.log.len() as u64,
            "the engine has applied what never was"
        );
        let (revision, compacted) = self.store_at(applied);
        let keys = machine.keys();
        assert_eq!(
            keys.revision().0,
            revision,
            "the revision at entry {applied}"
        );
        assert_eq!(
            keys.compacted_revision().0,
            compacted,
            "the compacted revision at entry {applied}"
        );
        let everything = pb::RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            ..Default::default()
        };
        let found = range(keys, &everything).ok();
        let expected = self
            .model
            .range_as_of(revision, compacted, &everything)
            .ok();
        assert_eq!(found, expected, "the keys at entry {applied}");
        let leases = machine.leases().iter();
        let found: Leases = leases
            .map(|(id, lease)| (id.0, (lease.ttl_s, lease.remaining_ttl_s)))
            .collect();
        let expected = applied
            .checked_sub(1)
            .map(|at| self.log[at as usize].leases.clone());
        assert_eq!(
            found,
            *expected.unwrap_or_default(),
            "the leases at entry {applied}"
        );
        for lease in found.keys() {
            let attached = machine.leases().keys(LeaseId(*lease)).unwrap();
            let everything = self.model.alive(b"\0", b"\0", revision).into_iter();
            let expected = everything.filter(|kv| kv.lease == *lease).map(|kv| kv.key);
            assert!(
                attached.eq(&expected.collect::<Vec<_>>()),
                "the keys of lease {lease} at entry {applied}"
            );
        }
    }

    /// Members agree to the byte, and so does one with itself after a restart or a rewrite.
    pub fn hashed(&mut self, hash: HashKv) {
        agrees(&mut self.hashes, hash);
    }

    /// The same of a compaction's hash, which is made before anything of it is removed.
    pub fn compaction_hashed(&mut self, hash: HashKv) {
        agrees(&mut self.compaction_hashes, hash);
    }
}

fn agrees(hashes: &mut BTreeMap<(i64, i64), u32>, hash: HashKv) {
    let at = (hash.revision.0, hash.compact_revision.0);
    let first = *hashes.entry(at).or_insert(hash.hash);
    assert_eq!(
        hash.hash, first,
        "the hash at revision and compacted revision {at:?}"
    );
}

fn decoded(entry: &CommittedEntry) -> Option<InternalRaftRequest> {
    if entry.kind == EntryKind::ConfChange {
        return None;
    }
    decoded_data(&entry.data)
}

/// A request on keys, leases or alarms.
fn decoded_data(data: &[u8]) -> Option<InternalRaftRequest> {
    let request = InternalRaftRequest::decode(data).ok()?;
    let other = data.is_empty()
        || request.cluster_member_attr_set.is_some()
        || request.cluster_version_set.is_some();
    (!other).then_some(request)
}
