//! A kill between any two steps of making, replacing and using a checkpoint.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::engine::crash::counted::survives;
use crate::engine::{Tree, WriteBatch};

/// With which engine, and whether there is a checkpoint. sled takes its time to open, and the points are the same.
const CASES: [(EngineKind, bool); 3] = [
    (EngineKind::Redb, false),
    (EngineKind::Redb, true),
    (EngineKind::Sled, true),
];
/// No sequence here has as many points.
const POINTS_MAX: u64 = 200;

fn options(kind: EngineKind) -> EngineOptions {
    EngineOptions {
        kind,
        cache_bytes: 16 << 20,
    }
}

fn put(engine: &Arc<dyn Engine>, value: &'static str) {
    let mut batch = WriteBatch::new();
    batch.put(Tree::KvRev.key(b"1"), value);
    engine.write(&batch).unwrap();
}

fn value(engine: &Arc<dyn Engine>) -> Option<String> {
    let found = engine.get(&Tree::KvRev.key(b"1")).unwrap();
    found.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn names(base: &Path) -> Vec<String> {
    let mut names: Vec<String> = list(base)
        .unwrap()
        .into_iter()
        .map(|listed| listed.text)
        .collect();
    names.sort();
    names
}

fn make_checkpoint(dir: &EngineDir, value: &'static str, index: u64) -> Result<(), EngineError> {
    let filling = dir.begin_checkpoint()?;
    put(filling.engine(), value);
    dir.complete_checkpoint(filling, index, 7).map(drop)
}

/// What the checkpoint of a directory holds, by its index and by its content.
fn checkpoint(base: &Path, kind: EngineKind) -> Option<(u64, Option<String>)> {
    let checkpoint = EngineDir::checkpoint_of(base).unwrap()?;
    assert_eq!(checkpoint.term, 7);
    let copy = Replacement::begin(base, &options(kind), Some(&checkpoint)).unwrap();
    let content = value(copy.engine());
    copy.abandon().unwrap();
    Some((checkpoint.index, content))
}

/// A directory whose live engine holds "live", closed.
fn directory(kind: EngineKind, with_checkpoint: bool) -> tempfile::TempDir {
    let base = tempfile::tempdir().unwrap();
    let dir = EngineDir::open(base.path(), &options(kind)).unwrap();
    put(&dir.engine(), "live");
    if with_checkpoint {
        make_checkpoint(&dir, "five", 5).unwrap();
    }
    dir.engine().close().unwrap();
    base
}

fn some(index: u64, value: &str) -> Option<(u64, Option<String>)> {
    Some((index, Some(value.to_owned())))
}

/// Runs a sequence on fresh directories, killing it at each of its points, and lets `check` look at what is left;
/// it is told whether the sequence was complete.
fn at_every_point(
    directory: impl Fn() -> tempfile::TempDir,
    run: impl Fn(&Path) -> Result<(), EngineError>,
    check: impl Fn(&Path, bool, &str),
) {
    for point in 0..POINTS_MAX {
        let base = directory();
        let complete = survives(point, || run(base.path()));
        check(base.path(), complete, &format!("killed at point {point}"));
        if complete {
            assert!(point > 3, "there is hardly a point to be killed at");
            return;
        }
    }
    panic!("it never got to its end");
}

#[test]
fn a_kill_while_a_checkpoint_is_made_leaves_the_one_before_or_the_new_one() {
    for (kind, with_checkpoint) in CASES {
        let before = with_checkpoint.then(|| some(5, "five")).flatten();
        at_every_point(
            || directory(kind, with_checkpoint),
            |base| make_checkpoint(&EngineDir::open(base, &options(kind))?, "nine", 9),
            |base, complete, context| {
                let dir = EngineDir::open(base, &options(kind)).unwrap();
                assert_eq!(value(&dir.engine()).as_deref(), Some("live"), "{context}");
                let kept = usize::from(dir.checkpoint().is_some());
                assert_eq!(names(base).len(), 1 + kept, "{context}");
                dir.engine().close().unwrap();
                let found = checkpoint(base, kind);
                let is_new = found == some(9, "nine");
                assert!(
                    is_new || found == before && !complete,
                    "{context}: {found:?}"
                );
            },
        );
    }
}

#[test]
fn a_kill_while_a_checkpoint_is_given_up_leaves_it_or_nothing() {
    let kind = EngineKind::Redb;
    for point in 0..POINTS_MAX {
        let base = directory(kind, true);
        let dir = EngineDir::open(base.path(), &options(kind)).unwrap();
        let complete = survives(point, || dir.remove_checkpoint());
        drop(dir);
        let dir = EngineDir::open(base.path(), &options(kind)).unwrap();
        assert_eq!(value(&dir.engine()).as_deref(), Some("live"));
        dir.engine().close().unwrap();
        let found = checkpoint(base.path(), kind);
        assert!(found.is_none() || found == some(5, "five") && !complete);
        // Removing the directory may fail without harm, so the sequence is complete before its last point.
        if complete && point > 4 {
            return;
        }
    }
    panic!("it never got to its end");
}

/// Makes the live engine of a directory one that does not open.
fn damage(base: &Path, kind: EngineKind) {
    let file = match kind {
        EngineKind::Sled => "conf",
        _ => "data.redb",
    };
    let live = base.join(read_current(base).unwrap().unwrap().to_string());
    fs::write(live.join(file), "garbage".repeat(10)).unwrap();
}

/// What a start does.
fn recover(base: &Path, kind: EngineKind, from_checkpoint: bool) -> Result<EngineDir, EngineError> {
    match EngineDir::open(base, &options(kind)) {
        Err(error) if error.is_rebuild() => {}
        opened => return opened,
    }
    let checkpoint = EngineDir::checkpoint_of(base)?.filter(|_| from_checkpoint);
    let replacement = Replacement::begin(base, &options(kind), checkpoint.as_ref())?;
    replacement.switch().map(|(dir, _)| dir)
}

#[test]
fn a_kill_while_a_damaged_engine_is_replaced_loses_nothing() {
    for (kind, from_checkpoint) in CASES {
        at_every_point(
            || {
                let base = directory(kind, from_checkpoint);
                damage(base.path(), kind);
                base
            },
            |base| recover(base, kind, from_checkpoint).map(drop),
            |base, _, context| {
                let dir = recover(base, kind, from_checkpoint).unwrap();
                let expected = from_checkpoint.then(|| "five".to_owned());
                assert_eq!(value(&dir.engine()), expected, "{context}");
                put(&dir.engine(), "later");
                dir.engine().close().unwrap();
                drop(dir);
                // The next start finds what this one left, and the damaged directory is still there.
                let dir = EngineDir::open(base, &options(kind)).unwrap();
                assert_eq!(value(&dir.engine()).as_deref(), Some("later"), "{context}");
                dir.engine().close().unwrap();
                assert!(base.join(format!("damaged-000001-{kind}")).is_dir());
                let kept = from_checkpoint.then(|| some(5, "five")).flatten();
                assert_eq!(checkpoint(base, kind), kept, "{context}");
                assert_eq!(names(base).len(), 2 + usize::from(from_checkpoint));
            },
        );
    }
}

#[test]
fn a_checkpoint_that_is_damaged_too_is_said_to_be_and_leaves_no_copies() {
    let kind = EngineKind::Redb;
    let base = directory(kind, true);
    damage(base.path(), kind);
    let checkpoint = EngineDir::checkpoint_of(base.path()).unwrap().unwrap();
    let path = base.path().join(checkpoint.name());
    fs::write(path.join("data.redb"), "garbage".repeat(10)).unwrap();
    let before = names(base.path());
    for _ in 0..2 {
        let error = Replacement::begin(base.path(), &options(kind), Some(&checkpoint))
            .err()
            .unwrap();
        assert!(error.is_rebuild(), "{error}");
        assert!(
            error.to_string().contains(&path.display().to_string()),
            "{error}"
        );
        assert_eq!(names(base.path()), before);
    }
}

#[test]
fn a_checkpoint_file_that_makes_no_sense_is_no_reason_not_to_start() {
    let kind = EngineKind::Redb;
    for text in [
        "",
        "checkpoint-000002-redb",
        "engine-000001-redb index 1 term 1",
        "checkpoint-000009-redb index 1 term 1",
    ] {
        let base = directory(kind, true);
        fs::write(base.path().join("CHECKPOINT"), text).unwrap();
        assert!(
            EngineDir::checkpoint_of(base.path())
                .unwrap_err()
                .is_rebuild()
        );
        let dir = EngineDir::open(base.path(), &options(kind)).unwrap();
        assert_eq!(dir.checkpoint(), None);
        assert_eq!(value(&dir.engine()).as_deref(), Some("live"));
        make_checkpoint(&dir, "nine", 9).unwrap();
        dir.engine().close().unwrap();
        drop(dir);
        assert_eq!(checkpoint(base.path(), kind), some(9, "nine"));
    }
}

#[test]
fn without_current_a_directory_with_a_checkpoint_is_damaged_and_not_new() {
    let kind = EngineKind::Redb;
    let base = directory(kind, true);
    fs::remove_file(base.path().join(CURRENT)).unwrap();
    let error = EngineDir::open(base.path(), &options(kind)).err().unwrap();
    assert!(error.is_rebuild(), "{error}");
    let dir = recover(base.path(), kind, true).unwrap();
    assert_eq!(value(&dir.engine()).as_deref(), Some("five"));
    // It cannot be known that this was the live one, so it is not deleted.
    assert!(base.path().join("damaged-000001-redb").is_dir());
}
