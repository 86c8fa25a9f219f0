//! What is published instead of asked for: read in place by any thread, without a hop. Each cell says who writes it.
//!
//! | cell | writer | readers |
//! |---|---|---|
//! | [`raft_status`] | Raft | handlers, health, metrics |
//! | [`published`] | state machine | handlers, members |
//! | [`live_leases`] | state machine, lease timer and handlers: see its own page | all three |
//! | [`watch_demand`] | watch hub (what it wants), state machine (the published revision) | each the other's part |
//! | [`sink`] | watch hub | one gRPC stream |

pub mod live_leases;
pub mod published;
pub mod raft_status;
pub mod sink;
pub mod watch_demand;
