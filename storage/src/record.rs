//! Stored records: marshalled `mvccpb.KeyValue`, exactly as etcd marshals them.
//!
//! A record is encoded once, when it is written; the same bytes are the engine's value, the `kv` of the watch event
//! and the `kvs` of a reply. Fields in order, defaults left out:
//!
//! ```text
//!   put:        0a key   10 create_revision   18 mod_revision   20 version   2a value   30 lease
//!   tombstone:  0a key                        18 mod_revision
//!               `- stored -'                  `- only in the event (W-11)
//! ```
//!
//! etcd stores of a tombstone the key alone, and HashKV covers what is stored.

use std::ops::Range;

use bytes::{BufMut, Bytes};
use prost::Message;
use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};
use rusd_proto::ids::LeaseId;
use rusd_proto::mvccpb::KeyValue;

use crate::error::{StorageError, StorageResult};

const TAG_KEY: u8 = 0x0a;
const TAG_CREATE: u8 = 0x10;
const TAG_MOD: u8 = 0x18;
const TAG_VERSION: u8 = 0x20;
const TAG_VALUE: u8 = 0x2a;
const TAG_LEASE: u8 = 0x30;

/// A stored record: a marshalled `mvccpb.KeyValue`, ready to be spliced into a reply or an event.
///
/// ```
/// use rusd_storage::{At, MvccOptions, MvccStore, ReadAt};
/// use rusd_storage::engine::Memory;
/// use rusd_proto::ids::LeaseId;
/// use std::sync::Arc;
///
/// let mut store = MvccStore::open(Arc::new(Memory::new()), MvccOptions::default())?;
/// let mut txn = store.begin();
/// txn.put(b"k", b"v", LeaseId(7));
/// txn.end();
/// let meta = store.get(b"k", At::Newest)?.expect("just written");
/// let record = store.record(meta.mod_revision, At::Newest)?;
/// assert_eq!((record.key()?, record.value()?, record.lease()?), ("k".into(), "v".into(), LeaseId(7)));
/// # Ok::<(), rusd_storage::StorageError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The marshalled message.
    pub bytes: Bytes,
}

impl Record {
    /// Every field, decoded.
    pub fn decode(&self) -> StorageResult<KeyValue> {
        KeyValue::decode(self.bytes.clone()).map_err(|_| torn())
    }

    /// The key, sharing the record's memory.
    pub fn key(&self) -> StorageResult<Bytes> {
        Ok(self.bytes.slice(Fields::read(&self.bytes)?.key))
    }

    /// The value, sharing the record's memory.
    pub fn value(&self) -> StorageResult<Bytes> {
        Ok(self.bytes.slice(Fields::read(&self.bytes)?.value))
    }

    /// The lease the key was attached to by this record.
    pub fn lease(&self) -> StorageResult<LeaseId> {
        Ok(LeaseId(Fields::read(&self.bytes)?.lease))
    }
}

fn torn() -> StorageError {
    StorageError::Damaged("a record is not a marshalled KeyValue".into())
}

/// The fields of a record, byte strings as their place in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    pub key: Range<usize>,
    pub create: i64,
    pub modified: i64,
    pub version: i64,
    pub value: Range<usize>,
    pub lease: i64,
}

impl Fields {
    /// Reads the fields without copying.
    pub(crate) fn read(record: &[u8]) -> StorageResult<Self> {
        let mut fields = Self::default();
        let mut rest = record;
        while let Some((&tag, after)) = rest.split_first() {
            rest = after;
            let number = decode_varint(&mut rest).map_err(|_| torn())?;
            let slot = match tag {
                TAG_KEY | TAG_VALUE => {
                    let start = record.len() - rest.len();
                    let length = usize::try_from(number).map_err(|_| torn())?;
                    rest = rest.get(length..).ok_or_else(torn)?;
                    let place = start..start + length;
                    *(if tag == TAG_KEY {
                        &mut fields.key
                    } else {
                        &mut fields.value
                    }) = place;
                    continue;
                }
                TAG_CREATE => &mut fields.create,
                TAG_MOD => &mut fields.modified,
                TAG_VERSION => &mut fields.version,
                TAG_LEASE => &mut fields.lease,
                _ => return Err(torn()),
            };
            *slot = number as i64;
        }
        Ok(fields)
    }
}

/// A record freshly encoded.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    /// As events carry it.
    pub event: Bytes,
    /// How much of it is stored.
    pub stored_bytes: usize,
    /// Where the key is.
    pub key: Range<usize>,
}

impl Encoded {
    /// The key, sharing the record's memory.
    pub(crate) fn key(&self) -> Bytes {
        self.event.slice(self.key.clone())
    }
}

fn string_len(string: &[u8]) -> usize {
    if string.is_empty() {
        0
    } else {
        1 + encoded_len_varint(string.len() as u64) + string.len()
    }
}

fn number_len(number: i64) -> usize {
    if number == 0 {
        0
    } else {
        1 + encoded_len_varint(number as u64)
    }
}

fn put_string(record: &mut Vec<u8>, tag: u8, string: &[u8]) {
    if !string.is_empty() {
        record.put_u8(tag);
        encode_varint(string.len() as u64, record);
        record.put_slice(string);
    }
}

fn put_number(record: &mut Vec<u8>, tag: u8, number: i64) {
    if number != 0 {
        record.put_u8(tag);
        encode_varint(number as u64, record);
    }
}

/// Encodes the record of a put, in one allocation of exactly its size.
pub(crate) fn encode_put(
    key: &[u8],
    create: i64,
    modified: i64,
    version: i64,
    value: &[u8],
    lease: i64,
) -> Encoded {
    let numbers =
        number_len(create) + number_len(modified) + number_len(version) + number_len(lease);
    let length = string_len(key) + numbers + string_len(value);
    let mut record = Vec::with_capacity(length);
    put_string(&mut record, TAG_KEY, key);
    let key_end = record.len();
    put_number(&mut record, TAG_CREATE, create);
    put_number(&mut record, TAG_MOD, modified);
    put_number(&mut record, TAG_VERSION, version);
    put_string(&mut record, TAG_VALUE, value);
    put_number(&mut record, TAG_LEASE, lease);
    Encoded {
        event: Bytes::from(record),
        stored_bytes: length,
        key: key_end - key.len()..key_end,
    }
}

/// Encodes the record of a tombstone.
pub(crate) fn encode_tombstone(key: &[u8], modified: i64) -> Encoded {
    let stored_bytes = string_len(key);
    let mut record = Vec::with_capacity(stored_bytes + number_len(modified));
    put_string(&mut record, TAG_KEY, key);
    put_number(&mut record, TAG_MOD, modified);
    Encoded {
        event: Bytes::from(record),
        stored_bytes,
        key: stored_bytes - key.len()..stored_bytes,
    }
}

/// How much of the event form of a tombstone is stored.
pub(crate) fn tombstone_bytes(key: &[u8]) -> usize {
    string_len(key)
}

/// The event form of a tombstone read back from the engine.
pub(crate) fn tombstone_event(stored: &[u8], modified: i64) -> Bytes {
    let mut record = Vec::with_capacity(stored.len() + number_len(modified));
    record.put_slice(stored);
    put_number(&mut record, TAG_MOD, modified);
    Bytes::from(record)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_are_what_protobuf_makes_of_them(
            key in proptest::collection::vec(any::<u8>(), 0..200),
            value in proptest::collection::vec(any::<u8>(), 0..300),
            create in any::<i64>(),
            modified in any::<i64>(),
            version in 0i64..300,
            lease in any::<i64>(),
        ) {
            let message = KeyValue {
                key: key.clone().into(),
                create_revision: create,
                mod_revision: modified,
                version,
                value: value.clone().into(),
                lease,
            };
            let encoded = encode_put(&key, create, modified, version, &value, lease);
            prop_assert_eq!(&encoded.event[..], &message.encode_to_vec()[..]);
            prop_assert_eq!(encoded.stored_bytes, encoded.event.len());
            prop_assert_eq!(&encoded.key()[..], &key[..]);
            let record = Record { bytes: encoded.event };
            prop_assert_eq!(record.decode().unwrap(), message);
            prop_assert_eq!(record.key().unwrap(), key.clone());
            prop_assert_eq!(record.value().unwrap(), value);
            prop_assert_eq!(record.lease().unwrap(), LeaseId(lease));

            let tombstone = encode_tombstone(&key, modified);
            let event = KeyValue { key: key.clone().into(), mod_revision: modified, ..Default::default() };
            let stored = KeyValue { key: key.clone().into(), ..Default::default() };
            prop_assert_eq!(&tombstone.event[..], &event.encode_to_vec()[..]);
            prop_assert_eq!(&tombstone.event[..tombstone.stored_bytes], &stored.encode_to_vec()[..]);
            let told = tombstone_event(&tombstone.event[..tombstone.stored_bytes], modified);
            prop_assert_eq!(told, tombstone.event.clone());
            prop_assert_eq!(&tombstone.key()[..], &key[..]);
        }

        #[test]
        fn damaged_records_are_refused_or_read_but_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(fields) = Fields::read(&bytes) {
                prop_assert!(fields.key.end <= bytes.len() && fields.value.end <= bytes.len());
            }
        }
    }
}
