//! `cargo +nightly fuzz run store`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rusd_fuzz::run("store", data));
