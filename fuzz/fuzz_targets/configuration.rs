//! `cargo +nightly fuzz run configuration`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rusd_fuzz::run("configuration", data));
