//! What a reader receives: reads too large for a gRPC thread.

use crate::watch::HistoryPage;
use crate::{Port, Reply};
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;

/// A Range whose estimated size is above what a handler answers itself. Already validated and, if
/// linearizable, confirmed.
#[derive(Debug)]
pub struct LargeRange {
    /// As the client sent it.
    pub request: pb::RangeRequest,
    /// The response, its header with the revision only.
    pub reply: Reply<Result<pb::RangeResponse, EtcdError>>,
}

/// What the readers' common queue holds.
#[derive(Debug)]
pub enum Read {
    /// A large range.
    Range(LargeRange),
    /// A hash over the keys.
    HashKv(HashKv),
}

/// A page of past events for the watch hub. One outstanding request per hub at a time.
#[derive(Debug)]
pub struct History {
    /// Echoed in the page.
    pub token: u64,
    /// First revision wanted.
    pub from_revision: i64,
    /// Last revision wanted: the hub's own last seen one.
    pub through_revision: i64,
    /// A page ends after the revision that passes this many bytes.
    pub max_bytes: usize,
    /// Whether events carry the previous record.
    pub with_previous: bool,
    /// Where the page goes.
    pub reply: Port<HistoryPage>,
}

/// HashKV at a revision; 0 is the current one.
#[derive(Debug)]
pub struct HashKv {
    /// The revision asked for.
    pub revision: i64,
    /// The response, its header with the revision only.
    pub reply: Reply<Result<pb::HashKvResponse, EtcdError>>,
}
