//! How much memory an engine takes beyond its cache.

use std::process::Command;

use bytes::Bytes;
use rusd_storage::engine::{self, EngineKind, EngineOptions, Tree, WriteBatch};

use crate::support::Random;

const CHILD: &str = "RUSD_ENGINE_MEMORY_CHILD";

const CACHE_BYTES: u64 = 8 << 20;
const DATA_BYTES: u64 = 96 << 20;
const RECORD_BYTES: u64 = 1000;

/// Resident memory of this process.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

/// Not a test of its own: what the child runs, so that other tests do not count.
#[test]
fn child_fills() {
    let Ok(kind) = std::env::var(CHILD) else {
        return;
    };
    let Some(before) = resident_bytes() else {
        println!("grew 0");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let kind: EngineKind = kind.parse().unwrap();
    let cache_bytes = CACHE_BYTES;
    let engine = engine::open(dir.path(), &EngineOptions { kind, cache_bytes }).unwrap();
    let mut random = Random::new(3);
    let value = Bytes::from(random.bytes(RECORD_BYTES as usize));
    let key = |main: u64| Tree::KvRev.key(&main.to_be_bytes());
    let records = DATA_BYTES / RECORD_BYTES;
    for first in (0..records).step_by(500) {
        let mut batch = WriteBatch::new();
        (first..first + 500).for_each(|main| batch.put(key(main), value.clone()));
        engine.write(&batch).unwrap();
        if first % 16_000 == 0 {
            engine.persist().unwrap();
        }
    }
    for _ in 0..10_000 {
        let found = engine.get(&key(random.below(records))).unwrap();
        assert_eq!(found.as_ref(), Some(&value));
    }
    println!("grew {}", resident_bytes().unwrap().saturating_sub(before));
}

fn growth(kind: EngineKind) -> u64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory_ceiling::child_fills", "--nocapture"])
        .env(CHILD, kind.name())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, grew) = text.split_once("grew ").unwrap();
    grew.split_whitespace().next().unwrap().parse().unwrap()
}

/// Twelve times the cache in data, and memory stays near the cache.
#[test]
fn redb_keeps_to_its_cache() {
    let grew = growth(EngineKind::Redb);
    assert!(grew < CACHE_BYTES + (24 << 20), "{grew} bytes");
}

/// sled does not keep to a cache smaller than the data, and does not claim to.
/// Appending holds about the data itself; this notices if it gets worse.
#[test]
fn sled_holds_about_its_data() {
    let grew = growth(EngineKind::Sled);
    assert!(grew < 2 * DATA_BYTES, "{grew} bytes");
}
