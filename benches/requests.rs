//! What a request costs on its way in and out, apart from the network and the disk: validating it, encoding the
//! proposal, finding its id again, and splicing stored records into a reply.
#![allow(missing_docs, clippy::unwrap_used)]

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use prost::Message;
use rusd_proto::etcdserverpb as pb;
use rusd_proto::ids::MemberId;
use rusd_proto::request::{self, RequestIds};
use rusd_proto::{etcdserverpb::InternalRaftRequest, mvccpb};
use rusd_state::kv::validate;
use std::hint::black_box;

fn put() -> pb::PutRequest {
    pb::PutRequest {
        key: Bytes::from_static(b"/registry/pods/default/pod-00042"),
        value: Bytes::from(vec![b'v'; 256]),
        ..pb::PutRequest::default()
    }
}

fn proposals(c: &mut Criterion) {
    let ids = RequestIds::new(MemberId(1), 0);
    let encode = |request: pb::PutRequest| {
        let request = InternalRaftRequest {
            put: Some(request),
            ..InternalRaftRequest::default()
        };
        request::encode(ids.next(), request)
    };
    c.bench_function("encode a put of 256 bytes", |b| {
        b.iter(|| encode(black_box(put())))
    });
    let data = encode(put());
    c.bench_function("find the id of a put of 256 bytes", |b| {
        b.iter(|| request::request_id(black_box(&data)))
    });
}

fn validation(c: &mut Criterion) {
    let op = |n: u32| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
            key: Bytes::from(format!("key-{n:05}")),
            ..pb::PutRequest::default()
        })),
    };
    let txn = pb::TxnRequest {
        success: (0..128).map(op).collect(),
        ..pb::TxnRequest::default()
    };
    assert!(validate::txn(&txn, 128).is_ok());
    c.bench_function("validate a txn of 128 puts", |b| {
        b.iter(|| validate::txn(black_box(&txn), 128))
    });
}

fn replies(c: &mut Criterion) {
    let record = mvccpb::KeyValue {
        key: Bytes::from_static(b"/registry/pods/default/pod-00042"),
        value: Bytes::from(vec![b'v'; 256]),
        create_revision: 1_000_000,
        mod_revision: 2_000_000,
        version: 3,
        lease: 0,
    };
    let response = pb::RangeResponse {
        kvs: vec![Bytes::from(record.encode_to_vec()); 1000],
        count: 1000,
        ..pb::RangeResponse::default()
    };
    let mut buffer = Vec::with_capacity(response.encoded_len());
    c.bench_function("encode a reply of 1000 records", |b| {
        b.iter(|| {
            buffer.clear();
            response.encode(&mut buffer).unwrap();
            black_box(buffer.len())
        });
    });
}

criterion_group!(benches, proposals, validation, replies);
criterion_main!(benches);
