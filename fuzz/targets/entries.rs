//! Log entries that say anything, applied by a state machine.
//!
//! Every member applies every entry, so none may take a member down by surprise: it is applied, answered with an
//! error, or refused as something that this version cannot carry out. And whatever was applied, a restart from the
//! engine comes to the same state.

use super::{Case, Outcome, Target};
use bytes::Bytes;
use prost::Message;
use raft::eraftpb::{Entry as RaftEntry, EntryType};
use rusd_proto::conf_change::{self, Change, ConfChange};
use rusd_proto::etcdserverpb::compare::TargetUnion;
use rusd_proto::etcdserverpb::request_op::Request;
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};
use rusd_proto::ids::{Index, MemberId, RequestId, Term};
use rusd_proto::{membershippb, request};
use rusd_state::kv::validate;
use rusd_state::{Entry, EntryKind, StateError, StateMachine};
use rusd_storage::engine::{Engine, Memory};
use rusd_storage::{At, MvccOptions, MvccStore, ReadAt, StorageResult};
use std::sync::Arc;

/// See the module.
pub const TARGET: Target = Target {
    name: "entries",
    corpus,
    run,
    cases: 8_000,
};

/// The first byte of a part that is a conf change; any other means a request.
const CONF_CHANGE: u8 = b'c';
const REQUEST: u8 = b'r';
const MAX_TXN_OPS: usize = 128;

fn corpus() -> Vec<Case> {
    let all = requests();
    let request = |request: &InternalRaftRequest| {
        let id = RequestId(0xa1_0000_0000_0001);
        part(REQUEST, &request::encode(id, request.clone()))
    };
    let founder = conf_change::founder(pb::Member {
        id: 7,
        peer_ur_ls: vec!["http://peer-7:1".to_owned()],
        ..pb::Member::default()
    });
    let conf_changes: Case = std::iter::once(founder)
        .chain(
            conf_changes()
                .iter()
                .map(|change| change.encode(RequestId(1))),
        )
        .map(|data| part(CONF_CHANGE, &data))
        .collect();
    let mut cases: Vec<Case> = all
        .chunks(4)
        .map(|chunk| chunk.iter().map(request).collect())
        .collect();
    cases.push(all.iter().map(request).collect());
    cases.push(conf_changes);
    // The entry of a new leader.
    cases.push(vec![part(REQUEST, b"")]);
    cases
}

fn part(kind: u8, data: &[u8]) -> Vec<u8> {
    [&[kind], data].concat()
}

fn run(parts: &[Vec<u8>]) -> Outcome {
    let engine = Arc::new(Memory::new());
    let mut machine = open(engine.clone()).unwrap();
    let mut outcome = Outcome::Accepted;
    for (part, index) in parts.iter().zip(1..) {
        let (kind, data) = part.split_first().unwrap_or((&REQUEST, &[]));
        let data = Bytes::copy_from_slice(data);
        let kind = if *kind == CONF_CHANGE {
            check_conf_change(&data);
            EntryKind::ConfChange
        } else {
            check_request(&data);
            EntryKind::Request
        };
        let entry = Entry {
            index: Index(index),
            term: Term(1),
            kind,
            data,
            wanted: index % 3 != 0,
        };
        match machine.apply(entry) {
            Ok(applied) => assert!(applied.is_some()),
            Err(StateError::Undecodable { .. } | StateError::UnknownRequest { .. }) => {
                outcome = Outcome::Refused;
                break;
            }
            Err(error) => panic!("entry {index}: {error}"),
        }
        if index % 4 == 0 {
            write_out(&mut machine, engine.as_ref());
        }
    }
    write_out(&mut machine, engine.as_ref());
    let again = open(engine).unwrap();
    assert_eq!(
        picture(&machine),
        picture(&again),
        "a restart loses or makes up something"
    );
    outcome
}

/// What the state machine can read of a membership change, Raft can, and it survives being written again.
fn check_conf_change(data: &Bytes) {
    let Ok(change) = ConfChange::decode(data) else {
        return;
    };
    let mut entry = RaftEntry::default();
    entry.set_entry_type(EntryType::EntryConfChange);
    entry.data = data.clone();
    let raft = rusd_raft::conf_change::decode(&entry);
    assert!(raft.is_ok(), "{change:?}");
    assert_eq!(ConfChange::decode(&change.encode(RequestId(1))), Ok(change));
}

/// What is read of a request before it is applied agrees with the request.
fn check_request(data: &Bytes) {
    let peeked = request::request_id(data);
    let Ok(decoded) = InternalRaftRequest::decode(data.clone()) else {
        return;
    };
    // Only the encoding that this server writes is peeked at: every field once, in order.
    if decoded.encode_to_vec() == *data {
        let id = decoded.header.as_ref().map_or(0, |header| header.id);
        assert_eq!(peeked.map_or(0, |id| id.0), id);
    }
    let valid = decoded
        .put
        .as_ref()
        .is_none_or(|put| validate::put(put).is_ok())
        && decoded
            .delete_range
            .as_ref()
            .is_none_or(|delete| validate::delete_range(delete).is_ok())
        && decoded
            .txn
            .as_ref()
            .is_none_or(|txn| validate::txn(txn, MAX_TXN_OPS).is_ok());
    if valid {
        let proposal = request::encode(RequestId(1), decoded);
        assert!(
            InternalRaftRequest::decode(proposal).is_ok(),
            "valid, but not readable from the log"
        );
    }
}

/// A state machine over an engine. Its ring is so small that it reads from the engine too.
pub fn open(engine: Arc<dyn Engine>) -> Result<StateMachine, StateError> {
    let options = MvccOptions {
        ring_bytes: 64,
        ..MvccOptions::default()
    };
    StateMachine::open(MvccStore::open(engine, options)?)
}

/// What the shell does after a run of entries.
pub fn write_out(machine: &mut StateMachine, engine: &dyn Engine) {
    machine.seal();
    machine.publish();
    if let Some(sealed) = machine.take_sealed() {
        engine.write(&sealed.batch).unwrap();
        machine.wrote(sealed.seq);
    }
}

/// Everything replicated.
fn picture(machine: &StateMachine) -> String {
    machine.check();
    let mut leases: Vec<_> = machine
        .leases()
        .iter()
        .map(|(id, lease)| {
            let keys: Vec<&Bytes> = machine.leases().keys(id).into_iter().flatten().collect();
            (id, lease, keys)
        })
        .collect();
    leases.sort_by_key(|(id, _, _)| *id);
    let hash: StorageResult<_> = machine.views().hash_kv(At::Newest);
    format!(
        "{:?} {hash:?} {} {:?} {leases:?} {:?} {:?} {:?} {:?}",
        machine.applied(),
        machine.keys().compacted_revision(),
        machine.sizes(),
        machine.alarms().list(0),
        machine.members().list(),
        machine.members().cluster_version(),
        machine.members().downgrade_target(),
    )
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

fn put(key: &'static str, value: &'static str, lease: i64) -> pb::PutRequest {
    pb::PutRequest {
        key: key.into(),
        value: value.into(),
        lease,
        ..Default::default()
    }
}

/// A range from `key` on, to `range_end`.
pub fn range(key: &'static str, range_end: &'static str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..Default::default()
    }
}

fn compare(target: TargetUnion, kind: i32) -> pb::Compare {
    pb::Compare {
        result: 1,
        target: kind,
        key: "a".into(),
        range_end: "c".into(),
        target_union: Some(target),
    }
}

/// A transaction with every kind of compare and operation, one of them nested.
pub fn txn() -> pb::TxnRequest {
    let nested = pb::TxnRequest {
        compare: vec![compare(TargetUnion::Version(1), 0)],
        success: vec![op(Request::RequestPut(put("c", "nested", 1)))],
        failure: vec![op(Request::RequestDeleteRange(pb::DeleteRangeRequest {
            key: "c".into(),
            ..Default::default()
        }))],
    };
    pb::TxnRequest {
        compare: vec![
            compare(TargetUnion::CreateRevision(1), 1),
            compare(TargetUnion::ModRevision(1), 2),
            compare(TargetUnion::Value("v".into()), 3),
            compare(TargetUnion::Lease(0), 4),
        ],
        success: vec![
            op(Request::RequestRange(range("a", "z"))),
            op(Request::RequestDeleteRange(pb::DeleteRangeRequest {
                key: "x".into(),
                range_end: "\0".into(),
                prev_kv: true,
            })),
            op(Request::RequestPut(put("a", "won", 1))),
        ],
        failure: vec![
            op(Request::RequestPut(pb::PutRequest {
                prev_kv: true,
                ..put("b", "lost", 0)
            })),
            op(Request::RequestTxn(nested)),
            op(Request::RequestRange(range("b", "d"))),
        ],
    }
}

/// One of each kind of request, such that they meet on keys and leases.
pub fn requests() -> Vec<InternalRaftRequest> {
    let none = InternalRaftRequest::default;
    let lease_grant = |id| InternalRaftRequest {
        lease_grant: Some(pb::LeaseGrantRequest { id, ttl: 30 }),
        ..none()
    };
    let put = |put| InternalRaftRequest {
        put: Some(put),
        ..none()
    };
    let mut requests = vec![
        lease_grant(1),
        lease_grant(2),
        put(self::put("a", "1", 1)),
        put(self::put("b", "v", 2)),
        put(pb::PutRequest {
            ignore_value: true,
            ignore_lease: true,
            prev_kv: true,
            ..self::put("a", "", 0)
        }),
        InternalRaftRequest {
            txn: Some(txn()),
            ..none()
        },
        InternalRaftRequest {
            delete_range: Some(pb::DeleteRangeRequest {
                key: "b".into(),
                range_end: "c".into(),
                prev_kv: true,
            }),
            ..none()
        },
        put(self::put("b", "again", 1)),
        InternalRaftRequest {
            compaction: Some(pb::CompactionRequest {
                revision: 3,
                physical: true,
            }),
            ..none()
        },
        InternalRaftRequest {
            lease_checkpoint: Some(pb::LeaseCheckpointRequest {
                checkpoints: vec![pb::LeaseCheckpoint {
                    id: 1,
                    remaining_ttl: 7,
                }],
            }),
            ..none()
        },
        InternalRaftRequest {
            lease_revoke: Some(pb::LeaseRevokeRequest { id: 2 }),
            ..none()
        },
        InternalRaftRequest {
            range: Some(range("a", "z")),
            ..none()
        },
    ];
    requests.extend(requests_of_members());
    requests
}

fn requests_of_members() -> Vec<InternalRaftRequest> {
    let none = InternalRaftRequest::default;
    vec![
        InternalRaftRequest {
            cluster_version_set: Some(membershippb::ClusterVersionSetRequest {
                ver: "3.7.0".to_owned(),
            }),
            ..none()
        },
        InternalRaftRequest {
            cluster_member_attr_set: Some(membershippb::ClusterMemberAttrSetRequest {
                member_id: 5,
                member_attributes: Some(membershippb::Attributes {
                    name: "m".to_owned(),
                    client_urls: vec!["http://a:1".to_owned()],
                }),
            }),
            ..none()
        },
        InternalRaftRequest {
            downgrade_info_set: Some(membershippb::DowngradeInfoSetRequest {
                enabled: true,
                ver: "3.6.0".to_owned(),
            }),
            ..none()
        },
        InternalRaftRequest {
            alarm: Some(pb::AlarmRequest {
                action: 1,
                member_id: 5,
                alarm: 1,
            }),
            ..none()
        },
    ]
}

/// One of each kind of conf change.
pub fn conf_changes() -> Vec<ConfChange> {
    let member = |id, is_learner| pb::Member {
        id,
        name: "m".to_owned(),
        peer_ur_ls: vec![format!("http://peer-{id}:1")],
        client_ur_ls: Vec::new(),
        is_learner,
    };
    let change = |id, change| ConfChange {
        id: MemberId(id),
        change,
    };
    vec![
        change(5, Change::Add(member(5, false))),
        change(6, Change::Add(member(6, true))),
        change(6, Change::Promote),
        change(5, Change::Update(member(5, false))),
        change(6, Change::Remove),
    ]
}
