//! Stored records: marshalled `mvccpb.KeyValue`, exactly as etcd marshals them.

use bytes::Bytes;
use rusd_proto::ids::LeaseId;
use rusd_proto::mvccpb::KeyValue;

use crate::error::StorageResult;

/// A stored record: a marshalled `mvccpb.KeyValue`, ready to be spliced into a reply or an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The marshalled message.
    pub bytes: Bytes,
}

impl Record {
    /// Every field, decoded.
    pub fn decode(&self) -> StorageResult<KeyValue> {
        todo!()
    }
    /// The key, sharing the record's memory.
    pub fn key(&self) -> StorageResult<Bytes> {
        todo!()
    }
    /// The value, sharing the record's memory.
    pub fn value(&self) -> StorageResult<Bytes> {
        todo!()
    }
    /// The lease the key was attached to by this record.
    pub fn lease(&self) -> StorageResult<LeaseId> {
        todo!()
    }
}
