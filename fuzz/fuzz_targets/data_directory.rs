//! `cargo +nightly fuzz run data_directory`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rusd_fuzz::run("data_directory", data));
