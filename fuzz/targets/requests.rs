//! gRPC requests: decoded, validated, and where they only read, answered.

use super::entries::{open, range, requests, txn, write_out};
use super::{Case, Outcome, Target};
use bytes::Bytes;
use prost::Message;
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use rusd_proto::ids::{Index, Term};
use rusd_state::KvError;
use rusd_state::kv::range::{Pager, estimate, range_on_newest};
use rusd_state::kv::{quota, txn as transactions, validate};
use rusd_state::{Entry, EntryKind};
use rusd_storage::Views;
use rusd_storage::engine::Memory;
use std::sync::{Arc, LazyLock};

/// See the module.
pub const TARGET: Target = Target {
    name: "requests",
    corpus,
    run,
    cases: 8_000,
};

const MAX_TXN_OPS: usize = 128;
const MAX_REQUEST_BYTES: usize = 200;
/// More chunks than a stream of the few keys here can have.
const CHUNKS_MAX: usize = 1_000;

/// A store with a little of everything in it.
static VIEWS: LazyLock<Views> = LazyLock::new(|| {
    let engine = Arc::new(Memory::new());
    let mut machine = open(engine.clone()).unwrap();
    for (request, index) in requests().into_iter().zip(1..) {
        let entry = Entry {
            index: Index(index),
            term: Term(1),
            kind: EntryKind::Request,
            data: request.encode_to_vec().into(),
            wanted: false,
        };
        machine.apply(entry).unwrap();
    }
    write_out(&mut machine, engine.as_ref());
    machine.views()
});

/// The first byte of a part says which request it is.
type Handle = fn(Bytes) -> Result<(), Fault>;

enum Fault {
    Undecodable,
    Refused,
}

impl From<prost::DecodeError> for Fault {
    fn from(_: prost::DecodeError) -> Self {
        Self::Undecodable
    }
}

impl From<EtcdError> for Fault {
    fn from(error: EtcdError) -> Self {
        assert!(error.code() as i32 != 0 && !error.to_string().is_empty());
        Self::Refused
    }
}

impl From<KvError> for Fault {
    fn from(error: KvError) -> Self {
        match error.into_reply() {
            Ok(reply) => reply.into(),
            Err(failure) => panic!("a request made the storage fail: {failure}"),
        }
    }
}

fn decoded<M: Message + Default>(data: Bytes) -> Result<(), Fault> {
    let message = M::decode(data)?;
    let again = M::decode(message.encode_to_vec().as_slice());
    assert!(again.is_ok(), "what was decoded cannot be encoded");
    Ok(())
}

const HANDLERS: [Handle; 19] = [
    handle_range,
    handle_range_stream,
    handle_txn,
    |data| {
        let request = pb::PutRequest::decode(data)?;
        let _cost = quota::put_cost(&request);
        Ok(validate::put(&request)?)
    },
    |data| {
        Ok(validate::delete_range(&pb::DeleteRangeRequest::decode(
            data,
        )?)?)
    },
    decoded::<pb::CompactionRequest>,
    decoded::<pb::WatchRequest>,
    decoded::<pb::LeaseGrantRequest>,
    decoded::<pb::LeaseRevokeRequest>,
    decoded::<pb::LeaseKeepAliveRequest>,
    decoded::<pb::LeaseTimeToLiveRequest>,
    decoded::<pb::MemberAddRequest>,
    decoded::<pb::MemberUpdateRequest>,
    decoded::<pb::MemberListRequest>,
    decoded::<pb::MoveLeaderRequest>,
    decoded::<pb::AlarmRequest>,
    decoded::<pb::HashKvRequest>,
    decoded::<pb::DowngradeRequest>,
    decoded::<pb::AuthenticateRequest>,
];

fn handle_range(data: Bytes) -> Result<(), Fault> {
    let request = pb::RangeRequest::decode(data)?;
    validate::range(&request)?;
    let cost = estimate(&*VIEWS.load(), &request);
    assert!(cost.keys >= 0 && cost.bytes >= 0);
    let response = range_on_newest(&VIEWS, &request)?;
    assert!(response.count >= 0 && response.kvs.len() as i64 <= response.count.max(100));
    Ok(())
}

fn handle_range_stream(data: Bytes) -> Result<(), Fault> {
    let request = pb::RangeRequest::decode(data)?;
    validate::range_stream(&request)?;
    let mut pager = Pager::new(&*VIEWS.load(), request, MAX_REQUEST_BYTES);
    for _ in 0..CHUNKS_MAX {
        if pager.is_finished() {
            return Ok(());
        }
        pager.next_on_newest(&VIEWS)?;
    }
    panic!("the stream does not end");
}

fn handle_txn(data: Bytes) -> Result<(), Fault> {
    let request = pb::TxnRequest::decode(data)?;
    let _cost = quota::txn_cost(&request);
    validate::txn(&request, MAX_TXN_OPS)?;
    let _local = transactions::is_serializable(&request);
    if transactions::is_read_only(&request) {
        transactions::read_only_on_newest(&VIEWS, &request)?;
    }
    Ok(())
}

/// Ranges, plain and with every kind of option.
fn ranges() -> Vec<pb::RangeRequest> {
    vec![
        range("a", ""),
        range("a", "z"),
        pb::RangeRequest {
            limit: 1,
            revision: 4,
            sort_order: 2,
            sort_target: 4,
            min_mod_revision: 2,
            max_create_revision: 9,
            ..range("\0", "\0")
        },
        pb::RangeRequest {
            count_only: true,
            serializable: true,
            ..range("b", "\0")
        },
    ]
}

/// Ranges that may be streamed.
fn streams() -> Vec<pb::RangeRequest> {
    vec![
        range("\0", "\0"),
        pb::RangeRequest {
            limit: 2,
            keys_only: true,
            ..range("a", "z")
        },
    ]
}

/// One that writes, one that only reads.
fn txns() -> Vec<pb::TxnRequest> {
    vec![
        txn(),
        pb::TxnRequest {
            compare: txn().compare,
            success: vec![pb::RequestOp {
                request: Some(pb::request_op::Request::RequestRange(range("a", "z"))),
            }],
            failure: Vec::new(),
        },
    ]
}

/// A watch from the past.
fn watch() -> pb::WatchRequest {
    pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(
            pb::WatchCreateRequest {
                key: "a".into(),
                range_end: "\0".into(),
                start_revision: 3,
                prev_kv: true,
                ..Default::default()
            },
        )),
    }
}

fn corpus() -> Vec<Case> {
    let part = |kind: u8, message: Vec<u8>| vec![[&[kind][..], &message].concat()];
    let mut cases: Vec<Case> = Vec::new();
    cases.extend(
        ranges()
            .iter()
            .map(|request| part(0, request.encode_to_vec())),
    );
    cases.extend(
        streams()
            .iter()
            .map(|request| part(1, request.encode_to_vec())),
    );
    cases.extend(
        txns()
            .iter()
            .map(|request| part(2, request.encode_to_vec())),
    );
    for request in requests() {
        cases.extend(request.put.map(|put| part(3, put.encode_to_vec())));
        cases.extend(
            request
                .delete_range
                .map(|delete| part(4, delete.encode_to_vec())),
        );
    }
    cases.push(part(6, watch().encode_to_vec()));
    // The first field of the others is a number or a text.
    for kind in 7..HANDLERS.len() as u8 {
        let inputs = [vec![0x08, 1], vec![0x0a, 1, b'x']].map(|message| part(kind, message));
        cases.extend(
            inputs
                .into_iter()
                .filter(|case| run(case) == Outcome::Accepted),
        );
    }
    cases
}

fn run(parts: &[Vec<u8>]) -> Outcome {
    let mut outcome = Outcome::Accepted;
    for part in parts {
        let Some((kind, data)) = part.split_first() else {
            continue;
        };
        let handle = HANDLERS[usize::from(*kind) % HANDLERS.len()];
        if handle(Bytes::copy_from_slice(data)).is_err() {
            outcome = Outcome::Refused;
        }
    }
    outcome
}
