//! The storage engine is damaged while the server is down: the next start rebuilds it from the checkpoint and the log,
//! or from the whole log, and nothing acknowledged is lost; or there is neither, and it refuses, saying what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use etcd_client::{Client, EventType, GetOptions, WatchOptions};
use rusd_raft::{Log, LogConfig};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::{Options, Server, data_file, free_port, live};

/// As often as writes allow it.
const SHORT_INTERVAL: &str = "150ms";
const WRITERS: u64 = 8;
const VALUE_BYTES: usize = 200;

/// A server that makes the engine durable, and so truncates its log, as soon as something is written.
fn options(engine: &str, checkpoint_interval: &str) -> Options {
    Options {
        port: Some(free_port()),
        ..Options::args(&[
            "--storage-engine",
            engine,
            "--checkpoint-interval",
            checkpoint_interval,
            "--engine-persist-bytes=1",
            "--raft-log-segment-bytes=1048576",
        ])
    }
}

fn store(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

fn damaged(data_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(store(data_dir)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("damaged-")
        })
        .collect()
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    /// The file that says where everything is: nothing opens.
    Overwritten,
    /// The second half of it is gone.
    Cut,
    /// Blocks all over it hold something else.
    Scattered,
    /// There is no file.
    Missing,
    /// One bit of every value is another: a disk that rots, and says nothing.
    Rotten,
    /// What an engine that turned out damaged while it ran leaves behind.
    Marked,
}

fn damage(engine_dir: &Path, damage: Damage) {
    let path = data_file(engine_dir);
    let mut bytes = fs::read(&path).unwrap();
    match damage {
        Damage::Overwritten => bytes = b"garbage".repeat(bytes.len() / 7),
        Damage::Cut => bytes.truncate(bytes.len() / 2),
        Damage::Scattered => {
            for block in bytes.chunks_mut(8 << 10) {
                let end = block.len().min(2 << 10);
                block[..end].fill(0xa5);
            }
        }
        Damage::Rotten => {
            let value = "x".repeat(VALUE_BYTES);
            let mut at = 0;
            while let Some(found) = bytes[at..]
                .windows(VALUE_BYTES)
                .position(|w| w == value.as_bytes())
            {
                at += found + VALUE_BYTES;
                bytes[at - VALUE_BYTES / 2] ^= 1;
            }
            assert!(at > 0, "no value is stored in plain");
        }
        Damage::Missing => return fs::remove_file(path).unwrap(),
        Damage::Marked => {
            return fs::write(engine_dir.join("DAMAGED"), "page 7 is torn\n").unwrap();
        }
    }
    fs::write(path, bytes).unwrap();
}

/// What was acknowledged: by revision, a key and a value.
type Acknowledged = BTreeMap<i64, (String, String)>;

/// Puts so many keys, several at a time, and notes what was acknowledged.
async fn put(server: &Server, name: &str, count: u64, acknowledged: &mut Acknowledged) {
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let mut client = server.client().await;
        let name = name.to_owned();
        writers.push(tokio::spawn(async move {
            let mut done = Acknowledged::new();
            for n in (0..count).filter(|n| n % WRITERS == writer) {
                let key = format!("{}/{}", name, n % 50);
                let value = format!("{n}-{}", "x".repeat(VALUE_BYTES));
                let answer = client.put(key.clone(), value.clone(), None).await.unwrap();
                done.insert(answer.header().unwrap().revision(), (key, value));
            }
            done
        }));
    }
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
}

/// Starts a server that makes a checkpoint of so many puts.
async fn checkpointed(
    data_dir: &Path,
    options: &Options,
    count: u64,
    acknowledged: &mut Acknowledged,
) -> Server {
    let mut server = Server::start(data_dir, options);
    put(&server, "k", count, acknowledged).await;
    server.wait_for_log("finished a checkpoint");
    server
}

/// Every acknowledged write is in the history, which has every revision once.
async fn assert_complete(mut client: Client, acknowledged: &Acknowledged) {
    let last = *acknowledged.keys().next_back().unwrap();
    let options = WatchOptions::new().with_all_keys().with_start_revision(2);
    let mut stream = client.watch("", Some(options)).await.unwrap();
    let mut next = 2;
    while next <= last {
        let response = stream.message().await.unwrap().unwrap();
        for event in response.events() {
            assert_eq!(event.event_type(), EventType::Put);
            let kv = event.kv().unwrap();
            assert_eq!(kv.mod_revision(), next, "revisions have a gap or a repeat");
            next += 1;
            if let Some((key, value)) = acknowledged.get(&kv.mod_revision()) {
                let found = (kv.key_str().unwrap(), kv.value_str().unwrap());
                assert_eq!(found, (key.as_str(), value.as_str()));
            }
        }
    }
}

async fn hash(client: &mut Client) -> u32 {
    let mut maintenance = client.maintenance_client();
    maintenance.hash_kv(0).await.unwrap().hash()
}

/// The log of a stopped server. A process that another test is just starting has what is open here for a moment too,
/// and with it the lock.
fn log(data_dir: &Path) -> Log {
    const PATIENCE: Duration = Duration::from_secs(10);
    let started = Instant::now();
    loop {
        match Log::open(LogConfig::new(data_dir.join("log"))) {
            Ok(log) => return log,
            Err(error) if started.elapsed() > PATIENCE => panic!("{error}"),
            Err(_) => std::thread::yield_now(),
        }
    }
}

/// The last entry that the log of a stopped server does not have any more.
fn truncated(data_dir: &Path) -> u64 {
    log(data_dir).truncated().index
}

/// Starts a server that is expected to give up; returns its exit code and everything it logged.
fn refused(data_dir: &Path, options: &Options) -> (Option<i32>, String) {
    let mut server = Server::spawn(data_dir, options);
    let log = server.rest_of_log().join("\n");
    (server.wait().code(), log)
}

async fn a_damaged_engine_is_rebuilt(engine: &str, kinds: &[Damage]) {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path();
    let options = options(engine, SHORT_INTERVAL);
    let mut acknowledged = Acknowledged::new();
    let mut server = checkpointed(data_dir, &options, 200, &mut acknowledged).await;

    let mut rebuilt = 0;
    for kind in kinds {
        put(&server, "more", 200, &mut acknowledged).await;
        let before = hash(&mut server.client().await).await;
        server.kill();
        let broken = live(data_dir);
        damage(&broken, *kind);

        server = Server::start(data_dir, &options);
        let log = server.log.join("\n");
        if log.contains("rebuilt the storage") {
            rebuilt += 1;
            assert!(log.contains(&broken.display().to_string()), "{log}");
        } else {
            // An engine may take a cut as a crash: what is left is an older state, which the log goes on from.
            assert!(matches!(kind, Damage::Cut), "{kind:?}: {log}");
        }
        let mut client = server.client().await;
        assert_eq!(hash(&mut client).await, before, "{kind:?}");
        assert_complete(client, &acknowledged).await;
        assert_eq!(damaged(data_dir).len(), rebuilt, "{kind:?}");
    }
    // The log does not grow for ever: it goes as far as the checkpoint.
    put(&server, "last", 50, &mut acknowledged).await;
    server.wait_for_log("finished a checkpoint");
    put(&server, "last", 50, &mut acknowledged).await;
    server.stop();
    assert!(truncated(data_dir) > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sled_is_rebuilt_from_its_checkpoint_and_the_log() {
    use Damage::*;
    a_damaged_engine_is_rebuilt("sled", &[Overwritten, Cut, Scattered, Missing, Marked]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb_is_rebuilt_from_its_checkpoint_and_the_log() {
    use Damage::*;
    a_damaged_engine_is_rebuilt("redb", &[Overwritten, Cut, Scattered, Missing, Marked]).await;
}

/// After a clean stop an engine has no reason to doubt what it stored, and redb does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_is_found_at_the_next_start() {
    for engine in ["sled", "redb"] {
        let directory = tempfile::tempdir().unwrap();
        let options = options(engine, SHORT_INTERVAL);
        let mut acknowledged = Acknowledged::new();
        let mut server = checkpointed(directory.path(), &options, 200, &mut acknowledged).await;
        let before = hash(&mut server.client().await).await;
        server.stop();
        damage(&live(directory.path()), Damage::Rotten);
        let server = Server::start(directory.path(), &options);
        // sled takes its last pages for torn by a crash, and the log goes on from the state before.
        let rebuilt = server.log.join("\n").contains("rebuilt the storage");
        assert!(rebuilt || engine == "sled");
        let mut client = server.client().await;
        assert_eq!(hash(&mut client).await, before, "{engine}");
        assert_complete(client, &acknowledged).await;
    }
}

/// Before there is a first checkpoint the log has everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_checkpoint_the_whole_log_is_one() {
    for engine in ["sled", "redb"] {
        let directory = tempfile::tempdir().unwrap();
        let options = options(engine, "24h");
        let mut acknowledged = Acknowledged::new();
        let mut server = Server::start(directory.path(), &options);
        put(&server, "k", 300, &mut acknowledged).await;
        let before = hash(&mut server.client().await).await;
        server.stop();
        assert_eq!(truncated(directory.path()), 0);
        damage(&live(directory.path()), Damage::Overwritten);
        let server = Server::start(directory.path(), &options);
        let mut client = server.client().await;
        assert_eq!(hash(&mut client).await, before);
        assert_complete(client, &acknowledged).await;
        assert_eq!(damaged(directory.path()).len(), 1);
    }
}

/// Puts until the log has been truncated, which takes a write after the engine was written and made durable, and so
/// puts that go on for a while. Leaves the server stopped.
async fn truncate_the_log(data_dir: &Path, options: &Options) {
    const A_WHILE: Duration = Duration::from_millis(300);
    for _ in 0..20 {
        let mut server = Server::start(data_dir, options);
        let started = Instant::now();
        while started.elapsed() < A_WHILE {
            put(&server, "k", 50, &mut Acknowledged::new()).await;
        }
        server.stop();
        if truncated(data_dir) > 0 {
            return;
        }
    }
    panic!("the log is never truncated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_checkpoints_a_damaged_engine_is_refused_and_left_as_it_is() {
    for engine in ["sled", "redb"] {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path();
        let options = options(engine, "0");
        truncate_the_log(data_dir, &options).await;
        assert!(!store(data_dir).join("CHECKPOINT").exists());
        let broken = live(data_dir);
        damage(&broken, Damage::Overwritten);
        for _ in 0..2 {
            let (code, log) = refused(data_dir, &options);
            assert_eq!(code, Some(1), "{log}");
            for part in [
                "backup of the whole data directory",
                "is damaged",
                "there is no checkpoint",
                &broken.display().to_string(),
            ] {
                assert!(log.contains(part), "{part}: {log}");
            }
        }
        assert!(broken.is_dir() && damaged(data_dir).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_finds_a_flipped_bit_and_no_checkpoint_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path();
    let options = options("redb", "0");
    truncate_the_log(data_dir, &options).await;
    damage(&live(data_dir), Damage::Rotten);
    for _ in 0..2 {
        let (code, log) = refused(data_dir, &options);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("its checksum or its layout is wrong"), "{log}");
        assert!(!log.contains("showed while it ran"), "{log}");
        assert!(!live(data_dir).join("DAMAGED").exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_is_damaged_too_is_refused_as_often_as_it_is_tried() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path();
    let options = options("redb", SHORT_INTERVAL);
    let mut acknowledged = Acknowledged::new();
    let mut server = checkpointed(data_dir, &options, 100, &mut acknowledged).await;
    server.stop();
    truncate_the_log(data_dir, &options).await;
    let checkpoint = fs::read_to_string(store(data_dir).join("CHECKPOINT")).unwrap();
    let checkpoint = store(data_dir).join(checkpoint.split(' ').next().unwrap());
    damage(&live(data_dir), Damage::Overwritten);
    damage(&checkpoint, Damage::Scattered);
    for _ in 0..2 {
        let (code, log) = refused(data_dir, &options);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("backup of the whole data directory"), "{log}");
        let name = checkpoint.file_name().unwrap().to_str().unwrap();
        assert!(log.contains(name), "{log}");
        let mut left: Vec<_> = fs::read_dir(store(data_dir))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains('-'))
            .collect();
        left.sort();
        let live = live(data_dir);
        let live = live.file_name().unwrap().to_str().unwrap();
        assert_eq!(left, [name, live], "copies pile up");
    }
}

/// An older copy of the engine was put back: the log has gone on without it, the checkpoint has not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_older_than_the_log_is_replaced_by_the_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path();
    let options = options("redb", SHORT_INTERVAL);
    let mut acknowledged = Acknowledged::new();
    let mut server = Server::start(data_dir, &options);
    put(&server, "k", 100, &mut acknowledged).await;
    server.stop();
    let old = fs::read(data_file(&live(data_dir))).unwrap();
    let old_end = log(data_dir).last_index();
    let mut before = 0;
    while truncated(data_dir) <= old_end {
        let mut server = Server::start(data_dir, &options);
        put(&server, "more", 50, &mut acknowledged).await;
        server.wait_for_log("finished a checkpoint");
        put(&server, "more", 50, &mut acknowledged).await;
        before = hash(&mut server.client().await).await;
        server.stop();
    }
    fs::write(data_file(&live(data_dir)), old).unwrap();
    let server = Server::start(data_dir, &options);
    assert!(server.log.join("\n").contains("rebuilt the storage"));
    let mut client = server.client().await;
    assert_eq!(hash(&mut client).await, before);
    assert_complete(client, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switching_checkpoints_off_removes_the_one_there_is() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path();
    let mut acknowledged = Acknowledged::new();
    let options = |interval| self::options("redb", interval);
    let mut server = checkpointed(data_dir, &options(SHORT_INTERVAL), 50, &mut acknowledged).await;
    server.stop();
    assert!(store(data_dir).join("CHECKPOINT").exists());
    let mut server = Server::start(data_dir, &options("0"));
    let mut client = server.client().await;
    let all = GetOptions::new().with_all_keys().with_count_only();
    assert_eq!(client.get("", Some(all)).await.unwrap().count(), 50);
    server.stop();
    assert!(!store(data_dir).join("CHECKPOINT").exists());
    let names = fs::read_dir(store(data_dir)).unwrap();
    assert_eq!(names.count(), 2, "CURRENT and the live engine");
}

/// Compaction, deletes, leases and transactions are replayed as they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_replayed_is_what_was() {
    for engine in ["sled", "redb"] {
        let directory = tempfile::tempdir().unwrap();
        let options = options(engine, SHORT_INTERVAL);
        let mut acknowledged = Acknowledged::new();
        let mut server = checkpointed(directory.path(), &options, 200, &mut acknowledged).await;
        server.stop();
        // No further checkpoint: all of this is replayed.
        let options = self::options(engine, "1h");
        let mut server = Server::start(directory.path(), &options);
        let mut client = server.client().await;
        let lease = client.lease_grant(3600, None).await.unwrap().id();
        let leased = etcd_client::PutOptions::new().with_lease(lease);
        client
            .put("leased", "v", Some(leased.clone()))
            .await
            .unwrap();
        client.delete("k/7", None).await.unwrap();
        let gone = client.lease_grant(3600, None).await.unwrap().id();
        let leased_too = etcd_client::PutOptions::new().with_lease(gone);
        client.put("gone", "v", Some(leased_too)).await.unwrap();
        client.lease_revoke(gone).await.unwrap();
        client.compact(150, None).await.unwrap();
        put(&server, "k", 100, &mut acknowledged).await;
        let before = hash(&mut client).await;
        server.kill();
        damage(&live(directory.path()), Damage::Overwritten);
        let server = Server::start(directory.path(), &options);
        let mut client = server.client().await;
        assert_eq!(hash(&mut client).await, before);
        let found = client.get("leased", None).await.unwrap();
        assert_eq!(found.kvs()[0].lease(), lease);
        assert_eq!(client.get("gone", None).await.unwrap().count(), 0);
        assert_eq!(client.leases().await.unwrap().leases().len(), 1);
    }
}
