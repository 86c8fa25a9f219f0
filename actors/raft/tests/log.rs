//! The log on disk across restarts, crashes and damage.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::*;
use raft::Storage;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusd_messages::{ClusterId, Index, RaftStatus};
use rusd_raft::log::{Append, Conf, Truncated, segment};
use rusd_raft::{Core, CoreConfig, Identity, Log, LogConfig, LogError, StartError};
use std::fs;
use std::path::Path;
use std::sync::Arc;

#[test]
fn a_new_log_begins_as_etcds_does() {
    let dir = tempfile::tempdir().unwrap();
    let log = new_log(dir.path());
    drop(log);
    let log = Log::open(LogConfig::new(dir.path())).unwrap();
    let identity = Identity {
        cluster: ClusterId(0xc1),
        member: MEMBER,
    };
    assert_eq!(log.identity(), Some(identity));
    let tail = log.into_tail();
    let state = tail.initial_state().unwrap();
    assert_eq!((state.hard_state.term, state.hard_state.commit), (1, 1));
    assert_eq!(state.conf_state.voters, [MEMBER.0]);
    let entries = read(&tail, 1);
    assert_eq!(
        (entries.len(), entries[0].term, entries[0].index),
        (1, 1, 1)
    );
    let json = br#"{"id":161,"peerURLs":null}"#;
    let expected = [&[0x10, 0, 0x18, 0xa1, 0x01, 0x22, 26], json.as_slice()].concat();
    assert_eq!(entries[0].data, expected);
}

#[test]
fn a_log_is_set_up_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = new_log(dir.path());
    assert!(matches!(
        log.bootstrap(&bootstrap()),
        Err(LogError::AlreadyBootstrapped { .. })
    ));
}

#[test]
fn entries_vote_and_configuration_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log = new_log(dir.path());
    let mut writer = log.writer();
    writer.write(&append(entries(2, 50, 300))).unwrap();
    writer.write(&append(entries(52, 1, 70_000))).unwrap();
    drop((log, writer));
    let tail = Log::open(LogConfig::new(dir.path())).unwrap().into_tail();
    assert_eq!(tail.last(), 52);
    assert_eq!(tail.vote().commit, 51);
    assert_eq!(tail.term(30).unwrap(), 2);
    for entry in read(&tail, 2) {
        let bytes = if entry.index == 52 { 70_000 } else { 300 };
        assert_eq!(entry.data, content(entry.index, bytes));
    }
}

#[test]
fn a_later_append_replaces_the_end_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = new_log(dir.path());
    let mut writer = log.writer();
    writer.write(&append(entries(2, 10, 10))).unwrap();
    let mut other = entries(5, 2, 20);
    other.iter_mut().for_each(|entry| entry.term = 3);
    writer.write(&append(other)).unwrap();
    drop((log, writer));
    let tail = Log::open(LogConfig::new(dir.path())).unwrap().into_tail();
    let terms: Vec<(u64, u64)> = read(&tail, 2).iter().map(|e| (e.index, e.term)).collect();
    assert_eq!(terms, [(2, 2), (3, 2), (4, 2), (5, 3), (6, 3)]);
}

#[test]
fn pr_11_a_log_in_use_is_refused_with_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let _open = new_log(dir.path());
    let error = Log::open(LogConfig::new(dir.path())).unwrap_err();
    assert!(matches!(error, LogError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(dir.path().to_str().unwrap()));
}

/// What a crash that stops at byte `cut` may leave of what comes behind.
fn tear(bytes: &mut Vec<u8>, cut: usize, tail: &str, synced: &[(usize, u64)], rng: &mut StdRng) {
    let end = synced.last().unwrap().0;
    // A record that was complete before the crash is there whole; the torn one loses its end.
    let torn_end = synced
        .iter()
        .map(|(at, _)| *at)
        .find(|at| *at > cut)
        .unwrap_or(end);
    match tail {
        "gone" => bytes.truncate(cut),
        "zeros" => bytes[cut..].fill(0),
        "garbage" => {
            bytes[torn_end..].fill(0);
            bytes[cut..torn_end.max(cut)]
                .iter_mut()
                .for_each(|byte| *byte = rng.random());
        }
        // Pages of one write may reach the disk in any order: its start may be what is missing.
        _ => {
            bytes[torn_end..].fill(0);
            let torn_start = synced
                .iter()
                .rev()
                .map(|(at, _)| *at)
                .find(|at| *at <= cut)
                .unwrap();
            // The first bytes of a length are zero anyway: at least its header is missing.
            let missing = cut.max(torn_start + 16).min(torn_end);
            bytes[torn_start..missing].fill(0);
        }
    }
}

/// Whatever byte a crash stops at, the log is a prefix of what was written with every synced batch in it.
#[test]
fn a_crash_at_any_byte_leaves_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let crashed = dir.path().join("crashed");
    let live = dir.path().join("live");
    let log = new_log(&live);
    let mut writer = log.writer();
    let mut rng = StdRng::seed_from_u64(1);
    let segment = live.join("0000000000000001.raftlog");
    let valid = |path: &Path| {
        segment::verify(&fs::read(path).unwrap(), 1, true)
            .unwrap()
            .valid_bytes
    };

    // (bytes on disk, last index) after each batch.
    let mut synced = vec![(valid(&segment), 1)];
    for _ in 0..25 {
        let last = synced.last().unwrap().1;
        let count = rng.random_range(1..6);
        let bytes = rng.random_range(0..400);
        writer
            .write(&append(entries(last + 1, count, bytes)))
            .unwrap();
        synced.push((valid(&segment), last + count));
    }
    let end = synced.last().unwrap().0;
    let first = synced[0].0;
    let mut cuts: Vec<usize> = synced
        .iter()
        .step_by(4)
        .flat_map(|(at, _)| [at - 1, *at, at + 1])
        .collect();
    cuts.extend((0..20).map(|_| rng.random_range(first..end)));
    for cut in cuts.into_iter().filter(|cut| *cut >= first) {
        for tail in ["gone", "zeros", "garbage", "old"] {
            snapshot_of(&live, &crashed);
            let path = crashed.join("0000000000000001.raftlog");
            let mut bytes = fs::read(&path).unwrap();
            bytes.truncate(end + 4096);
            tear(&mut bytes, cut, tail, &synced, &mut rng);
            fs::write(&path, bytes).unwrap();
            let expected = synced.iter().rev().find(|(at, _)| *at <= cut).unwrap().1;
            let tail_log = Log::open(LogConfig::new(&crashed))
                .unwrap_or_else(|error| panic!("cut at {cut}, {tail}: {error}"))
                .into_tail();
            assert_eq!(tail_log.last(), expected, "cut at {cut}, {tail}");
            assert_eq!(read(&tail_log, 1).len() as u64, tail_log.last());
        }
    }
}

#[test]
fn damage_in_the_middle_is_refused_with_path_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    let damaged = dir.path().join("damaged");
    let log = new_log(&live);
    let mut writer = log.writer();
    for batch in 0..10 {
        writer
            .write(&append(entries(2 + batch * 3, 3, 100)))
            .unwrap();
    }
    let name = "0000000000000001.raftlog";
    let bytes = fs::read(live.join(name)).unwrap();
    let valid = segment::verify(&bytes, 1, true).unwrap().valid_bytes;
    let mut rng = StdRng::seed_from_u64(2);
    for _ in 0..60 {
        snapshot_of(&live, &damaged);
        // Not in the last record: that one cannot be told from a torn one.
        let at = rng.random_range(0..valid - 400);
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << rng.random_range(0..8);
        fs::write(damaged.join(name), &bytes).unwrap();
        let error = Log::open(LogConfig::new(&damaged)).unwrap_err();
        assert!(
            matches!(error, LogError::Damaged { .. }),
            "byte {at}: {error}"
        );
        let text = error.to_string();
        assert!(
            text.contains(name) && text.contains("backup of the whole data directory"),
            "{text}"
        );
        assert_eq!(
            fs::read(damaged.join(name)).unwrap(),
            bytes,
            "the evidence must not be touched"
        );
    }
}

#[test]
fn a_configuration_of_an_entry_that_the_log_does_not_have_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = new_log(dir.path());
    let mut conf = Conf {
        index: u64::MAX,
        ..Conf::default()
    };
    conf.state.voters = vec![MEMBER.0];
    let append = Append {
        conf: Some(Box::new(conf)),
        must_sync: true,
        ..Append::default()
    };
    log.writer().write(&append).unwrap();
    drop(log);
    let error = Log::open(LogConfig::new(dir.path())).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
}

/// Writes through several segments.
fn many_segments(dir: &Path) -> u64 {
    let config = LogConfig {
        segment_bytes: 64 << 10,
        purge_threshold_bytes: 128 << 10,
        ..LogConfig::new(dir)
    };
    let mut log = Log::open(config).unwrap();
    log.bootstrap(&bootstrap()).unwrap();
    let mut writer = log.writer();
    for batch in 0..40 {
        writer
            .write(&append(entries(2 + batch * 10, 10, 1_000)))
            .unwrap();
    }
    401
}

#[test]
fn a_missing_or_shortened_segment_in_the_middle_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    let damaged = dir.path().join("damaged");
    many_segments(&live);
    assert!(segments(&live).len() > 4);

    snapshot_of(&live, &damaged);
    fs::remove_file(&segments(&damaged)[2]).unwrap();
    assert!(matches!(
        Log::open(LogConfig::new(&damaged)),
        Err(LogError::Damaged { .. })
    ));

    snapshot_of(&live, &damaged);
    fs::remove_file(&segments(&damaged)[0]).unwrap();
    let error = Log::open(LogConfig::new(&damaged)).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");

    snapshot_of(&live, &damaged);
    let third = segments(&damaged)[2].clone();
    let bytes = fs::read(&third).unwrap();
    fs::write(&third, &bytes[..bytes.len() - 10]).unwrap();
    assert!(matches!(
        Log::open(LogConfig::new(&damaged)),
        Err(LogError::Damaged { .. })
    ));
}

#[test]
fn a_log_whose_newest_segments_are_gone_does_not_start_below_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    let last = many_segments(dir.path());
    fs::remove_file(segments(dir.path()).last().unwrap()).unwrap();
    let tail = Log::open(LogConfig::new(dir.path())).unwrap().into_tail();
    assert!(tail.last() < last);
    let error = Core::new(core_config(last), tail, Arc::new(RaftStatus::default())).unwrap_err();
    assert!(matches!(error, StartError::LostEntries { .. }), "{error}");
}

fn core_config(applied: u64) -> CoreConfig {
    CoreConfig {
        member: MEMBER,
        applied: Index(applied),
        heartbeat_ms: 100,
        election_ms: 1_000,
        pre_vote: true,
        incarnation: 1,
        priority_requests: false,
    }
}

#[test]
fn truncation_removes_segments_and_survives_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig {
        segment_bytes: 64 << 10,
        purge_threshold_bytes: 128 << 10,
        ..LogConfig::new(dir.path())
    };
    let mut log = Log::open(config.clone()).unwrap();
    log.bootstrap(&bootstrap()).unwrap();
    let mut writer = log.writer();
    let mut most = 0;
    for batch in 0..100u64 {
        let first = 2 + batch * 10;
        let mut append = append(entries(first, 10, 1_000));
        if batch % 5 == 4 {
            append.truncate = Some(Truncated {
                index: first - 1,
                term: 2,
            });
        }
        writer.write(&append).unwrap();
        writer.purge().unwrap();
        most = most.max(segments(dir.path()).len());
    }
    assert!(most <= 5, "{most} segments");
    drop((log, writer));
    let log = Log::open(config).unwrap();
    let tail = log.into_tail();
    assert_eq!(
        tail.truncated(),
        Truncated {
            index: 991,
            term: 2
        }
    );
    assert_eq!((tail.first_index().unwrap(), tail.last()), (992, 1001));
    assert_eq!(read(&tail, 992).len(), 10);
    assert_eq!(tail.term(991).unwrap(), 2);

    let error = Core::new(core_config(500), tail, Arc::new(RaftStatus::default())).unwrap_err();
    assert!(
        matches!(
            error,
            StartError::StoreTooOld {
                applied: 500,
                truncated: 991
            }
        ),
        "{error}"
    );
}

#[test]
fn a_log_truncated_to_its_end_goes_on_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let log = new_log(dir.path());
    let mut writer = log.writer();
    writer.write(&append(entries(2, 10, 10))).unwrap();
    let mut truncation = append(Vec::new());
    truncation.vote = None;
    truncation.truncate = Some(Truncated { index: 11, term: 2 });
    writer.write(&truncation).unwrap();
    drop((log, writer));
    let log = Log::open(LogConfig::new(dir.path())).unwrap();
    assert_eq!(log.last_index(), 11);
    let mut writer = log.writer();
    writer.write(&append(entries(12, 1, 10))).unwrap();
    drop((log, writer));
    let tail = Log::open(LogConfig::new(dir.path())).unwrap().into_tail();
    assert_eq!((tail.first_index().unwrap(), tail.last()), (12, 12));
}

#[test]
fn a_log_without_sync_is_as_good_after_a_killed_process() {
    let dir = tempfile::tempdir().unwrap();
    let (live, killed) = (dir.path().join("live"), dir.path().join("killed"));
    let mut log = Log::open(LogConfig {
        fsync: false,
        ..LogConfig::new(&live)
    })
    .unwrap();
    log.bootstrap(&bootstrap()).unwrap();
    log.writer().write(&append(entries(2, 5, 10))).unwrap();
    snapshot_of(&live, &killed);
    assert_eq!(Log::open(LogConfig::new(&killed)).unwrap().last_index(), 6);
}

#[test]
fn another_format_version_and_another_kind_of_file_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"x").unwrap();
    let error = Log::open(LogConfig::new(file.join("log"))).unwrap_err();
    assert!(matches!(error, LogError::Io { .. }), "{error}");

    let foreign = dir.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("0000000000000001.raftlog"), [7; 500]).unwrap();
    let error = Log::open(LogConfig::new(&foreign)).unwrap_err();
    assert!(
        error.to_string().contains("does not begin with the header"),
        "{error}"
    );
    assert_eq!(
        fs::read(foreign.join("0000000000000001.raftlog")).unwrap(),
        [7; 500]
    );
}
