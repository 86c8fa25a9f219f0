//! The Lease service.

use super::context::{answered, refused};
use super::metrics::Received;
use super::slow::Content;
use super::{Answers, Api, Caller, Context, Rpc};
use futures_core::Stream;
use rusd_messages::lease::{ListLeases, TimeToLive};
use rusd_messages::mvcc::LeaseKeys;
use rusd_messages::{LeaseId, Renewing, Reply};
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use rusd_state::kv::quota;
use std::pin::Pin;
use tokio_stream::StreamExt;

/// The longest time to live, in seconds (L-01).
const MAX_TTL_S: i64 = 9_000_000_000;
/// The answer for a lease that does not exist (L-07).
const NO_LEASE_TTL: i64 = -1;

/// What comes of a stream of renewals.
pub type Renewed =
    Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, EtcdError>> + Send>>;

impl Api {
    /// Grants a lease. Like etcd, looks at the quota first.
    pub async fn lease_grant(
        &self,
        caller: &Caller,
        mut request: pb::LeaseGrantRequest,
    ) -> Result<pb::LeaseGrantResponse, EtcdError> {
        self.unary(Rpc::LeaseGrant, caller, Some(Content::Other), async {
            self.context.admit(quota::LEASE_COST_BYTES).await?;
            if request.ttl > MAX_TTL_S {
                return Err(EtcdError::LeaseTtlTooLarge);
            }
            // Raised here and not at apply: what members have configured must not make them differ.
            request.ttl = request.ttl.max(self.context.limits.min_lease_ttl_s);
            if request.id == 0 {
                request.id = choose_id();
            }
            self.context.propose(request).await
        })
        .await
    }

    /// Ends a lease, and deletes its keys.
    pub async fn lease_revoke(
        &self,
        caller: &Caller,
        request: pb::LeaseRevokeRequest,
    ) -> Result<pb::LeaseRevokeResponse, EtcdError> {
        self.unary(
            Rpc::LeaseRevoke,
            caller,
            Some(Content::Other),
            self.context.propose(request),
        )
        .await
    }

    /// Renews leases, one after the other, as the client asks.
    pub async fn lease_keep_alive<R>(
        &self,
        caller: &Caller,
        requests: R,
    ) -> Result<Answers<Renewed>, EtcdError>
    where
        R: Stream<Item = Result<pb::LeaseKeepAliveRequest, EtcdError>> + Send + 'static,
    {
        let context = self.context.clone();
        self.streaming(Rpc::LeaseKeepAlive, caller, async {
            let received = Received::on(Rpc::LeaseKeepAlive);
            let renewed: Renewed = Box::pin(requests.then(move |request| {
                let context = context.clone();
                if request.is_ok() {
                    received.message();
                }
                async move { context.renew(request?.id).await }
            }));
            Ok(renewed)
        })
        .await
    }

    /// Says what is left of a lease.
    pub async fn lease_time_to_live(
        &self,
        caller: &Caller,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, EtcdError> {
        let context = self.context();
        self.unary(Rpc::LeaseTimeToLive, caller, Some(Content::Other), async {
            let id = LeaseId(request.id);
            context.confirm_leadership().await?;
            let (reply, pending) = Reply::channel();
            let asked = context.ports.time_to_live.tell(TimeToLive { id, reply });
            asked.map_err(refused)?;
            let mut response = pb::LeaseTimeToLiveResponse {
                header: Some(context.header()),
                id: request.id,
                ttl: NO_LEASE_TTL,
                ..pb::LeaseTimeToLiveResponse::default()
            };
            if let Some(remaining) = answered(pending).await? {
                response.ttl = remaining.ttl_s;
                response.granted_ttl = remaining.granted_ttl_s;
                if request.keys {
                    response.keys = context.lease_keys(id).await?;
                }
            }
            Ok(response)
        })
        .await
    }

    /// Lists all leases.
    pub async fn lease_leases(
        &self,
        caller: &Caller,
        _: pb::LeaseLeasesRequest,
    ) -> Result<pb::LeaseLeasesResponse, EtcdError> {
        self.unary(Rpc::LeaseLeases, caller, Some(Content::Other), async {
            let (reply, pending) = Reply::channel();
            let asked = self.context.ports.list_leases.tell(ListLeases { reply });
            asked.map_err(refused)?;
            let leases = pending.await.map_err(|_| EtcdError::Stopped)?;
            Ok(pb::LeaseLeasesResponse {
                header: Some(self.context.header()),
                leases: leases
                    .into_iter()
                    .map(|id| pb::LeaseStatus { id: id.0 })
                    .collect(),
            })
        })
        .await
    }
}

/// A positive id that nobody has chosen before, as far as chance goes; a collision is refused as any taken id.
fn choose_id() -> i64 {
    let id = i64::from_ne_bytes(rand::random());
    (id & i64::MAX).max(1)
}

impl Context {
    /// Makes sure that the lease timer of this member is the one that counts (L-05): it leads, and has applied every
    /// lease granted before the call. Costs nothing while nobody else has a vote.
    async fn confirm_leadership(&self) -> Result<(), EtcdError> {
        self.linearize().await.map_err(|error| {
            if self.raft.leader() == Some(self.member) {
                EtcdError::NotPrimary
            } else {
                error
            }
        })
    }

    /// One renewal (L-04): 0 for a lease that does not exist (any more). The header is from before it.
    async fn renew(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, EtcdError> {
        let header = self.header();
        self.confirm_leadership().await?;
        let renewing = self.renewer.renew(LeaseId(id)).map_err(refused)?;
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

    async fn lease_keys(&self, lease: LeaseId) -> Result<Vec<bytes::Bytes>, EtcdError> {
        let (reply, pending) = Reply::channel();
        let asked = self.ports.lease_keys.tell(LeaseKeys { lease, reply });
        asked.map_err(refused)?;
        let keys = pending.await.map_err(|_| EtcdError::Stopped)?;
        Ok(keys.unwrap_or_default())
    }
}
