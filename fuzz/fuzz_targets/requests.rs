//! `cargo +nightly fuzz run requests`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rusd_fuzz::run("requests", data));
