//! Membership changes: `raftpb.ConfChange` of etcd, whose context is a member in JSON ([`MemberJson`]).
//!
//! The Raft core reads only the outer message ([`RaftConfChange`]); the state machine reads all of it ([`ConfChange`]).

use crate::etcdserverpb::Member;
use crate::ids::{MemberId, RequestId};
use crate::member_json::MemberJson;
use bytes::Bytes;
use prost::Message;
use thiserror::Error;

/// What kind of change an entry holds, by etcd's numbers. raft-rs has others: its 2 adds a learner, and it has no
/// update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum ConfChangeType {
    /// Add a voter, or promote a learner.
    AddNode = 0,
    /// Remove a voter or a learner for good.
    RemoveNode = 1,
    /// Change peer URLs; nothing changes for Raft.
    UpdateNode = 2,
    /// Add a member without a vote.
    AddLearnerNode = 3,
}

/// `raftpb.ConfChange`, as it stands in the log. Its fields are optional: etcd writes a type of 0, and leaves out the
/// id of a change that nobody waits for.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RaftConfChange {
    /// The id under which the proposer waits for it; none for a founder.
    #[prost(uint64, optional, tag = "1")]
    pub id: Option<u64>,
    /// What kind of change.
    #[prost(enumeration = "ConfChangeType", optional, tag = "2")]
    pub change_type: Option<i32>,
    /// The member it is about.
    #[prost(uint64, optional, tag = "3")]
    pub node_id: Option<u64>,
    /// The member in JSON; none for a removal.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub context: Option<Bytes>,
}

/// What is wrong with the data of an entry that should hold a membership change.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ConfChangeError {
    /// It is no such message.
    #[error("{0}")]
    Message(String),
    /// Its type is none of etcd's.
    #[error("unknown type of conf change {0}")]
    Type(i32),
    /// Its context is not the JSON of a member.
    #[error("context: {0}")]
    Context(String),
    /// Its context is about another member than itself.
    #[error("context of member {context:x} in a conf change of {change:x}")]
    OtherMember {
        /// The id in the context.
        context: u64,
        /// The id in the change.
        change: u64,
    },
}

impl RaftConfChange {
    /// Reads the outer message and its type; the context stays unread.
    pub fn read(data: &[u8]) -> Result<(Self, ConfChangeType), ConfChangeError> {
        let change =
            Self::decode(data).map_err(|error| ConfChangeError::Message(error.to_string()))?;
        let number = change.change_type.unwrap_or_default();
        let kind = ConfChangeType::try_from(number).map_err(|_| ConfChangeError::Type(number))?;
        Ok((change, kind))
    }
}

/// A membership change, with all that the state machine needs of it.
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
    /// It leaves, and its id never comes back.
    Remove,
}

impl ConfChange {
    /// Reads the data of an entry.
    pub fn decode(data: &[u8]) -> Result<Self, ConfChangeError> {
        let (raw, kind) = RaftConfChange::read(data)?;
        let id = raw.node_id.unwrap_or_default();
        let member = || {
            let json = MemberJson::decode(raw.context.as_deref().unwrap_or_default())
                .map_err(|error| ConfChangeError::Context(error.to_string()))?;
            if json.id != id {
                return Err(ConfChangeError::OtherMember {
                    context: json.id,
                    change: id,
                });
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
            id: MemberId(id),
            change,
        })
    }

    /// The data of an entry that makes this change; `id` is where its proposer waits.
    pub fn encode(&self, id: RequestId) -> Bytes {
        self.encode_for(Some(id.0))
    }

    fn encode_for(&self, id: Option<u64>) -> Bytes {
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
        let raw = RaftConfChange {
            id,
            change_type: Some(kind as i32),
            node_id: Some(self.id.0),
            context: json.map(|json| json.encode().into()),
        };
        raw.encode_to_vec().into()
    }
}

/// The data of the entry with which `member` founds a cluster. Nobody waits for it, so it has no id.
pub fn founder(member: Member) -> Bytes {
    let change = ConfChange {
        id: MemberId(member.id),
        change: Change::Add(member),
    };
    change.encode_for(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_conf_change_is_refused_with_the_reason() {
        let raw = |change_type, context: &'static str| RaftConfChange {
            id: Some(1),
            change_type: Some(change_type),
            node_id: Some(5),
            context: Some(context.into()),
        };
        for (raw, reason) in [
            (raw(4, ""), "unknown type"),
            (raw(0, ""), "context"),
            (raw(0, r#"{"id":6}"#), "context of member 6"),
            (raw(2, "{"), "context"),
        ] {
            let error = ConfChange::decode(&raw.encode_to_vec()).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert!(ConfChange::decode(b"\xff").is_err());
    }

    #[test]
    fn c_01_a_context_of_an_older_etcd_is_read_too() {
        let raw = RaftConfChange {
            id: Some(1),
            change_type: Some(3),
            node_id: Some(5),
            context: Some(
                r#"{"id":5,"peerURLs":["http://a:1"],"isLearner":true,"name":"n","clientURLs":null,"isPromote":false}"#
                    .into(),
            ),
        };
        let change = ConfChange::decode(&raw.encode_to_vec()).unwrap();
        let member = Member {
            id: 5,
            name: "n".to_owned(),
            peer_ur_ls: vec!["http://a:1".to_owned()],
            client_ur_ls: Vec::new(),
            is_learner: true,
        };
        assert_eq!(
            (change.id, change.change),
            (MemberId(5), Change::Add(member))
        );
    }
}
