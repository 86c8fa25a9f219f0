//! The Lease service.

use super::Context;
use super::context::{answered, mismatched, refused, status};
use super::metrics;
use rusd_messages::lease::{ListLeases, TimeToLive};
use rusd_messages::mvcc::LeaseKeys;
use rusd_messages::{LeaseId, Renewing, Reply};
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};
use rusd_proto::{ApplyReply, EtcdError};
use rusd_state::kv::quota;
use rusd_state::lease::MAX_TTL_S;
use std::pin::Pin;
use std::sync::Arc;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

const KEEP_ALIVE_PATH: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
/// The answer for a lease that does not exist (L-07).
const NO_LEASE_TTL: i64 = -1;

/// Handlers of `etcdserverpb.Lease`.
#[derive(Debug)]
pub struct LeaseService {
    context: Arc<Context>,
}

impl LeaseService {
    /// Over the shared context.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    async fn keys(&self, lease: LeaseId) -> Result<Vec<bytes::Bytes>, Status> {
        let (reply, pending) = Reply::channel();
        self.context
            .ports
            .lease_keys
            .tell(LeaseKeys { lease, reply })
            .map_err(refused)?;
        let keys = pending.await.map_err(|_| status(EtcdError::Stopped))?;
        Ok(keys.unwrap_or_default())
    }
}

/// A positive id that nobody has chosen before, as far as chance goes; a collision is refused as any taken id.
fn choose_id() -> i64 {
    let id = i64::from_ne_bytes(rand::random());
    (id & i64::MAX).max(1)
}

/// Makes sure that the lease timer of this member is the one that counts (L-05): it leads, and has applied every
/// lease granted before the call. Costs nothing while nobody else has a vote.
async fn confirm_leadership(context: &Context) -> Result<(), Status> {
    context.linearize().await.map_err(|error| {
        if context.raft.leader() == Some(context.member) {
            status(EtcdError::NotPrimary)
        } else {
            error
        }
    })
}

/// One renewal (L-04): 0 for a lease that does not exist (any more). The header is from before it.
async fn renew(context: &Context, id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
    let header = context.header();
    confirm_leadership(context).await?;
    let renewing = context.ports.renewer.renew(LeaseId(id)).map_err(refused)?;
    let ttl = match renewing {
        Renewing::Done(ttl) => ttl,
        Renewing::Asked(pending) => answered(pending).await?,
    };
    Ok(pb::LeaseKeepAliveResponse {
        header: Some(header),
        id,
        ttl,
    })
}

#[tonic::async_trait]
impl pb::lease_server::Lease for LeaseService {
    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let mut request = request.into_inner();
        self.context.admit(quota::LEASE_COST_BYTES).await?;
        if request.ttl > MAX_TTL_S {
            return Err(status(EtcdError::LeaseTtlTooLarge));
        }
        // Raised here and not at apply: what members have configured must not make them differ.
        request.ttl = request.ttl.max(self.context.limits.min_lease_ttl_s);
        if request.id == 0 {
            request.id = choose_id();
        }
        let request = InternalRaftRequest {
            lease_grant: Some(request),
            ..InternalRaftRequest::default()
        };
        match self.context.propose(request).await? {
            ApplyReply::LeaseGrant(mut response) => {
                self.context.complete(&mut response.header);
                Ok(Response::new(response))
            }
            other => Err(mismatched(&other)),
        }
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let request = InternalRaftRequest {
            lease_revoke: Some(request.into_inner()),
            ..InternalRaftRequest::default()
        };
        match self.context.propose(request).await? {
            ApplyReply::LeaseRevoke(mut response) => {
                self.context.complete(&mut response.header);
                Ok(Response::new(response))
            }
            other => Err(mismatched(&other)),
        }
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let context = self.context.clone();
        let received = metrics::Received::on(KEEP_ALIVE_PATH);
        let renewals = request.into_inner().then(move |request| {
            let context = context.clone();
            if request.is_ok() {
                received.message();
            }
            async move {
                let renewed = renew(&context, request?.id).await;
                if let Some(method) = metrics::method(KEEP_ALIVE_PATH) {
                    method.message_sent();
                }
                renewed
            }
        });
        Ok(Response::new(Box::pin(renewals)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let request = request.into_inner();
        let id = LeaseId(request.id);
        confirm_leadership(&self.context).await?;
        let (reply, pending) = Reply::channel();
        self.context
            .ports
            .time_to_live
            .tell(TimeToLive { id, reply })
            .map_err(refused)?;
        let mut response = pb::LeaseTimeToLiveResponse {
            header: Some(self.context.header()),
            id: request.id,
            ttl: NO_LEASE_TTL,
            ..pb::LeaseTimeToLiveResponse::default()
        };
        if let Some(remaining) = answered(pending).await? {
            response.ttl = remaining.ttl_s;
            response.granted_ttl = remaining.granted_ttl_s;
            if request.keys {
                response.keys = self.keys(id).await?;
            }
        }
        Ok(Response::new(response))
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let (reply, pending) = Reply::channel();
        self.context
            .ports
            .list_leases
            .tell(ListLeases { reply })
            .map_err(refused)?;
        let leases = pending.await.map_err(|_| status(EtcdError::Stopped))?;
        Ok(Response::new(pb::LeaseLeasesResponse {
            header: Some(self.context.header()),
            leases: leases
                .into_iter()
                .map(|id| pb::LeaseStatus { id: id.0 })
                .collect(),
        }))
    }
}
