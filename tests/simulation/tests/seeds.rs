//! Many seeds keep every promise, and each replays.
#![allow(clippy::unwrap_used)]

use rusd_simulation::{explore, run};
use std::time::Instant;

/// Enough that every planted bug is found several times over (`planted.rs`), and no more than CI has time for.
const SEEDS: u64 = 1_000;

#[test]
fn every_promise_is_kept_from_a_thousand_seeds() {
    let began = Instant::now();
    let found = explore(1, SEEDS);
    println!("{SEEDS} seeds in {:?}", began.elapsed());
    let broken: Vec<String> = found
        .iter()
        .map(|found| {
            format!(
                "{}\n  again: cargo run -p rusd-simulation -- --seed {} --trace",
                found.what, found.seed
            )
        })
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_seed_replays_bit_for_bit() {
    let mut traces = Vec::new();
    for seed in [1, 2, 3, 1_000_000] {
        let first = run(seed, None, false).unwrap();
        assert_eq!(first, run(seed, None, false).unwrap());
        assert!(first.lines > 500, "{first:?}");
        traces.push(first.trace);
    }
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 4, "other seeds, other things that happen");
}
