//! Random requests, on so few keys, leases and revisions that they keep meeting.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::select;
use rusd_proto::etcdserverpb::compare::TargetUnion;
use rusd_proto::etcdserverpb::request_op::Request;
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};

use crate::request;

fn key() -> impl Strategy<Value = Bytes> {
    select(vec!["a", "b", "b\0", "c", "d", "e"]).prop_map(Bytes::from)
}

fn range_end() -> impl Strategy<Value = Bytes> {
    select(vec!["", "", "", "\0", "b", "c", "e", "z", "z"]).prop_map(Bytes::from)
}

fn value() -> impl Strategy<Value = Bytes> {
    select(vec!["", "1", "2", "22"]).prop_map(Bytes::from)
}

fn lease() -> impl Strategy<Value = i64> {
    select(vec![0, 0, 0, 1, 2, 3])
}

fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![6 => Just(0), 4 => 1..40i64, 1 => -3..0i64]
}

/// A put; a part of them with a lease, `prev_kv`, `ignore_value` or `ignore_lease`.
pub fn put() -> impl Strategy<Value = pb::PutRequest> {
    let rare = || prop::bool::weighted(0.15);
    (key(), value(), lease(), any::<bool>(), rare(), rare()).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| pb::PutRequest {
            key,
            value: if ignore_value { Bytes::new() } else { value },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

/// A deletion of a key or a range.
pub fn delete() -> impl Strategy<Value = pb::DeleteRangeRequest> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| {
        pb::DeleteRangeRequest {
            key,
            range_end,
            prev_kv,
        }
    })
}

/// A range with any order, bound and revision.
pub fn range() -> impl Strategy<Value = pb::RangeRequest> {
    let bound = || prop_oneof![8 => Just(0), 2 => 1..25i64, 1 => Just(-1)];
    let places = (key(), range_end(), -1..5i64, revision());
    let order = (
        0..3i32,
        0..5i32,
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.15),
    );
    (places, order, (bound(), bound(), bound(), bound())).prop_map(
        |(
            (key, range_end, limit, revision),
            (sort_order, sort_target, keys_only, count_only),
            bounds,
        )| {
            pb::RangeRequest {
                key,
                range_end,
                limit,
                revision,
                sort_order,
                sort_target,
                serializable: false,
                keys_only,
                count_only,
                min_mod_revision: bounds.0,
                max_mod_revision: bounds.1,
                min_create_revision: bounds.2,
                max_create_revision: bounds.3,
            }
        },
    )
}

fn compare() -> impl Strategy<Value = pb::Compare> {
    let operand = prop_oneof![
        (0..4i64).prop_map(TargetUnion::Version),
        (0..20i64).prop_map(TargetUnion::CreateRevision),
        (0..20i64).prop_map(TargetUnion::ModRevision),
        value().prop_map(TargetUnion::Value),
        lease().prop_map(TargetUnion::Lease),
    ];
    // Mostly the target that the operand is of.
    (
        key(),
        range_end(),
        0..4i32,
        prop::option::weighted(0.9, operand),
        prop::option::weighted(0.1, 0..5i32),
    )
        .prop_map(|(key, range_end, result, target_union, other_target)| {
            let own_target = match target_union {
                Some(TargetUnion::Version(_)) | None => 0,
                Some(TargetUnion::CreateRevision(_)) => 1,
                Some(TargetUnion::ModRevision(_)) => 2,
                Some(TargetUnion::Value(_)) => 3,
                Some(TargetUnion::Lease(_)) => 4,
            };
            pb::Compare {
                result,
                target: other_target.unwrap_or(own_target),
                key,
                range_end,
                target_union,
            }
        })
}

fn read_ops() -> impl Strategy<Value = Vec<pb::RequestOp>> {
    prop::collection::vec(
        range().prop_map(|range| op(Request::RequestRange(range))),
        0..3,
    )
}

/// A transaction of ranges.
pub fn read_only_txn() -> impl Strategy<Value = pb::TxnRequest> {
    (
        prop::collection::vec(compare(), 0..3),
        read_ops(),
        read_ops(),
    )
        .prop_map(|(compare, success, failure)| pb::TxnRequest {
            compare,
            success,
            failure,
        })
}

/// A transaction, at times with others in it.
pub fn txn() -> impl Strategy<Value = pb::TxnRequest> {
    let leaf = prop_oneof![
        3 => put().prop_map(Request::RequestPut),
        2 => delete().prop_map(Request::RequestDeleteRange),
        2 => range().prop_map(Request::RequestRange),
    ]
    .prop_map(op);
    let ops = prop::collection::vec(leaf, 0..4);
    let flat = (
        prop::collection::vec(compare(), 0..3),
        ops.clone(),
        ops.clone(),
    )
        .prop_map(|(compare, success, failure)| pb::TxnRequest {
            compare,
            success,
            failure,
        });
    flat.prop_recursive(3, 12, 2, move |inner| {
        let inner = prop::collection::vec(inner.prop_map(|txn| op(Request::RequestTxn(txn))), 0..3);
        (
            prop::collection::vec(compare(), 0..3),
            ops.clone(),
            inner.clone(),
            ops.clone(),
            inner,
        )
            .prop_map(
                |(compare, mut success, nested, mut failure, nested_failure)| {
                    // Somewhere in the middle.
                    success.splice(success.len() / 2..success.len() / 2, nested);
                    failure.splice(failure.len() / 2..failure.len() / 2, nested_failure);
                    pb::TxnRequest {
                        compare,
                        success,
                        failure,
                    }
                },
            )
    })
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

/// Anything that goes through the log.
pub fn proposal() -> impl Strategy<Value = InternalRaftRequest> {
    prop_oneof![
        8 => put().prop_map(request::put),
        3 => delete().prop_map(request::delete),
        8 => txn().prop_map(request::txn),
        1 => (1..40i64).prop_map(|revision| request::compact(pb::CompactionRequest { revision, physical: false })),
        2 => (1..4i64).prop_map(|id| request::grant(id, 10 * id)),
        1 => (0..4i64).prop_map(request::revoke),
        1 => (1..4i64, 1..9i64).prop_map(|(id, remaining)| request::checkpoint(id, remaining)),
        1 => (1..3i32, 1..3u64)
            .prop_map(|(action, member)| request::alarm(action, pb::AlarmType::Nospace as i32, member)),
    ]
}
