//! Requests without sockets: what is told to whom, and what a caller gets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::metrics::RpcCounters;
use super::testing::{MAX_REQUEST_BYTES, World, caller};
use super::*;
use rusd_messages::watch::{Content, Response, StreamRequest};
use rusd_messages::{LeaseId, Probe};
use rusd_proto::etcdserverpb::watch_request::RequestUnion;
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};
use rusd_proto::{ApplyReply, Code, EtcdError};
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio_stream::StreamExt;

fn put_of(value_bytes: usize) -> pb::PutRequest {
    pb::PutRequest {
        key: "key".into(),
        value: vec![b'v'; value_bytes].into(),
        ..pb::PutRequest::default()
    }
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        cluster_id: 5,
        member_id: 7,
        revision,
        raft_term: 2,
    })
}

/// What an actor is told next.
async fn told<M>(probe: &Probe<M>) -> M {
    let next = async {
        loop {
            match probe.next() {
                Some(message) => break message,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(10), next).await;
    told.expect("an actor is told nothing")
}

/// Answers the one proposal that arrives.
async fn apply(world: &World, answer: Result<ApplyReply, EtcdError>) -> InternalRaftRequest {
    let proposed = told(&world.propose).await;
    proposed.reply.send(answer);
    prost::Message::decode(proposed.data).unwrap()
}

#[tokio::test]
async fn g_01_a_put_is_proposed_and_answered_with_a_complete_header() {
    let world = World::new();
    let applied = ApplyReply::Put(pb::PutResponse {
        header: Some(pb::ResponseHeader {
            revision: 9,
            ..pb::ResponseHeader::default()
        }),
        ..pb::PutResponse::default()
    });
    let caller = caller();
    let (answer, proposed) = tokio::join!(
        world.api.put(&caller, put_of(3)),
        apply(&world, Ok(applied))
    );
    assert_eq!(answer.unwrap().header, header(9));
    assert_eq!(proposed.put, Some(put_of(3)));
}

#[tokio::test]
async fn g_02_compact_and_alarm_say_the_revision_of_now() {
    let world = World::new();
    let old = Some(pb::ResponseHeader::default());
    let compacted = ApplyReply::Compact(pb::CompactionResponse { header: old });
    let caller = caller();
    let (answer, _) = tokio::join!(
        world.api.compact(&caller, pb::CompactionRequest::default()),
        apply(&world, Ok(compacted))
    );
    assert_eq!(answer.unwrap().header, header(1));
}

#[tokio::test]
async fn g_04_without_a_leader_whoever_requires_one_is_refused_on_every_kind_of_call() {
    let world = World::new();
    world.raft.set_leadership(rusd_messages::Term(3), None);
    let mut caller = caller();
    caller.requires_leader = true;
    let put = world.api.put(&caller, put_of(3)).await;
    assert_eq!(put, Err(EtcdError::NoLeader));
    let watch = world.api.watch(&caller, tokio_stream::pending()).await;
    assert_eq!(watch.unwrap_err(), EtcdError::NoLeader);
    let range = pb::RangeRequest {
        key: "key".into(),
        ..pb::RangeRequest::default()
    };
    let stream = world.api.range_stream(&caller, range.clone()).await;
    assert_eq!(stream.unwrap_err(), EtcdError::NoLeader);
    caller.requires_leader = false;
    assert!(world.api.range(&caller, range).await.is_ok());
    assert!(world.propose.next().is_none() && world.open.next().is_none());
}

#[tokio::test]
async fn g_05_a_version_that_is_no_text_is_refused() {
    let world = World::new();
    let mut caller = caller();
    caller.api_version = ApiVersion::of(b"3.\xff");
    let put = world.api.put(&caller, put_of(3)).await;
    assert_eq!(put, Err(EtcdError::InvalidClientApiVersion));
}

#[tokio::test(start_paused = true)]
async fn g_13_a_call_ends_when_its_deadline_has_passed() {
    let world = World::new();
    let mut caller = caller();
    caller.deadline = Some(Instant::now() + Duration::from_millis(300));
    let put = world.api.put(&caller, put_of(3)).await;
    assert_eq!(put, Err(EtcdError::DeadlineExceeded));
    let error = EtcdError::DeadlineExceeded;
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(error.to_string(), "context deadline exceeded");
    // The proposal is on its way, and nobody waits for it any more.
    assert!(!world.propose.next().unwrap().reply.is_wanted());
}

#[tokio::test(start_paused = true)]
async fn m_03_a_member_serves_again_after_a_defragmentation_that_nobody_waits_for() {
    let mut world = World::new();
    let mut caller = caller();
    caller.deadline = Some(Instant::now() + Duration::from_millis(300));
    let request = pb::DefragmentRequest::default();
    let defragmented = world.api.defragment(&caller, request).await;
    assert_eq!(defragmented, Err(EtcdError::DeadlineExceeded));
    assert!(!*world.serving.borrow());
    world.defragment.next().unwrap().reply.send(Ok(()));
    let serves = world.serving.wait_for(|serving| *serving);
    let serves = tokio::time::timeout(Duration::from_secs(10), serves).await;
    assert!(serves.is_ok(), "it does not serve again");
}

#[tokio::test]
async fn g_10_a_request_that_is_too_large_is_not_proposed() {
    let world = World::new();
    let put = world.api.put(&caller(), put_of(MAX_REQUEST_BYTES)).await;
    assert_eq!(put, Err(EtcdError::RequestTooLarge));
    assert!(world.propose.next().is_none());
}

#[tokio::test]
async fn kv_p07_the_quota_is_looked_at_before_the_request_and_raises_the_alarm() {
    let world = World::with_quota(Some(1));
    let caller = caller();
    let invalid = pb::PutRequest::default();
    let (put, ()) = tokio::join!(world.api.put(&caller, invalid), async {
        let raise = told(&world.raise_alarm).await;
        assert_eq!(raise.alarm, pb::AlarmType::Nospace);
        raise.reply.send(());
    });
    assert_eq!(put, Err(EtcdError::NoSpace));
}

#[tokio::test]
async fn a_queue_that_is_full_refuses() {
    let world = World::new();
    let caller = caller();
    let mut waiting = Vec::new();
    let refused = loop {
        let mut put = Box::pin(world.api.put(&caller, put_of(1)));
        match poll_fn(|context| Poll::Ready(put.as_mut().poll(context))).await {
            Poll::Ready(refused) => break refused,
            Poll::Pending => waiting.push(put),
        }
    };
    assert_eq!(refused, Err(EtcdError::TooManyRequests));
}

#[tokio::test]
async fn kv_r14_a_read_that_cannot_be_confirmed_says_why() {
    let world = World::new();
    world.raft.set_reads_are_local(false);
    let caller = caller();
    let range = pb::RangeRequest {
        key: "key".into(),
        ..pb::RangeRequest::default()
    };
    let (answer, ()) = tokio::join!(world.api.range(&caller, range), async {
        let asked = told(&world.read_index).await;
        asked.reply.send(Err(EtcdError::LeaderChanged));
    });
    assert_eq!(answer, Err(EtcdError::LeaderChanged));
}

#[tokio::test]
async fn l_04_renewals_are_a_stream_of_answers() {
    let world = World::new();
    for id in [3, 4] {
        world.live_leases.insert(LeaseId(id), 60);
    }
    let ids = [3, 4].map(|id| Ok(pb::LeaseKeepAliveRequest { id }));
    let mut renewed = world
        .api
        .lease_keep_alive(&caller(), tokio_stream::iter(ids))
        .await
        .unwrap();
    for id in [3, 4] {
        let answer = async {
            let asked = told(&world.keep_alive).await;
            asked.reply.send(Ok(asked.id.0 * 10));
        };
        let (renewal, ()) = tokio::join!(renewed.next(), answer);
        let renewal = renewal.unwrap().unwrap();
        assert_eq!((renewal.id, renewal.ttl), (id, id * 10));
    }
    assert!(renewed.next().await.is_none());
}

#[tokio::test]
async fn w_02_a_watch_is_told_to_the_hub_and_its_responses_come_back() {
    let world = World::new();
    let create = pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(
            pb::WatchCreateRequest::default(),
        )),
    };
    let requests = tokio_stream::iter([Ok(create)]).chain(tokio_stream::pending());
    let mut responses = world.api.watch(&caller(), requests).await.unwrap();
    let mut opened = world.open.next().unwrap();
    opened.sink.push_unbounded(Response {
        watch_id: 4,
        revision: 1,
        content: Content::Created,
    });
    let _nobody_waits = opened.sink.flush();
    let created = responses.next().await.unwrap().unwrap();
    assert!(created.created);
    assert_eq!((created.watch_id, created.header), (4, header(1)));
    let asked = told(&world.watch_request).await;
    assert!(matches!(asked.request, StreamRequest::Create { .. }));
    drop(responses);
    assert_eq!(world.close.next().unwrap().stream, opened.stream);
}

#[tokio::test]
async fn w_01_a_client_that_cancels_is_told_so_and_other_errors_are_its_own() {
    let world = World::new();
    for (code, expected) in [
        (Code::Canceled, "etcdserver: watch canceled"),
        (Code::Internal, "cannot read that"),
    ] {
        let unreadable = EtcdError::Unreadable {
            code,
            text: "cannot read that".to_owned(),
        };
        let requests = tokio_stream::iter([Err(unreadable)]);
        let mut responses = world.api.watch(&caller(), requests).await.unwrap();
        let error = responses.next().await.unwrap().unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (code, expected));
        assert!(responses.next().await.is_none());
    }
}

#[tokio::test]
async fn p_13_calls_are_counted_whoever_brings_them() {
    let world = World::new();
    let counters = RpcCounters::of(Rpc::MemberPromote);
    let before = counters.handled_with(Code::Unimplemented);
    let request = pb::MemberPromoteRequest::default();
    let refused = world.api.member_promote(&caller(), request).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(counters.handled_with(Code::Unimplemented), before + 1);
}
