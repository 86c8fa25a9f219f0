//! `kill -9` of a process that writes.
//!
//! A child process, which is this test program again, writes batches that are
//! a function of their number and says what it did. It is killed at some
//! moment. What it left has to be the state after some batch, no earlier than
//! the last one it persisted.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::numbered::{applied, numbered_batch, state_after};
use crate::support::{Random, Under, assert_same, dump};

/// The directory and engine the child writes to.
const CHILD_DIR: &str = "RUSD_ENGINE_CRASH_DIR";
const CHILD_ENGINE: &str = "RUSD_ENGINE_CRASH_ENGINE";

/// The child stops by itself after this many batches.
const MAX_BATCHES: u64 = 4000;

/// Not a test of its own: what the child runs.
#[test]
fn child_writes() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let under = match std::env::var(CHILD_ENGINE).unwrap().as_str() {
        "Sled" => Under::Sled,
        _ => Under::Redb,
    };
    let engine = under.open(Path::new(&dir));
    let first = applied(&*engine) + 1;
    println!("opened {first}");
    for number in first..first + MAX_BATCHES {
        engine.write(&numbered_batch(number)).unwrap();
        println!("wrote {number}");
        if number % 37 == 0 {
            engine.persist().unwrap();
            println!("persisted {number}");
        }
    }
}

/// Runs the child until it said `lines` things, then kills it. Returns the last
/// batch it had written and the last it had persisted, as far as it said.
fn run_and_kill(under: Under, dir: &Path, lines: u64) -> (u64, u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child_writes", "--nocapture"])
        .env(CHILD_DIR, dir)
        .env(CHILD_ENGINE, format!("{under:?}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut wrote, mut persisted, mut said) = (0, 0, 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some((what, number)) = line.split_once(' ') else {
            continue;
        };
        match (what, number.parse::<u64>()) {
            ("wrote", Ok(number)) => wrote = number,
            ("persisted", Ok(number)) => persisted = number,
            _ => continue,
        }
        said += 1;
        if said == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(said >= lines, "the child ended by itself");
    (wrote, persisted)
}

fn survives(under: Under) {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::new(11);
    let mut last_persisted = 0;
    for round in 0..6 {
        let lines = 1 + random.below(400);
        let (wrote, persisted) = run_and_kill(under, dir.path(), lines);
        last_persisted = last_persisted.max(persisted);
        let engine = under.open(dir.path());
        let applied = applied(&*engine);
        assert!(
            applied >= last_persisted && applied <= wrote + 1,
            "{under:?} round {round}: {applied} after {wrote} writes, {last_persisted} persisted"
        );
        assert_same(&dump(&*engine), &state_after(applied), "after kill -9");
        // What the next child begins with counts as persisted.
        engine.close().unwrap();
        last_persisted = applied;
    }
}

#[test]
fn sled_survives_kill_9() {
    survives(Under::Sled);
}

#[test]
fn redb_survives_kill_9() {
    survives(Under::Redb);
}
