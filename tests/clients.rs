//! The etcd-client crate against a real server: the calls an application makes, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use etcd_client::{
    Compare, CompareOp, EventType, GetOptions, LockOptions, PutOptions, Txn, TxnOp, TxnOpResponse,
    WatchOptions,
};
use std::collections::BTreeSet;
use support::{Options, Server};

#[tokio::test]
async fn kv_p01_kv_r10_kv_r11_kv_d01_puts_ranges_and_deletes() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &Options::default());
    let mut client = server.client().await;
    for n in 0..25 {
        client
            .put(format!("k{n:02}"), format!("v{n}"), None)
            .await
            .unwrap();
    }
    let page = GetOptions::new().with_prefix().with_limit(10);
    let found = client.get("k", Some(page)).await.unwrap();
    assert_eq!(
        (found.kvs().len(), found.count(), found.more()),
        (10, 25, true)
    );
    let again = client.put("k00", "v0", None).await.unwrap();
    assert_eq!(
        again.header().unwrap().revision(),
        27,
        "an unchanged value is a revision too"
    );
    let deleted = client.delete("k03", None).await.unwrap();
    assert_eq!(deleted.deleted(), 1);
    let past = GetOptions::new().with_revision(27);
    assert_eq!(
        client.get("k03", Some(past)).await.unwrap().kvs()[0].value(),
        b"v3"
    );
}

#[tokio::test]
async fn kv_t01_k_02_k_03_compare_and_swap() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(
        directory.path(),
        &Options::args(&["--storage-engine", "redb"]),
    );
    let mut client = server.client().await;
    let create = |value: &str| {
        Txn::new()
            .when(vec![Compare::mod_revision("k", CompareOp::Equal, 0)])
            .and_then(vec![TxnOp::put("k", value, None)])
            .or_else(vec![TxnOp::get("k", None)])
    };
    assert!(client.txn(create("first")).await.unwrap().succeeded());
    let second = client.txn(create("second")).await.unwrap();
    assert!(!second.succeeded());
    let responses = second.op_responses();
    let Some(TxnOpResponse::Get(found)) = responses.first() else {
        panic!("the failure branch reads the key: {responses:?}");
    };
    assert_eq!(found.kvs()[0].value(), b"first");
}

#[tokio::test]
async fn w_05_w_10_w_12_a_watch_catches_up_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &Options::default());
    let mut client = server.client().await;
    for n in 0..100 {
        client.put("k", format!("v{n}"), None).await.unwrap();
    }
    let options = WatchOptions::new().with_start_revision(2).with_prev_key();
    let mut stream = client.watch("k", Some(options)).await.unwrap();
    for n in 100..200 {
        client.put("k", format!("v{n}"), None).await.unwrap();
    }
    client.delete("k", None).await.unwrap();
    let mut revisions = Vec::new();
    while revisions.last() != Some(&202) {
        let response = stream.message().await.unwrap().expect("the stream goes on");
        for event in response.events() {
            let kv = event.kv().unwrap();
            let expected_previous = kv.mod_revision() > 2;
            assert_eq!(
                event.prev_kv().is_some(),
                expected_previous,
                "revision {}",
                kv.mod_revision()
            );
            assert_eq!(
                event.event_type() == EventType::Delete,
                kv.mod_revision() == 202
            );
            revisions.push(kv.mod_revision());
        }
    }
    assert_eq!(revisions, (2..=202).collect::<Vec<_>>());
}

#[tokio::test]
async fn l_03_l_07_l_09_leases_take_their_keys_along() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &Options::default());
    let mut client = server.client().await;
    let short = client.lease_grant(1, None).await.unwrap();
    assert_eq!(short.ttl(), 2, "raised to the shortest lease (L-01)");
    let options = || Some(PutOptions::new().with_lease(short.id()));
    client.put("a", "", options()).await.unwrap();
    client.put("b", "", options()).await.unwrap();
    let mut watch = client.watch("a", None).await.unwrap();
    let event = loop {
        let response = watch.message().await.unwrap().expect("the stream goes on");
        if let Some(event) = response.events().first() {
            break event.clone();
        }
    };
    assert_eq!(event.event_type(), EventType::Delete);
    let all = client
        .get("", Some(GetOptions::new().with_all_keys()))
        .await
        .unwrap();
    assert_eq!(all.count(), 0, "both keys go at one revision");
    let gone = client.lease_time_to_live(short.id(), None).await.unwrap();
    assert_eq!(gone.ttl(), -1);
}

#[tokio::test]
async fn many_watchers_on_one_server_see_every_change() {
    const WATCHERS: usize = 10_000;
    const STREAMS: usize = 20;
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &Options::default());
    let mut client = server.client().await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = server.client().await.watch("k", None).await.unwrap();
        for _ in 1..WATCHERS / STREAMS {
            stream.watch("k", None).await.unwrap();
        }
        let mut created = 0;
        while created < WATCHERS / STREAMS {
            let response = stream.message().await.unwrap().unwrap();
            created += usize::from(response.created());
        }
        streams.push(stream);
    }
    client.put("k", "v", None).await.unwrap();
    for mut stream in streams {
        let mut seen = BTreeSet::new();
        while seen.len() < WATCHERS / STREAMS {
            let response = stream.message().await.unwrap().unwrap();
            assert_eq!(response.events().len(), 1);
            assert!(seen.insert(response.watch_id()), "an event came twice");
        }
    }
}

#[tokio::test]
async fn x_01_the_lock_service_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &Options::default());
    let refused = server
        .client()
        .await
        .lock("name", Some(LockOptions::new()))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("v3lockpb.Lock"), "{refused}");
}
