//! Every parser of bytes from outside, fed with valid inputs that met with accidents.
//!
//! [`targets`] says what is promised and how a run is repeated.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use rand::SeedableRng;
use rand::rngs::StdRng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::{env, fs, str::FromStr};
use targets::{Outcome, Target, mutate, parts};

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    let value = text.parse().ok();
    assert!(value.is_some(), "{name}={text} is not a number");
    value
}

fn fuzz(target: &Target) {
    let seed: u64 = variable("RUSD_TEST_SEED").unwrap_or_else(rand::random);
    let cases = variable("RUSD_TEST_CASES").unwrap_or(target.cases);
    println!("{}: RUSD_TEST_SEED={seed}, {cases} cases", target.name);
    let mut rng = StdRng::seed_from_u64(seed);
    let corpus = (target.corpus)();
    for (number, case) in corpus.iter().enumerate() {
        let outcome = (target.run)(case);
        assert_eq!(
            outcome,
            Outcome::Accepted,
            "valid input {number} of {}",
            target.name
        );
        assert_eq!(parts::split(&parts::join(case)), *case);
    }
    let (mut accepted, mut refused) = (0, 0);
    for number in 0..cases {
        let case = mutate::mutated(&mut rng, &corpus);
        match catch_unwind(AssertUnwindSafe(|| (target.run)(&case))) {
            Ok(Outcome::Accepted) => accepted += 1,
            Ok(Outcome::Refused) => refused += 1,
            Err(_) => {
                let file = format!("{}-{seed}-{number}", target.name);
                let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
                fs::write(&file, parts::join(&case)).unwrap();
                panic!(
                    "case {number} of {}, RUSD_TEST_SEED={seed}, breaks a promise; its input is in {}",
                    target.name,
                    file.display()
                );
            }
        }
    }
    println!("{}: {accepted} accepted, {refused} refused", target.name);
    assert!(accepted > 0 && refused > 0, "{}: one-sided", target.name);
}

macro_rules! seeded {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            fuzz(targets::target(stringify!($name)));
        })*

        #[test]
        fn every_target_is_driven() {
            let names = targets::ALL.map(|target| target.name);
            assert_eq!(names.as_slice(), [$(stringify!($name)),*].as_slice());
        }
    };
}

seeded! {
    log_directory
    log_records
    data_directory
    engine_blocks
    store
    entries
    requests
    configuration
    connection
}
