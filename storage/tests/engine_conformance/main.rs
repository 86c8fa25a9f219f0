//! What every engine promises, checked on each of them: a model, both scan
//! directions, crashes, power loss, memory.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod contract;
mod crash;
mod memory_ceiling;
mod model;
mod numbered;
mod support;
