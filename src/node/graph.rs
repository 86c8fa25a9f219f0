//! The actors and the ports between them. First every actor is started, so that all ports exist; then the links are
//! made.

use super::NodeError;
use super::clock::{self, COARSE_TICK, FINE_TICK};
use super::parts::{ActorParts, MembersParts, RaftParts};
use super::threads::Threads;
use crate::disk::Disk;
use rusd_compactor as compactor;
use rusd_lease as lease;
use rusd_members::{self as members, MembersConfig};
use rusd_messages::{Index, MemberId, Pending, Port, Proposer, RaftStatus, Reply, Stop, Tick};
use rusd_mvcc::{self as mvcc, Publications, readers};
use rusd_proto::request::RequestIds;
use rusd_raft::{self as raft, Core as RaftCore, CoreConfig, RaftConfig};
use rusd_watch as watch;
use std::sync::Arc;
use std::time::Duration;

/// Every actor, started, and none linked to another.
pub struct Unlinked {
    raft: raft::Started,
    mvcc: mvcc::Started,
    watch: watch::Started,
    lease: lease::Started,
    compactor: compactor::Started,
    members: members::Started,
    publications: Publications,
    status: Arc<RaftStatus>,
    request_ids: Arc<RequestIds>,
    joined: Pending<()>,
}

/// The graph at work: its ports, and what it publishes.
pub struct Graph {
    /// What Raft receives.
    pub raft: raft::Ports,
    /// The state machine.
    pub mvcc: mvcc::Ports,
    /// The watch hub.
    pub watch: watch::Ports,
    /// The lease timer.
    pub lease: lease::Ports,
    /// The compactor.
    pub compactor: compactor::Ports,
    /// Membership.
    pub members: members::Ports,
    /// What the state machine publishes.
    pub publications: Publications,
    /// What Raft publishes.
    pub status: Arc<RaftStatus>,
    /// The header ids of proposals.
    pub request_ids: Arc<RequestIds>,
    /// Resolves when the member has published itself.
    pub joined: Pending<()>,
}

impl Unlinked {
    /// Starts every actor over what is on disk.
    pub fn start(parts: ActorParts, disk: Disk, threads: &Threads) -> Result<Self, NodeError> {
        let ActorParts {
            raft,
            mvcc,
            watch,
            lease,
            compactor,
            members,
        } = parts;
        let member = disk.identity.member;
        let status = Arc::new(RaftStatus::default());
        let request_ids = Arc::new(RequestIds::new(member, clock::unix_ms()));
        let writer = disk.log.writer();
        let (config, raft_config) = raft_configs(raft, member, disk.machine.applied().0);
        let core = RaftCore::new(config, disk.log.into_tail(), status.clone())?;
        let raft = raft::start(&threads.raft, core, writer, raft_config)?;
        let mvcc = mvcc::start(&threads.mvcc, disk.machine, disk.setup, mvcc)?;
        let publications = mvcc.publications.clone();
        let (joined_reply, joined) = Reply::channel();
        Ok(Self {
            raft,
            mvcc,
            watch: watch::start(&threads.watch, watch),
            lease: lease::start(&threads.timers, lease, publications.live_leases.clone()),
            compactor: compactor::start(&threads.timers, compactor, request_ids.clone()),
            members: members::start(
                &threads.timers,
                members_config(members, member),
                joined_reply,
            ),
            publications,
            status,
            request_ids,
            joined,
        })
    }

    /// Links them. Raft comes last, as it sets everything in motion.
    pub fn link(self) -> Result<Graph, NodeError> {
        let raft = &self.raft.ports;
        let mvcc = &self.mvcc.ports;
        let proposer = Proposer::new(raft.propose.clone(), self.request_ids.clone());
        let demand = self.watch.demand.clone();
        let watch = self.watch.connect(watch::Links {
            history: readers::spawn_history(&self.publications.views)?,
        });
        let lease = self.lease.connect(lease::Links {
            proposer: proposer.clone(),
        });
        let members = self.members.connect(members::Links { proposer });
        let compactor = self.compactor.connect(compactor::Links {
            propose: raft.propose.clone(),
            compact_step: mvcc.compact_step.clone(),
        });
        let links = mvcc::Links {
            applied: raft.applied.clone(),
            conf_applied: raft.conf_applied.clone(),
            engine_persisted: raft.engine_persisted.clone(),
            committed: watch.committed.clone(),
            lagged: watch.lagged.clone(),
            compacted: watch.compacted.clone(),
            leases: lease.changes.clone(),
            revision: compactor.revision.clone(),
            compaction: compactor.pending.clone(),
            stepped: compactor.stepped.clone(),
            members: members.changed.clone(),
            demand,
        };
        let mvcc = self.mvcc.connect(links);
        let raft = self.raft.connect(raft::Links {
            apply: mvcc.apply.clone(),
            role_changed: vec![
                lease.role.clone(),
                compactor.role.clone(),
                members.role.clone(),
            ],
        });
        Ok(Graph {
            raft,
            mvcc,
            watch,
            lease,
            compactor,
            members,
            publications: self.publications,
            status: self.status,
            request_ids: self.request_ids,
            joined: self.joined,
        })
    }
}

impl Graph {
    /// Who is sent ticks, and how often.
    pub fn ticks(&self, heartbeat_interval: Duration) -> Vec<(Duration, Port<Tick>)> {
        vec![
            (
                heartbeat_interval.min(FINE_TICK * 2),
                self.raft.tick.clone(),
            ),
            (FINE_TICK, self.compactor.tick.clone()),
            (FINE_TICK, self.mvcc.tick.clone()),
            (COARSE_TICK, self.watch.tick.clone()),
            (COARSE_TICK, self.lease.tick.clone()),
            // Its first proposal is what a start waits for.
            (FINE_TICK, self.members.tick.clone()),
        ]
    }

    /// In which order they stop. From the edge inwards: what still answers clients goes last.
    pub fn stops(&self) -> Vec<Port<Stop>> {
        vec![
            self.watch.stop.clone(),
            self.compactor.stop.clone(),
            self.lease.stop.clone(),
            self.members.stop.clone(),
            self.raft.stop.clone(),
            self.mvcc.stop.clone(),
        ]
    }
}

fn raft_configs(parts: RaftParts, member: MemberId, applied: Index) -> (CoreConfig, RaftConfig) {
    let RaftParts {
        heartbeat_ms,
        election_ms,
        pre_vote,
        inline_append,
        priority_requests,
    } = parts;
    let config = CoreConfig {
        member,
        applied,
        heartbeat_ms,
        election_ms,
        pre_vote,
        incarnation: clock::unix_ms(),
        priority_requests,
    };
    let inline_bytes_max = if inline_append {
        raft::limits::INLINE_BYTES_MAX
    } else {
        0
    };
    (config, RaftConfig { inline_bytes_max })
}

fn members_config(parts: MembersParts, member: MemberId) -> MembersConfig {
    let MembersParts {
        name,
        client_urls,
        cluster_version,
    } = parts;
    MembersConfig {
        member,
        name,
        client_urls,
        cluster_version,
    }
}
