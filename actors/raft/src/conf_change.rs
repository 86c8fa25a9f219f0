//! Membership changes as raft-rs takes them.
//!
//! The log holds etcd's encoding ([`rusd_proto::conf_change`]), whose types have other numbers than those of raft-rs.
//! An update of peer URLs is a change for the state machine, and none for Raft.

use protobuf::Message;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType};
use rusd_messages::MemberId;
use rusd_proto::conf_change::{self as etcd, RaftConfChange};

/// The data of an entry is no membership change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Whether this entry changes the membership.
pub fn is_conf_change(entry: &Entry) -> bool {
    entry.get_entry_type() != EntryType::EntryNormal
}

/// What an entry changes for Raft; None if nothing.
pub fn decode(entry: &Entry) -> Result<Option<ConfChangeV2>, Unreadable> {
    match entry.get_entry_type() {
        EntryType::EntryNormal => Ok(None),
        EntryType::EntryConfChange => {
            let (change, kind) = RaftConfChange::read(&entry.data).map_err(|_| Unreadable)?;
            Ok(of_raft(kind).map(|kind| of_one(kind, change.node_id.unwrap_or_default())))
        }
        EntryType::EntryConfChangeV2 => ConfChangeV2::parse_from_bytes(&entry.data)
            .map(Some)
            .map_err(|_| Unreadable),
    }
}

/// The number that raft-rs has for a type of change; None if the change is none to it.
fn of_raft(kind: etcd::ConfChangeType) -> Option<ConfChangeType> {
    match kind {
        etcd::ConfChangeType::AddNode => Some(ConfChangeType::AddNode),
        etcd::ConfChangeType::RemoveNode => Some(ConfChangeType::RemoveNode),
        etcd::ConfChangeType::AddLearnerNode => Some(ConfChangeType::AddLearnerNode),
        etcd::ConfChangeType::UpdateNode => None,
    }
}

/// A change of one member in the form that raft-rs takes.
fn of_one(kind: ConfChangeType, node_id: u64) -> ConfChangeV2 {
    let mut single = ConfChangeSingle::default();
    single.set_change_type(kind);
    single.node_id = node_id;
    let mut out = ConfChangeV2::default();
    out.set_changes(vec![single].into());
    out
}

/// Whether this entry, once applied, gives anyone but `me` a vote. An unreadable one counts as if it did.
pub fn gives_others_a_vote(entry: &Entry, me: MemberId) -> bool {
    decode(entry).map_or(true, |change| {
        change.is_some_and(|change| {
            change
                .get_changes()
                .iter()
                .any(|c| c.get_change_type() == ConfChangeType::AddNode && c.node_id != me.0)
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use rusd_proto::conf_change::{Change, ConfChange};
    use rusd_proto::etcdserverpb::Member;
    use rusd_proto::ids::RequestId;

    fn entry(data: bytes::Bytes) -> Entry {
        let mut entry = Entry::default();
        entry.set_entry_type(EntryType::EntryConfChange);
        entry.data = data;
        entry
    }

    #[test]
    fn each_type_of_change_is_to_raft_what_it_is_to_etcd() {
        let member = |is_learner| Member {
            id: 300,
            is_learner,
            ..Member::default()
        };
        for (change, expected) in [
            (Change::Add(member(false)), Some(ConfChangeType::AddNode)),
            (
                Change::Add(member(true)),
                Some(ConfChangeType::AddLearnerNode),
            ),
            (Change::Promote, Some(ConfChangeType::AddNode)),
            (Change::Update(member(false)), None),
            (Change::Remove, Some(ConfChangeType::RemoveNode)),
        ] {
            let change = ConfChange {
                id: MemberId(300),
                change,
            };
            let entry = entry(change.encode(RequestId(7)));
            let read = decode(&entry).unwrap().map(|change| {
                let [single] = change.get_changes() else {
                    panic!("{change:?}");
                };
                assert_eq!(single.node_id, 300);
                single.get_change_type()
            });
            assert_eq!(read, expected, "{change:?}");
            let votes = expected == Some(ConfChangeType::AddNode);
            assert_eq!(gives_others_a_vote(&entry, MemberId(1)), votes);
            assert!(!gives_others_a_vote(&entry, MemberId(300)));
        }
    }

    #[test]
    fn an_unreadable_change_may_give_anybody_a_vote() {
        let unreadable = entry(bytes::Bytes::from_static(b"\xff"));
        assert_eq!(decode(&unreadable), Err(Unreadable));
        assert!(gives_others_a_vote(&unreadable, MemberId(300)));
        assert!(!gives_others_a_vote(&Entry::default(), MemberId(1)));
    }
}
