//! What the tests of the log share.
#![allow(dead_code)]

use raft::eraftpb::Entry;
use raft::{GetEntriesContext, Storage};
use rusd_messages::{ClusterId, MemberId};
use rusd_proto::etcdserverpb::Member;
use rusd_raft::log::{Append, LogTail, Vote};
use rusd_raft::{Bootstrap, Identity, Log, LogConfig};
use std::fs;
use std::path::{Path, PathBuf};

pub const MEMBER: MemberId = MemberId(0xa1);

pub fn bootstrap() -> Bootstrap {
    let member = Member {
        id: MEMBER.0,
        ..Member::default()
    };
    let identity = Identity {
        cluster: ClusterId(0xc1),
        member: MEMBER,
    };
    Bootstrap {
        identity,
        members: vec![member],
    }
}

/// A new log with its founder entry.
pub fn new_log(dir: &Path) -> Log {
    let mut log = Log::open(LogConfig::new(dir)).unwrap();
    log.bootstrap(&bootstrap()).unwrap();
    log
}

/// Entries whose content tells their index.
pub fn entries(from: u64, count: u64, bytes: usize) -> Vec<Entry> {
    (from..from + count)
        .map(|index| Entry {
            index,
            term: 2,
            data: content(index, bytes).into(),
            ..Entry::default()
        })
        .collect()
}

pub fn content(index: u64, bytes: usize) -> Vec<u8> {
    let mut x = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..bytes)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect()
}

pub fn append(entries: Vec<Entry>) -> Append {
    let commit = entries.first().map_or(1, |entry| entry.index - 1);
    let vote = Vote {
        term: 2,
        vote: MEMBER.0,
        commit,
        last_conf_change: 1,
    };
    Append {
        entries,
        vote: Some(vote),
        must_sync: true,
        ..Append::default()
    }
}

/// All entries of a log from `from` on.
pub fn read(tail: &LogTail, from: u64) -> Vec<Entry> {
    tail.entries(from, tail.last() + 1, None, GetEntriesContext::empty(false))
        .unwrap()
}

/// The segments, oldest first.
pub fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "raftlog"))
        .collect();
    found.sort();
    found
}

/// What a kill -9 would leave: a copy of the files as they are.
pub fn snapshot_of(dir: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
