//! What applying an entry costs, from its encoded bytes to its reply, without the engine: batches are sealed and
//! published every 64 entries and handed to a memory engine.

#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;
use rusd_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use rusd_proto::etcdserverpb::request_op::Request;
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};
use rusd_proto::ids::{Index, Term};
use rusd_state::kv::range;
use rusd_state::{Entry, EntryKind, StateMachine};
use rusd_storage::engine::{Engine, Memory};
use rusd_storage::{MvccOptions, MvccStore};

/// Keys in the store of the benchmarks that overwrite and read.
const KEYS: u64 = 100_000;
const VALUE_BYTES: usize = 256;
/// Entries per measured iteration: one batch.
const BATCH: u64 = 64;

struct Bench {
    engine: Arc<dyn Engine>,
    machine: StateMachine,
    next: u64,
}

impl Bench {
    fn new(keys: u64) -> Self {
        let engine: Arc<dyn Engine> = Arc::new(Memory::new());
        let store = MvccStore::open(engine.clone(), MvccOptions::default()).unwrap();
        let mut bench = Self {
            engine,
            machine: StateMachine::open(store).unwrap(),
            next: 0,
        };
        for n in 0..keys {
            bench.apply(put(n, 0));
            if n.is_multiple_of(BATCH) {
                bench.flush();
            }
        }
        bench.flush();
        bench
    }

    fn apply(&mut self, data: Bytes) {
        self.next += 1;
        let entry = Entry {
            index: Index(self.next),
            term: Term(1),
            kind: EntryKind::Request,
            data,
            wanted: true,
        };
        let applied = self.machine.apply(entry).unwrap().unwrap();
        assert!(applied.result.is_ok(), "{:?}", applied.result);
    }

    fn flush(&mut self) {
        self.machine.seal();
        self.machine.publish();
        let sealed = self.machine.take_sealed().unwrap();
        self.engine.write(&sealed.batch).unwrap();
        self.machine.wrote(sealed.seq);
    }

    /// Applies a batch without writing it to the engine: that is another thread's time.
    fn batch(&mut self, batch: Vec<Bytes>) {
        for data in batch {
            self.apply(data);
        }
        self.machine.seal();
        self.machine.publish();
    }
}

fn encode(request: InternalRaftRequest) -> Bytes {
    let header = pb::RequestHeader {
        id: 0x1234_5678_9abc,
        ..Default::default()
    };
    let request = InternalRaftRequest {
        header: Some(header),
        ..request
    };
    request.encode_to_vec().into()
}

fn key(n: u64) -> Bytes {
    format!("/registry/pods/default/{n:08}").into()
}

fn put_request(n: u64, lease: i64) -> pb::PutRequest {
    pb::PutRequest {
        key: key(n),
        value: vec![7; VALUE_BYTES].into(),
        lease,
        ..Default::default()
    }
}

fn put(n: u64, lease: i64) -> Bytes {
    encode(InternalRaftRequest {
        put: Some(put_request(n, lease)),
        ..Default::default()
    })
}

/// What a kube-apiserver sends for an update: one compare, one put, one range otherwise.
fn update(n: u64) -> Bytes {
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    let range = pb::RangeRequest {
        key: key(n),
        ..Default::default()
    };
    let txn = pb::TxnRequest {
        compare: vec![pb::Compare {
            result: CompareResult::Greater as i32,
            target: CompareTarget::Mod as i32,
            key: key(n),
            target_union: Some(TargetUnion::ModRevision(0)),
            ..Default::default()
        }],
        success: vec![op(Request::RequestPut(put_request(n, 0)))],
        failure: vec![op(Request::RequestRange(range))],
    };
    encode(InternalRaftRequest {
        txn: Some(txn),
        ..Default::default()
    })
}

fn lease(id: i64, revoke: bool) -> Bytes {
    let mut request = InternalRaftRequest::default();
    if revoke {
        request.lease_revoke = Some(pb::LeaseRevokeRequest { id });
    } else {
        request.lease_grant = Some(pb::LeaseGrantRequest { id, ttl: 60 });
    }
    encode(request)
}

fn spread(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS
}

fn apply(c: &mut Criterion) {
    let mut group = c.benchmark_group("apply");
    group.throughput(Throughput::Elements(BATCH));
    let mut run = |name: &str, bench: &mut Bench, make: &mut dyn FnMut(u64) -> Bytes| {
        let mut n = 0;
        let mut batches = 0_u64;
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    let first = n;
                    n += BATCH;
                    (first..n).map(&mut *make).collect::<Vec<_>>()
                },
                |batch| {
                    bench.batch(batch);
                    batches += 1;
                    if batches.is_multiple_of(64) {
                        bench.flush();
                    }
                },
                BatchSize::PerIteration,
            );
        });
    };
    let mut empty = Bench::new(0);
    run("put a new key", &mut empty, &mut |n| put(n, 0));
    drop(empty);
    let mut full = Bench::new(KEYS);
    run("put an existing key", &mut full, &mut |n| put(spread(n), 0));
    run("update as kubernetes does", &mut full, &mut |n| {
        update(spread(n))
    });
    full.apply(lease(i64::MAX, false));
    run("put with a lease", &mut full, &mut |n| {
        put(spread(n), i64::MAX)
    });
    run(
        "put without a lease where others have one",
        &mut full,
        &mut |n| put(spread(n), 0),
    );
    run(
        "grant or revoke a lease without keys",
        &mut full,
        &mut |n| lease(1 + (n / 2) as i64, n % 2 == 1),
    );
    group.finish();
}

fn read(c: &mut Criterion) {
    let bench = Bench::new(KEYS);
    let views = bench.machine.views();
    let mut group = c.benchmark_group("read");
    let all = pb::RangeRequest {
        key: "/registry/pods/".into(),
        range_end: "/registry/pods0".into(),
        ..Default::default()
    };
    let mut run = |name: &str, request: pb::RangeRequest| {
        group.bench_function(name, |b| {
            b.iter(|| range::range_on_newest(&views, &request).unwrap())
        });
    };
    run(
        "one key",
        pb::RangeRequest {
            key: key(500),
            ..Default::default()
        },
    );
    run(
        "the first 10 of 100,000",
        pb::RangeRequest {
            limit: 10,
            ..all.clone()
        },
    );
    run(
        "the first 500 of 100,000, keys only",
        pb::RangeRequest {
            limit: 500,
            keys_only: true,
            ..all.clone()
        },
    );
    run(
        "the newest of 100,000",
        pb::RangeRequest {
            limit: 1,
            sort_order: 2,
            sort_target: 3,
            ..all
        },
    );
    group.finish();
}

criterion_group!(benches, apply, read);
criterion_main!(benches);
