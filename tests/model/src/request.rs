//! Requests as what an entry of the log holds.

use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};

/// Puts a key.
pub fn put(request: pb::PutRequest) -> InternalRaftRequest {
    InternalRaftRequest {
        put: Some(request),
        ..Default::default()
    }
}

/// Deletes a range.
pub fn delete(request: pb::DeleteRangeRequest) -> InternalRaftRequest {
    InternalRaftRequest {
        delete_range: Some(request),
        ..Default::default()
    }
}

/// Compares, then does one thing or the other.
pub fn txn(request: pb::TxnRequest) -> InternalRaftRequest {
    InternalRaftRequest {
        txn: Some(request),
        ..Default::default()
    }
}

/// Compacts.
pub fn compact(request: pb::CompactionRequest) -> InternalRaftRequest {
    InternalRaftRequest {
        compaction: Some(request),
        ..Default::default()
    }
}

/// Grants a lease of `ttl` seconds.
pub fn grant(id: i64, ttl: i64) -> InternalRaftRequest {
    InternalRaftRequest {
        lease_grant: Some(pb::LeaseGrantRequest { id, ttl }),
        ..Default::default()
    }
}

/// Revokes a lease.
pub fn revoke(id: i64) -> InternalRaftRequest {
    InternalRaftRequest {
        lease_revoke: Some(pb::LeaseRevokeRequest { id }),
        ..Default::default()
    }
}

/// Notes that `remaining_ttl` seconds are left of a lease.
pub fn checkpoint(id: i64, remaining_ttl: i64) -> InternalRaftRequest {
    InternalRaftRequest {
        lease_checkpoint: Some(pb::LeaseCheckpointRequest {
            checkpoints: vec![pb::LeaseCheckpoint { id, remaining_ttl }],
        }),
        ..Default::default()
    }
}

/// Raises (`action` 1) or disarms (2) an alarm of a kind, for a member.
pub fn alarm(action: i32, kind: i32, member_id: u64) -> InternalRaftRequest {
    InternalRaftRequest {
        alarm: Some(pb::AlarmRequest {
            action,
            member_id,
            alarm: kind,
        }),
        ..Default::default()
    }
}
