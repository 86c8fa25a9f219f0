//! etcd's services: each call is decoded, handed to [`Api`] and its answer or error put into gRPC's words.

use super::large_reply;
use super::metadata;
use super::status::{error, status};
use crate::api::{Answers, Api, Caller, Peer, lease, maintenance, range_stream, watch};
use futures_core::Stream;
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb::{self as pb, *};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status, Streaming};

/// The services as one connection sees them.
#[derive(Debug)]
pub(super) struct Services {
    api: Arc<Api>,
    peer: Arc<Peer>,
}

impl Services {
    pub(super) fn new(api: Arc<Api>, peer: Arc<Peer>) -> Self {
        Self { api, peer }
    }

    /// Takes a request apart: who asks, and what.
    fn received<M>(&self, request: Request<M>) -> (Caller, M) {
        let (metadata, extensions, message) = request.into_parts();
        let deadline = extensions.get().copied();
        (
            metadata::caller(metadata.as_ref(), deadline, &self.peer),
            message,
        )
    }
}

/// A service of unary calls; what else it has comes as it is.
macro_rules! service {
    ($service:path { $($method:ident: $request:ident -> $response:ident;)* } $($rest:tt)*) => {
        #[tonic::async_trait]
        impl $service for Services {
            $(async fn $method(&self, request: Request<pb::$request>) -> Result<Response<pb::$response>, Status> {
                let (caller, request) = self.received(request);
                self.api.$method(&caller, request).await.map(Response::new).map_err(status)
            })*
            $($rest)*
        }
    };
}

service! {
    kv_server::Kv {
        put: PutRequest -> PutResponse;
        delete_range: DeleteRangeRequest -> DeleteRangeResponse;
        txn: TxnRequest -> TxnResponse;
        compact: CompactionRequest -> CompactionResponse;
    }

    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let (caller, request) = self.received(request);
        large_reply::response(self.api.range(&caller, request).await.map_err(status)?)
    }

    type RangeStreamStream = Messages<range_stream::Chunks>;

    async fn range_stream(&self, request: Request<RangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        let (caller, request) = self.received(request);
        sent(self.api.range_stream(&caller, request).await)
    }
}

service! {
    watch_server::Watch {}

    type WatchStream = Messages<watch::Responses>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let (caller, requests) = self.received(request);
        sent(self.api.watch(&caller, requests.map(|request| request.map_err(error))).await)
    }
}

service! {
    lease_server::Lease {
        lease_grant: LeaseGrantRequest -> LeaseGrantResponse;
        lease_revoke: LeaseRevokeRequest -> LeaseRevokeResponse;
        lease_time_to_live: LeaseTimeToLiveRequest -> LeaseTimeToLiveResponse;
        lease_leases: LeaseLeasesRequest -> LeaseLeasesResponse;
    }

    type LeaseKeepAliveStream = Messages<lease::Renewed>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let (caller, requests) = self.received(request);
        sent(self.api.lease_keep_alive(&caller, requests.map(|request| request.map_err(error))).await)
    }
}

service! {
    cluster_server::Cluster {
        member_list: MemberListRequest -> MemberListResponse;
        member_add: MemberAddRequest -> MemberAddResponse;
        member_remove: MemberRemoveRequest -> MemberRemoveResponse;
        member_update: MemberUpdateRequest -> MemberUpdateResponse;
        member_promote: MemberPromoteRequest -> MemberPromoteResponse;
    }
}

service! {
    maintenance_server::Maintenance {
        alarm: AlarmRequest -> AlarmResponse;
        status: StatusRequest -> StatusResponse;
        defragment: DefragmentRequest -> DefragmentResponse;
        hash: HashRequest -> HashResponse;
        hash_kv: HashKvRequest -> HashKvResponse;
        move_leader: MoveLeaderRequest -> MoveLeaderResponse;
        downgrade: DowngradeRequest -> DowngradeResponse;
    }

    type SnapshotStream = Messages<maintenance::Snapshot>;

    async fn snapshot(&self, request: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let (caller, request) = self.received(request);
        sent(self.api.snapshot(&caller, request).await)
    }
}

service! {
    auth_server::Auth {
        auth_enable: AuthEnableRequest -> AuthEnableResponse;
        auth_disable: AuthDisableRequest -> AuthDisableResponse;
        auth_status: AuthStatusRequest -> AuthStatusResponse;
        authenticate: AuthenticateRequest -> AuthenticateResponse;
        user_add: AuthUserAddRequest -> AuthUserAddResponse;
        user_get: AuthUserGetRequest -> AuthUserGetResponse;
        user_list: AuthUserListRequest -> AuthUserListResponse;
        user_delete: AuthUserDeleteRequest -> AuthUserDeleteResponse;
        user_change_password: AuthUserChangePasswordRequest -> AuthUserChangePasswordResponse;
        user_grant_role: AuthUserGrantRoleRequest -> AuthUserGrantRoleResponse;
        user_revoke_role: AuthUserRevokeRoleRequest -> AuthUserRevokeRoleResponse;
        role_add: AuthRoleAddRequest -> AuthRoleAddResponse;
        role_get: AuthRoleGetRequest -> AuthRoleGetResponse;
        role_list: AuthRoleListRequest -> AuthRoleListResponse;
        role_delete: AuthRoleDeleteRequest -> AuthRoleDeleteResponse;
        role_grant_permission: AuthRoleGrantPermissionRequest -> AuthRoleGrantPermissionResponse;
        role_revoke_permission: AuthRoleRevokePermissionRequest -> AuthRoleRevokePermissionResponse;
    }
}

/// The response of a call that streams.
fn sent<S>(answers: Result<Answers<S>, EtcdError>) -> Result<Response<Messages<S>>, Status> {
    answers.map(Messages).map(Response::new).map_err(status)
}

/// Answers of a stream as tonic sends them.
pub(super) struct Messages<S>(Answers<S>);

impl<S, T> Stream for Messages<S>
where
    S: Stream<Item = Result<T, EtcdError>> + Unpin,
{
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.get_mut().0).poll_next(context);
        next.map(|message| message.map(|message| message.map_err(status)))
    }
}
