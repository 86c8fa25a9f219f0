//! `cargo run -p rusd-simulation -- --seed N [--seeds COUNT] [--trace]`: runs seeds, and says which broke a promise.
#![allow(clippy::panic)]

use rusd_simulation::{explore, run};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let (mut seed, mut seeds, mut prints) = (1, 1, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok());
        let known = match argument.as_str() {
            "--seed" => number().map(|number| seed = number),
            "--seeds" => number().map(|number| seeds = number),
            "--trace" => {
                prints = true;
                Some(())
            }
            _ => None,
        };
        if known.is_none() {
            eprintln!("usage: --seed N [--seeds COUNT] [--trace]");
            return ExitCode::FAILURE;
        }
    }
    let began = Instant::now();
    let found = if seeds == 1 {
        let report = run(seed, None, prints);
        println!("{report:?}");
        report.err().into_iter().collect()
    } else {
        explore(seed, seeds)
    };
    for one in &found {
        println!("seed {}: {}", one.seed, one.what);
    }
    println!(
        "{seeds} seeds from {seed} on, {} found something, in {:?}",
        found.len(),
        began.elapsed()
    );
    if found.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
