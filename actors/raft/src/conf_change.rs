//! Membership changes in etcd's encoding: a `raftpb.ConfChange` whose context is the member as JSON.
//!
//! The encoding is written out by hand because etcd's differs from the generated one in a detail: its fields
//! are optional, so the change type is on the wire even when it is 0.

use protobuf::Message;
use raft::eraftpb::{ConfChange, ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType};
use rusd_messages::MemberId;
use serde_json::Value;

const CHANGE_TYPE_ADD_NODE: u8 = 0;

/// The `raftpb.ConfChange` with which a member joins at bootstrap.
pub fn add_founder(member: MemberId, context: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(context.len() + 24);
    out.extend_from_slice(&[0x10, CHANGE_TYPE_ADD_NODE]);
    out.push(0x18);
    put_varint(&mut out, member.0);
    if !context.is_empty() {
        out.push(0x22);
        put_varint(&mut out, context.len() as u64);
        out.extend_from_slice(context);
    }
    out
}

/// A member as etcd writes it into the context of a change: id as a number, peer URLs, and the name if it
/// has one.
pub fn member_json<S: AsRef<str>>(id: MemberId, name: &str, peer_urls: &[S]) -> Vec<u8> {
    let urls: Vec<String> = peer_urls
        .iter()
        .map(|url| json_string(url.as_ref()))
        .collect();
    let mut json = format!("{{\"id\":{},\"peerURLs\":[{}]", id.0, urls.join(","));
    if !name.is_empty() {
        json.push_str(",\"name\":");
        json.push_str(&json_string(name));
    }
    json.push('}');
    json.into_bytes()
}

/// A JSON string as Go writes it: safe to embed in HTML.
fn json_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    for c in Value::from(text).to_string().chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Whether this entry changes the membership.
pub fn is_conf_change(entry: &Entry) -> bool {
    entry.get_entry_type() != EntryType::EntryNormal
}

/// The change in an entry; None if the entry is none, or not readable.
pub fn decode(entry: &Entry) -> Option<ConfChangeV2> {
    match entry.get_entry_type() {
        EntryType::EntryNormal => None,
        EntryType::EntryConfChange => ConfChange::parse_from_bytes(&entry.data).ok().map(of_one),
        EntryType::EntryConfChangeV2 => ConfChangeV2::parse_from_bytes(&entry.data).ok(),
    }
}

/// A change of one member in the form that raft-rs takes.
fn of_one(change: ConfChange) -> ConfChangeV2 {
    let mut single = ConfChangeSingle::default();
    single.set_change_type(change.get_change_type());
    single.node_id = change.node_id;
    let mut out = ConfChangeV2::default();
    out.set_changes(vec![single].into());
    out
}

/// Whether this entry, once applied, gives anyone but `me` a vote. An unreadable one counts as if it did.
pub fn gives_others_a_vote(entry: &Entry, me: MemberId) -> bool {
    if !is_conf_change(entry) {
        return false;
    }
    decode(entry).is_none_or(|change| {
        change
            .get_changes()
            .iter()
            .any(|c| c.get_change_type() == ConfChangeType::AddNode && c.node_id != me.0)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_member_json_is_etcds_to_the_byte() {
        let id = MemberId(5_676_775_228_444_406_746);
        let urls = ["http://10.0.0.1:2380", "https://10.0.0.2:2380"];
        let json = member_json(id, "a<&>", &urls);
        let expected = concat!(
            r#"{"id":5676775228444406746,"peerURLs":["http://10.0.0.1:2380","https://10.0.0.2:2380"],"#,
            r#""name":"a\u003c\u0026\u003e"}"#
        );
        assert_eq!(String::from_utf8(json).unwrap(), expected);
        let unnamed = member_json(MemberId(1), "", &["http://x:1"]);
        assert_eq!(unnamed, br#"{"id":1,"peerURLs":["http://x:1"]}"#);
    }

    #[test]
    fn a_founder_entry_decodes_as_the_change_it_is() {
        let mut entry = Entry::default();
        entry.set_entry_type(EntryType::EntryConfChange);
        entry.data = add_founder(MemberId(300), b"{}").into();
        assert_eq!(
            entry.data.as_ref(),
            [0x10, 0, 0x18, 0xac, 2, 0x22, 2, b'{', b'}']
        );
        let change = decode(&entry).unwrap();
        assert_eq!(change.get_changes().len(), 1);
        assert_eq!(change.get_changes()[0].node_id, 300);
        assert!(gives_others_a_vote(&entry, MemberId(1)));
        assert!(!gives_others_a_vote(&entry, MemberId(300)));
        entry.data = vec![0xff].into();
        assert!(gives_others_a_vote(&entry, MemberId(300)));
    }
}
