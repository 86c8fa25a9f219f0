//! What replies should be: etcd's semantics as simply as they can be written, and random requests to compare with.
//!
//! ```text
//! model     a history for each key; answers requests and lists events
//! generate  strategies for requests that keep meeting on the same few keys, leases and revisions
//! request   requests as what a log entry holds
//! ```
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

pub mod generate;
mod model;
pub mod request;

pub use model::{Event, Model};
