//! Packed blocks of `kv_rev` that hold anything.
//!
//! The engines check what they store, so a bad block means a bug or a disk that lies well. It is refused by whoever
//! touches it; it never panics, and a scan over it ends.

use super::{Case, Outcome, Target};
use bytes::Bytes;
use rusd_storage::engine::{Direction, Engine, EngineError, Memory, Packed, Tree, WriteBatch};
use std::ops::ControlFlow;

/// See the module.
pub const TARGET: Target = Target {
    name: "engine_blocks",
    corpus,
    run,
    cases: 8_000,
};

/// No more records than this fit into the parts of a case.
const VISITS_MAX: usize = 10_000_000;

/// What is asked of the engine, then keys and blocks by turns.
fn corpus() -> Vec<Case> {
    let case = |records: u32, value_bytes: usize| {
        let packed = Packed::new(Memory::new(), "blocks");
        for n in 0..records {
            let mut batch = WriteBatch::new();
            batch.put(key(n), vec![n as u8; value_bytes]);
            packed.write(&batch).unwrap();
        }
        let mut parts: Case = vec![key(records / 2).to_vec()];
        for (key, block) in packed.inner().dump() {
            parts.push(key.to_vec());
            parts.push(block.to_vec());
        }
        parts
    };
    vec![case(3, 5), case(40, 12), case(60, 700), case(5, 9_000)]
}

fn key(n: u32) -> Bytes {
    Tree::KvRev
        .key(&[&[0; 4][..], &n.to_be_bytes()].concat())
        .into()
}

fn run(parts: &[Vec<u8>]) -> Outcome {
    let (asked, blocks) = parts
        .split_first()
        .map_or((&[][..], parts), |(asked, rest)| (asked, rest));
    let memory = Memory::new();
    let mut content = WriteBatch::new();
    for pair in blocks.chunks_exact(2) {
        content.put(pair[0].clone(), pair[1].clone());
    }
    memory.write(&content).unwrap();
    let packed = Packed::new(memory, "blocks");
    let results = [
        packed.get(asked).map(|_| ()),
        scan(&packed, Direction::Forward, asked),
        scan(&packed, Direction::Backward, asked),
        scan(&packed, Direction::Forward, b""),
        change(&packed, asked),
        packed.bulk_load(&mut std::iter::once((
            key(u32::MAX),
            Bytes::from_static(b"loaded"),
        ))),
        scan(&packed, Direction::Backward, b""),
    ];
    let mut outcome = Outcome::Accepted;
    for result in results {
        if let Err(error) = result {
            assert!(error.is_rebuild(), "{error}");
            outcome = Outcome::Refused;
        }
    }
    outcome
}

fn scan(engine: &impl Engine, direction: Direction, start: &[u8]) -> Result<(), EngineError> {
    let mut visits = 0;
    engine.scan(start, &[0xff; 40], direction, &mut |_, _| {
        visits += 1;
        assert!(visits < VISITS_MAX, "the scan does not end");
        ControlFlow::Continue(())
    })
}

/// Writes at, around and far from `asked`, and reads back what was written.
fn change(engine: &impl Engine, asked: &[u8]) -> Result<(), EngineError> {
    let asked = Tree::KvRev.key(asked.get(1..).unwrap_or_default());
    let mut batch = WriteBatch::new();
    batch.delete(asked.clone());
    batch.put([&asked[..], b"\0"].concat(), vec![7; 300]);
    batch.put(key(0), vec![8; 10]);
    batch.delete(key(1));
    engine.write(&batch)?;
    let mut batch = WriteBatch::new();
    batch.put(key(u32::MAX - 1), vec![9; 5_000]);
    engine.write(&batch)
}
