//! kill -9 at random moments under 64 writers: what was acknowledged is there, revisions have no gap and no
//! repeat, a watcher resumes without loss, and the state is that of a replay from empty. The same with checkpoints
//! being made all the time, and the storage damaged after every other kill.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use etcd_client::{Client, EventType, GetOptions, WatchOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusd::storage::engine::Memory;
use rusd::storage::{MvccOptions, MvccStore};
use rusd_proto::ids::LeaseId;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use support::{Options, Server, data_file, free_port, live};

const WRITERS: usize = 64;
const KEYS_PER_WRITER: u64 = 8;

/// A write that the server acknowledged.
#[derive(Clone, Debug)]
struct Acknowledged {
    key: String,
    value: Option<String>,
    revision: i64,
}

/// Writes until the server dies; returns what was acknowledged.
async fn write(
    mut client: Client,
    writer: usize,
    mut rng: StdRng,
    counter: Arc<AtomicU64>,
) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    loop {
        let key = format!("{writer}/{}", rng.random_range(0..KEYS_PER_WRITER));
        if rng.random_ratio(1, 8) {
            let Ok(response) = client.delete(key.clone(), None).await else {
                return acknowledged;
            };
            if response.deleted() > 0 {
                let revision = response.header().unwrap().revision();
                acknowledged.push(Acknowledged {
                    key,
                    value: None,
                    revision,
                });
            }
        } else {
            let value = format!(
                "{}-{}",
                counter.fetch_add(1, Ordering::Relaxed),
                "x".repeat(rng.random_range(0..300))
            );
            let Ok(response) = client.put(key.clone(), value.clone(), None).await else {
                return acknowledged;
            };
            let revision = response.header().unwrap().revision();
            acknowledged.push(Acknowledged {
                key,
                value: Some(value),
                revision,
            });
        }
    }
}

/// One change as a watcher saw it.
type Seen = (i64, String, Option<String>);

/// Watches everything from `from` on until the server dies, or `through` is reached; appends what it sees.
async fn watch(mut client: Client, from: i64, through: Option<i64>, seen: &mut Vec<Seen>) {
    let options = WatchOptions::new()
        .with_all_keys()
        .with_start_revision(from);
    let Ok(mut stream) = client.watch("", Some(options)).await else {
        return;
    };
    while let Ok(Some(response)) = stream.message().await {
        assert_eq!(response.compact_revision(), 0, "nothing was compacted");
        for event in response.events() {
            let kv = event.kv().unwrap();
            let value =
                (event.event_type() == EventType::Put).then(|| kv.value_str().unwrap().to_owned());
            seen.push((kv.mod_revision(), kv.key_str().unwrap().to_owned(), value));
        }
        if through.is_some_and(|through| {
            seen.last()
                .is_some_and(|(revision, _, _)| *revision >= through)
        }) {
            return;
        }
    }
}

/// A round ends when the watcher has got this far beyond where the round began, plus a random share.
async fn run(engine: &str, rounds: u32, seed: u64, damage: bool) {
    println!("engine {engine}, {rounds} rounds, seed {seed}, damage {damage}");
    let mut rng = StdRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut args = vec!["--storage-engine", engine];
    if damage {
        args.extend(["--checkpoint-interval=50ms", "--engine-persist-bytes=65536"]);
    }
    let options = Options {
        port: Some(free_port()),
        ..Options::args(&args)
    };
    let counter = Arc::new(AtomicU64::new(0));
    let mut acknowledged: Vec<Acknowledged> = Vec::new();
    let mut seen: Vec<Seen> = Vec::new();

    for round in 0..rounds {
        let mut server = Server::start(directory.path(), &options);
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let rng = StdRng::seed_from_u64(rng.random());
            writers.push(tokio::spawn(write(
                server.client().await,
                writer,
                rng,
                counter.clone(),
            )));
        }
        let resume_from = seen.last().map_or(2, |(revision, _, _)| revision + 1);
        let watcher_client = server.client().await;
        let mut watched = std::mem::take(&mut seen);
        let watcher = tokio::spawn(async move {
            watch(watcher_client, resume_from, None, &mut watched).await;
            watched
        });
        // Anywhere between the first write and some hundred of them later, by count rather than by the clock.
        let target = counter.load(Ordering::Relaxed) + rng.random_range(1..1500);
        let stalled = AtomicBool::new(false);
        let wait = async {
            while counter.load(Ordering::Relaxed) < target {
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        };
        if tokio::time::timeout(support::PATIENCE, wait).await.is_err() {
            stalled.store(true, Ordering::Relaxed);
        }
        server.kill();
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
        seen = watcher.await.unwrap();
        assert!(
            !stalled.load(Ordering::Relaxed),
            "round {round}: the writers stalled"
        );
        if damage && round % 2 == 1 {
            fs::write(data_file(&live(directory.path())), b"garbage".repeat(100)).unwrap();
        }
    }

    let server = Server::start(directory.path(), &options);
    let mut client = server.client().await;
    let all = client
        .get("", Some(GetOptions::new().with_all_keys()))
        .await
        .unwrap();
    let current = all.header().unwrap().revision();
    let resume_from = seen.last().map_or(2, |(revision, _, _)| revision + 1);
    if resume_from <= current {
        watch(server.client().await, resume_from, Some(current), &mut seen).await;
    }

    // The watcher, resumed after every crash, saw every revision once and in order.
    let revisions: Vec<i64> = seen.iter().map(|(revision, _, _)| *revision).collect();
    assert_eq!(
        revisions,
        (2..=current).collect::<Vec<_>>(),
        "revisions have a gap or a repeat"
    );

    // Every acknowledged write is in that history, at the revision that was acknowledged.
    assert!(
        acknowledged.len() > rounds as usize,
        "hardly anything was written"
    );
    for write in &acknowledged {
        let at = usize::try_from(write.revision - 2).unwrap();
        let (_, key, value) = seen.get(at).expect("an acknowledged revision is lost");
        assert_eq!(
            (key, value),
            (&write.key, &write.value),
            "revision {}",
            write.revision
        );
    }

    // The final state is that of a replay from empty, through a store of its own.
    let mut replay = MvccStore::open(Arc::new(Memory::new()), MvccOptions::default()).unwrap();
    let mut expected = BTreeMap::new();
    for (revision, key, value) in &seen {
        let main = match value {
            Some(value) => {
                expected.insert(key.clone(), value.clone());
                replay
                    .put(key.as_bytes(), value.as_bytes(), LeaseId::NONE)
                    .unwrap()
                    .0
                    .main
            }
            None => {
                expected.remove(key);
                assert_eq!(replay.delete_range(key.as_bytes(), b"").unwrap(), 1);
                replay.current_revision()
            }
        };
        assert_eq!(main, *revision);
    }
    let found: BTreeMap<String, String> = all
        .kvs()
        .iter()
        .map(|kv| {
            (
                kv.key_str().unwrap().to_owned(),
                kv.value_str().unwrap().to_owned(),
            )
        })
        .collect();
    assert_eq!(found, expected);
    let mut maintenance = client.maintenance_client();
    let hash = maintenance.hash_kv(0).await.unwrap();
    assert_eq!(
        hash.hash(),
        replay.views().hash_kv(0).unwrap().hash,
        "HashKV differs from a replay from empty"
    );
    println!(
        "{} acknowledged writes, revision {current}",
        acknowledged.len()
    );
}

/// How many times each engine is killed; `RUSD_TEST_CRASH_ROUNDS` asks for more.
fn rounds() -> u32 {
    std::env::var("RUSD_TEST_CRASH_ROUNDS").map_or(30, |rounds| rounds.parse().unwrap())
}

/// Printed at the start; `RUSD_TEST_SEED` repeats a run's choices.
fn seed() -> u64 {
    std::env::var("RUSD_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sled_loses_nothing_when_killed() {
    run("sled", rounds(), seed(), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb_loses_nothing_when_killed() {
    run("redb", rounds(), seed(), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sled_loses_nothing_when_killed_and_damaged() {
    run("sled", rounds() / 5, seed(), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb_loses_nothing_when_killed_and_damaged() {
    run("redb", rounds() / 5, seed(), true).await;
}
