//! The Maintenance service: status, alarms, hashes, defragmentation, leadership transfer.

use super::context::{answered, ask, refused};
use super::slow::Content;
use super::{Answers, Api, Caller, Context, Rpc, durations};
use rusd_messages::mvcc::Defragment;
use rusd_messages::raft::TransferLeader;
use rusd_messages::reader::{HashKv, Read};
use rusd_messages::{MemberId, Reply};
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use std::time::Instant;

/// What a snapshot is sent as.
pub type Snapshot = tokio_stream::Empty<Result<pb::SnapshotResponse, EtcdError>>;

impl Api {
    /// Raises, clears and lists alarms.
    pub async fn alarm(
        &self,
        caller: &Caller,
        request: pb::AlarmRequest,
    ) -> Result<pb::AlarmResponse, EtcdError> {
        self.unary(Rpc::Alarm, caller, Some(Content::Other), async {
            let mut response = self.context.propose(request).await?;
            response.header = Some(self.context.header());
            Ok(response)
        })
        .await
    }

    /// Says how this member is.
    pub async fn status(
        &self,
        caller: &Caller,
        _: pb::StatusRequest,
    ) -> Result<pb::StatusResponse, EtcdError> {
        self.unary(Rpc::Status, caller, Some(Content::Other), async {
            Ok(self.context.status())
        })
        .await
    }

    /// Rewrites the storage of this member, which gives back what it does not need.
    pub async fn defragment(
        &self,
        caller: &Caller,
        _: pb::DefragmentRequest,
    ) -> Result<pb::DefragmentResponse, EtcdError> {
        self.unary(Rpc::Defragment, caller, Some(Content::Other), async {
            self.context.defragment().await?;
            // This response has no header (G-02).
            Ok(pb::DefragmentResponse::default())
        })
        .await
    }

    /// Hashes the newest revision. etcd hashes its whole database file here, for its tests; this covers what members
    /// agree on: the keys.
    pub async fn hash(
        &self,
        caller: &Caller,
        _: pb::HashRequest,
    ) -> Result<pb::HashResponse, EtcdError> {
        self.unary(Rpc::Hash, caller, Some(Content::Other), async {
            let started = Instant::now();
            let response = self.context.hash_at(0).await?;
            durations::hashed(started);
            Ok(pb::HashResponse {
                header: response.header,
                hash: response.hash,
            })
        })
        .await
    }

    /// Hashes the keys at a revision.
    pub async fn hash_kv(
        &self,
        caller: &Caller,
        request: pb::HashKvRequest,
    ) -> Result<pb::HashKvResponse, EtcdError> {
        self.unary(Rpc::HashKv, caller, Some(Content::Other), async {
            let started = Instant::now();
            let response = self.context.hash_at(request.revision).await?;
            durations::hashed_kv(started);
            Ok(response)
        })
        .await
    }

    /// Refused: there is no snapshot to send yet.
    pub async fn snapshot(
        &self,
        caller: &Caller,
        _: pb::SnapshotRequest,
    ) -> Result<Answers<Snapshot>, EtcdError> {
        self.streaming(Rpc::Snapshot, caller, async {
            Err(EtcdError::Unimplemented(
                "Snapshot is not available in this version of rusd: stop the server and copy its data directory"
                    .to_owned(),
            ))
        })
        .await
    }

    /// Hands leadership to another member.
    pub async fn move_leader(
        &self,
        caller: &Caller,
        request: pb::MoveLeaderRequest,
    ) -> Result<pb::MoveLeaderResponse, EtcdError> {
        let context = self.context();
        self.unary(Rpc::MoveLeader, caller, Some(Content::Other), async {
            if context.raft.leader() != Some(context.member) {
                return Err(EtcdError::NotLeader);
            }
            let target = MemberId(request.target_id);
            let transfer = |reply| TransferLeader { target, reply };
            ask(&context.ports.transfer_leader, transfer).await?;
            Ok(pb::MoveLeaderResponse::default())
        })
        .await
    }

    /// Refused, though what is no action at all gets etcd's error for that.
    pub async fn downgrade(
        &self,
        caller: &Caller,
        request: pb::DowngradeRequest,
    ) -> Result<pb::DowngradeResponse, EtcdError> {
        self.unary(Rpc::Downgrade, caller, Some(Content::Other), async {
            if pb::downgrade_request::DowngradeAction::try_from(request.action).is_err() {
                return Err(EtcdError::UnknownMethod);
            }
            Err(EtcdError::Unimplemented(
                "Downgrade is not available in this version of rusd".to_owned(),
            ))
        })
        .await
    }
}

impl Context {
    fn status(&self) -> pb::StatusResponse {
        let sizes = self.views.peek().sizes();
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        pb::StatusResponse {
            header: Some(self.header()),
            version: self.versions.server.clone(),
            db_size: bytes(sizes.reported_bytes()),
            db_size_in_use: bytes(sizes.reported_bytes()),
            leader: self.raft.leader().map_or(0, |leader| leader.0),
            raft_index: self.raft.committed().0,
            raft_applied_index: self.raft.applied().0,
            raft_term: self.raft.term().0,
            errors: self.errors(),
            is_learner: false,
            storage_version: self.versions.storage.clone(),
            // A quota that is switched off is shown as it is configured: negative.
            db_size_quota: self.limits.quota_bytes.map_or(-1, bytes),
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }
    }

    /// What `etcdctl endpoint status` lists as errors (M-02).
    fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        if self.raft.leader().is_none() {
            errors.push(EtcdError::NoLeader.to_string());
        }
        for alarm in &self.published.load().alarms {
            let kind = pb::AlarmType::try_from(alarm.alarm).unwrap_or(pb::AlarmType::None);
            errors.push(format!(
                "memberID:{} alarm:{}",
                alarm.member_id,
                kind.as_str_name()
            ));
        }
        errors
    }

    async fn defragment(&self) -> Result<(), EtcdError> {
        let (reply, pending) = Reply::channel();
        let asked = self.ports.defragment.tell(Defragment { reply });
        asked.map_err(refused)?;
        let Some(set_serving) = self.set_serving.clone() else {
            return answered(pending).await;
        };
        // In a task of its own, or a member whose client stops waiting would not serve again.
        let defragmenting = tokio::spawn(async move {
            set_serving(false).await;
            let defragmented = answered(pending).await;
            set_serving(true).await;
            defragmented
        });
        defragmenting.await.unwrap_or(Err(EtcdError::Stopped))
    }

    async fn hash_at(&self, revision: i64) -> Result<pb::HashKvResponse, EtcdError> {
        let hash = |reply| Read::HashKv(HashKv { revision, reply });
        let mut response = ask(&self.ports.read, hash).await?;
        self.complete(&mut response.header);
        Ok(response)
    }
}
