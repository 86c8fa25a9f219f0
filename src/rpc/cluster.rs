//! The Cluster service: the member list. Changing it comes with replication between members.

use super::Context;
use super::context::status;
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Handlers of `etcdserverpb.Cluster`.
#[derive(Debug)]
pub struct ClusterService {
    context: Arc<Context>,
}

impl ClusterService {
    /// Over the shared context.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

fn single_member<T>(call: &str) -> Result<Response<T>, Status> {
    Err(status(EtcdError::Unimplemented(format!(
        "{call} is not available: this version of rusd runs clusters of one member"
    ))))
}

#[tonic::async_trait]
impl pb::cluster_server::Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        if request.into_inner().linearizable {
            self.context.linearize().await?;
        }
        Ok(Response::new(pb::MemberListResponse {
            // The Cluster service leaves the revision out (G-02).
            header: Some(self.context.header_at(0)),
            members: self.context.published.load().members.clone(),
        }))
    }

    async fn member_add(
        &self,
        _: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        single_member("MemberAdd")
    }

    async fn member_remove(
        &self,
        _: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        single_member("MemberRemove")
    }

    async fn member_update(
        &self,
        _: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        single_member("MemberUpdate")
    }

    async fn member_promote(
        &self,
        _: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        single_member("MemberPromote")
    }
}
