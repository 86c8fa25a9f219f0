//! DeleteRange: every key of a range, in key order, at one revision (KV-D01).

use rusd_proto::etcdserverpb as pb;
use rusd_storage::{KeyRange, ReadAt, WriteTxn};

use super::header;
use super::range::first_page;
use crate::error::KvError;

/// Deletes. The records are only put into the reply if somebody waits for it.
pub(crate) fn execute(
    txn: &mut WriteTxn<'_>,
    request: &pb::DeleteRangeRequest,
    wanted: bool,
) -> Result<pb::DeleteRangeResponse, KvError> {
    let keys = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
    let prev_kvs = if request.prev_kv && wanted {
        first_page(txn, &keys, &pb::RangeRequest::default(), None, None)?.kvs
    } else {
        Vec::new()
    };
    let deleted = txn.delete(&keys)?.len() as i64;
    Ok(pb::DeleteRangeResponse {
        header: header(txn.revision()),
        deleted,
        prev_kvs,
    })
}
