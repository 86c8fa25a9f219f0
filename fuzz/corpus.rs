//! Writes the valid inputs of every target where `cargo fuzz` looks for inputs to start from.
#![allow(clippy::unwrap_used)]

use rusd_fuzz::targets::{ALL, parts};
use std::fs;
use std::path::Path;

fn main() {
    for target in ALL {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target.name);
        fs::create_dir_all(&dir).unwrap();
        let corpus = (target.corpus)();
        for (number, case) in corpus.iter().enumerate() {
            fs::write(dir.join(format!("valid-{number}")), parts::join(case)).unwrap();
        }
        println!("{}: {} inputs", dir.display(), corpus.len());
    }
}
