//! From changes of the store to events of a watch, each encoded once however many watch it.

use bytes::Bytes;
use prost::Message;
use rusd_messages::watch;
use rusd_proto::mvccpb;
use rusd_storage::{Change, ChangeKind};

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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rusd_storage::Revision;

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
            revision: Revision { main: 7, sub: 0 },
            previous: Some(Revision { main: 5, sub: 0 }),
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
