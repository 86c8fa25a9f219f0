//! What the handlers share: the published views, the ports, the ids and the limits.

use super::durations::Timed;
use crate::config::ReportedVersion;
use arc_swap::ArcSwap;
use rusd_messages::lease::{ListLeases, TimeToLive};
use rusd_messages::members::RaiseAlarm;
use rusd_messages::mvcc::{Defragment, LeaseKeys};
use rusd_messages::raft::{Propose, ReadIndex, TransferLeader};
use rusd_messages::reader::Read;
use rusd_messages::{
    ClusterId, Index, MemberId, Pending, Port, Published, RaftStatus, Renewer, Reply,
};
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};
use rusd_proto::request::RequestIds;
use rusd_proto::{ApplyReply, EtcdError, RequestKind};
use rusd_state::kv::quota;
use rusd_storage::{ReadAt, Views};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::{Code, Status};
use tonic_health::server::HealthReporter;

/// Limits of requests (section 3 of the contract).
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
}

/// The ports that handlers tell.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Raft: proposals.
    pub propose: Port<Propose>,
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
    /// Renewals of leases.
    pub renewer: Renewer,
    /// Lease timer: what is left of a lease.
    pub time_to_live: Port<TimeToLive>,
    /// Lease timer: all leases.
    pub list_leases: Port<ListLeases>,
    /// Members: conditions for alarms.
    pub raise_alarm: Port<RaiseAlarm>,
}

/// Everything a handler needs.
pub struct Context {
    /// This cluster.
    pub cluster: ClusterId,
    /// This member.
    pub member: MemberId,
    /// The version reported to clients.
    pub version: ReportedVersion,
    /// Limits of requests.
    pub limits: Limits,
    /// Makes the header ids of proposals.
    pub request_ids: Arc<RequestIds>,
    /// What Raft publishes.
    pub raft: Arc<RaftStatus>,
    /// The read views that the state machine publishes.
    pub views: Views,
    /// The index through which the newest view has applied the log.
    pub applied: watch::Receiver<Index>,
    /// Members, alarms and the cluster version.
    pub published: Arc<ArcSwap<Published>>,
    /// Says NOT_SERVING while the member defragments; only with the gate StopGRPCServiceOnDefrag (M-03).
    pub health: Option<HealthReporter>,
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
        self.header_at(self.views.peek().revision())
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

    /// Puts a request into the log and waits until it is applied here.
    pub async fn propose(&self, request: InternalRaftRequest) -> Result<ApplyReply, Status> {
        let id = self.request_ids.next();
        let data = rusd_proto::request::encode(id, request);
        let timed = Timed::proposal(RequestKind::of(&data));
        if data.len() > self.limits.max_request_bytes {
            return Err(status(EtcdError::RequestTooLarge));
        }
        let (reply, pending) = Reply::channel();
        self.ports
            .propose
            .tell(Propose { id, data, reply })
            .map_err(refused)?;
        let answer = pending.await.unwrap_or(Err(EtcdError::Stopped));
        timed.end(!answer.as_ref().is_err_and(was_not_applied));
        answer.map_err(status)
    }

    /// Returns once the newest view is at least as new as every write acknowledged before the call (P3).
    pub async fn linearize(&self) -> Result<(), Status> {
        if self.raft.reads_are_local() {
            return Ok(());
        }
        let (reply, pending) = Reply::channel();
        self.ports
            .read_index
            .tell(ReadIndex { reply })
            .map_err(refused)?;
        let index = answered(pending).await?;
        let mut applied = self.applied.clone();
        let waited = tokio::time::timeout(
            self.limits.request_timeout,
            applied.wait_for(|applied| *applied >= index),
        );
        match waited.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(status(EtcdError::Stopped)),
            Err(_) => Err(status(EtcdError::Timeout)),
        }
    }

    /// Whether `cost_bytes` more fit the quota; if not, the alarm is raised before the caller is told (KV-P07).
    pub async fn admit(&self, cost_bytes: u64) -> Result<(), Status> {
        let Some(quota) = self.limits.quota_bytes else {
            return Ok(());
        };
        if quota::fits(cost_bytes, self.views.peek().sizes().logical_bytes, quota) {
            return Ok(());
        }
        self.raise(pb::AlarmType::Nospace).await;
        Err(status(EtcdError::NoSpace))
    }

    /// Raises an alarm of this member. Returns when it is raised, so that whoever is told of the condition finds the
    /// alarm; or when that takes longer than a request may.
    async fn raise(&self, alarm: pb::AlarmType) {
        if self.published.load().has_alarm_of(self.member, alarm) {
            return;
        }
        let (reply, raised) = Reply::channel();
        if let Err(error) = self.ports.raise_alarm.tell(RaiseAlarm { alarm, reply }) {
            tracing::warn!(
                ?error,
                alarm = alarm.as_str_name(),
                "cannot raise the alarm"
            );
            return;
        }
        if tokio::time::timeout(self.limits.request_timeout, raised)
            .await
            .is_err()
        {
            tracing::warn!(
                alarm = alarm.as_str_name(),
                "the alarm is not raised yet; it is proposed until it is"
            );
        }
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

/// The gRPC status of an error of etcd's.
pub fn status(error: EtcdError) -> Status {
    Status::new(Code::from_i32(error.code() as i32), error.to_string())
}

/// The status of a message that an actor's port did not take.
pub fn refused<M>(refused: rusd_messages::Refused<M>) -> Status {
    status(match refused {
        rusd_messages::Refused::Full(_) => EtcdError::TooManyRequests,
        rusd_messages::Refused::Closed(_) => EtcdError::Stopped,
    })
}

/// Waits for an actor's answer. An unanswered message means that the server is stopping.
pub async fn answered<T>(pending: Pending<Result<T, EtcdError>>) -> Result<T, Status> {
    match pending.await {
        Ok(answer) => answer.map_err(status),
        Err(rusd_messages::Dropped) => Err(status(EtcdError::Stopped)),
    }
}

/// A reply of another kind than the request's: a broken invariant of this program, but no reason to
/// take the others down with it.
pub fn mismatched(reply: &ApplyReply) -> Status {
    tracing::error!(?reply, "the state machine answered another kind of request");
    Status::internal("etcdserver: the state machine answered another kind of request")
}
