//! The engine writer with probes on its ports: when it makes checkpoints, what is in them, and what it tells Raft.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use rusd_messages::mvcc::EngineWrote;
use rusd_messages::raft::EnginePersisted;
use rusd_messages::{Index, Port, Probe, Reply};
use rusd_mvcc::engine::{EngineReplaced, EngineWriter, Work};
use rusd_mvcc::{CheckpointPolicy, EngineSetup, PersistPolicy, Progress, Write};
use rusd_storage::engine::{EngineDir, EngineKind, EngineOptions, Replacement, Tree, WriteBatch};
use rusd_storage::{LogPosition, SealedBatch, Sizes};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
const TERM: u64 = 3;
const HOUR: Duration = Duration::from_secs(60 * 60);
const BOUNDS: usize = 64;

struct World {
    writer: EngineWriter,
    /// Entries written so far.
    index: u64,
    persisted: Probe<EnginePersisted>,
    replaced: Probe<EngineReplaced>,
    _wrote: Probe<EngineWrote>,
}

fn options() -> EngineOptions {
    EngineOptions {
        kind: EngineKind::Redb,
        cache_bytes: 16 << 20,
    }
}

impl World {
    fn start(base: &Path, interval: Duration) -> Self {
        let (wrote, wrote_probe) = Port::probe(BOUNDS);
        let (replaced, replaced_probe) = Port::probe(BOUNDS);
        let (persisted, persisted_probe) = Port::probe(BOUNDS);
        let setup = EngineSetup {
            engines: EngineDir::open(base, &options()).unwrap(),
            progress: Progress::default(),
            persist: PersistPolicy {
                bytes: 1,
                interval: Duration::from_millis(5),
            },
            checkpoints: Some(CheckpointPolicy {
                interval,
                log_is_whole: true,
                kept_bytes: 0,
            }),
        };
        Self {
            writer: EngineWriter::spawn(setup, wrote, replaced, persisted).unwrap(),
            index: 0,
            persisted: persisted_probe,
            replaced: replaced_probe,
            _wrote: wrote_probe,
        }
    }

    /// Writes the batch of the next entry: a record of its own, and the one that all batches change.
    fn write(&mut self, value_bytes: usize, log_bytes: u64) {
        self.index += 1;
        let mut batch = WriteBatch::new();
        batch.put(own_key(self.index), vec![7; value_bytes]);
        batch.put(
            Tree::Meta.key(b"applied"),
            self.index.to_be_bytes().to_vec(),
        );
        let bytes = batch.bytes();
        self.writer.send(Work::Write(Write {
            batch: SealedBatch {
                seq: self.index,
                batch,
                bytes,
            },
            progress: Progress {
                applied: LogPosition {
                    index: self.index,
                    term: TERM,
                },
                sizes: Sizes::default(),
            },
            log_bytes,
        }));
    }

    /// Waits for word on a checkpoint that is as wanted; everything said before goes into `said`.
    fn wait_for(&self, wanted: impl Fn(Option<Index>) -> bool) -> EnginePersisted {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let said = self.persisted.wait(PATIENCE).expect("the writer is at it");
            if wanted(said.checkpoint) {
                return said;
            }
        }
        panic!("no such word");
    }

    fn stop(self) {
        let (reply, stopped) = Reply::channel();
        self.writer.send(Work::Close { reply });
        stopped.wait().unwrap();
    }
}

fn own_key(index: u64) -> Vec<u8> {
    Tree::Lease.key(&index.to_be_bytes())
}

/// The checkpoint of a directory has the entries through its index and none beyond.
fn assert_exact(base: &Path) -> u64 {
    let checkpoint = EngineDir::checkpoint_of(base).unwrap().unwrap();
    assert_eq!(checkpoint.term, TERM);
    let copy = Replacement::begin(base, &options(), Some(&checkpoint)).unwrap();
    let engine = copy.engine();
    let applied = engine.get(&Tree::Meta.key(b"applied")).unwrap().unwrap();
    assert_eq!(applied[..], checkpoint.index.to_be_bytes());
    for index in 1..=checkpoint.index {
        assert!(engine.get(&own_key(index)).unwrap().is_some(), "{index}");
    }
    assert!(
        engine
            .get(&own_key(checkpoint.index + 1))
            .unwrap()
            .is_none()
    );
    copy.abandon().unwrap();
    checkpoint.index
}

fn is_made(checkpoint: Option<Index>) -> bool {
    checkpoint.is_some_and(|index| index.0 > 0)
}

#[test]
fn checkpoints_are_made_while_batches_come_and_hold_the_log_through_their_index() {
    let base = tempfile::tempdir().unwrap();
    let mut world = World::start(base.path(), Duration::from_millis(1));
    let mut last = 0;
    for _ in 0..3 {
        let made = loop {
            for _ in 0..20 {
                world.write(20_000, 0);
            }
            let newest = world.persisted.all().pop();
            if let Some(said) = newest.filter(|said| said.checkpoint > Some(Index(last))) {
                break said;
            }
        };
        last = made.checkpoint.unwrap().0;
        assert!(last <= world.index);
    }
    world.stop();
    assert!(assert_exact(base.path()) >= last);
    // A restart knows how far it was.
    let engines = EngineDir::open(base.path(), &options()).unwrap();
    assert!(engines.checkpoint().unwrap().index >= last);
}

#[test]
fn what_was_not_followed_by_anything_is_in_a_checkpoint_too() {
    let base = tempfile::tempdir().unwrap();
    let mut world = World::start(base.path(), Duration::from_millis(50));
    world.write(10, 0);
    let said = world.wait_for(is_made);
    assert_eq!((said.applied, said.checkpoint), (Index(1), Some(Index(1))));
    world.stop();
    assert_eq!(assert_exact(base.path()), 1);
}

#[test]
fn a_grown_log_makes_one_and_an_overgrown_log_gives_it_up() {
    let base = tempfile::tempdir().unwrap();
    let mut world = World::start(base.path(), HOUR);
    world.write(10, 0);
    let said = world.wait_for(|_| true);
    assert_eq!(said.checkpoint, Some(Index(0)));
    world.write(10, 130 << 20);
    assert_eq!(world.wait_for(is_made).checkpoint, Some(Index(2)));

    // However much the log has grown: first there is an attempt.
    world.write(10, 300 << 20);
    let said = world.wait_for(|checkpoint| checkpoint != Some(Index(2)));
    assert_eq!(said.checkpoint, Some(Index(3)));

    // It fails, and the log is more than a disk should hold for the old one.
    let blocked = base.path().join("CHECKPOINT.tmp");
    fs::create_dir(&blocked).unwrap();
    world.write(10, 300 << 20);
    let said = world.wait_for(|checkpoint| checkpoint != Some(Index(3)));
    assert_eq!((said.applied, said.checkpoint), (Index(4), None));
    world.stop();
    assert_eq!(EngineDir::checkpoint_of(base.path()).unwrap(), None);
}

#[test]
fn one_that_cannot_be_written_leaves_the_one_before_and_is_tried_again() {
    let base = tempfile::tempdir().unwrap();
    let mut world = World::start(base.path(), Duration::from_millis(20));
    world.write(10, 0);
    assert_eq!(world.wait_for(is_made).checkpoint, Some(Index(1)));

    let blocked = base.path().join("CHECKPOINT.tmp");
    fs::create_dir(&blocked).unwrap();
    world.write(10, 0);
    // The numbers of directories tell that it was tried more than once.
    let attempts = |number: u64| {
        let name = format!("checkpoint-{number:06}-redb");
        base.path().join(name).exists()
    };
    let deadline = Instant::now() + PATIENCE;
    while !(4..100).any(attempts) {
        assert!(Instant::now() < deadline, "it was not tried again");
        std::thread::yield_now();
    }
    world.write(10, 0);
    let said = world.wait_for(|_| true);
    assert_eq!(said.checkpoint, Some(Index(1)));
    fs::remove_dir(&blocked).unwrap();
    world.wait_for(|checkpoint| checkpoint > Some(Index(1)));
    world.stop();
    assert!(assert_exact(base.path()) >= 2);
    let copies = fs::read_dir(base.path()).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("checkpoint-")
    });
    assert_eq!(copies.count(), 1, "unfinished copies are left");
}

#[test]
fn m_03_batches_are_written_between_the_pages_of_a_defragmentation() {
    let base = tempfile::tempdir().unwrap();
    let mut world = World::start(base.path(), HOUR);
    const PAGES: u64 = 64;
    for _ in 0..PAGES {
        world.write(1 << 20, 0);
    }
    let (reply, done) = Reply::channel();
    world.writer.send(Work::Defragment { reply });
    // At first batches come before any page, for 50 ms at most. What counts is those that find their way between the
    // pages after that; if none did, two or three would still be taken at the very end.
    let started = Instant::now();
    let mut between = 0;
    let EngineReplaced { engine, retired } = loop {
        world.write(10, 0);
        if let Some(replaced) = world.replaced.wait(Duration::ZERO) {
            break replaced;
        }
        between += u64::from(started.elapsed() > Duration::from_millis(100));
    };
    assert!(between > 5, "only {between} batches were written meanwhile");
    assert_eq!(done.wait().unwrap(), Ok(()));
    assert!(engine.get(&own_key(PAGES)).unwrap().is_some());
    world.writer.send(Work::Retire { retired });
    world.stop();
}

#[test]
fn a_defragmentation_waits_for_the_checkpoint_under_way() {
    let base = tempfile::tempdir().unwrap();
    let mut world = World::start(base.path(), Duration::from_millis(1));
    for _ in 0..100 {
        world.write(100_000, 0);
    }
    for _ in 0..3 {
        let (reply, done) = Reply::channel();
        world.writer.send(Work::Defragment { reply });
        world.write(10, 0);
        assert_eq!(done.wait().unwrap(), Ok(()));
        let EngineReplaced { engine, retired } = world.replaced.wait(PATIENCE).unwrap();
        assert!(engine.get(&own_key(world.index - 1)).unwrap().is_some());
        world.writer.send(Work::Retire { retired });
    }
    world.wait_for(is_made);
    world.stop();
    assert_exact(base.path());
}
