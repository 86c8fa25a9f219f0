//! The data directory: which engine is live, how it is replaced, and what
//! happens to what is not.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use rusd_storage::engine::{
    EngineDir, EngineError, EngineKind, EngineOptions, Replacement, Tree, WriteBatch,
};

fn options(kind: EngineKind) -> EngineOptions {
    EngineOptions {
        kind,
        cache_bytes: 16 << 20,
    }
}

const KINDS: [EngineKind; 2] = [EngineKind::Sled, EngineKind::Redb];

fn batch(value: &'static str) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(Tree::KvRev.key(b"1"), value);
    batch
}

fn value(dir: &EngineDir) -> Option<String> {
    let found = dir.engine().get(&Tree::KvRev.key(b"1")).unwrap();
    found.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn names(base: &Path) -> Vec<String> {
    let entries = fs::read_dir(base).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_first_open_creates_an_engine_and_the_next_finds_it() {
    for kind in KINDS {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().join("not/there/yet");
        let dir = EngineDir::open(&base, &options(kind)).unwrap();
        dir.engine().write(&batch("first")).unwrap();
        dir.engine().close().unwrap();

        let name = format!("engine-000001-{kind}");
        assert_eq!(names(&base), ["CURRENT".to_owned(), name.clone()]);
        assert_eq!(
            fs::read_to_string(base.join("CURRENT")).unwrap(),
            format!("{name}\n")
        );
        assert!(EngineDir::holds_anything(&base).unwrap());

        let dir = EngineDir::open(&base, &options(kind)).unwrap();
        assert_eq!(value(&dir).as_deref(), Some("first"));
        assert_eq!(dir.engine_dir(), base.join(name));
    }
}

#[test]
fn a_switch_replaces_the_engine_and_destroys_the_old_one() {
    for kind in KINDS {
        let base = tempfile::tempdir().unwrap();
        let dir = EngineDir::open(base.path(), &options(kind)).unwrap();
        dir.engine().write(&batch("old")).unwrap();
        let old = dir.engine();

        let rewrite = dir.begin_rewrite().unwrap();
        rewrite.engine().write(&batch("new")).unwrap();
        assert_eq!(value(&dir).as_deref(), Some("old"));
        let retired = dir.switch(rewrite).unwrap();
        assert_eq!(value(&dir).as_deref(), Some("new"));
        // Who reads from the old one still can, until it is destroyed.
        assert!(old.get(&Tree::KvRev.key(b"1")).unwrap().is_some());
        retired.destroy().unwrap();
        let closed = old.get(&Tree::KvRev.key(b"1"));
        assert!(matches!(closed, Err(EngineError::Closed { .. })));
        assert_eq!(
            names(base.path()),
            ["CURRENT".to_owned(), format!("engine-000002-{kind}")]
        );

        dir.engine().close().unwrap();
        drop(dir);
        let dir = EngineDir::open(base.path(), &options(kind)).unwrap();
        assert_eq!(value(&dir).as_deref(), Some("new"));
    }
}

#[test]
fn an_abandoned_rewrite_leaves_nothing() {
    let base = tempfile::tempdir().unwrap();
    let dir = EngineDir::open(base.path(), &options(EngineKind::Redb)).unwrap();
    dir.engine().write(&batch("live")).unwrap();
    let rewrite = dir.begin_rewrite().unwrap();
    rewrite.engine().write(&batch("abandoned")).unwrap();
    rewrite.abandon().unwrap();
    assert_eq!(names(base.path()), ["CURRENT", "engine-000001-redb"]);
    // Numbers are not used twice.
    let rewrite = dir.begin_rewrite().unwrap();
    assert!(rewrite.dir().ends_with("engine-000003-redb"));
}

/// What a crash in the middle of a rewrite, or before an old engine was
/// removed, leaves behind.
#[test]
fn leftovers_are_removed_and_other_files_are_not() {
    let base = tempfile::tempdir().unwrap();
    let dir = EngineDir::open(base.path(), &options(EngineKind::Redb)).unwrap();
    dir.engine().write(&batch("live")).unwrap();
    let rewrite = dir.begin_rewrite().unwrap();
    rewrite.engine().write(&batch("lost")).unwrap();
    rewrite.engine().close().unwrap();
    dir.engine().close().unwrap();
    drop((dir, rewrite));
    fs::write(base.path().join("CURRENT.tmp"), "engine-").unwrap();
    fs::create_dir(base.path().join("damaged-000007-sled")).unwrap();
    fs::create_dir(base.path().join("raft")).unwrap();

    let dir = EngineDir::open(base.path(), &options(EngineKind::Redb)).unwrap();
    assert_eq!(value(&dir).as_deref(), Some("live"));
    assert_eq!(
        names(base.path()),
        [
            "CURRENT",
            "CURRENT.tmp",
            "damaged-000007-sled",
            "engine-000001-redb",
            "raft"
        ]
    );
    // Nor does a new name collide with what was moved aside.
    assert!(
        dir.begin_rewrite()
            .unwrap()
            .dir()
            .ends_with("engine-000008-redb")
    );
}

#[test]
fn another_engine_than_that_of_the_data_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let dir = EngineDir::open(base.path(), &options(EngineKind::Redb)).unwrap();
    dir.engine().write(&batch("kept")).unwrap();
    dir.engine().close().unwrap();
    drop(dir);

    let error = EngineDir::open(base.path(), &options(EngineKind::Sled))
        .err()
        .unwrap();
    assert!(matches!(error, EngineError::Fatal { .. }), "{error}");
    let text = error.to_string();
    for part in ["\"redb\"", "\"sled\"", "--storage-engine=redb"] {
        assert!(text.contains(part), "{text}");
    }
    let dir = EngineDir::open(base.path(), &options(EngineKind::Redb)).unwrap();
    assert_eq!(value(&dir).as_deref(), Some("kept"));
}

#[test]
fn a_damaged_engine_is_moved_aside_on_request_and_never_deleted() {
    for kind in KINDS {
        let base = tempfile::tempdir().unwrap();
        let dir = EngineDir::open(base.path(), &options(kind)).unwrap();
        dir.engine().write(&batch("precious")).unwrap();
        dir.engine().close().unwrap();
        let file = dir.engine_dir().join(match kind {
            EngineKind::Sled => "conf",
            _ => "data.redb",
        });
        drop(dir);
        fs::write(&file, "garbage".repeat(10)).unwrap();

        for _ in 0..2 {
            let error = EngineDir::open(base.path(), &options(kind)).err().unwrap();
            assert!(error.is_rebuild(), "{error}");
        }
        let replacement = Replacement::begin(base.path(), &options(kind), None).unwrap();
        let (dir, aside) = replacement.switch().unwrap();
        let moved = aside[0].join(file.file_name().unwrap());
        assert!(fs::read_to_string(&moved).unwrap().starts_with("garbage"));
        assert_eq!(value(&dir), None);
        dir.engine().close().unwrap();
        drop(dir);
        EngineDir::open(base.path(), &options(kind)).unwrap();
        assert!(moved.exists());
        let expected = [
            "CURRENT".to_owned(),
            format!("damaged-000001-{kind}"),
            format!("engine-000002-{kind}"),
        ];
        assert_eq!(names(base.path()), expected);
    }
}

#[test]
fn a_current_that_makes_no_sense_or_names_nothing_asks_for_a_rebuild() {
    for content in ["", "engine-1", "../elsewhere", "engine-000009-redb\n"] {
        let base = tempfile::tempdir().unwrap();
        let dir = EngineDir::open(base.path(), &options(EngineKind::Redb)).unwrap();
        dir.engine().close().unwrap();
        drop(dir);
        let engine = base.path().join("engine-000001-redb");
        let kept = base.path().join("kept");
        fs::rename(&engine, &kept).unwrap();
        fs::write(base.path().join("CURRENT"), content).unwrap();
        let error = EngineDir::open(base.path(), &options(EngineKind::Redb))
            .err()
            .unwrap();
        assert!(error.is_rebuild(), "{content:?}: {error}");
        let options = options(EngineKind::Redb);
        let replacement = Replacement::begin(base.path(), &options, None).unwrap();
        let (dir, aside) = replacement.switch().unwrap();
        assert!(aside.is_empty());
        dir.engine().close().unwrap();
        drop(dir);
        EngineDir::open(base.path(), &options).unwrap();
    }
}

#[test]
fn a_directory_from_the_future_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let dir = EngineDir::open(base.path(), &options(EngineKind::Redb)).unwrap();
    dir.engine().close().unwrap();
    let mark = dir.engine_dir().join("FORMAT");
    drop(dir);
    fs::write(&mark, "rusd engine redb format 999\n").unwrap();
    let error = EngineDir::open(base.path(), &options(EngineKind::Redb))
        .err()
        .unwrap();
    assert!(matches!(error, EngineError::Fatal { .. }), "{error}");
    assert!(error.to_string().contains("format 999"), "{error}");

    fs::remove_file(&mark).unwrap();
    let error = EngineDir::open(base.path(), &options(EngineKind::Redb))
        .err()
        .unwrap();
    assert!(error.is_rebuild(), "{error}");
}

#[test]
fn a_file_where_the_directory_should_be_is_named() {
    let base = tempfile::tempdir().unwrap();
    let file = base.path().join("data");
    fs::write(&file, "").unwrap();
    let error = EngineDir::open(&file, &options(EngineKind::Redb))
        .err()
        .unwrap();
    assert!(
        error.to_string().contains(file.to_str().unwrap()),
        "{error}"
    );
}

/// What would be deleted is all there is, though one line of text brings it back.
#[test]
fn a_lost_current_beside_data_asks_for_a_rebuild_and_removes_nothing() {
    let base = tempfile::tempdir().unwrap();
    let options = options(EngineKind::Redb);
    let current = base.path().join("CURRENT");
    // As a first start leaves it that ends before it names the engine.
    let dir = EngineDir::open(base.path(), &options).unwrap();
    dir.engine().close().unwrap();
    drop(dir);
    fs::remove_file(&current).unwrap();
    let dir = EngineDir::open(base.path(), &options).unwrap();
    dir.engine().write(&batch("live")).unwrap();
    dir.engine().close().unwrap();
    drop(dir);

    let named = fs::read(&current).unwrap();
    fs::remove_file(&current).unwrap();
    for _ in 0..2 {
        let error = EngineDir::open(base.path(), &options).err().unwrap();
        assert!(error.is_rebuild(), "{error}");
    }
    fs::write(&current, named).unwrap();
    let dir = EngineDir::open(base.path(), &options).unwrap();
    assert_eq!(value(&dir).as_deref(), Some("live"));
}

#[test]
fn a_checkpoint_file_that_makes_no_sense_costs_no_checkpoint() {
    let base = tempfile::tempdir().unwrap();
    let options = options(EngineKind::Redb);
    let dir = EngineDir::open(base.path(), &options).unwrap();
    let filling = dir.begin_checkpoint().unwrap();
    filling.engine().write(&batch("copy")).unwrap();
    let made = dir.complete_checkpoint(filling, 5, 1).unwrap();
    dir.engine().close().unwrap();
    drop(dir);
    let file = base.path().join("CHECKPOINT");
    let named = fs::read(&file).unwrap();
    fs::write(&file, "checkpoint-").unwrap();
    let dir = EngineDir::open(base.path(), &options).unwrap();
    assert_eq!(dir.checkpoint(), None);
    dir.engine().close().unwrap();
    drop(dir);
    fs::write(&file, named).unwrap();
    let dir = EngineDir::open(base.path(), &options).unwrap();
    assert_eq!(
        dir.checkpoint().map(|found| found.name()),
        Some(made.name())
    );
}
