//! Entries of the log, from their words in scripts.

use bytes::Bytes;
use prost::Message;
use rusd_messages::mvcc::EntryKind;
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest, alarm_request::AlarmAction};

/// An entry of the log.
pub fn entry(name: &str, argument: &str) -> (EntryKind, Bytes) {
    let number = || argument.parse::<i64>().unwrap();
    let put = |key: &str, value: Vec<u8>, lease: i64| pb::PutRequest {
        key: key.to_owned().into(),
        value: value.into(),
        lease,
        ..Default::default()
    };
    let compaction = |physical| pb::CompactionRequest {
        revision: number(),
        physical,
    };
    let mut request = InternalRaftRequest::default();
    match name {
        "put" => request.put = Some(put(argument, b"v".to_vec(), 0)),
        "big" => request.put = Some(put("big", vec![7; number() as usize], 0)),
        "refused" => request.put = Some(put("a", vec![7; number() as usize], 99)),
        "attach" => request.put = Some(put("attached", b"v".to_vec(), number())),
        "del" => {
            request.delete_range = Some(pb::DeleteRangeRequest {
                key: argument.to_owned().into(),
                ..Default::default()
            });
        }
        "grant" => {
            request.lease_grant = Some(pb::LeaseGrantRequest {
                id: number(),
                ttl: 60,
            })
        }
        "revoke" => request.lease_revoke = Some(pb::LeaseRevokeRequest { id: number() }),
        "compact" => request.compaction = Some(compaction(false)),
        "physical" => request.compaction = Some(compaction(true)),
        "alarm" => {
            request.alarm = Some(pb::AlarmRequest {
                action: AlarmAction::Activate as i32,
                member_id: 1,
                alarm: pb::AlarmType::Nospace as i32,
            });
        }
        "join" => return (EntryKind::ConfChange, conf_change(0, number() as u8)),
        "leave" => return (EntryKind::ConfChange, conf_change(1, number() as u8)),
        "empty" => return (EntryKind::Request, Bytes::new()),
        other => panic!("no request {other:?}"),
    }
    (EntryKind::Request, request.encode_to_vec().into())
}

/// `raftpb.ConfChange`: its type, its member, and a member in JSON if it joins.
fn conf_change(change_type: u8, member: u8) -> Bytes {
    let mut data = vec![0x10, change_type, 0x18, member];
    if change_type == 0 {
        let json = format!(r#"{{"id":{member},"peerURLs":["http://m{member}:2380"]}}"#);
        data.extend([0x22, json.len() as u8]);
        data.extend(json.as_bytes());
    }
    data.into()
}
