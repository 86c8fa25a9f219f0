//! What applying a log entry answers to the caller that proposed it.

use crate::EtcdError;
use crate::etcdserverpb as pb;

/// The answer of the state machine to one proposal. Headers carry the revision only; the
/// server fills in cluster, member and term.
#[allow(missing_docs)]
#[derive(Clone, Debug, PartialEq)]
pub enum ApplyReply {
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    /// With `physical` set, sent once the superseded records are gone.
    Compact(pb::CompactionResponse),
    LeaseGrant(pb::LeaseGrantResponse),
    LeaseRevoke(pb::LeaseRevokeResponse),
    LeaseCheckpoint(pb::LeaseCheckpointResponse),
    Alarm(pb::AlarmResponse),
    /// Internal requests (publishing, the cluster version) and entries without a request.
    Done,
}

/// A reply, or the deterministic error that every member came to.
pub type ApplyResult = Result<ApplyReply, EtcdError>;
