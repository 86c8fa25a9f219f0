//! Requests that go through the log: what each is wrapped in, and which reply it gets.

use super::Context;
use super::durations::Timed;
use rusd_messages::fatal;
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};
use rusd_proto::{ApplyReply, EtcdError, RequestKind};

/// A request that every member applies.
pub trait Proposal: Sized {
    /// What a client gets for it.
    type Reply;
    /// Its kind in metrics.
    const KIND: RequestKind;
    /// Puts it into the envelope that the log holds.
    fn wrap(self) -> InternalRaftRequest;
    /// Takes its reply out of what applying came to; None if that is the reply of another request.
    fn reply(reply: ApplyReply) -> Option<Self::Reply>;
    /// The header of the reply, to be completed.
    fn header(reply: &mut Self::Reply) -> &mut Option<pb::ResponseHeader>;
}

macro_rules! proposals {
    ($($request:ident, $field:ident, $kind:ident, $reply:ident -> $response:ident;)*) => {
        $(impl Proposal for pb::$request {
            type Reply = pb::$response;
            const KIND: RequestKind = RequestKind::$kind;

            fn wrap(self) -> InternalRaftRequest {
                InternalRaftRequest {
                    $field: Some(self),
                    ..InternalRaftRequest::default()
                }
            }

            fn reply(reply: ApplyReply) -> Option<Self::Reply> {
                match reply {
                    ApplyReply::$reply(response) => Some(response),
                    _ => None,
                }
            }

            fn header(reply: &mut Self::Reply) -> &mut Option<pb::ResponseHeader> {
                &mut reply.header
            }
        })*
    };
}

proposals! {
    PutRequest, put, Put, Put -> PutResponse;
    DeleteRangeRequest, delete_range, DeleteRange, DeleteRange -> DeleteRangeResponse;
    TxnRequest, txn, Txn, Txn -> TxnResponse;
    CompactionRequest, compaction, Compaction, Compact -> CompactionResponse;
    LeaseGrantRequest, lease_grant, LeaseGrant, LeaseGrant -> LeaseGrantResponse;
    LeaseRevokeRequest, lease_revoke, LeaseRevoke, LeaseRevoke -> LeaseRevokeResponse;
    AlarmRequest, alarm, Alarm, Alarm -> AlarmResponse;
}

impl Context {
    /// Puts a request into the log and waits until it is applied here. The reply has a complete header.
    pub(super) async fn propose<P: Proposal>(&self, request: P) -> Result<P::Reply, EtcdError> {
        let timed = Timed::proposal(P::KIND);
        let pending = self.proposer.propose(P::wrap(request))?;
        let answer = pending.await.unwrap_or(Err(EtcdError::Stopped));
        timed.end(!answer.as_ref().is_err_and(was_not_applied));
        let applied = answer?;
        // The state machine answers by the entry, and the entry is what was proposed.
        let Some(mut reply) = P::reply(applied) else {
            fatal(
                "answering a request",
                &"the state machine answered another kind of request",
            );
        };
        self.complete(P::header(&mut reply));
        Ok(reply)
    }
}

/// Whether the error says that consensus failed; all others are what applying the request came to.
fn was_not_applied(error: &EtcdError) -> bool {
    matches!(
        error,
        EtcdError::Stopped
            | EtcdError::Timeout
            | EtcdError::TimeoutLeaderFailure
            | EtcdError::TimeoutConnectionLost
            | EtcdError::TimeoutWaitApplied
            | EtcdError::LeaderChanged
            | EtcdError::NoLeader
            | EtcdError::NotLeader
            | EtcdError::TooManyRequests
    )
}
