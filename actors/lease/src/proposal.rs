//! What the lease timer puts into the log.

use rusd_messages::LeaseId;
use rusd_proto::etcdserverpb::{
    InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest,
};

/// Something for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// Revoke a lease that has expired.
    Revoke(LeaseId),
    /// Note what remains of these leases, in seconds; 0 stands for the full time.
    Checkpoint(Vec<(LeaseId, i64)>),
}

impl Proposal {
    /// The request that says it.
    pub fn request(&self) -> InternalRaftRequest {
        match self {
            Self::Revoke(id) => InternalRaftRequest {
                lease_revoke: Some(LeaseRevokeRequest { id: id.0 }),
                ..Default::default()
            },
            Self::Checkpoint(leases) => {
                let checkpoints = leases.iter().map(|(id, remaining_ttl_s)| LeaseCheckpoint {
                    id: id.0,
                    remaining_ttl: *remaining_ttl_s,
                });
                InternalRaftRequest {
                    lease_checkpoint: Some(LeaseCheckpointRequest {
                        checkpoints: checkpoints.collect(),
                    }),
                    ..Default::default()
                }
            }
        }
    }
}
