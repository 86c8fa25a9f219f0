//! A member in the JSON that etcd puts into the context of a conf change.

use rusd_proto::etcdserverpb::Member;
use serde::{Deserialize, Deserializer, Serialize};

/// etcd's field names; what is empty is left out, as etcd does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberJson {
    /// The member's id, as a number.
    pub id: u64,
    /// Where its peers reach it.
    #[serde(rename = "peerURLs", default, deserialize_with = "null_as_empty")]
    pub peer_urls: Vec<String>,
    /// Whether it has no vote.
    #[serde(rename = "isLearner", default, skip_serializing_if = "is_false")]
    pub is_learner: bool,
    /// Its name, once it has started.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where its clients reach it.
    #[serde(
        rename = "clientURLs",
        default,
        deserialize_with = "null_as_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub client_urls: Vec<String>,
    /// Set when the change promotes a learner: adding and promoting are the same type of conf change.
    #[serde(rename = "isPromote", default)]
    pub is_promote: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn null_as_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl From<Member> for MemberJson {
    fn from(member: Member) -> Self {
        Self {
            id: member.id,
            peer_urls: member.peer_ur_ls,
            is_learner: member.is_learner,
            name: member.name,
            client_urls: member.client_ur_ls,
            is_promote: false,
        }
    }
}

impl From<MemberJson> for Member {
    fn from(json: MemberJson) -> Self {
        Self {
            id: json.id,
            name: json.name,
            peer_ur_ls: json.peer_urls,
            client_ur_ls: json.client_urls,
            is_learner: json.is_learner,
        }
    }
}
