//! Engines to test, and how to look at them.

// Two test programs share this; neither uses all of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rusd_storage::engine::{
    self, Direction, Engine, EngineKind, EngineOptions, Memory, Packed, WriteBatch,
};
use tempfile::TempDir;

pub type Model = BTreeMap<Bytes, Bytes>;

/// What is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under {
    Memory,
    /// The packing alone, over an engine that is known to work.
    Packed,
    Sled,
    Redb,
}

impl Under {
    pub const ALL: [Self; 4] = [Self::Memory, Self::Packed, Self::Sled, Self::Redb];
    pub const ON_DISK: [Self; 2] = [Self::Sled, Self::Redb];

    pub fn options(self) -> EngineOptions {
        EngineOptions {
            kind: match self {
                Self::Memory | Self::Packed => EngineKind::Memory,
                Self::Sled => EngineKind::Sled,
                Self::Redb => EngineKind::Redb,
            },
            cache_bytes: 16 << 20,
        }
    }

    pub fn open(self, dir: &Path) -> Arc<dyn Engine> {
        match self {
            Self::Packed => Arc::new(Packed::new(Memory::new(), "memory")),
            _ => engine::open(dir, &self.options()).unwrap(),
        }
    }
}

/// An open engine and the directory it is in.
pub struct Fixture {
    pub under: Under,
    pub dir: TempDir,
    pub engine: Arc<dyn Engine>,
}

impl Fixture {
    pub fn new(under: Under) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = under.open(dir.path());
        Self { under, dir, engine }
    }

    /// Closes and opens again; does nothing to an engine that lives in memory.
    pub fn reopen(&mut self) {
        if Under::ON_DISK.contains(&self.under) {
            self.engine.close().unwrap();
            self.engine = self.under.open(self.dir.path());
        }
    }
}

/// The records of a range, in the order a scan visits them.
pub fn scan(
    engine: &dyn Engine,
    start: &[u8],
    end: &[u8],
    direction: Direction,
    limit: usize,
) -> Vec<(Bytes, Bytes)> {
    let mut found = Vec::new();
    if limit == 0 {
        return found;
    }
    engine
        .scan(start, end, direction, &mut |key, value| {
            found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            match found.len() == limit {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
        .unwrap();
    found
}

/// Everything in the engine.
pub fn dump(engine: &dyn Engine) -> Model {
    let all = scan(engine, b"", b"\xff", Direction::Forward, usize::MAX);
    let model: Model = all.iter().cloned().collect();
    assert_eq!(model.len(), all.len(), "a scan visited a key twice");
    assert!(model.into_iter().eq(all.iter().cloned()), "out of order");
    all.into_iter().collect()
}

/// Compares without printing megabytes.
pub fn assert_same(engine: &Model, model: &Model, context: &str) {
    let short = |value: Option<&Bytes>| {
        value.map(|value| (value.len(), value.slice(..value.len().min(16))))
    };
    for key in engine.keys().chain(model.keys()) {
        let (found, expected) = (engine.get(key), model.get(key));
        assert!(
            found == expected,
            "{context}: {key:?} is {:?}, not {:?}",
            short(found),
            short(expected)
        );
    }
}

pub fn apply(model: &mut Model, batch: &WriteBatch) {
    for op in batch.ops() {
        match op {
            engine::Op::Put { key, value } => model.insert(key.clone(), value.clone()),
            engine::Op::Delete { key } => model.remove(key),
        };
    }
}

/// A small generator, so that a child process and its parent agree.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }

    /// Bytes that compress badly enough and are made quickly.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = (0..len.div_ceil(8)).flat_map(|_| {
            self.below(1);
            self.0.to_le_bytes()
        });
        words.take(len).collect()
    }
}
