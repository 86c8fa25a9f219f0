//! A member in JSON, as etcd writes it into the context of a membership change, to the byte.
//!
//! The order of the fields is that of etcd's struct, empty fields are left out, no peer URLs at all are `null`, and
//! strings are escaped as Go's `encoding/json` does it: `<`, `>`, `&` and the two line separators of Unicode become
//! `\u003c` and the like.

use crate::etcdserverpb::Member;
use serde::{Deserialize, Deserializer};

/// What the JSON says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct MemberJson {
    /// The member's id, as a number.
    pub id: u64,
    /// Where its peers reach it.
    #[serde(rename = "peerURLs", default, deserialize_with = "null_as_empty")]
    pub peer_urls: Vec<String>,
    /// Whether it has no vote.
    #[serde(rename = "isLearner", default)]
    pub is_learner: bool,
    /// Its name, once it has started.
    #[serde(default)]
    pub name: String,
    /// Where its clients reach it.
    #[serde(rename = "clientURLs", default, deserialize_with = "null_as_empty")]
    pub client_urls: Vec<String>,
    /// Whether the change promotes a learner: adding a voter and promoting are the same type of change.
    #[serde(rename = "isPromote", default)]
    pub is_promote: bool,
}

fn null_as_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl MemberJson {
    /// Reads what [`MemberJson::encode`] or etcd has written; unknown fields are passed over.
    pub fn decode(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// etcd's bytes for it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = format!("{{\"id\":{},\"peerURLs\":", self.id);
        if self.peer_urls.is_empty() {
            out.push_str("null");
        } else {
            push_strings(&mut out, &self.peer_urls);
        }
        if self.is_learner {
            out.push_str(",\"isLearner\":true");
        }
        if !self.name.is_empty() {
            out.push_str(",\"name\":");
            push_string(&mut out, &self.name);
        }
        if !self.client_urls.is_empty() {
            out.push_str(",\"clientURLs\":");
            push_strings(&mut out, &self.client_urls);
        }
        if self.is_promote {
            out.push_str(",\"isPromote\":true");
        }
        out.push('}');
        out.into_bytes()
    }
}

fn push_strings(out: &mut String, strings: &[String]) {
    let mut separator = '[';
    for string in strings {
        out.push(separator);
        separator = ',';
        push_string(out, string);
    }
    out.push(']');
}

fn push_string(out: &mut String, string: &str) {
    out.push('"');
    for c in string.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
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
