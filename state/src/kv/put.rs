//! Put: one key, one new revision.

use bytes::Bytes;
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use rusd_proto::ids::LeaseId;
use rusd_storage::{At, ReadAt, Record, WriteTxn};

use super::header;
use crate::error::KvError;
use crate::lease::Leases;

/// What must hold before anything is written: the lease exists (KV-P02), and so does the key if its value or
/// lease is to be kept (KV-P04, KV-P05).
pub(crate) fn check(
    reader: &impl ReadAt,
    leases: &Leases,
    request: &pb::PutRequest,
) -> Result<(), KvError> {
    check_lease(leases, request)?;
    if keeps_something(request) && reader.get(&request.key, At::Newest)?.is_none() {
        return Err(EtcdError::KeyNotFound.into());
    }
    Ok(())
}

pub(crate) fn check_lease(leases: &Leases, request: &pb::PutRequest) -> Result<(), EtcdError> {
    let lease = LeaseId(request.lease);
    if lease.is_some() && !leases.contains(lease) {
        return Err(EtcdError::LeaseNotFound);
    }
    Ok(())
}

/// Writes; returns the lease that the key is now attached to as well. The previous record is only put into the reply if
/// somebody waits for it.
///
/// In a transaction the key may be gone although `check` has seen it: `delete_range` from some key on, which no
/// overlap check looks at, may stand before a put that keeps the value. That is an error like that of
/// `check`, and undoes the transaction.
pub(crate) fn execute(
    txn: &mut WriteTxn<'_>,
    request: &pb::PutRequest,
    wanted: bool,
) -> Result<(pb::PutResponse, LeaseId), KvError> {
    let previous = if keeps_something(request) || (request.prev_kv && wanted) {
        previous(txn, &request.key)?
    } else {
        None
    };
    let mut kept_value = Bytes::new();
    let mut lease = LeaseId(request.lease);
    if keeps_something(request) {
        let Some(previous) = &previous else {
            return Err(EtcdError::KeyNotFound.into());
        };
        if request.ignore_value {
            kept_value = previous.value()?;
        }
        if request.ignore_lease {
            lease = previous.lease()?;
        }
    }
    let value = if request.ignore_value {
        &kept_value
    } else {
        &request.value
    };
    let revision = txn.put(&request.key, value, lease).revision.main;
    let response = pb::PutResponse {
        header: header(revision),
        prev_kv: match previous {
            Some(record) if request.prev_kv => record.bytes,
            _ => Bytes::new(),
        },
    };
    Ok((response, lease))
}

fn keeps_something(request: &pb::PutRequest) -> bool {
    request.ignore_value || request.ignore_lease
}

fn previous(reader: &impl ReadAt, key: &[u8]) -> Result<Option<Record>, KvError> {
    match reader.get(key, At::Newest)? {
        Some(meta) => Ok(Some(reader.record(meta.mod_revision, At::Newest)?)),
        None => Ok(None),
    }
}
