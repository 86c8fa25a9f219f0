//! What the requests share: the published views, the ports, the ids and the limits.

use super::heartbeats::Heartbeats;
use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use rusd_messages::lease::{ListLeases, TimeToLive};
use rusd_messages::members::RaiseAlarm;
use rusd_messages::mvcc::{Defragment, LeaseKeys};
use rusd_messages::raft::{ReadIndex, TransferLeader};
use rusd_messages::reader::Read;
use rusd_messages::watch::{
    CloseStream, FromStream, OpenStream, SinkLimits, SinkReady, WakeThrough,
};
use rusd_messages::{
    ClusterId, Index, MemberId, Pending, Port, Proposer, Published, RaftStatus, Refused, Renewer,
    Reply, fatal,
};
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use rusd_state::KvError;
use rusd_storage::{ReadAt, Views};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What a transport itself may add to a message beyond `--max-request-bytes` (G-10). Larger responses of a watch go out
/// in pieces, if its client wants that.
pub const TRANSPORT_OVERHEAD_BYTES: usize = 512 * 1024;

/// Limits of requests.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The shortest lease, in seconds: one and a half election timeouts, rounded up (L-01).
    pub min_lease_ttl_s: i64,
    /// `--max-request-bytes`.
    pub max_request_bytes: usize,
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// `--quota-backend-bytes`, its default filled in; None when switched off.
    pub quota_bytes: Option<u64>,
    /// How long a call may wait for consensus: 5 s and two election timeouts.
    pub request_timeout: Duration,
    /// `--warning-unary-request-duration`.
    pub warning_unary_request: Duration,
    /// How often a stream that requires a leader looks for one.
    pub election_timeout: Duration,
}

/// The ports that requests tell.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Raft: confirmation of leadership.
    pub read_index: Port<ReadIndex>,
    /// Raft: leadership transfer.
    pub transfer_leader: Port<TransferLeader>,
    /// Readers: large ranges and HashKV.
    pub read: Port<Read>,
    /// State machine: the keys of a lease.
    pub lease_keys: Port<LeaseKeys>,
    /// State machine: defragmentation.
    pub defragment: Port<Defragment>,
    /// Lease timer: what is left of a lease.
    pub time_to_live: Port<TimeToLive>,
    /// Lease timer: all leases.
    pub list_leases: Port<ListLeases>,
    /// Members: conditions for alarms.
    pub raise_alarm: Port<RaiseAlarm>,
    /// The watch hub.
    pub watch: WatchPorts,
}

/// The watch hub's ports that streams use.
#[derive(Clone, Debug)]
pub struct WatchPorts {
    /// New streams.
    pub open: Port<OpenStream>,
    /// Requests; the stream's credits bound them.
    pub request: Port<FromStream>,
    /// Streams that have room again.
    pub sink_ready: Port<SinkReady>,
    /// Ended streams.
    pub close: Port<CloseStream>,
    /// Where several streams are woken together.
    pub wake_through: Port<WakeThrough>,
    /// The bounds of a stream's queue.
    pub sink_limits: SinkLimits,
}

/// The versions that are reported to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Of the server: `major.minor.patch`.
    pub server: String,
    /// Of the storage, the patch level 0.
    pub storage: String,
}

/// Tells health checks whether this member serves; resolves when they say so.
pub type SetServing = Arc<dyn Fn(bool) -> BoxFuture<'static, ()> + Send + Sync>;

/// Everything a request needs.
pub struct Context {
    /// This cluster.
    pub cluster: ClusterId,
    /// This member.
    pub member: MemberId,
    /// The versions reported to clients.
    pub versions: Versions,
    /// Limits of requests.
    pub limits: Limits,
    /// Raft: proposals, with the limit of a client's request.
    pub proposer: Proposer,
    /// Renewals of leases.
    pub renewer: Renewer,
    /// What Raft publishes.
    pub raft: Arc<RaftStatus>,
    /// The read views that the state machine publishes.
    pub views: Views,
    /// The index through which the newest view has applied the log.
    pub applied: watch::Receiver<Index>,
    /// Members, alarms and the cluster version.
    pub published: Arc<ArcSwap<Published>>,
    /// Told that the member does not serve while it defragments; only with the gate StopGRPCServiceOnDefrag (M-03).
    pub set_serving: Option<SetServing>,
    /// Whether the threads of Raft and of the state machine answer.
    pub heartbeats: Heartbeats,
    /// The actors.
    pub ports: Ports,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// A complete response header (G-01) at the newest revision of this member.
    pub fn header(&self) -> pb::ResponseHeader {
        self.header_at(self.views.peek().revision().0)
    }

    /// A complete response header at a revision.
    pub fn header_at(&self, revision: i64) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: self.cluster.0,
            member_id: self.member.0,
            revision,
            raft_term: self.raft.term().0,
        }
    }

    /// Completes a header that has only its revision, or nothing, yet.
    pub fn complete(&self, header: &mut Option<pb::ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(if revision == 0 {
            self.header()
        } else {
            self.header_at(revision)
        });
    }

    /// Returns once the newest view is at least as new as every write acknowledged before the call (P3).
    pub async fn linearize(&self) -> Result<(), EtcdError> {
        if self.raft.reads_are_local() {
            return Ok(());
        }
        let index = ask(&self.ports.read_index, |reply| ReadIndex { reply }).await?;
        let mut applied = self.applied.clone();
        let waited = tokio::time::timeout(
            self.limits.request_timeout,
            applied.wait_for(|applied| *applied >= index),
        );
        match waited.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(EtcdError::Stopped),
            Err(_) => Err(EtcdError::Timeout),
        }
    }
}

/// Tells an actor something that it answers, and waits for the answer.
pub(super) async fn ask<M: Send + 'static, T>(
    port: &Port<M>,
    message: impl FnOnce(Reply<Result<T, EtcdError>>) -> M,
) -> Result<T, EtcdError> {
    let (reply, pending) = Reply::channel();
    port.tell(message(reply)).map_err(refused)?;
    answered(pending).await
}

/// The error for a message that an actor's port did not take.
pub(super) fn refused<M>(refused: Refused<M>) -> EtcdError {
    match refused {
        Refused::Full(_) => EtcdError::TooManyRequests,
        Refused::Closed(_) => EtcdError::Stopped,
    }
}

/// Waits for an actor's answer. An unanswered message means that the server is stopping.
pub(super) async fn answered<T>(pending: Pending<Result<T, EtcdError>>) -> Result<T, EtcdError> {
    pending.await.unwrap_or(Err(EtcdError::Stopped))
}

/// The reply that an error of a read comes to. A failure of this member's own ends the process: nothing it answers
/// could be trusted.
pub(super) fn reply_or_fatal(error: KvError) -> EtcdError {
    error
        .into_reply()
        .unwrap_or_else(|failure| fatal("reading keys", &failure))
}
