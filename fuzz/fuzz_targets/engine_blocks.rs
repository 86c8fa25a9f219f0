//! `cargo +nightly fuzz run engine_blocks`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rusd_fuzz::run("engine_blocks", data));
