//! How a message travels: [`port`] is the way to an actor, [`reply`] the way back, `receive!` the actor's end, and
//! [`probe`] stands in for an actor in a test.

pub mod port;
pub mod probe;
mod receive;
pub mod reply;
