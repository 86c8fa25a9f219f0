//! HashKV: a hash over every retained record.

use rusd_messages::fatal;
use rusd_messages::reader::HashKv;
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use rusd_proto::ids::Revision;
use rusd_storage::engine::EngineError;
use rusd_storage::{At, StorageError, Views};

pub(super) fn answer(views: &Views, HashKv { revision, reply }: HashKv) {
    reply.send(hash_kv(views, revision));
}

/// A deterministic error is the caller's; anything else is a failed disk or a broken invariant.
pub(super) fn hash_kv(views: &Views, revision: i64) -> Result<pb::HashKvResponse, EtcdError> {
    // Only 0 asks for the newest: a revision below is answered with the hash of nothing, as in etcd.
    let at = match revision {
        0 => At::Newest,
        revision => At::Revision(Revision(revision)),
    };
    let hash = match views.hash_kv(at) {
        Ok(hash) => hash,
        Err(StorageError::Compacted | StorageError::Superseded) => {
            return Err(EtcdError::Compacted);
        }
        Err(StorageError::FutureRevision) => return Err(EtcdError::FutureRevision),
        // The member is stopping.
        Err(StorageError::Engine(EngineError::Closed { .. })) => return Err(EtcdError::Stopped),
        Err(error) => fatal("hashing keys", &error),
    };
    Ok(pb::HashKvResponse {
        header: None,
        hash: hash.hash,
        compact_revision: hash.compact_revision.0,
        hash_revision: hash.revision.0,
    })
}
