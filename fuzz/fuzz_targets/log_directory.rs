//! `cargo +nightly fuzz run log_directory`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rusd_fuzz::run("log_directory", data));
