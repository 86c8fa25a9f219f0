//! kill -9 at random moments under 64 writers: what was acknowledged is there, revisions have no gap and no
//! repeat, a watcher resumes without loss, and the state is that of a replay from empty. The same with checkpoints
//! being made all the time, and the storage damaged after every other kill.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use etcd_client::{Client, EventType, GetOptions, WatchOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusd::storage::engine::Memory;
use rusd::storage::{At, MvccOptions, MvccStore};
use rusd_proto::ids::LeaseId;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// A data directory through a number of crashes, and what clients know of it.
struct Story {
    directory: tempfile::TempDir,
    options: Options,
    rng: StdRng,
    /// Values begun so far, so that no two are equal.
    counter: Arc<AtomicU64>,
    acknowledged: Vec<Acknowledged>,
    seen: Vec<Seen>,
}

impl Story {
    fn new(args: &[&str], seed: u64) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            options: Options {
                port: Some(free_port()),
                ..Options::args(args)
            },
            rng: StdRng::seed_from_u64(seed),
            counter: Arc::default(),
            acknowledged: Vec::new(),
            seen: Vec::new(),
        }
    }

    fn start(&self) -> Server {
        Server::start(self.directory.path(), &self.options)
    }

    /// The revision after the last one that the watcher saw.
    fn resume_from(&self) -> i64 {
        self.seen.last().map_or(2, |(revision, _, _)| revision + 1)
    }

    /// Starts the server, has everybody write and one watch, and kills it somewhere between the first write and some
    /// hundred later: by count rather than by the clock.
    async fn crash(&mut self) {
        let mut server = self.start();
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let rng = StdRng::seed_from_u64(self.rng.random());
            let counter = self.counter.clone();
            writers.push(tokio::spawn(write(
                server.client().await,
                writer,
                rng,
                counter,
            )));
        }
        let (client, from) = (server.client().await, self.resume_from());
        let mut seen = std::mem::take(&mut self.seen);
        let watcher = tokio::spawn(async move {
            watch(client, from, None, &mut seen).await;
            seen
        });
        let target = self.counter.load(Ordering::Relaxed) + self.rng.random_range(1..1500);
        let written = async {
            while self.counter.load(Ordering::Relaxed) < target {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        };
        let in_time = tokio::time::timeout(support::PATIENCE, written).await;
        server.kill();
        for writer in writers {
            self.acknowledged.extend(writer.await.unwrap());
        }
        self.seen = watcher.await.unwrap();
        assert!(in_time.is_ok(), "the writers stalled");
    }

    /// The watcher, resumed after every crash, saw every revision once and in order; every acknowledged write is in
    /// that history, at the revision that was acknowledged.
    fn check_history(&self, current: i64) {
        let revisions: Vec<i64> = self.seen.iter().map(|(revision, _, _)| *revision).collect();
        assert_eq!(
            revisions,
            (2..=current).collect::<Vec<_>>(),
            "revisions have a gap or a repeat"
        );
        for write in &self.acknowledged {
            let at = usize::try_from(write.revision - 2).unwrap();
            let (_, key, value) = self.seen.get(at).expect("an acknowledged revision is lost");
            assert_eq!(
                (key, value),
                (&write.key, &write.value),
                "revision {}",
                write.revision
            );
        }
    }

    /// The history once more from empty, through a store of its own; also the keys that are left.
    fn replay(&self) -> (MvccStore, BTreeMap<String, String>) {
        let mut store = MvccStore::open(Arc::new(Memory::new()), MvccOptions::default()).unwrap();
        let mut left = BTreeMap::new();
        for (revision, key, value) in &self.seen {
            let main = match value {
                Some(value) => {
                    left.insert(key.clone(), value.clone());
                    let put = store.put(key.as_bytes(), value.as_bytes(), LeaseId::NONE);
                    put.unwrap().0.main
                }
                None => {
                    left.remove(key);
                    assert_eq!(store.delete_range(key.as_bytes(), b"").unwrap(), 1);
                    store.current_revision()
                }
            };
            assert_eq!(main.0, *revision);
        }
        (store, left)
    }
}

async fn run(engine: &str, rounds: u32, seed: u64, damage: bool) {
    println!("engine {engine}, {rounds} rounds, seed {seed}, damage {damage}");
    let mut args = vec!["--storage-engine", engine];
    if damage {
        args.extend(["--checkpoint-interval=50ms", "--engine-persist-bytes=65536"]);
    }
    let mut story = Story::new(&args, seed);
    for round in 0..rounds {
        story.crash().await;
        if damage && round % 2 == 1 {
            let file = data_file(&live(story.directory.path()));
            fs::write(file, b"garbage".repeat(100)).unwrap();
        }
    }
    assert!(
        story.acknowledged.len() > rounds as usize,
        "hardly anything was written"
    );

    let server = story.start();
    let mut client = server.client().await;
    let everything = GetOptions::new().with_all_keys();
    let all = client.get("", Some(everything)).await.unwrap();
    let current = all.header().unwrap().revision();
    let from = story.resume_from();
    if from <= current {
        watch(server.client().await, from, Some(current), &mut story.seen).await;
    }
    story.check_history(current);
    let (replayed, left) = story.replay();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let found = all
        .kvs()
        .iter()
        .map(|kv| (text(kv.key()), text(kv.value())));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), left);
    let hash = client.maintenance_client().hash_kv(0).await.unwrap();
    assert_eq!(
        hash.hash(),
        replayed.views().hash_kv(At::Newest).unwrap().hash,
        "HashKV differs from a replay from empty"
    );
    println!(
        "{} acknowledged writes, revision {current}",
        story.acknowledged.len()
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
