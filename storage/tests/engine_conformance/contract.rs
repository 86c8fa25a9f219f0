//! Promises that need more than one thread, or more than a map.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rusd_storage::engine::{
    self, Direction, Engine, EngineError, EngineKind, Faults, Memory, Packed, Tree, WriteBatch,
};

use crate::numbered::numbered_batch;
use crate::support::{Fixture, Model, Random, Under, apply, assert_same, dump, scan};

fn revision(main: u64) -> Bytes {
    let mut key = main.to_be_bytes().to_vec();
    key.extend_from_slice(&0u32.to_be_bytes());
    Bytes::from(Tree::KvRev.key(&key))
}

#[test]
fn later_changes_of_a_batch_win() {
    for under in Under::ALL {
        let fixture = Fixture::new(under);
        for key in [&b"rk"[..], b"mk"] {
            let mut batch = WriteBatch::new();
            batch.put(key, &b"1"[..]);
            batch.delete(key);
            batch.put(key, &b"2"[..]);
            batch.put(key, &b"3"[..]);
            fixture.engine.write(&batch).unwrap();
            let found = fixture.engine.get(key).unwrap();
            assert_eq!(found.as_deref(), Some(&b"3"[..]), "{under:?}");

            let mut batch = WriteBatch::new();
            batch.put(key, &b"4"[..]);
            batch.delete(key);
            fixture.engine.write(&batch).unwrap();
            assert_eq!(fixture.engine.get(key).unwrap(), None, "{under:?}");
        }
    }
}

#[test]
fn a_closed_engine_says_so() {
    for under in Under::ALL {
        let fixture = Fixture::new(under);
        let engine = &fixture.engine;
        let mut batch = WriteBatch::new();
        batch.put(revision(1), &b"v"[..]);
        engine.write(&batch).unwrap();
        engine.close().unwrap();
        engine.close().unwrap();
        let nothing = &mut std::iter::empty();
        let results = [
            engine.get(b"m").map(drop),
            engine.get(&revision(1)).map(drop),
            engine.scan(b"a", b"z", Direction::Forward, &mut |_, _| {
                ControlFlow::Continue(())
            }),
            engine.scan(b"r", b"s", Direction::Backward, &mut |_, _| {
                ControlFlow::Continue(())
            }),
            engine.write(&batch),
            engine.write(&WriteBatch::new()),
            engine.persist(),
            engine.stats().map(drop),
            engine.bulk_load(nothing),
        ];
        for (call, result) in results.into_iter().enumerate() {
            let closed = matches!(result, Err(EngineError::Closed { .. }));
            assert!(
                closed || (call == 8 && result.is_ok()),
                "{under:?} {call}: {result:?}"
            );
        }
    }
}

#[test]
fn a_visitor_may_call_the_engine() {
    for under in Under::ALL {
        let fixture = Fixture::new(under);
        let engine = &*fixture.engine;
        let mut batch = WriteBatch::new();
        for main in 0..500 {
            batch.put(revision(main), vec![1; 300]);
            batch.put(Tree::Lease.key(&main.to_be_bytes()), vec![2; 30]);
        }
        engine.write(&batch).unwrap();
        for direction in [Direction::Forward, Direction::Backward] {
            let mut visited = 0;
            let mut visit = |key: &[u8], value: &[u8]| {
                assert_eq!(engine.get(key).unwrap().as_deref(), Some(value));
                let mut batch = WriteBatch::new();
                batch.put(Bytes::copy_from_slice(key), value.to_vec());
                engine.write(&batch).unwrap();
                visited += 1;
                ControlFlow::Continue(())
            };
            engine.scan(b"a", b"z", direction, &mut visit).unwrap();
            assert_eq!(visited, 1000, "{under:?} {direction:?}");
        }
    }
}

/// Records that are there throughout are seen exactly once, in order, while a
/// writer deletes and puts others between them, moving records from block to
/// block.
#[test]
fn scans_beside_writes_miss_nothing() {
    const RECORDS: u64 = 3000;
    for under in Under::ALL {
        let fixture = Fixture::new(under);
        let engine = &*fixture.engine;
        let mut batch = WriteBatch::new();
        for main in 0..RECORDS {
            batch.put(revision(main), vec![main as u8; 400]);
        }
        engine.write(&batch).unwrap();
        let stays = |main: u64| main % 10 == 3;
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = Random::new(7);
                for round in 0..120 {
                    let mut batch = WriteBatch::new();
                    let from = random.below(RECORDS);
                    for main in from..(from + 400).min(RECORDS) {
                        match (stays(main), round % 2) {
                            (true, _) => {}
                            (false, 0) => batch.delete(revision(main)),
                            (false, _) => batch.put(revision(main), vec![round as u8; 500]),
                        }
                    }
                    engine.write(&batch).unwrap();
                }
                done.store(true, Ordering::SeqCst);
            });
            let mut rounds = 0;
            while !done.load(Ordering::SeqCst) || rounds < 2 {
                rounds += 1;
                for direction in [Direction::Forward, Direction::Backward] {
                    let mut found = scan(engine, b"r", b"s", direction, usize::MAX);
                    if direction == Direction::Backward {
                        found.reverse();
                    }
                    assert!(
                        found.windows(2).all(|pair| pair[0].0 < pair[1].0),
                        "{under:?}"
                    );
                    let found: BTreeSet<Bytes> = found.into_iter().map(|(key, _)| key).collect();
                    for main in (0..RECORDS).filter(|main| stays(*main)) {
                        assert!(found.contains(&revision(main)), "{under:?} missed {main}");
                    }
                }
                let main = rounds * 10 % RECORDS + 3;
                let value = engine.get(&revision(main)).unwrap();
                assert_eq!(value, Some(Bytes::from(vec![main as u8; 400])), "{under:?}");
            }
        });
    }
}

/// A large value is whole to a reader, whatever a writer does meanwhile.
/// Ends a test's other threads, however its own thread ends.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn large_values_are_never_torn() {
    for under in Under::ALL {
        let fixture = Fixture::new(under);
        let engine = &*fixture.engine;
        let key = Bytes::from(Tree::Meta.key(b"large"));
        let write = |round: u64| {
            let mut batch = WriteBatch::new();
            let len = [10, 50_000, 200_000, 9000][round as usize % 4];
            batch.put(key.clone(), vec![round as u8; len]);
            engine.write(&batch).unwrap();
        };
        write(1);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Also when a write panics: the readers must not go on for ever.
                let _done = SetOnDrop(&done);
                (2..150).for_each(write);
            });
            let check = |value: &[u8]| {
                let round = value[0] as usize;
                assert_eq!(
                    value.len(),
                    [10, 50_000, 200_000, 9000][round % 4],
                    "{under:?}"
                );
                assert!(
                    value.iter().all(|byte| *byte as usize == round),
                    "{under:?}"
                );
            };
            while !done.load(Ordering::SeqCst) {
                check(&engine.get(&key).unwrap().unwrap());
                let all = scan(engine, b"m", b"n", Direction::Forward, usize::MAX);
                assert_eq!(all.len(), 1);
                check(&all[0].1);
            }
        });
    }
}

/// Compaction leaves no crowd of tiny blocks behind, and all space is found
/// again by whoever counts.
#[test]
fn superseded_revisions_give_their_space_back() {
    for under in Under::ON_DISK {
        let fixture = Fixture::new(under);
        let engine = &*fixture.engine;
        let write = |range: std::ops::Range<u64>| {
            let mut batch = WriteBatch::new();
            range.for_each(|main| batch.put(revision(main), vec![main as u8; 300]));
            engine.write(&batch).unwrap();
        };
        for round in 0..40u64 {
            let first = round * 2000;
            (first..first + 2000)
                .step_by(500)
                .for_each(|main| write(main..main + 500));
            let mut batch = WriteBatch::new();
            for main in first..first + 2000 {
                if main % 100 != 0 {
                    batch.delete(revision(main));
                }
            }
            engine.write(&batch).unwrap();
            engine.persist().unwrap();
        }
        assert_eq!(dump(engine).len(), 800);
        let bytes = engine.stats().unwrap().disk_bytes;
        // 24 MB went through; a quarter of a megabyte is left.
        assert!(bytes < 16 << 20, "{under:?}: {bytes} bytes");
    }
}

#[test]
fn an_engine_in_use_is_refused() {
    for under in Under::ON_DISK {
        let fixture = Fixture::new(under);
        let error = engine::open(fixture.dir.path(), &under.options())
            .err()
            .unwrap();
        assert!(matches!(error, EngineError::Fatal { .. }), "{error}");
        assert!(
            error.to_string().contains("another process has it open"),
            "{error}"
        );
    }
}

#[test]
fn a_directory_of_another_engine_is_refused() {
    for (under, other) in [
        (Under::Sled, EngineKind::Redb),
        (Under::Redb, EngineKind::Sled),
    ] {
        let fixture = Fixture::new(under);
        fixture.engine.close().unwrap();
        let mut options = under.options();
        options.kind = other;
        let error = engine::open(fixture.dir.path(), &options).err().unwrap();
        assert!(matches!(error, EngineError::Fatal { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("\"sled\"") && text.contains("\"redb\""),
            "{text}"
        );
    }
}

/// Whatever fails, the packing neither loses records nor invents any.
#[test]
fn failed_writes_and_crashes_leave_the_packing_whole() {
    let mut random = Random::new(23);
    for _ in 0..40 {
        let memory = Memory::with_faults(Faults {
            fail_write: Some(random.below(60)),
            ..Faults::default()
        });
        let packed = Packed::new(memory, "memory");
        let mut model = Model::new();
        let mut unpersisted = vec![model.clone()];
        for number in 1..80 {
            let batch = numbered_batch(number);
            match packed.write(&batch) {
                Ok(()) => apply(&mut model, &batch),
                Err(error) => assert!(error.to_string().contains("injected"), "{error}"),
            }
            assert_same(&dump(&packed), &model, "after a write");
            if unpersisted.last() != Some(&model) {
                unpersisted.push(model.clone());
            }
            if number == 30 {
                packed.persist().unwrap();
                unpersisted = vec![model.clone()];
            }
        }
        let keep = random.below(unpersisted.len() as u64) as usize;
        let packed = Packed::new(packed.inner().crash(keep), "memory");
        assert_same(&dump(&packed), &unpersisted[keep], "after a crash");
    }
}

/// Missing files and files of garbage.
#[test]
fn damage_asks_for_a_rebuild_and_is_not_repaired_silently() {
    for (under, file) in [
        (Under::Sled, "db"),
        (Under::Sled, "conf"),
        (Under::Redb, "data.redb"),
    ] {
        let fixture = Fixture::new(under);
        let mut batch = WriteBatch::new();
        (0..20_000).for_each(|main| batch.put(revision(main), vec![main as u8; 300]));
        fixture.engine.write(&batch).unwrap();
        fixture.engine.close().unwrap();
        let path = fixture.dir.path().join(file);
        let good = std::fs::read(&path).unwrap();

        std::fs::remove_file(&path).unwrap();
        let error = engine::open(fixture.dir.path(), &under.options())
            .err()
            .unwrap();
        assert!(error.is_rebuild(), "{under:?} without {file}: {error}");

        std::fs::write(&path, vec![0x5a; good.len()]).unwrap();
        let error = engine::open(fixture.dir.path(), &under.options())
            .err()
            .unwrap();
        assert!(error.is_rebuild(), "{under:?} garbage in {file}: {error}");
        std::fs::write(&path, &good).unwrap();
        let engine = under.open(fixture.dir.path());
        assert_eq!(dump(&*engine).len(), 20_000, "{under:?}");
    }
}
