//! How a lease is stored: etcd's own message.

use prost::Message;
use rusd_storage::engine::Tree;

/// `leasepb.Lease`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct LeaseRecord {
    /// The lease.
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// Seconds granted.
    #[prost(int64, tag = "2")]
    pub ttl_s: i64,
    /// Seconds that remained at the last checkpoint.
    #[prost(int64, tag = "3")]
    pub remaining_ttl_s: i64,
}

impl LeaseRecord {
    /// Reads a record of the lease tree, or says what is wrong with it.
    pub fn read(key: &[u8], value: &[u8]) -> Result<Self, String> {
        let record = Self::decode(value).map_err(|error| format!("{error} under key {key:02x?}"))?;
        if key != Tree::Lease.key(&record.id.to_be_bytes()) {
            return Err(format!("lease {:016x} under key {key:02x?}", record.id));
        }
        Ok(record)
    }
}
