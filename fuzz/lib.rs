//! The entry points, for libFuzzer: an input is one string of bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod targets;

/// Runs one input.
pub fn run(target: &str, data: &[u8]) {
    (targets::target(target).run)(&targets::parts::split(data));
}
