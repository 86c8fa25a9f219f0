//! A member simulated from a seed: its cores in one thread, under a virtual clock, on virtual disks.
//!
//! ```text
//!   clients --network--> members: raft, state machine, engine writer, watch hub, lease timer, compactor, reconciler
//!                           |  \--> disks: log, engine, checkpoint       (crashes take what is not durable)
//!                           v
//!                        checks: every entry, answer, event and restart against a model of etcd
//! ```
//!
//! All that happens is an event with a time, and all that is random is drawn from the seed: a seed replays bit for
//! bit. The product's cores are used as they are; `member` is what their shells do, with delays drawn at random.
//! There is one member, a sole voter: the network carries what its clients and its actors say.
#![forbid(unsafe_code)]
// A check that fails panics, and so ends the seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod checks;
mod client;
mod clock;
mod disk;
mod engine;
mod faults;
mod host;
mod member;
mod network;
mod random;
mod settings;
mod trace;
mod watching;
mod world;

pub use faults::Planted;
pub use world::{Found, Report, explore, run};
