//! What is fuzzed: one entry point for each kind of bytes that reach the process from outside.
//!
//! | target | bytes | promise |
//! |---|---|---|
//! | `log_directory` | the files of a Raft log | opens to a prefix with every intact record in it, or is refused |
//! | `log_records` | one segment whose checksums are made good again | opens or is refused |
//! | `data_directory` | the marks in a data directory | opens or is refused |
//! | `engine_blocks` | packed blocks of `kv_rev` | read and written, or refused as damaged |
//! | `store` | every record of an engine | opens, serves and opens again, or is refused |
//! | `entries` | log entries | applied, or refused; a restart comes to the same state |
//! | `requests` | gRPC requests | refused by a validator, or answered |
//! | `configuration` | argv, environment, `rusd.toml`, etcd's YAML | a sound configuration or an error |
//! | `connection` | what a client and the server send on a connection | unchanged; judged the same however it is cut |
//!
//! Common to all: no panic, and no work out of proportion.
//!
//! Two drivers run them. On stable, `cargo test --test fuzz_seeded` starts from valid inputs and changes them; it
//! prints its seed, and `RUSD_TEST_SEED=<seed>` repeats a run. `RUSD_TEST_CASES=<n>` asks for more cases. An input that
//! breaks a promise is written to a file that the failure names, for the other driver. With nightly and `cargo install
//! cargo-fuzz`:
//!
//! ```text
//!   cargo run --manifest-path fuzz/Cargo.toml --bin corpus     write the valid inputs to fuzz/corpus/
//!   cargo +nightly fuzz run entries                            search on, guided by coverage
//!   cargo +nightly fuzz run entries <file>                     repeat one input
//! ```
//!
//! An input is a list of *parts* (records, files, requests): [`parts`] says how it becomes one string of bytes, and
//! [`mutate`] how it is changed.

pub mod configuration;
pub mod connection;
pub mod data_directory;
pub mod engine_blocks;
pub mod entries;
pub mod log_directory;
pub mod log_records;
pub mod mutate;
pub mod parts;
pub mod requests;
pub mod store;

/// The parts of one input.
pub type Case = Vec<Vec<u8>>;

/// What became of an input. Both are fine; a driver checks that it has seen both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken for what it should be.
    Accepted,
    /// It was refused, with a reason.
    Refused,
}

/// One entry point.
pub struct Target {
    /// Its name, on command lines and in file names.
    pub name: &'static str,
    /// Valid inputs to start from: all of them are accepted.
    pub corpus: fn() -> Vec<Case>,
    /// Panics if a promise is broken.
    pub run: fn(&[Vec<u8>]) -> Outcome,
    /// How many changed inputs the seeded driver tries: what fits into a second or two of a debug build.
    pub cases: u32,
}

/// All of them.
pub const ALL: [Target; 9] = [
    log_directory::TARGET,
    log_records::TARGET,
    data_directory::TARGET,
    engine_blocks::TARGET,
    store::TARGET,
    entries::TARGET,
    requests::TARGET,
    configuration::TARGET,
    connection::TARGET,
];

/// The target of this name.
pub fn target(name: &str) -> &'static Target {
    const TARGETS: &[Target] = &ALL;
    TARGETS.iter().find(|target| target.name == name).unwrap()
}
