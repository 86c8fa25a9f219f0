//! `cargo +nightly fuzz run entries`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rusd_fuzz::run("entries", data));
