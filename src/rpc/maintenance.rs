//! The Maintenance service: status, alarms, hashes, defragmentation, leadership transfer.

use super::Context;
use super::context::{answered, mismatched, refused, status};
use super::durations;
use rusd_messages::mvcc::Defragment;
use rusd_messages::raft::TransferLeader;
use rusd_messages::reader::{HashKv, Read};
use rusd_messages::{MemberId, Reply};
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};
use rusd_proto::{ApplyReply, EtcdError};
use std::sync::Arc;
use std::time::Instant;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;

/// Handlers of `etcdserverpb.Maintenance`.
#[derive(Debug)]
pub struct MaintenanceService {
    context: Arc<Context>,
}

impl MaintenanceService {
    /// Over the shared context.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    async fn hash_at(&self, revision: i64) -> Result<pb::HashKvResponse, Status> {
        let (reply, pending) = Reply::channel();
        self.context
            .ports
            .read
            .tell(Read::HashKv(HashKv { revision, reply }))
            .map_err(refused)?;
        let mut response = answered(pending).await?;
        self.context.complete(&mut response.header);
        Ok(response)
    }

    /// What `etcdctl endpoint status` lists as errors (M-02).
    fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        if self.context.raft.leader().is_none() {
            errors.push(EtcdError::NoLeader.to_string());
        }
        for alarm in &self.context.published.load().alarms {
            let kind = pb::AlarmType::try_from(alarm.alarm).unwrap_or(pb::AlarmType::None);
            errors.push(format!(
                "memberID:{} alarm:{}",
                alarm.member_id,
                kind.as_str_name()
            ));
        }
        errors
    }
}

#[tonic::async_trait]
impl pb::maintenance_server::Maintenance for MaintenanceService {
    type SnapshotStream = tokio_stream::Empty<Result<pb::SnapshotResponse, Status>>;

    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        let request = InternalRaftRequest {
            alarm: Some(request.into_inner()),
            ..InternalRaftRequest::default()
        };
        match self.context.propose(request).await? {
            ApplyReply::Alarm(mut response) => {
                response.header = Some(self.context.header());
                Ok(Response::new(response))
            }
            other => Err(mismatched(&other)),
        }
    }

    async fn status(
        &self,
        _: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let context = &self.context;
        let sizes = context.views.peek().sizes();
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Ok(Response::new(pb::StatusResponse {
            header: Some(context.header()),
            version: context.version.to_string(),
            db_size: bytes(sizes.reported_bytes()),
            db_size_in_use: bytes(sizes.reported_bytes()),
            leader: context.raft.leader().map_or(0, |leader| leader.0),
            raft_index: context.raft.committed().0,
            raft_applied_index: context.raft.applied().0,
            raft_term: context.raft.term().0,
            errors: self.errors(),
            is_learner: false,
            storage_version: context.version.cluster().to_string(),
            // A quota that is switched off is shown as it is configured: negative.
            db_size_quota: context.limits.quota_bytes.map_or(-1, bytes),
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }))
    }

    async fn defragment(
        &self,
        _: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        let (reply, pending) = Reply::channel();
        self.context
            .ports
            .defragment
            .tell(Defragment { reply })
            .map_err(refused)?;
        let health = self.context.health.as_ref();
        if let Some(health) = health {
            health
                .set_service_status("", ServingStatus::NotServing)
                .await;
        }
        let defragmented = answered(pending).await;
        if let Some(health) = health {
            health.set_service_status("", ServingStatus::Serving).await;
        }
        defragmented?;
        // This response has no header (G-02).
        Ok(Response::new(pb::DefragmentResponse::default()))
    }

    async fn hash(
        &self,
        _: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        // etcd hashes its whole database file here, for its tests. Ours covers what members agree on: the keys.
        let started = Instant::now();
        let response = self.hash_at(0).await?;
        durations::hashed(started);
        Ok(Response::new(pb::HashResponse {
            header: response.header,
            hash: response.hash,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let started = Instant::now();
        let response = self.hash_at(request.into_inner().revision).await?;
        durations::hashed_kv(started);
        Ok(Response::new(response))
    }

    async fn snapshot(
        &self,
        _: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(status(EtcdError::Unimplemented(
            "Snapshot is not available in this version of rusd: stop the server and copy its data directory".to_owned(),
        )))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        if self.context.raft.leader() != Some(self.context.member) {
            return Err(status(EtcdError::NotLeader));
        }
        let (reply, pending) = Reply::channel();
        let target = MemberId(request.into_inner().target_id);
        self.context
            .ports
            .transfer_leader
            .tell(TransferLeader { target, reply })
            .map_err(refused)?;
        answered(pending).await?;
        Ok(Response::new(pb::MoveLeaderResponse::default()))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        let action = request.into_inner().action;
        if pb::downgrade_request::DowngradeAction::try_from(action).is_err() {
            return Err(status(EtcdError::UnknownMethod));
        }
        Err(status(EtcdError::Unimplemented(
            "Downgrade is not available in this version of rusd".to_owned(),
        )))
    }
}
