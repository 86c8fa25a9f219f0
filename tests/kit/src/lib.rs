//! What the tests of several crates share. It knows none of them, so that every crate may use it in its tests.
//!
//! ```text
//! args      the words and options of a script's command
//! run_dir!  every script of a folder as a test of its own; a script that is not listed fails
//! ```
#![forbid(unsafe_code)]
#![allow(clippy::panic)]

mod args;
mod scripts;

pub use args::{Args, latin};
pub use scripts::{assert_all_listed, run};
