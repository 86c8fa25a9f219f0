//! etcd's semantics once more, as simply as they can be written: a history per key, and copies of everything.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use rusd_proto::etcdserverpb::compare::TargetUnion;
use rusd_proto::etcdserverpb::request_op::Request;
use rusd_proto::etcdserverpb::response_op::Response;
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};
use rusd_proto::mvccpb::KeyValue;
use rusd_proto::{ApplyReply, ApplyResult, EtcdError};

/// A change of a key, as a watch shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The revision that it is a part of.
    pub revision: i64,
    /// The key that changed.
    pub key: Bytes,
    /// What it became; None if it was deleted.
    pub kv: Option<KeyValue>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Model {
    /// The current revision; 1 at first.
    pub revision: i64,
    /// Below it nothing can be read; -1 if nothing was compacted.
    pub compacted: i64,
    /// All changes so far, in order.
    events: Vec<Event>,
    /// Per key, what it became at which revision.
    history: BTreeMap<Bytes, Vec<(i64, Option<KeyValue>)>>,
    /// Time to live and remaining time, in seconds.
    pub leases: BTreeMap<i64, (i64, i64)>,
    nospace: BTreeSet<u64>,
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

impl Model {
    /// An empty store.
    pub fn new() -> Self {
        Self {
            revision: 1,
            compacted: -1,
            events: Vec::new(),
            history: BTreeMap::new(),
            leases: BTreeMap::new(),
            nospace: BTreeSet::new(),
        }
    }

    /// The keys that hang on a lease, in order.
    pub fn attached(&self, lease: i64) -> Vec<Bytes> {
        let alive = self.alive(b"\0", b"\0", i64::MAX);
        alive
            .into_iter()
            .filter(|kv| kv.lease == lease)
            .map(|kv| kv.key)
            .collect()
    }

    /// All changes so far, in order, those of compacted revisions too.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What a key was at a revision, compacted or not.
    pub fn get(&self, key: &[u8], at: i64) -> Option<KeyValue> {
        self.alive(key, b"", at).pop()
    }

    /// The keys of a range (an empty end: of one key) at a revision, compacted or not.
    pub fn alive(&self, key: &[u8], range_end: &[u8], at: i64) -> Vec<KeyValue> {
        let selected = |candidate: &[u8]| match range_end {
            b"" => candidate == key,
            b"\0" => candidate >= key,
            _ => candidate >= key && candidate < range_end,
        };
        self.history
            .iter()
            .filter(|(candidate, _)| selected(candidate))
            .filter_map(|(_, history)| history.iter().rev().find(|(revision, _)| *revision <= at))
            .filter_map(|(_, kv)| kv.clone())
            .collect()
    }

    fn one(&self, key: &[u8]) -> Option<KeyValue> {
        self.alive(key, b"", i64::MAX).pop()
    }

    /// Answers a range now.
    pub fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, EtcdError> {
        self.range_as_of(self.revision, self.compacted, request)
    }

    /// Answers a range as when `revision` was the current one, and `compacted` the compacted one.
    pub fn range_as_of(
        &self,
        revision: i64,
        compacted: i64,
        request: &pb::RangeRequest,
    ) -> Result<pb::RangeResponse, EtcdError> {
        let header = header(revision);
        if request.revision > revision {
            return Err(EtcdError::FutureRevision);
        }
        let at = if request.revision <= 0 {
            revision
        } else {
            request.revision
        };
        if request.revision > 0 && at < compacted {
            return Err(EtcdError::Compacted);
        }
        let mut kvs = self.alive(&request.key, &request.range_end, at);
        let count = kvs.len() as i64;
        if request.count_only {
            return Ok(pb::RangeResponse {
                header,
                count,
                ..Default::default()
            });
        }
        let (order, target) = (request.sort_order, request.sort_target);
        let filtered = request.min_mod_revision != 0
            || request.max_mod_revision != 0
            || request.min_create_revision != 0
            || request.max_create_revision != 0;
        if request.limit > 0 && !filtered && (order == 0 || (order == 1 && target == 0)) {
            kvs.truncate(request.limit as usize + 1);
        }
        for (bound, keep) in [
            (
                request.min_mod_revision,
                (|kv, bound| kv.mod_revision >= bound) as fn(&KeyValue, i64) -> bool,
            ),
            (request.max_mod_revision, |kv, bound| {
                kv.mod_revision <= bound
            }),
            (request.min_create_revision, |kv, bound| {
                kv.create_revision >= bound
            }),
            (request.max_create_revision, |kv, bound| {
                kv.create_revision <= bound
            }),
        ] {
            kvs.retain(|kv| bound == 0 || keep(kv, bound));
        }
        kvs.sort_by(|a, b| {
            let ascending = match target {
                0 => a.key.cmp(&b.key),
                1 => a.version.cmp(&b.version),
                2 => a.create_revision.cmp(&b.create_revision),
                3 => a.mod_revision.cmp(&b.mod_revision),
                _ => a.value.cmp(&b.value),
            };
            if order == 2 {
                ascending.reverse()
            } else {
                ascending
            }
        });
        let more = request.limit > 0 && kvs.len() as i64 > request.limit;
        if more {
            kvs.truncate(request.limit as usize);
        }
        if request.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
                if target != 4 {
                    kv.lease = 0;
                }
            }
        }
        Ok(pb::RangeResponse {
            header,
            kvs: kvs.iter().map(marshalled).collect(),
            more,
            count,
        })
    }

    /// Applies a proposal of the kinds that clients and the lease timer make; any other panics.
    pub fn apply(&mut self, request: &InternalRaftRequest) -> ApplyResult {
        let takes_space = request.put.is_some()
            || request.lease_grant.is_some()
            || request.txn.as_ref().is_some_and(puts_somewhere);
        if takes_space && !self.nospace.is_empty() {
            return Err(EtcdError::NoSpace);
        }
        if let Some(request) = &request.put {
            self.check_put(request)?;
            let mut changed = false;
            let response = self.put(request, self.revision + 1, &mut changed)?;
            self.revision += 1;
            return Ok(ApplyReply::Put(response));
        }
        if let Some(request) = &request.delete_range {
            let mut changed = false;
            let response = self.delete(request, self.revision + 1, &mut changed);
            self.revision += i64::from(changed);
            return Ok(ApplyReply::DeleteRange(response));
        }
        if let Some(request) = &request.txn {
            let before = self.clone();
            let result = self.txn(request);
            if result.is_err() {
                *self = before;
            }
            return result.map(ApplyReply::Txn);
        }
        if let Some(request) = &request.compaction {
            if request.revision <= self.compacted {
                return Err(EtcdError::Compacted);
            }
            if request.revision > self.revision {
                return Err(EtcdError::FutureRevision);
            }
            self.compacted = request.revision;
            return Ok(ApplyReply::Compact(pb::CompactionResponse {
                header: header(self.revision),
            }));
        }
        if let Some(request) = &request.lease_grant {
            if request.id == 0 {
                return Err(EtcdError::LeaseNotFound);
            }
            if self.leases.contains_key(&request.id) {
                return Err(EtcdError::LeaseExists);
            }
            self.leases.insert(request.id, (request.ttl, 0));
            return Ok(ApplyReply::LeaseGrant(pb::LeaseGrantResponse {
                header: header(self.revision),
                id: request.id,
                ttl: request.ttl,
                error: String::new(),
            }));
        }
        if let Some(request) = &request.lease_revoke {
            let attached = self.attached(request.id);
            if self.leases.remove(&request.id).is_none() {
                return Err(EtcdError::LeaseNotFound);
            }
            let mut changed = false;
            for key in attached {
                let request = pb::DeleteRangeRequest {
                    key,
                    ..Default::default()
                };
                self.delete(&request, self.revision + 1, &mut changed);
            }
            self.revision += i64::from(changed);
            return Ok(ApplyReply::LeaseRevoke(pb::LeaseRevokeResponse {
                header: header(self.revision),
            }));
        }
        if let Some(request) = &request.lease_checkpoint {
            for checkpoint in &request.checkpoints {
                if let Some(lease) = self.leases.get_mut(&checkpoint.id) {
                    lease.1 = checkpoint.remaining_ttl;
                }
            }
            return Ok(ApplyReply::LeaseCheckpoint(pb::LeaseCheckpointResponse {
                header: header(self.revision),
            }));
        }
        let request = request.alarm.as_ref().unwrap();
        let changed = match request.action {
            1 => {
                self.nospace.insert(request.member_id);
                true
            }
            _ => self.nospace.remove(&request.member_id),
        };
        let alarm = pb::AlarmMember {
            member_id: request.member_id,
            alarm: request.alarm,
        };
        Ok(ApplyReply::Alarm(pb::AlarmResponse {
            header: header(self.revision),
            alarms: if changed { vec![alarm] } else { vec![] },
        }))
    }

    fn set(&mut self, key: &Bytes, revision: i64, kv: Option<KeyValue>, changed: &mut bool) {
        *changed = true;
        self.events.push(Event {
            revision,
            key: key.clone(),
            kv: kv.clone(),
        });
        self.history
            .entry(key.clone())
            .or_default()
            .push((revision, kv));
    }

    fn check_put(&self, request: &pb::PutRequest) -> Result<(), EtcdError> {
        if request.lease != 0 && !self.leases.contains_key(&request.lease) {
            return Err(EtcdError::LeaseNotFound);
        }
        if (request.ignore_value || request.ignore_lease) && self.one(&request.key).is_none() {
            return Err(EtcdError::KeyNotFound);
        }
        Ok(())
    }

    fn put(
        &mut self,
        request: &pb::PutRequest,
        revision: i64,
        changed: &mut bool,
    ) -> Result<pb::PutResponse, EtcdError> {
        let previous = self.one(&request.key);
        if (request.ignore_value || request.ignore_lease) && previous.is_none() {
            return Err(EtcdError::KeyNotFound);
        }
        let mut kv = KeyValue {
            key: request.key.clone(),
            value: request.value.clone(),
            lease: request.lease,
            create_revision: revision,
            mod_revision: revision,
            version: 1,
        };
        if let Some(previous) = &previous {
            kv.create_revision = previous.create_revision;
            kv.version = previous.version + 1;
            if request.ignore_value {
                kv.value = previous.value.clone();
            }
            if request.ignore_lease {
                kv.lease = previous.lease;
            }
        }
        self.set(&request.key, revision, Some(kv), changed);
        Ok(pb::PutResponse {
            header: header(revision),
            prev_kv: previous
                .filter(|_| request.prev_kv)
                .as_ref()
                .map(marshalled)
                .unwrap_or_default(),
        })
    }

    fn delete(
        &mut self,
        request: &pb::DeleteRangeRequest,
        revision: i64,
        changed: &mut bool,
    ) -> pb::DeleteRangeResponse {
        let doomed = self.alive(&request.key, &request.range_end, i64::MAX);
        for kv in &doomed {
            self.set(&kv.key, revision, None, changed);
        }
        pb::DeleteRangeResponse {
            header: header(if *changed { revision } else { revision - 1 }),
            deleted: doomed.len() as i64,
            prev_kvs: if request.prev_kv {
                doomed.iter().map(marshalled).collect()
            } else {
                vec![]
            },
        }
    }

    /// Answers a transaction, which changes nothing if it fails.
    pub fn txn(&mut self, request: &pb::TxnRequest) -> Result<pb::TxnResponse, EtcdError> {
        let before = self.clone();
        before.check_txn(request)?;
        let mut changed = false;
        let revision = before.revision + 1;
        let mut response = self.run_txn(request, &before, revision, &mut changed)?;
        self.revision = if changed { revision } else { before.revision };
        response.header = header(self.revision);
        Ok(response)
    }

    fn check_txn(&self, request: &pb::TxnRequest) -> Result<(), EtcdError> {
        for op in self.chosen(request).1 {
            match op.request.as_ref().unwrap() {
                Request::RequestRange(range) if range.revision > self.revision => {
                    return Err(EtcdError::FutureRevision);
                }
                Request::RequestRange(range)
                    if range.revision != 0 && range.revision < self.compacted =>
                {
                    return Err(EtcdError::Compacted);
                }
                Request::RequestPut(put) => self.check_put(put)?,
                Request::RequestTxn(txn) => self.check_txn(txn)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn run_txn(
        &mut self,
        request: &pb::TxnRequest,
        before: &Model,
        revision: i64,
        changed: &mut bool,
    ) -> Result<pb::TxnResponse, EtcdError> {
        let (succeeded, ops) = before.chosen(request);
        let mut responses = Vec::new();
        for op in ops {
            let response = match op.request.as_ref().unwrap() {
                Request::RequestRange(range) => {
                    self.revision = if *changed { revision } else { revision - 1 };
                    Response::ResponseRange(self.range(range)?)
                }
                Request::RequestPut(put) => {
                    Response::ResponsePut(self.put(put, revision, changed)?)
                }
                Request::RequestDeleteRange(delete) => {
                    Response::ResponseDeleteRange(self.delete(delete, revision, changed))
                }
                Request::RequestTxn(txn) => {
                    Response::ResponseTxn(self.run_txn(txn, before, revision, changed)?)
                }
            };
            responses.push(pb::ResponseOp {
                response: Some(response),
            });
        }
        Ok(pb::TxnResponse {
            header: header(0),
            succeeded,
            responses,
        })
    }

    fn chosen<'a>(&self, request: &'a pb::TxnRequest) -> (bool, &'a [pb::RequestOp]) {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        (
            succeeded,
            if succeeded {
                &request.success
            } else {
                &request.failure
            },
        )
    }

    fn holds(&self, compare: &pb::Compare) -> bool {
        let kvs = self.alive(&compare.key, &compare.range_end, i64::MAX);
        if kvs.is_empty() {
            return compare.target != 3 && holds_for(compare, &KeyValue::default());
        }
        kvs.iter().all(|kv| holds_for(compare, kv))
    }
}

fn holds_for(compare: &pb::Compare, kv: &KeyValue) -> bool {
    let order = match (compare.target, &compare.target_union) {
        (0, Some(TargetUnion::Version(n))) => kv.version.cmp(n),
        (0, _) => kv.version.cmp(&0),
        (1, Some(TargetUnion::CreateRevision(n))) => kv.create_revision.cmp(n),
        (1, _) => kv.create_revision.cmp(&0),
        (2, Some(TargetUnion::ModRevision(n))) => kv.mod_revision.cmp(n),
        (2, _) => kv.mod_revision.cmp(&0),
        (3, Some(TargetUnion::Value(value))) => kv.value.cmp(value),
        (3, _) => kv.value.cmp(&Bytes::new()),
        (4, Some(TargetUnion::Lease(n))) => kv.lease.cmp(n),
        (4, _) => kv.lease.cmp(&0),
        _ => Ordering::Equal,
    };
    match compare.result {
        0 => order == Ordering::Equal,
        1 => order == Ordering::Greater,
        2 => order == Ordering::Less,
        _ => order != Ordering::Equal,
    }
}

fn puts_somewhere(txn: &pb::TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .any(|op| match &op.request {
            Some(Request::RequestPut(_)) => true,
            Some(Request::RequestTxn(txn)) => puts_somewhere(txn),
            _ => false,
        })
}

fn marshalled(kv: &KeyValue) -> Bytes {
    kv.encode_to_vec().into()
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        revision,
        ..Default::default()
    })
}
