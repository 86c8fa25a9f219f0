//! Random requests against a model of etcd's semantics.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::Node;
use proptest::prelude::*;
use prost::Message;
use rusd_model::{Model, generate};
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};
use rusd_proto::ids::LeaseId;
use rusd_state::KvError;
use rusd_state::kv::range::{self, Pager};
use rusd_state::kv::txn;
use rusd_storage::ReadAt;

#[derive(Clone, Debug)]
enum Step {
    Apply(Box<InternalRaftRequest>),
    Range(pb::RangeRequest),
    Txn(pb::TxnRequest),
    Stream(pb::RangeRequest),
    Flush,
    RemoveSuperseded(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => generate::proposal().prop_map(|request| Step::Apply(Box::new(request))),
        6 => generate::range().prop_map(Step::Range),
        2 => generate::read_only_txn().prop_map(Step::Txn),
        1 => generate::range().prop_map(Step::Stream),
        2 => Just(Step::Flush),
        1 => (1..5usize).prop_map(Step::RemoveSuperseded),
        1 => Just(Step::Restart),
    ]
}

fn run(node: &mut Node, model: &mut Model, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Apply(request) => {
            let before = node.machine.keys().revision();
            let applied = node.apply(*request.clone()).unwrap();
            prop_assert_eq!(&applied.result, &model.apply(&request), "{:?}", request);
            let after = node.machine.keys().revision();
            prop_assert_eq!(after.0, model.revision);
            prop_assert_eq!(applied.revision, (after != before).then_some(after));
            prop_assert_eq!(applied.changes.is_empty(), after == before);
            for (sub, change) in applied.changes.iter().enumerate() {
                prop_assert_eq!(
                    (change.revision.main, change.revision.sub),
                    (after, sub as i64)
                );
            }
        }
        Step::Range(request) => {
            let answer = range::range(node.machine.keys(), &request).map_err(reply);
            prop_assert_eq!(answer, model.range(&request), "{:?}", request);
        }
        Step::Txn(request) => {
            let answer = txn::read_only(node.machine.keys(), &request).map_err(reply);
            prop_assert_eq!(answer, model.clone().txn(&request), "{:?}", request);
        }
        Step::Stream(request) => stream(node, model, request)?,
        Step::Flush => {
            node.flush();
            let views = node.machine.views();
            let request = pb::RangeRequest {
                key: "a".into(),
                range_end: "z".into(),
                ..Default::default()
            };
            prop_assert_eq!(
                range::range_on_newest(&views, &request).map_err(reply),
                model.range(&request)
            );
        }
        Step::RemoveSuperseded(records) => {
            node.machine.compact_step(records).unwrap();
            node.machine.check();
        }
        Step::Restart => {
            node.flush();
            node.restart();
        }
    }
    Ok(())
}

/// The reply of a read that did not fail on the disk.
fn reply(error: KvError) -> EtcdError {
    error.into_reply().unwrap()
}

/// KV-S01: the chunks, merged, are the unary response.
fn stream(node: &Node, model: &Model, request: pb::RangeRequest) -> Result<(), TestCaseError> {
    let request = pb::RangeRequest {
        sort_order: 0,
        sort_target: 0,
        min_mod_revision: 0,
        max_mod_revision: 0,
        min_create_revision: 0,
        max_create_revision: 0,
        ..request
    };
    let mut pager = Pager::new(node.machine.keys(), request.clone(), 1);
    let mut merged = pb::RangeResponse::default();
    while !pager.is_finished() {
        match pager.next(node.machine.keys()) {
            Ok(chunk) => {
                prop_assert_eq!(chunk.header.is_some(), pager.is_finished());
                merged.merge(chunk.encode_to_vec().as_slice()).unwrap();
            }
            Err(error) => {
                prop_assert_eq!(Err(reply(error)), model.range(&request));
                return Ok(());
            }
        }
    }
    prop_assert_eq!(Ok(merged), model.range(&request), "{:?}", request);
    Ok(())
}

fn same_leases(node: &Node, model: &Model) -> Result<(), TestCaseError> {
    let leases = node.machine.leases();
    prop_assert_eq!(leases.len(), model.leases.len());
    for (&id, &(ttl_s, remaining_ttl_s)) in &model.leases {
        let lease = leases.get(LeaseId(id)).unwrap();
        prop_assert_eq!(
            (lease.ttl_s, lease.remaining_ttl_s),
            (ttl_s, remaining_ttl_s)
        );
        let keys: Vec<_> = leases.keys(LeaseId(id)).unwrap().cloned().collect();
        prop_assert_eq!(keys, model.attached(id));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_answered_as_by_the_model(steps in prop::collection::vec(step(), 1..80)) {
        let mut node = Node::new();
        let mut model = Model::new();
        for step in steps {
            run(&mut node, &mut model, step)?;
            same_leases(&node, &model)?;
        }
    }
}
