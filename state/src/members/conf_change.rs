//! Conf-change entries: `raftpb.ConfChange` of etcd, whose context is a member in JSON.

use bytes::Bytes;
use prost::Message;
use rusd_proto::etcdserverpb::Member;
use rusd_proto::ids::MemberId;

use super::json::MemberJson;

/// What kind of change an entry holds, by etcd's numbers. (raft-rs has other numbers, and no update.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum ConfChangeType {
    /// Add a voter, or promote a learner.
    AddNode = 0,
    /// Remove a member.
    RemoveNode = 1,
    /// Change peer URLs.
    UpdateNode = 2,
    /// Add a learner.
    AddLearnerNode = 3,
}

/// `raftpb.ConfChange`, as it stands in the log.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RawConfChange {
    /// The id under which the proposer waits for it.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What kind of change.
    #[prost(enumeration = "ConfChangeType", tag = "2")]
    pub change_type: i32,
    /// The member it is about.
    #[prost(uint64, tag = "3")]
    pub node_id: u64,
    /// The member in JSON; empty for a removal.
    #[prost(bytes = "bytes", tag = "4")]
    pub context: Bytes,
}

/// A conf change, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfChange {
    /// The member it is about.
    pub id: MemberId,
    /// What happens to it.
    pub change: Change,
}

/// What happens to a member.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It joins; as a learner, if it says so.
    Add(Member),
    /// It gets a vote.
    Promote,
    /// It gets other peer URLs.
    Update(Member),
    /// It leaves.
    Remove,
}

impl ConfChange {
    /// Reads the data of an entry, or says what is wrong with it.
    pub fn decode(data: Bytes) -> Result<Self, String> {
        let raw = RawConfChange::decode(data).map_err(|error| error.to_string())?;
        let kind = ConfChangeType::try_from(raw.change_type)
            .map_err(|_| format!("unknown type of conf change {}", raw.change_type))?;
        let member = || {
            let json: MemberJson = serde_json::from_slice(&raw.context)
                .map_err(|error| format!("context: {error}"))?;
            if json.id != raw.node_id {
                return Err(format!(
                    "context of member {:x} in a conf change of {:x}",
                    json.id, raw.node_id
                ));
            }
            Ok(json)
        };
        let change = match kind {
            ConfChangeType::RemoveNode => Change::Remove,
            ConfChangeType::UpdateNode => Change::Update(member()?.into()),
            ConfChangeType::AddNode | ConfChangeType::AddLearnerNode => match member()? {
                json if json.is_promote => Change::Promote,
                json => Change::Add(json.into()),
            },
        };
        Ok(Self {
            id: MemberId(raw.node_id),
            change,
        })
    }

    /// The data of an entry that makes this change; `id` is where its proposer waits.
    pub fn encode(&self, id: u64) -> Bytes {
        let (kind, json) = match &self.change {
            Change::Add(member) if member.is_learner => {
                (ConfChangeType::AddLearnerNode, Some(member.clone().into()))
            }
            Change::Add(member) => (ConfChangeType::AddNode, Some(member.clone().into())),
            Change::Promote => {
                let json = MemberJson {
                    id: self.id.0,
                    is_promote: true,
                    ..MemberJson::default()
                };
                (ConfChangeType::AddNode, Some(json))
            }
            Change::Update(member) => (ConfChangeType::UpdateNode, Some(member.clone().into())),
            Change::Remove => (ConfChangeType::RemoveNode, None),
        };
        let context = json.map_or_else(Bytes::new, |json| json_bytes(&json));
        let raw = RawConfChange {
            id,
            change_type: kind as i32,
            node_id: self.id.0,
            context,
        };
        raw.encode_to_vec().into()
    }
}

#[allow(clippy::expect_used)] // Strings, numbers and booleans only: there is nothing JSON could not hold.
fn json_bytes(json: &MemberJson) -> Bytes {
    serde_json::to_vec(json)
        .expect("a member is representable in JSON")
        .into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn member() -> Member {
        Member {
            id: 0x8e9e_05c5_2164_694d,
            name: "infra0".to_owned(),
            peer_ur_ls: vec!["http://10.0.0.1:2380".to_owned()],
            client_ur_ls: vec![],
            is_learner: false,
        }
    }

    #[test]
    fn c_01_a_context_reads_as_etcd_writes_it() {
        let raw = RawConfChange {
            id: 1,
            change_type: 3,
            node_id: 5,
            context: r#"{"id":5,"peerURLs":["http://a:1"],"isLearner":true,"name":"n","clientURLs":null,"isPromote":false}"#.into(),
        };
        let change = ConfChange::decode(raw.encode_to_vec().into()).unwrap();
        let Change::Add(member) = change.change else {
            panic!("{change:?}");
        };
        assert_eq!(
            (change.id, member.is_learner, member.name.as_str()),
            (MemberId(5), true, "n")
        );
        assert_eq!(member.peer_ur_ls, ["http://a:1"]);
    }

    #[test]
    fn c_01_a_context_is_written_as_etcd_writes_it() {
        let json = serde_json::to_string(&MemberJson::from(member())).unwrap();
        let etcd = r#"{"id":10276657743932975437,"peerURLs":["http://10.0.0.1:2380"],"name":"infra0","isPromote":false}"#;
        assert_eq!(json, etcd);
    }

    #[test]
    fn every_change_survives_the_log() {
        let learner = Member {
            is_learner: true,
            ..member()
        };
        for change in [
            Change::Add(member()),
            Change::Add(learner),
            Change::Promote,
            Change::Update(member()),
            Change::Remove,
        ] {
            let change = ConfChange {
                id: MemberId(member().id),
                change,
            };
            assert_eq!(ConfChange::decode(change.encode(7)), Ok(change));
        }
    }

    #[test]
    fn what_is_not_a_conf_change_is_refused_with_the_reason() {
        let raw = |change_type, context: &'static str| RawConfChange {
            id: 1,
            change_type,
            node_id: 5,
            context: context.into(),
        };
        for (raw, reason) in [
            (raw(4, ""), "unknown type"),
            (raw(0, ""), "context"),
            (raw(0, r#"{"id":6}"#), "context of member 6"),
            (raw(2, "{"), "context"),
        ] {
            let error = ConfChange::decode(raw.encode_to_vec().into()).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        assert!(ConfChange::decode(Bytes::from_static(b"\xff")).is_err());
    }
}
