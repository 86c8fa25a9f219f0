//! The Cluster service: the member list. Changing it comes with replication between members.

use super::refuse::refuse;
use super::slow::Content;
use super::{Api, Caller, Rpc};
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;

impl Api {
    /// Lists the members.
    pub async fn member_list(
        &self,
        caller: &Caller,
        request: pb::MemberListRequest,
    ) -> Result<pb::MemberListResponse, EtcdError> {
        self.unary(Rpc::MemberList, caller, Some(Content::Other), async {
            if request.linearizable {
                self.context.linearize().await?;
            }
            Ok(pb::MemberListResponse {
                // The Cluster service leaves the revision out (G-02).
                header: Some(self.context.header_at(0)),
                members: self.context.published.load().members.clone(),
            })
        })
        .await
    }
}

refuse! { "this version of rusd runs clusters of one member";
    member_add, MemberAdd, MemberAddRequest -> MemberAddResponse;
    member_remove, MemberRemove, MemberRemoveRequest -> MemberRemoveResponse;
    member_update, MemberUpdate, MemberUpdateRequest -> MemberUpdateResponse;
    member_promote, MemberPromote, MemberPromoteRequest -> MemberPromoteResponse;
}
