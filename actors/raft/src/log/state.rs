//! What the log keeps besides its entries, to the byte.
//!
//! | key | value (integers big endian) |
//! |---|---|
//! | `identity` | format version u32, cluster id u64, member id u64 |
//! | `vote` | term u64, vote u64, commit u64, index of the newest membership change in the log u64 |
//! | `conf` | index u64 the configuration belongs to, then `eraftpb.ConfState` |
//! | `truncated` | index u64, term u64 of the last entry that is gone |
//!
//! All are written in the same record as the entries they belong with.

use protobuf::Message;
use raft::eraftpb::{ConfState, HardState};
use rusd_messages::{ClusterId, MemberId};

/// Version of this layout and of the log around it.
pub const FORMAT_VERSION: u32 = 1;

pub(crate) const IDENTITY_KEY: &[u8] = b"identity";
pub(crate) const VOTE_KEY: &[u8] = b"vote";
pub(crate) const CONF_KEY: &[u8] = b"conf";
pub(crate) const TRUNCATED_KEY: &[u8] = b"truncated";

/// Whose log this is. Set once, at bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that the log belongs to; derived from its founders ([`crate::ids`]).
    pub cluster: ClusterId,
    /// The member that votes by this log.
    pub member: MemberId,
}

impl Identity {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = FORMAT_VERSION.to_be_bytes().to_vec();
        out.extend(self.cluster.0.to_be_bytes());
        out.extend(self.member.0.to_be_bytes());
        out
    }

    /// The version it was written with, and the identity if that version is ours.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(u32, Option<Self>)> {
        let (version, rest) = bytes.split_first_chunk()?;
        let version = u32::from_be_bytes(*version);
        if version != FORMAT_VERSION {
            return Some((version, None));
        }
        let [cluster, member] = decode_u64s(rest)?;
        let identity = Self {
            cluster: ClusterId(cluster),
            member: MemberId(member),
        };
        Some((version, Some(identity)))
    }
}

/// Raft's own promise to its peers, and what helps at the next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// The newest term seen.
    pub term: u64,
    /// Who got this member's vote in it; 0 if nobody.
    pub vote: u64,
    /// Entries known to be committed. A hint: it may lag behind.
    pub commit: u64,
    /// The newest membership change in the log, so that a start need not read the log to find it.
    pub last_conf_change: u64,
}

impl Vote {
    pub(crate) fn encode(self) -> Vec<u8> {
        encode_u64s([self.term, self.vote, self.commit, self.last_conf_change])
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let [term, vote, commit, last_conf_change] = decode_u64s(bytes)?;
        Some(Self {
            term,
            vote,
            commit,
            last_conf_change,
        })
    }

    pub(crate) fn hard_state(self) -> HardState {
        HardState {
            term: self.term,
            vote: self.vote,
            commit: self.commit,
            ..HardState::default()
        }
    }
}

/// Who votes, as of an index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conf {
    /// Every membership change up to here is part of it.
    pub index: u64,
    /// Who votes and who only receives, in raft-rs's form.
    pub state: ConfState,
}

impl Conf {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = self.index.to_be_bytes().to_vec();
        // Writing to a vector fails only for uninitialised messages, which proto3 does not have.
        if self.state.write_to_vec(&mut out).is_err() {
            out.truncate(8);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (index, rest) = bytes.split_first_chunk()?;
        Some(Self {
            index: u64::from_be_bytes(*index),
            state: ConfState::parse_from_bytes(rest).ok()?,
        })
    }
}

/// The last entry that the log no longer has; zero while it has all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truncated {
    /// Index of the last removed entry.
    pub index: u64,
    /// Term of that entry: raft-rs compares it with a follower's.
    pub term: u64,
}

impl Truncated {
    pub(crate) fn encode(self) -> Vec<u8> {
        encode_u64s([self.index, self.term])
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let [index, term] = decode_u64s(bytes)?;
        Some(Self { index, term })
    }
}

fn encode_u64s<const N: usize>(values: [u64; N]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_be_bytes())
        .collect()
}

fn decode_u64s<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let values: Vec<u64> = chunks
        .iter()
        .map(|chunk| u64::from_be_bytes(*chunk))
        .collect();
    if rest.is_empty() {
        values.try_into().ok()
    } else {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_else() {
        let identity = Identity {
            cluster: ClusterId(0xc1),
            member: MemberId(0xa1),
        };
        assert_eq!(
            Identity::decode(&identity.encode()),
            Some((1, Some(identity)))
        );
        assert_eq!(Identity::decode(&[0, 0, 0, 2, 9]), Some((2, None)));
        assert_eq!(Identity::decode(&[0, 0, 0, 1, 9]), None);

        let vote = Vote {
            term: 1,
            vote: 2,
            commit: 3,
            last_conf_change: 4,
        };
        assert_eq!(Vote::decode(&vote.encode()), Some(vote));
        assert_eq!(Vote::decode(&vote.encode()[1..]), None);

        let mut conf = Conf {
            index: 9,
            ..Conf::default()
        };
        conf.state.voters = vec![1, 2];
        assert_eq!(Conf::decode(&conf.encode()), Some(conf));
        assert_eq!(Conf::decode(&[0; 7]), None);

        let truncated = Truncated { index: 5, term: 2 };
        assert_eq!(Truncated::decode(&truncated.encode()), Some(truncated));
    }
}
