//! What the shells of the light actors do, which change the world only by proposing: lease timer, compactor, members.

use super::message::Message;
use super::{ELECTION_MS, Process};
use crate::faults::Planted;
use crate::host::Host;
use crate::network::Party;
use rusd_compactor::pacing::Pacing;
use rusd_compactor::policy::AutoCompaction;
use rusd_lease::timer::{LeaseTimer, Renewal, Settled};
use rusd_lease::{LeaseConfig, Proposal};
use rusd_members::MembersConfig;
use rusd_members::reconciler::Reconciler;
use rusd_members::version::ClusterVersion;
use rusd_messages::lease::{KeepAlive, LeaseChange};
use rusd_messages::{LeaseId, LiveLeases, MemberId, Pending, Reply, Role};
use rusd_proto::etcdserverpb::{CompactionRequest, InternalRaftRequest};
use rusd_proto::{ApplyResult, EtcdError};
use std::collections::VecDeque;
use std::sync::Arc;

pub struct Lease {
    timer: LeaseTimer,
    proposed: VecDeque<(LeaseId, Pending<ApplyResult>)>,
    /// Renewals that are answered when an entry is applied.
    waiting: Vec<(LeaseId, Reply<Result<i64, EtcdError>>)>,
}

impl Lease {
    pub fn start(live: &Arc<LiveLeases>, host: &Host) -> Self {
        let config = LeaseConfig {
            election_timeout_ms: ELECTION_MS,
            request_timeout_ms: 5_000 + 2 * ELECTION_MS,
            checkpoint_interval_ms: host.settings.lease_checkpoint_ms,
        };
        Self {
            timer: LeaseTimer::new(config, live.clone()),
            proposed: VecDeque::new(),
            waiting: Vec::new(),
        }
    }

    fn change(&mut self, change: LeaseChange) {
        let settled = self.timer.change(change);
        let (lease, ttl_s) = match (change, settled) {
            (LeaseChange::Revoked { id }, _) => (id, 0),
            (LeaseChange::Checkpointed { id, .. }, Settled::Renewed(ttl_s)) => (id, ttl_s),
            _ => return,
        };
        for (_, reply) in self.waiting.extract_if(.., |(id, _)| *id == lease) {
            reply.send(Ok(ttl_s));
        }
    }

    fn keep_alive(&mut self, renewal: KeepAlive, host: &mut Host) {
        let KeepAlive { id, reply } = renewal;
        match self.timer.renew(id) {
            Renewal::Renewed(ttl_s) => {
                host.checks.renewed(id.0, ttl_s, host.clock.now_us());
                reply.send(Ok(ttl_s));
            }
            Renewal::Unknown => reply.send(Ok(0)),
            Renewal::NotPrimary => reply.send(Err(EtcdError::NotPrimary)),
            Renewal::Expired | Renewal::AwaitsCheckpoint => self.waiting.push((id, reply)),
        }
    }

    fn collect_refusals(&mut self) {
        while let Some((lease, pending)) = self.proposed.front_mut()
            && let Some(answer) = pending.now()
        {
            if answer == Ok(Err(EtcdError::TooManyRequests)) {
                self.timer.not_proposed(&Proposal::Revoke(*lease));
            }
            self.proposed.pop_front();
        }
    }
}

pub struct Compactor {
    policy: AutoCompaction,
    pacing: Pacing,
    proposed: Option<Pending<ApplyResult>>,
}

impl Compactor {
    pub fn start(host: &Host) -> Self {
        Self {
            policy: AutoCompaction::new(host.settings.auto_compaction),
            pacing: Pacing::new(host.settings.pace),
            proposed: None,
        }
    }

    fn settle(&mut self) {
        if let Some(answer) = self.proposed.as_mut().and_then(Pending::now) {
            self.proposed = None;
            self.policy
                .finished(matches!(answer, Ok(Ok(_) | Err(EtcdError::Compacted))));
        }
    }
}

pub struct Members {
    config: MembersConfig,
    reconciler: Reconciler,
    proposed: Vec<(rusd_members::Proposal, Pending<ApplyResult>)>,
}

impl Members {
    pub fn start(member: MemberId) -> Self {
        let config = MembersConfig {
            member,
            name: "m".to_owned(),
            client_urls: vec!["http://m:2379".to_owned()],
            cluster_version: ClusterVersion { major: 3, minor: 6 },
        };
        Self {
            reconciler: Reconciler::new(config.clone()),
            config,
            proposed: Vec::new(),
        }
    }

    /// True once: when this member can serve.
    fn settle(&mut self) -> bool {
        let reconciler = &mut self.reconciler;
        self.proposed.retain_mut(|(proposal, pending)| {
            let answer = pending.now();
            if let Some(answer) = &answer {
                reconciler.finished(proposal, matches!(answer, Ok(Ok(_))));
            }
            answer.is_none()
        });
        reconciler.just_joined()
    }
}

impl Process {
    pub(super) fn lease_message(&mut self, message: Message, host: &mut Host) {
        let fast = host.has(Planted::EarlyExpiry);
        let now_ms = self.now_ms(host) * if fast { 2 } else { 1 };
        let lease = &mut self.lease;
        let proposes = matches!(message, Message::Tick | Message::Leases(_));
        match message {
            Message::Tick => {
                lease.timer.tick(now_ms);
                lease.collect_refusals();
            }
            Message::Role(role) => {
                let leads = (role.role == Role::Leader).then_some(role.term);
                if lease.timer.lead(leads) {
                    lease.proposed.clear();
                    for (_, reply) in lease.waiting.drain(..) {
                        reply.send(Err(EtcdError::NotPrimary));
                    }
                }
            }
            Message::Leases(changed) => changed
                .changes
                .into_iter()
                .for_each(|change| lease.change(change)),
            Message::KeepAlive(renewal) => lease.keep_alive(renewal, host),
            Message::TimeToLive(question) => {
                let remaining = lease.timer.remaining(question.id);
                question.reply.send(remaining.ok_or(EtcdError::NotPrimary));
            }
            _ => {}
        }
        let proposals = if proposes {
            self.lease.timer.proposals()
        } else {
            Vec::new()
        };
        for proposal in proposals {
            let (id, pending) = self.propose(Party::Lease, proposal.request(), host);
            if let Proposal::Revoke(lease) = proposal {
                host.checks.expires(lease, id);
                self.lease.proposed.push_back((lease, pending));
            }
        }
        self.lease.timer.check();
    }

    pub(super) fn compactor_message(&mut self, message: Message, host: &mut Host) {
        let now_ms = self.now_ms(host);
        let compactor = &mut self.compactor;
        match message {
            Message::Tick => {
                compactor.settle();
                compactor.pacing.tick(now_ms);
                if let Some(revision) = compactor.policy.tick(now_ms) {
                    let compaction = CompactionRequest {
                        revision,
                        physical: false,
                    };
                    let request = InternalRaftRequest {
                        compaction: Some(compaction),
                        ..Default::default()
                    };
                    let (_, pending) = self.propose(Party::Compactor, request, host);
                    self.compactor.proposed = Some(pending);
                }
            }
            Message::Role(role) => compactor.policy.lead(role.role == Role::Leader),
            Message::Revision(revision) => {
                self.mvcc.revision_taken();
                compactor.policy.revision(revision.revision);
            }
            Message::CompactionPending(pending) => compactor.pacing.pending(pending.revision),
            Message::Stepped(stepped) => {
                compactor.pacing.stepped(&stepped);
            }
            _ => {}
        }
        if let Some(records) = self.compactor.pacing.step() {
            host.send(Party::Compactor, Party::Mvcc, Message::CompactStep(records));
        }
    }

    pub(super) fn members_message(&mut self, message: Message, host: &mut Host) {
        let now_ms = self.now_ms(host);
        let members = &mut self.members;
        match message {
            Message::Tick => members.reconciler.tick(now_ms),
            Message::Role(role) => members.reconciler.role(&role),
            Message::Members(published) => {
                let spoken = members.reconciler.changed(published);
                assert!(
                    spoken.is_ok(),
                    "the cluster's version is not spoken: {spoken:?}"
                );
            }
            _ => {}
        }
        self.serves |= members.settle();
        for proposal in self.members.reconciler.proposals() {
            let request = proposal.request(&self.members.config);
            let (_, pending) = self.propose(Party::Members, request, host);
            self.members.proposed.push((proposal, pending));
        }
    }
}
