//! How a lease is stored: etcd's own message. And how the record of a key names its lease.

use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use rusd_proto::ids::LeaseId;
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
        let record =
            Self::decode(value).map_err(|error| format!("{error} under key {key:02x?}"))?;
        if key != Tree::Lease.key(&record.id.to_be_bytes()) {
            return Err(format!("lease {:016x} under key {key:02x?}", record.id));
        }
        Ok(record)
    }
}

const KEY_FIELD: u32 = 1;
const LEASE_FIELD: u32 = 6;

/// The key and the lease in a marshalled `mvccpb.KeyValue`, without copying anything: every record of the store passes
/// through here when a member with leases starts.
pub(super) fn key_and_lease(mut record: &[u8]) -> Result<(&[u8], LeaseId), String> {
    let mut key = &[][..];
    let mut lease = LeaseId::NONE;
    let buf = &mut record;
    let text = |error: prost::DecodeError| error.to_string();
    while !buf.is_empty() {
        match decode_key(buf).map_err(text)? {
            (KEY_FIELD, WireType::LengthDelimited) => {
                let length = usize::try_from(decode_varint(buf).map_err(text)?);
                let split = length.ok().and_then(|length| buf.split_at_checked(length));
                let (field, rest) = split.ok_or("a key beyond the end of its record")?;
                key = field;
                *buf = rest;
            }
            (LEASE_FIELD, WireType::Varint) => {
                lease = LeaseId(decode_varint(buf).map_err(text)? as i64);
            }
            (field, wire_type) => {
                skip_field(wire_type, field, buf, DecodeContext::default()).map_err(text)?;
            }
        }
    }
    Ok((key, lease))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rusd_proto::mvccpb::KeyValue;

    proptest! {
        #[test]
        fn key_and_lease_are_those_of_the_record(key: Vec<u8>, value: Vec<u8>, numbers: [i64; 3], lease: i64) {
            let record = KeyValue {
                key: key.clone().into(),
                create_revision: numbers[0],
                mod_revision: numbers[1],
                version: numbers[2],
                value: value.into(),
                lease,
            };
            let bytes = record.encode_to_vec();
            prop_assert_eq!(key_and_lease(&bytes), Ok((key.as_slice(), LeaseId(lease))));
        }

        #[test]
        fn damaged_records_are_read_as_prost_reads_them(bytes: Vec<u8>) {
            if let Ok(record) = KeyValue::decode(bytes.as_slice()) {
                prop_assert_eq!(key_and_lease(&bytes), Ok((record.key.as_ref(), LeaseId(record.lease))));
            }
        }
    }
}
