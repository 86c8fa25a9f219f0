//! Requests without a transport: each is a function of its caller and its message.
//!
//! ```text
//!   rpc (gRPC), http --> Api::put(&Caller, PutRequest) -> Result<PutResponse, EtcdError>
//!                          |
//!                          +- call       leader requirement, deadline, counters, log of slow calls
//!                          +- admission  quota
//!                          +- proposal   through the log           \
//!                          +- context    published views, ports    /  the actors
//! ```
//!
//! One file per service. A transport decodes a message, says who calls, calls the function, and puts the answer or
//! the error into its own words; what a call must meet and how it is counted is the same for every transport. Where a
//! call streams, requests come as a stream of messages and responses leave as one.

mod admission;
pub mod auth;
pub mod call;
pub mod caller;
pub mod cluster;
pub mod context;
pub mod durations;
pub mod heartbeats;
pub mod kv;
pub mod lease;
pub mod maintenance;
pub mod metrics;
pub mod proposal;
pub mod range_stream;
mod readiness;
mod refuse;
pub mod rpcs;
pub mod slow;
pub mod watch;
mod watch_pieces;

pub use call::Answers;
pub use caller::{ApiVersion, Caller, Certificate, Peer, PeerAddress};
pub use context::Context;
pub use rpcs::{CallType, Rpc, Service};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

/// The requests that this member answers.
#[derive(Debug)]
pub struct Api {
    context: Arc<Context>,
    streams: watch::Streams,
}

impl Api {
    /// Over what requests share.
    pub fn new(context: Context) -> Self {
        Self {
            context: Arc::new(context),
            streams: watch::Streams::default(),
        }
    }

    /// What requests share.
    pub fn context(&self) -> &Context {
        &self.context
    }
}
