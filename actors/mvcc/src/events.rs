//! From changes of the store to events of a watch, each encoded once however many watch it.

use bytes::Bytes;
use prost::Message;
use rusd_messages::watch;
use rusd_proto::ids::Revision;
use rusd_proto::mvccpb;
use rusd_storage::{At, Change, ChangeKind, ReadAt, StorageError, StorageResult};

/// The event of a change; `previous` is the marshalled record it replaced, if that is wanted and known.
pub fn event(change: &Change, previous: Option<Bytes>) -> watch::Event {
    let deleted = change.kind == ChangeKind::Delete;
    let kind = if deleted {
        mvccpb::event::EventType::Delete
    } else {
        mvccpb::event::EventType::Put
    };
    let mut event = mvccpb::Event {
        r#type: kind as i32,
        kv: change.record.clone(),
        prev_kv: Bytes::new(),
    };
    let encoded = Bytes::from(event.encode_to_vec());
    let encoded_with_previous = previous.map(|previous| {
        event.prev_kv = previous;
        Bytes::from(event.encode_to_vec())
    });
    watch::Event {
        key: change.key.clone(),
        deleted,
        encoded,
        encoded_with_previous,
    }
}

/// The record that `prev_kv` of a change shows, marshalled: the key's at the revision before the transaction, whatever
/// the transaction itself did to it; None for a change that created the key, or if compaction has removed it (W-10).
pub fn previous(reader: &impl ReadAt, change: &Change) -> StorageResult<Option<Bytes>> {
    let before = change.revision.main.previous();
    if before < reader.compacted_revision() {
        return Ok(None);
    }
    let created =
        || mvccpb::KeyValue::decode(change.record.clone()).is_ok_and(|kv| kv.version == 1);
    if change.kind == ChangeKind::Put && (change.previous.is_none() || created()) {
        return Ok(None);
    }
    let found = match change.previous {
        Some(previous) if previous.main <= before => Ok(Some(previous)),
        _ if before < Revision(1) => Ok(None),
        _ => reader
            .get(&change.key, At::from(before))
            .map(|meta| meta.map(|meta| meta.mod_revision)),
    };
    let record = found.and_then(|revision| match revision {
        Some(revision) => reader
            .record(revision, At::from(before))
            .map(|record| Some(record.bytes)),
        None => Ok(None),
    });
    match record {
        Err(StorageError::Compacted | StorageError::Superseded) => Ok(None),
        record => record,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rusd_storage::RecordRevision;

    #[test]
    fn w_10_the_previous_record_is_spliced_into_the_event() {
        let record = mvccpb::KeyValue {
            key: Bytes::from_static(b"k"),
            mod_revision: 7,
            ..mvccpb::KeyValue::default()
        };
        let change = Change {
            key: record.key.clone(),
            kind: ChangeKind::Delete,
            record: Bytes::from(record.encode_to_vec()),
            revision: RecordRevision {
                main: Revision(7),
                sub: 0,
            },
            previous: Some(RecordRevision {
                main: Revision(5),
                sub: 0,
            }),
        };
        let previous = mvccpb::KeyValue {
            mod_revision: 5,
            value: Bytes::from_static(b"old"),
            ..record.clone()
        };
        let event = event(&change, Some(Bytes::from(previous.encode_to_vec())));
        assert!(event.deleted);
        let plain = mvccpb::Event::decode(event.encoded).unwrap();
        assert!(plain.prev_kv.is_empty());
        assert_eq!(mvccpb::KeyValue::decode(plain.kv).unwrap(), record);
        let full = mvccpb::Event::decode(event.encoded_with_previous.unwrap()).unwrap();
        assert_eq!(full.r#type, mvccpb::event::EventType::Delete as i32);
        assert_eq!(mvccpb::KeyValue::decode(full.prev_kv).unwrap(), previous);
    }
}
