//! HashKV: a hash over every retained record.

use rusd_messages::fatal;
use rusd_messages::reader::HashKv;
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use rusd_storage::{StorageError, Views};

pub(super) fn answer(views: &Views, HashKv { revision, reply }: HashKv) {
    reply.send(hash_kv(views, revision));
}

/// A deterministic error is the caller's; anything else is a failed disk or a broken invariant.
fn hash_kv(views: &Views, revision: i64) -> Result<pb::HashKvResponse, EtcdError> {
    let hash = match views.hash_kv(revision) {
        Ok(hash) => hash,
        Err(StorageError::Compacted | StorageError::Superseded) => {
            return Err(EtcdError::Compacted);
        }
        Err(StorageError::FutureRevision) => return Err(EtcdError::FutureRevision),
        Err(error) => fatal("hashing keys", &error),
    };
    Ok(pb::HashKvResponse {
        header: None,
        hash: hash.hash,
        compact_revision: hash.compact_revision,
        hash_revision: hash.revision,
    })
}
