//! The core: compares what this member wants the replicated state to say with what it says, and proposes the
//! difference.
//!
//! A proposal is made while the state does not show its effect and no proposal for the same subject is on its way.
//! After an answer it rests for [`RETRY_MS`], whatever the answer was, for the state to show it; one whose effect
//! shows already does not rest: the next one for the same subject is about something new.

use crate::proposal::{Proposal, Subject};
use crate::version::ClusterVersion;
use rusd_messages::{MemberId, Published, Role, RoleChanged};
use rusd_proto::etcdserverpb::{AlarmType, Member};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Milliseconds between the answer to a proposal and the next one for the same subject: long enough for the state to
/// show it.
pub const RETRY_MS: u64 = 500;

/// Settings of the members actor.
#[derive(Clone, Debug)]
pub struct MembersConfig {
    /// The id of this member.
    pub member: MemberId,
    /// What `--name` says; published.
    pub name: String,
    /// What `--advertise-client-urls` says; published.
    pub client_urls: Vec<String>,
    /// The highest cluster version that this member can take part in.
    pub cluster_version: ClusterVersion,
}

#[derive(Clone, Copy, Debug)]
enum Attempt {
    InFlight,
    RestsUntil(u64),
}

/// The cluster has moved on to a version that this member does not speak; it must not take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOld {
    /// The version of the cluster.
    pub cluster: ClusterVersion,
    /// The highest one of this member.
    pub member: ClusterVersion,
}

/// What is published, what should be, and which proposals are on their way.
#[derive(Debug)]
pub struct Reconciler {
    config: MembersConfig,
    published: Arc<Published>,
    leader_known: bool,
    leads: bool,
    now_ms: u64,
    /// Conditions seen and not yet shown as alarms.
    alarms: BTreeSet<AlarmType>,
    attempts: BTreeMap<Subject, Attempt>,
    /// A publication of this incarnation has been applied.
    acknowledged: bool,
    joined: bool,
}

impl Reconciler {
    /// A member that knows nothing of its cluster yet.
    pub fn new(config: MembersConfig) -> Self {
        Self {
            config,
            published: Arc::default(),
            leader_known: false,
            leads: false,
            now_ms: 0,
            alarms: BTreeSet::new(),
            attempts: BTreeMap::new(),
            acknowledged: false,
            joined: false,
        }
    }

    /// The replicated state changed.
    pub fn changed(&mut self, published: Arc<Published>) -> Result<(), TooOld> {
        self.published = published;
        self.alarms
            .retain(|kind| !self.published.has_alarm_of(self.config.member, *kind));
        let member = self.config.cluster_version;
        match self.cluster_version() {
            Some(cluster) if cluster > member => Err(TooOld { cluster, member }),
            _ => Ok(()),
        }
    }

    /// Raft's part in the cluster changed.
    pub fn role(&mut self, changed: &RoleChanged) {
        self.leads = changed.role == Role::Leader;
        self.leader_known = changed.leader.is_some() || self.leads;
    }

    /// A condition for an alarm was seen.
    pub fn raise(&mut self, kind: AlarmType) {
        if kind != AlarmType::None && !self.published.has_alarm_of(self.config.member, kind) {
            self.alarms.insert(kind);
        }
    }

    /// Time has passed: proposals that rested may be made again.
    pub fn tick(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// What to propose now. Ask after each of the other calls; the outcome of each is to be told to
    /// [`finished`](Self::finished).
    pub fn proposals(&mut self) -> Vec<Proposal> {
        let due: Vec<Proposal> = self
            .missing()
            .filter(|proposal| self.may_try(proposal.subject()))
            .collect();
        for proposal in &due {
            self.attempts.insert(proposal.subject(), Attempt::InFlight);
        }
        due
    }

    /// What would have to be proposed for the state to say what it should.
    fn missing(&self) -> impl Iterator<Item = Proposal> {
        let publish = (!self.joined).then_some(Proposal::Publish);
        let version = self
            .decide_version()
            .filter(|_| self.leads)
            .map(Proposal::Version);
        let alarms = self.alarms.iter().map(|kind| Proposal::Alarm(*kind));
        publish
            .into_iter()
            .chain(version)
            .chain(alarms)
            .filter(|_| self.leader_known)
    }

    fn may_try(&self, subject: Subject) -> bool {
        match self.attempts.get(&subject) {
            None => true,
            Some(Attempt::InFlight) => false,
            Some(Attempt::RestsUntil(at_ms)) => *at_ms <= self.now_ms,
        }
    }

    /// How a proposal ended.
    pub fn finished(&mut self, proposal: &Proposal, succeeded: bool) {
        self.acknowledged |= succeeded && *proposal == Proposal::Publish;
        let subject = proposal.subject();
        if succeeded && !self.missing().any(|proposal| proposal.subject() == subject) {
            self.attempts.remove(&subject);
            return;
        }
        let rests_until_ms = self.now_ms.saturating_add(RETRY_MS);
        self.attempts
            .insert(subject, Attempt::RestsUntil(rests_until_ms));
    }

    /// True once: when this member's publication has gone through the log and shows, and the cluster has a version,
    /// without which clients would be refused (G-08). It can serve.
    pub fn just_joined(&mut self) -> bool {
        let joins = !self.joined
            && self.acknowledged
            && self.is_published()
            && self.cluster_version().is_some();
        self.joined |= joins;
        joins
    }

    fn me(&self) -> Option<&Member> {
        self.published
            .members
            .iter()
            .find(|member| member.id == self.config.member.0)
    }

    fn is_published(&self) -> bool {
        self.me().is_some_and(|me| {
            me.name == self.config.name && me.client_ur_ls == self.config.client_urls
        })
    }

    fn cluster_version(&self) -> Option<ClusterVersion> {
        self.published.cluster_version.as_ref()?.parse().ok()
    }

    /// O-14: the lowest version among the members. That of others is not known here, so with others the cluster starts
    /// at the lowest there is, and stays where it is.
    fn decide_version(&self) -> Option<ClusterVersion> {
        let alone = self.published.members.len() == 1 && self.me().is_some();
        let lowest = alone.then_some(self.config.cluster_version);
        match self.cluster_version() {
            None if self.published.members.is_empty() => None,
            None => Some(lowest.unwrap_or(ClusterVersion::MIN)),
            Some(current) => lowest.filter(|lowest| *lowest > current),
        }
    }
}
