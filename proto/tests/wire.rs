//! Our encoders and readers on bytes that etcd's own packages have marshalled: `tests/etcd/marshalled`.
#![allow(clippy::unwrap_used, clippy::panic)]

use rusd_proto::RequestKind;
use rusd_proto::conf_change::{self, Change, ConfChange, ConfChangeType, RaftConfChange};
use rusd_proto::etcdserverpb::Member;
use rusd_proto::ids::{MemberId, RequestId};
use rusd_proto::member_json::MemberJson;
use rusd_proto::request::{first_request_field, request_id};

const MARSHALLED: &str = include_str!("etcd/marshalled");
const ID: u64 = 0x8e9e_05c5_2164_694d;
const REQUEST: u64 = 0x1234_5678_90ab_cdef;

/// The bytes of each case whose name begins with `kind`, by the rest of its name.
fn marshalled(kind: &str) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let lines = MARSHALLED.lines().filter_map(move |line| {
        let (name, hex) = line.strip_prefix(kind)?.split_once(' ')?;
        Some((name, hex))
    });
    lines.map(|(name, hex)| {
        let byte = |digits| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap();
        (name, hex.as_bytes().chunks(2).map(byte).collect())
    })
}

fn member() -> Member {
    Member {
        id: ID,
        peer_ur_ls: vec![
            "http://10.0.0.1:2380".to_owned(),
            "https://10.0.0.2:2380".to_owned(),
        ],
        ..Member::default()
    }
}

fn named() -> Member {
    Member {
        name: "infra0".to_owned(),
        client_ur_ls: vec!["http://10.0.0.1:2379".to_owned()],
        ..member()
    }
}

fn learner() -> Member {
    Member {
        is_learner: true,
        ..member()
    }
}

#[test]
fn c_01_the_member_json_is_etcds_to_the_byte() {
    let mut cases = 0;
    for (name, bytes) in marshalled("json/") {
        let json: MemberJson = match name {
            "unnamed" => member().into(),
            "named" => named().into(),
            "learner" => learner().into(),
            "escaped" => MemberJson {
                id: 300,
                peer_urls: vec!["http://a:1/?x=<&>".to_owned()],
                name: "<&>\"\\/\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}\u{2028}\u{2029}\u{e9}\u{1f980}"
                    .to_owned(),
                ..MemberJson::default()
            },
            "bare" => MemberJson {
                id: 1,
                ..MemberJson::default()
            },
            "promote" => MemberJson {
                id: ID,
                is_promote: true,
                ..MemberJson::default()
            },
            _ => panic!("{name}"),
        };
        let etcd = String::from_utf8(bytes).unwrap();
        assert_eq!(String::from_utf8(json.encode()).unwrap(), etcd, "{name}");
        assert_eq!(MemberJson::decode(etcd.as_bytes()).unwrap(), json, "{name}");
        cases += 1;
    }
    assert_eq!(cases, 6);
}

#[test]
fn c_01_membership_changes_are_etcds_to_the_byte() {
    let mut cases = 0;
    for (name, bytes) in marshalled("change/") {
        let (id, kind, change) = match name {
            "founder" => (None, ConfChangeType::AddNode, Change::Add(named())),
            "add" => (
                Some(REQUEST),
                ConfChangeType::AddNode,
                Change::Add(member()),
            ),
            "learner" => (
                Some(7),
                ConfChangeType::AddLearnerNode,
                Change::Add(learner()),
            ),
            "promote" => (Some(7), ConfChangeType::AddNode, Change::Promote),
            "update" => (
                Some(7),
                ConfChangeType::UpdateNode,
                Change::Update(member()),
            ),
            "remove" => (Some(7), ConfChangeType::RemoveNode, Change::Remove),
            _ => panic!("{name}"),
        };
        let (raw, raw_kind) = RaftConfChange::read(&bytes).unwrap();
        assert_eq!(
            (raw.id, raw_kind, raw.node_id),
            (id, kind, Some(ID)),
            "{name}"
        );
        let change = ConfChange {
            id: MemberId(ID),
            change,
        };
        assert_eq!(ConfChange::decode(&bytes).unwrap(), change, "{name}");
        let ours = match (id, change.change.clone()) {
            (None, Change::Add(member)) => conf_change::founder(member),
            (id, _) => change.encode(RequestId(id.unwrap())),
        };
        assert_eq!(ours, bytes, "{name}");
        cases += 1;
    }
    assert_eq!(cases, 6);
}

#[test]
fn p_13_the_kind_and_the_id_of_etcds_requests_are_found() {
    let mut cases = 0;
    for (name, bytes) in marshalled("request/") {
        assert_eq!(request_id(&bytes), Some(RequestId(REQUEST)), "{name}");
        assert_eq!(RequestKind::of(&bytes).name(), name);
        let known = name != "unknown";
        assert_eq!(first_request_field(&bytes).is_some(), known, "{name}");
        cases += 1;
    }
    assert_eq!(cases, 6);
}
