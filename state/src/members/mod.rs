//! The members of the cluster, and the version they have agreed on.
//!
//! Members come and go by conf-change entries, whose context is etcd's member JSON; each publishes its name and client
//! URLs by an ordinary entry. An id that was removed never comes back (C-03).
//!
//! The member tree holds, by the first byte of the key:
//!
//! ```text
//!   'm' id (u64 BE)   a member, as `etcdserverpb.Member`
//!   'r' id (u64 BE)   an id that was removed
//!   'v'               the cluster version
//!   'd'               the version a downgrade aims at
//! ```

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use prost::Message;
use rusd_proto::EtcdError;
use rusd_proto::conf_change::{Change, ConfChange};
use rusd_proto::etcdserverpb::Member;
use rusd_proto::ids::MemberId;
use rusd_proto::membershippb::{ClusterMemberAttrSetRequest, DowngradeInfoSetRequest};
use rusd_storage::engine::{Direction, Engine, Tree, WriteBatch};

use crate::error::StateError;

const MEMBER: u8 = b'm';
const REMOVED: u8 = b'r';
const VERSION: &[u8] = b"v";
const DOWNGRADE: &[u8] = b"d";

/// What a conf change did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A voter or learner joined.
    Added(MemberId),
    /// A learner became a voter.
    Promoted(MemberId),
    /// Peer URLs changed.
    Updated(MemberId),
    /// A member left for good.
    Removed(MemberId),
}

/// The replicated membership.
#[derive(Debug, Default)]
pub struct Members {
    /// In order of their ids.
    members: Vec<Member>,
    removed: BTreeSet<u64>,
    cluster_version: Option<String>,
    downgrade_target: Option<String>,
}

impl Members {
    /// The members, in order of their ids.
    pub fn list(&self) -> &[Member] {
        &self.members
    }

    /// A member, by id.
    pub fn get(&self, id: MemberId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id.0)
    }

    /// Panics unless members stand in order of their ids, and none has the id of one that was removed (C-03).
    pub(crate) fn check_order(&self) {
        assert!(
            self.members.is_sorted_by(|one, next| one.id < next.id),
            "members out of order"
        );
        let gone = |member: &Member| self.removed.contains(&member.id);
        assert!(
            !self.members.iter().any(gone),
            "the id of a removed member came back"
        );
    }

    /// Whether the id belonged to a member that was removed.
    pub fn was_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id.0)
    }

    /// The version all members have, as `major.minor.0`; None until it is decided.
    pub fn cluster_version(&self) -> Option<&str> {
        self.cluster_version.as_deref()
    }

    /// The version a downgrade under way aims at.
    pub fn downgrade_target(&self) -> Option<&str> {
        self.downgrade_target.as_deref()
    }

    /// Whether a change of the membership may be made now. Apply asks it, so that the answer is the same
    /// everywhere; a handler may ask it before proposing.
    pub fn check(&self, id: MemberId, change: &Change) -> Result<(), EtcdError> {
        if self.was_removed(id) {
            return Err(EtcdError::MemberNotFound);
        }
        let known = self.get(id);
        match change {
            Change::Add(_) if known.is_some() => Err(EtcdError::MemberIdExists),
            Change::Add(member) => self.check_urls(id, member),
            Change::Promote => match known {
                None => Err(EtcdError::MemberNotFound),
                Some(member) if !member.is_learner => Err(EtcdError::MemberNotLearner),
                Some(_) => Ok(()),
            },
            Change::Update(_) | Change::Remove if known.is_none() => Err(EtcdError::MemberNotFound),
            Change::Update(member) => self.check_urls(id, member),
            Change::Remove => Ok(()),
        }
    }

    fn check_urls(&self, id: MemberId, member: &Member) -> Result<(), EtcdError> {
        let mut others = self
            .members
            .iter()
            .filter(|other| other.id != id.0)
            .flat_map(|other| &other.peer_ur_ls);
        if others.any(|url| member.peer_ur_ls.contains(url)) {
            return Err(EtcdError::PeerUrlsExist);
        }
        Ok(())
    }

    /// Applies a conf change, or says why not.
    pub(crate) fn apply(
        &mut self,
        change: ConfChange,
        batch: &mut WriteBatch,
    ) -> Result<MemberChange, EtcdError> {
        let ConfChange { id, change } = change;
        self.check(id, &change)?;
        match change {
            Change::Add(member) => {
                self.insert(member, batch);
                Ok(MemberChange::Added(id))
            }
            Change::Promote => {
                self.modify(id, batch, |member| member.is_learner = false);
                Ok(MemberChange::Promoted(id))
            }
            Change::Update(update) => {
                // Peer URLs only: whether it is a learner stays as it is (C-04).
                self.modify(id, batch, |member| member.peer_ur_ls = update.peer_ur_ls);
                Ok(MemberChange::Updated(id))
            }
            Change::Remove => {
                self.members.retain(|member| member.id != id.0);
                self.removed.insert(id.0);
                batch.delete(tree_key(MEMBER, id.0));
                batch.put(tree_key(REMOVED, id.0), Vec::new());
                Ok(MemberChange::Removed(id))
            }
        }
    }

    fn insert(&mut self, member: Member, batch: &mut WriteBatch) {
        batch.put(tree_key(MEMBER, member.id), member.encode_to_vec());
        match self
            .members
            .binary_search_by_key(&member.id, |known| known.id)
        {
            Ok(at) => self.members[at] = member,
            Err(at) => self.members.insert(at, member),
        }
    }

    /// A member publishes itself. False if it is not one (any more).
    pub(crate) fn set_attributes(
        &mut self,
        request: ClusterMemberAttrSetRequest,
        batch: &mut WriteBatch,
    ) -> bool {
        let attributes = request.member_attributes.unwrap_or_default();
        self.modify(MemberId(request.member_id), batch, |member| {
            member.name = attributes.name;
            member.client_ur_ls = attributes.client_urls;
        })
    }

    fn modify(
        &mut self,
        id: MemberId,
        batch: &mut WriteBatch,
        modify: impl FnOnce(&mut Member),
    ) -> bool {
        let Some(member) = self.members.iter_mut().find(|member| member.id == id.0) else {
            return false;
        };
        modify(member);
        batch.put(tree_key(MEMBER, id.0), member.encode_to_vec());
        true
    }

    pub(crate) fn set_version(&mut self, version: String, batch: &mut WriteBatch) {
        batch.put(Tree::Member.key(VERSION), version.clone().into_bytes());
        self.cluster_version = Some(version);
    }

    pub(crate) fn set_downgrade(
        &mut self,
        request: DowngradeInfoSetRequest,
        batch: &mut WriteBatch,
    ) {
        self.downgrade_target = request.enabled.then_some(request.ver);
        match &self.downgrade_target {
            Some(target) => batch.put(Tree::Member.key(DOWNGRADE), target.clone().into_bytes()),
            None => batch.delete(Tree::Member.key(DOWNGRADE)),
        }
    }

    pub(crate) fn load(engine: &dyn Engine) -> Result<Self, StateError> {
        let mut members = Self::default();
        let mut failure = None;
        let (start, end) = Tree::Member.range();
        engine.scan(
            &start,
            &end,
            Direction::Forward,
            &mut |key, value| match members.load_record(key.get(1..).unwrap_or_default(), value) {
                Ok(()) => ControlFlow::Continue(()),
                Err(reason) => {
                    failure = Some(StateError::Damaged {
                        tree: "member",
                        reason,
                    });
                    ControlFlow::Break(())
                }
            },
        )?;
        match failure {
            Some(failure) => Err(failure),
            None => Ok(members),
        }
    }

    fn load_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let text = || String::from_utf8(value.to_vec()).map_err(|error| error.to_string());
        match key {
            VERSION => self.cluster_version = Some(text()?),
            DOWNGRADE => self.downgrade_target = Some(text()?),
            [kind, id @ ..] => {
                let id = id
                    .try_into()
                    .map(u64::from_be_bytes)
                    .map_err(|_| format!("key {key:02x?}"))?;
                match *kind {
                    MEMBER => {
                        let member = Member::decode(value).map_err(|error| error.to_string())?;
                        if member.id != id {
                            return Err(format!("member {:x} under key {key:02x?}", member.id));
                        }
                        // The scan is in order of ids.
                        self.members.push(member);
                    }
                    REMOVED => {
                        self.removed.insert(id);
                    }
                    _ => return Err(format!("key {key:02x?}")),
                }
            }
            [] => return Err("empty key".to_owned()),
        }
        Ok(())
    }
}

fn tree_key(kind: u8, id: u64) -> Vec<u8> {
    let mut key = [kind; 9];
    key[1..].copy_from_slice(&id.to_be_bytes());
    Tree::Member.key(&key)
}

/// Whether `version` is `major.minor.patch`, all of them numbers, as a cluster version must be.
pub(crate) fn is_version(version: &str) -> bool {
    let mut parts = version.split('.');
    let numbers = parts
        .by_ref()
        .take(3)
        .filter(|part| part.parse::<u64>().is_ok())
        .count();
    numbers == 3 && parts.next().is_none()
}
