//! Applying the log.
//!
//! The shell hands over committed entries in order, and for each gets what to answer and what to tell others. After a
//! run of entries it calls [`seal`](StateMachine::seal), which closes the writes of the run together with the applied
//! index, then [`publish`](StateMachine::publish), which shows them to readers, and only then sends the replies. Sealed
//! batches go to the engine on another thread.
//!
//! An entry at or below the applied index was applied before the last restart and is passed over.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use rusd_proto::conf_change::ConfChange;
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};
use rusd_proto::ids::{Index, LeaseId, Revision, Term};
use rusd_proto::request::first_request_field;
use rusd_proto::{ApplyReply, ApplyResult, EtcdError, membershippb};
use rusd_storage::engine::Engine;
use rusd_storage::{
    Change, CompactStep, CompactionHash, KeyRange, LogPosition, MvccStore, ReadAt, SealedBatch,
    Sizes, StorageResult, Views,
};

use crate::alarm::Alarms;
use crate::error::{KvError, StateError};
use crate::kv::{delete, header, put, txn};
use crate::lease::Leases;
use crate::members::{MemberChange, Members, is_version};
use crate::request;

/// What a log entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// An `InternalRaftRequest`, or nothing (the entry a new leader appends).
    Request,
    /// A conf change, as [`conf_change`](rusd_proto::conf_change) says.
    ConfChange,
}

/// A committed entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its position in the log.
    pub index: Index,
    /// The term it was proposed in.
    pub term: Term,
    /// How to read `data`.
    pub kind: EntryKind,
    /// Its payload.
    pub data: Bytes,
    /// Whether somebody waits for the reply. If not, what the reply alone would need is not read.
    pub wanted: bool,
}

/// What applying an entry came to.
#[derive(Debug)]
pub struct Applied {
    /// The answer. Complete only if it was wanted.
    pub result: ApplyResult,
    /// The new revision, if keys changed.
    pub revision: Option<Revision>,
    /// The changes of that revision, in order.
    pub changes: Vec<Change>,
    /// What else others have to be told, in order.
    pub effects: Vec<Effect>,
}

impl Applied {
    fn reply(reply: ApplyReply) -> Self {
        Self {
            result: Ok(reply),
            revision: None,
            changes: Vec::new(),
            effects: Vec::new(),
        }
    }

    fn error(error: EtcdError) -> Self {
        Self {
            result: Err(error),
            ..Self::reply(ApplyReply::Done)
        }
    }

    fn with(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }
}

/// A change outside the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A lease exists now.
    LeaseGranted {
        /// The lease.
        id: LeaseId,
        /// Seconds granted.
        ttl_s: i64,
    },
    /// A lease is gone.
    LeaseRevoked {
        /// The lease.
        id: LeaseId,
    },
    /// The remaining time of a lease was noted.
    LeaseCheckpointed {
        /// The lease.
        id: LeaseId,
        /// Seconds that remained.
        remaining_ttl_s: i64,
    },
    /// An alarm was raised or disarmed.
    AlarmsChanged,
    /// Members, their attributes, or the cluster version changed.
    MembersChanged,
    /// The entry was a conf change: what it did, or None if it was turned down, so that Raft must not take it
    /// either.
    ConfApplied(Option<MemberChange>),
    /// The compacted revision moved. With `physical` the reply waits until superseded records are gone.
    Compacted {
        /// The new compacted revision.
        revision: Revision,
        /// Whether the caller wants to wait.
        physical: bool,
    },
}

/// The replicated state machine.
pub struct StateMachine {
    store: MvccStore,
    leases: Leases,
    alarms: Alarms,
    members: Members,
    /// The last entry applied.
    applied: LogPosition,
}

impl StateMachine {
    /// Takes over a store, and reads leases, alarms and members from its engine.
    pub fn open(store: MvccStore) -> Result<Self, StateError> {
        let engine = store.engine();
        Ok(Self {
            leases: Leases::load(&*engine)?,
            alarms: Alarms::load(&*engine)?,
            members: Members::load(&*engine)?,
            applied: store.applied(),
            store,
        })
    }

    /// Applies the next entry. None if it has been applied before. An error is local to this member, which must
    /// then stop: going on would part it from the others.
    pub fn apply(&mut self, entry: Entry) -> Result<Option<Applied>, StateError> {
        let index = entry.index.0;
        let applied = self.applied.index;
        if index <= applied {
            return Ok(None);
        }
        if applied > 0 && index != applied + 1 {
            return Err(StateError::Gap { index, applied });
        }
        let outcome = match entry.kind {
            EntryKind::Request if entry.data.is_empty() => Applied::reply(ApplyReply::Done),
            EntryKind::Request => self.apply_request(index, entry.data, entry.wanted)?,
            EntryKind::ConfChange => self.apply_conf_change(index, entry.data)?,
        };
        self.applied = LogPosition {
            index,
            term: entry.term.0,
        };
        Ok(Some(outcome))
    }

    fn apply_request(
        &mut self,
        index: u64,
        data: Bytes,
        wanted: bool,
    ) -> Result<Applied, StateError> {
        let request =
            InternalRaftRequest::decode(data.clone()).map_err(|error| StateError::Undecodable {
                index,
                reason: error.to_string(),
            })?;
        if let Err(refused) = self.alarms.admit(&request) {
            return Ok(Applied::error(refused));
        }
        let result = if let Some(request) = &request.put {
            self.put(request, wanted)
        } else if let Some(request) = &request.txn {
            self.txn(request, wanted)
        } else if let Some(request) = &request.delete_range {
            self.delete_range(request, wanted)
        } else if let Some(request) = &request.compaction {
            self.compact(request)
        } else if let Some(request) = &request.lease_grant {
            self.lease_grant(request)
        } else if let Some(request) = &request.lease_revoke {
            self.lease_revoke(request)
        } else if let Some(request) = &request.lease_checkpoint {
            Ok(self.lease_checkpoint(request))
        } else if let Some(request) = &request.alarm {
            Ok(self.alarm(request))
        } else if let Some(request) = request.cluster_version_set {
            Ok(self.set_version(request))
        } else if let Some(request) = request.cluster_member_attr_set {
            Ok(self.set_attributes(request))
        } else if let Some(request) = request.downgrade_info_set {
            self.members.set_downgrade(request, self.store.batch());
            Ok(Applied::reply(ApplyReply::Done).with(Effect::MembersChanged))
        } else {
            return Self::pass_over(index, &request, &data);
        };
        match result {
            Ok(applied) => Ok(applied),
            Err(KvError::Reply(error)) => Ok(Applied::error(error)),
            Err(KvError::Storage(error)) => Err(StateError::Storage { index, error }),
        }
    }

    /// Nothing to do, if that is certain.
    fn pass_over(
        index: u64,
        request: &InternalRaftRequest,
        data: &[u8],
    ) -> Result<Applied, StateError> {
        let kind = match request::unsupported(request) {
            Some(name) => Some(name.to_owned()),
            None if request::only_reads(request) => None,
            None => first_request_field(data).map(|field| format!("field {field}")),
        };
        match kind {
            Some(kind) => Err(StateError::UnknownRequest { index, kind }),
            None => Ok(Applied::reply(ApplyReply::Done)),
        }
    }

    fn put(&mut self, request: &pb::PutRequest, wanted: bool) -> Result<Applied, KvError> {
        put::check_lease(&self.leases, request)?;
        let mut txn = self.store.begin();
        let (response, lease) = put::execute(&mut txn, request, wanted)?;
        let end = txn.end();
        if lease.is_some() {
            self.leases.follow(&end.changes, &[(0, lease)]);
        } else {
            self.leases.follow(&end.changes, &[]);
        }
        Ok(Applied {
            revision: end.revision,
            changes: end.changes,
            ..Applied::reply(ApplyReply::Put(response))
        })
    }

    fn delete_range(
        &mut self,
        request: &pb::DeleteRangeRequest,
        wanted: bool,
    ) -> Result<Applied, KvError> {
        let mut txn = self.store.begin();
        let response = delete::execute(&mut txn, request, wanted)?;
        let end = txn.end();
        self.leases.follow(&end.changes, &[]);
        Ok(Applied {
            revision: end.revision,
            changes: end.changes,
            ..Applied::reply(ApplyReply::DeleteRange(response))
        })
    }

    fn txn(&mut self, request: &pb::TxnRequest, wanted: bool) -> Result<Applied, KvError> {
        let mut txn = self.store.begin();
        let outcome = txn::execute(&mut txn, &self.leases, request, wanted)?;
        let end = txn.end();
        self.leases.follow(&end.changes, &outcome.leased);
        Ok(Applied {
            revision: end.revision,
            changes: end.changes,
            ..Applied::reply(ApplyReply::Txn(outcome.response))
        })
    }

    fn compact(&mut self, request: &pb::CompactionRequest) -> Result<Applied, KvError> {
        let revision = Revision(request.revision);
        self.store.compact(revision)?;
        let response = pb::CompactionResponse {
            header: header(self.store.revision()),
        };
        Ok(
            Applied::reply(ApplyReply::Compact(response)).with(Effect::Compacted {
                revision,
                physical: request.physical,
            }),
        )
    }

    fn lease_grant(&mut self, request: &pb::LeaseGrantRequest) -> Result<Applied, KvError> {
        let id = LeaseId(request.id);
        let lease = self.leases.grant(id, request.ttl, self.store.batch())?;
        let response = pb::LeaseGrantResponse {
            header: header(self.store.revision()),
            id: id.0,
            ttl: lease.ttl_s,
            error: String::new(),
        };
        Ok(
            Applied::reply(ApplyReply::LeaseGrant(response)).with(Effect::LeaseGranted {
                id,
                ttl_s: lease.ttl_s,
            }),
        )
    }

    /// L-03: the lease's keys go in order, at one revision; without keys no revision.
    fn lease_revoke(&mut self, request: &pb::LeaseRevokeRequest) -> Result<Applied, KvError> {
        let id = LeaseId(request.id);
        let Some(keys) = self.leases.keys(id) else {
            return Err(EtcdError::LeaseNotFound.into());
        };
        let keys: Vec<Bytes> = keys.cloned().collect();
        let mut applied = Applied::reply(ApplyReply::Done).with(Effect::LeaseRevoked { id });
        if !keys.is_empty() {
            let mut txn = self.store.begin();
            for key in keys {
                txn.delete(&KeyRange::One(key))?;
            }
            let end = txn.end();
            self.leases.follow(&end.changes, &[]);
            applied.revision = end.revision;
            applied.changes = end.changes;
        }
        self.leases.remove(id, self.store.batch());
        applied.result = Ok(ApplyReply::LeaseRevoke(pb::LeaseRevokeResponse {
            header: header(self.store.revision()),
        }));
        Ok(applied)
    }

    fn lease_checkpoint(&mut self, request: &pb::LeaseCheckpointRequest) -> Applied {
        let mut applied =
            Applied::reply(ApplyReply::LeaseCheckpoint(pb::LeaseCheckpointResponse {
                header: header(self.store.revision()),
            }));
        for checkpoint in &request.checkpoints {
            let id = LeaseId(checkpoint.id);
            let remaining_ttl_s = checkpoint.remaining_ttl;
            // A lease revoked in the meantime is passed over.
            if self
                .leases
                .checkpoint(id, remaining_ttl_s, self.store.batch())
            {
                applied.effects.push(Effect::LeaseCheckpointed {
                    id,
                    remaining_ttl_s,
                });
            }
        }
        applied
    }

    fn alarm(&mut self, request: &pb::AlarmRequest) -> Applied {
        let (alarms, changed) = self.alarms.apply(request, self.store.batch());
        let applied = Applied::reply(ApplyReply::Alarm(pb::AlarmResponse {
            header: header(self.store.revision()),
            alarms,
        }));
        if changed {
            applied.with(Effect::AlarmsChanged)
        } else {
            applied
        }
    }

    fn set_version(&mut self, request: membershippb::ClusterVersionSetRequest) -> Applied {
        let applied = Applied::reply(ApplyReply::Done);
        if !is_version(&request.ver) {
            tracing::warn!(
                version = request.ver,
                "ignored a cluster version that is none"
            );
            return applied;
        }
        self.members.set_version(request.ver, self.store.batch());
        applied.with(Effect::MembersChanged)
    }

    fn set_attributes(&mut self, request: membershippb::ClusterMemberAttrSetRequest) -> Applied {
        let applied = Applied::reply(ApplyReply::Done);
        let id = request.member_id;
        if self.members.set_attributes(request, self.store.batch()) {
            return applied.with(Effect::MembersChanged);
        }
        tracing::warn!(
            member = format!("{id:x}"),
            "ignored the attributes of an id that is not a member"
        );
        applied
    }

    fn apply_conf_change(&mut self, index: u64, data: Bytes) -> Result<Applied, StateError> {
        let change = ConfChange::decode(&data).map_err(|error| StateError::Undecodable {
            index,
            reason: error.to_string(),
        })?;
        Ok(match self.members.apply(change, self.store.batch()) {
            Ok(change) => Applied::reply(ApplyReply::Done)
                .with(Effect::ConfApplied(Some(change)))
                .with(Effect::MembersChanged),
            Err(refused) => Applied::error(refused).with(Effect::ConfApplied(None)),
        })
    }

    /// Closes the writes of the entries applied since the last call together with the applied index.
    pub fn seal(&mut self) {
        self.store.seal(self.applied);
    }

    /// Shows readers everything applied. Seal first, so that the view carries the applied index.
    pub fn publish(&mut self) {
        self.store.publish();
    }

    /// Everything sealed and not yet taken, for the engine.
    pub fn take_sealed(&mut self) -> Option<SealedBatch> {
        self.store.take_sealed()
    }

    /// The engine has every batch through this one.
    pub fn wrote(&mut self, seq: u64) {
        self.store.wrote(seq);
    }

    /// Bytes the engine does not have yet: what the shell holds back on.
    pub fn unwritten_bytes(&self) -> usize {
        self.store.unwritten_bytes()
    }

    /// Whether the next [`compact_step`](Self::compact_step) costs the engine nothing.
    pub fn compaction_only_looks(&self) -> bool {
        self.store.compaction_only_looks()
    }

    /// Removes up to about `max_records` superseded records. Not replicated: it changes nothing readable.
    pub fn compact_step(&mut self, max_records: usize) -> StorageResult<CompactStep> {
        self.store.compact_step(max_records)
    }

    /// The compaction just applied, to be hashed on another thread before the first step; `None` if it has no hash.
    pub fn take_compaction_hash(&mut self) -> Option<CompactionHash> {
        self.store.take_compaction_hash()
    }

    /// The compacted revision whose superseded records are not all removed yet.
    pub fn compaction_pending(&self) -> Option<Revision> {
        self.store.compaction_pending()
    }

    /// The last entry applied.
    pub fn applied(&self) -> (Index, Term) {
        (Index(self.applied.index), Term(self.applied.term))
    }

    /// The keys as of the last entry applied; published views may be older.
    pub fn keys(&self) -> &impl ReadAt {
        &self.store
    }

    /// The leases.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The alarms.
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// The members, the cluster version and a downgrade under way.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Where readers find the latest published view.
    pub fn views(&self) -> Views {
        self.store.views()
    }

    /// Logical sizes.
    pub fn sizes(&self) -> Sizes {
        self.store.sizes()
    }

    /// The engine in use.
    pub fn engine(&self) -> Arc<dyn Engine> {
        self.store.engine()
    }

    pub(crate) fn store(&self) -> &MvccStore {
        &self.store
    }

    #[cfg(test)]
    pub(crate) fn leases_mut(&mut self) -> &mut Leases {
        &mut self.leases
    }

    /// The store, for work that changes nothing replicated: rewriting it, switching its engine.
    pub fn store_mut(&mut self) -> &mut MvccStore {
        &mut self.store
    }
}
