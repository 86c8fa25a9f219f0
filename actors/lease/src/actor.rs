//! The shell: messages in, proposals and answers out.

use crate::metrics;
use crate::timer::{LeaseConfig, LeaseTimer, Proposal, Renewal, Settled};
use actix::{Actor, ActorContext, Addr, ArbiterHandle, Context, Handler};
use rusd_messages::lease::{KeepAlive, LeaseChange, LeasesChanged, ListLeases, TimeToLive};
use rusd_messages::raft::Propose;
use rusd_messages::{
    Delivery, LeaseId, LiveLeases, Pending, Port, Reply, Role, RoleChanged, Stop, Tick,
};
use rusd_proto::etcdserverpb::{
    InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest,
};
use rusd_proto::request::{self, RequestIds};
use rusd_proto::{ApplyResult, EtcdError};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Batches of changes. The credits of Apply bound them; this only names the bound.
const CHANGES_QUEUE: usize = 4_096;
/// Renewals and questions of clients: about ten milliseconds of work.
const REQUESTS_QUEUE: usize = 16_384;
/// Listings cost in proportion to the leases, and nobody needs many at a time.
const LISTINGS_QUEUE: usize = 64;
/// Role changes come seconds apart.
const ROLES_QUEUE: usize = 64;

/// Renewals that wait for a lease to be gone, or for a checkpoint to be taken back; beyond them `too many requests`.
const WAITING_MAX: usize = 16_384;

/// Who the lease timer tells.
#[derive(Clone, Debug)]
pub struct Links {
    /// Raft.
    pub propose: Port<Propose>,
}

/// What the lease timer receives.
#[derive(Clone, Debug)]
pub struct Ports {
    /// From the state machine.
    pub changes: Port<LeasesChanged>,
    /// Renewals that cannot be made in place.
    pub keep_alive: Port<KeepAlive>,
    /// Questions for what is left.
    pub time_to_live: Port<TimeToLive>,
    /// Listings.
    pub list: Port<ListLeases>,
    /// From Raft.
    pub role: Port<RoleChanged>,
    /// Time.
    pub tick: Port<Tick>,
    /// The end.
    pub stop: Port<Stop>,
}

/// Where the answer to a renewal goes.
type Answer = Reply<Result<i64, EtcdError>>;

/// The actor. Start it, then [`connect`](Lease::connect) it before anything is told to it.
pub struct Lease {
    timer: LeaseTimer,
    ids: Arc<RequestIds>,
    links: Option<Links>,
    waiting: HashMap<LeaseId, Vec<Answer>>,
    waiting_count: usize,
    /// Revocations on their way, in order, to learn early that Raft was too busy for one.
    proposed: VecDeque<(LeaseId, Pending<ApplyResult>)>,
}

struct Connect(Links);

impl actix::Message for Connect {
    type Result = ();
}

impl Actor for Lease {
    type Context = Context<Self>;
}

impl Handler<Connect> for Lease {
    type Result = ();

    fn handle(&mut self, Connect(links): Connect, _: &mut Context<Self>) {
        self.links = Some(links);
    }
}

impl Lease {
    /// Starts the actor on an arbiter, which it may share. `live` is the table that the state machine publishes.
    pub fn start(
        arbiter: &ArbiterHandle,
        config: LeaseConfig,
        ids: Arc<RequestIds>,
        live: Arc<LiveLeases>,
    ) -> Addr<Self> {
        metrics::init();
        Self::start_in_arbiter(arbiter, move |_| Self {
            timer: LeaseTimer::new(config, live),
            ids,
            links: None,
            waiting: HashMap::new(),
            waiting_count: 0,
            proposed: VecDeque::new(),
        })
    }

    /// The doors of a started actor.
    pub fn ports(address: &Addr<Self>) -> Ports {
        Ports {
            changes: Port::new("lease_changes", CHANGES_QUEUE, address),
            keep_alive: Port::new("lease_keep_alive", REQUESTS_QUEUE, address),
            time_to_live: Port::new("lease_time_to_live", REQUESTS_QUEUE, address),
            list: Port::new("lease_list", LISTINGS_QUEUE, address),
            role: Port::new("lease_role", ROLES_QUEUE, address),
            tick: Port::new("lease_tick", 1, address),
            stop: Port::new("lease_stop", 1, address),
        }
    }

    /// Hands the links over.
    pub fn connect(address: &Addr<Self>, links: Links) {
        address.do_send(Connect(links));
    }

    /// Proposes what the timer wants.
    fn propose(&mut self) {
        for proposal in self.timer.proposals() {
            let id = self.ids.next();
            let data = request::encode(id, encode(&proposal));
            let (reply, pending) = match proposal {
                Proposal::Revoke(_) => Reply::channel(),
                Proposal::Checkpoint(_) => (Reply::ignored(), Reply::channel().1),
            };
            let told = self
                .links
                .as_ref()
                .map(|links| links.propose.tell(Propose { id, data, reply }));
            match (told, &proposal) {
                (Some(Ok(())), Proposal::Revoke(lease)) => {
                    self.proposed.push_back((*lease, pending))
                }
                (Some(Ok(())), Proposal::Checkpoint(_)) => {}
                _ => self.timer.not_proposed(&proposal),
            }
        }
    }

    /// Learns which revocations Raft turned away. Any other failure shows by the lease staying: it is tried again
    /// after the request timeout.
    fn hear_of_refusals(&mut self) {
        while let Some((lease, pending)) = self.proposed.front_mut() {
            let Some(answer) = pending.now() else { return };
            match answer {
                Ok(Err(EtcdError::TooManyRequests)) => {
                    self.timer.not_proposed(&Proposal::Revoke(*lease))
                }
                Ok(Err(error)) if error != EtcdError::LeaseNotFound => {
                    tracing::warn!("lease-id" = %lease, %error, "failed to revoke lease");
                }
                _ => {}
            }
            self.proposed.pop_front();
        }
    }

    fn wait(&mut self, id: LeaseId, answer: Answer) {
        if self.waiting_count >= WAITING_MAX {
            answer.send(Err(EtcdError::TooManyRequests));
            return;
        }
        self.waiting_count += 1;
        self.waiting.entry(id).or_default().push(answer);
    }

    fn answer_waiting(&mut self, id: LeaseId, ttl_s: i64) {
        if self.waiting.is_empty() {
            return;
        }
        for answer in self.waiting.remove(&id).unwrap_or_default() {
            self.waiting_count -= 1;
            answer.send(Ok(ttl_s));
        }
    }

    fn follow(&mut self, change: LeaseChange) {
        let settled = self.timer.change(change);
        match change {
            LeaseChange::Granted { ttl_s, .. } => {
                metrics::GRANTED.inc();
                metrics::TTL.observe(ttl_s as f64);
            }
            LeaseChange::Revoked { id } => {
                metrics::REVOKED.inc();
                self.answer_waiting(id, 0);
            }
            LeaseChange::Checkpointed { id, .. } => {
                if let Settled::Renewed(ttl_s) = settled {
                    self.answer_waiting(id, ttl_s);
                }
            }
            LeaseChange::Restored { .. } => {}
        }
        if settled == (Settled::Gone { expired: true }) {
            metrics::EXPIRED.inc();
        }
    }
}

fn encode(proposal: &Proposal) -> InternalRaftRequest {
    match proposal {
        Proposal::Revoke(id) => InternalRaftRequest {
            lease_revoke: Some(LeaseRevokeRequest { id: id.0 }),
            ..Default::default()
        },
        Proposal::Checkpoint(leases) => {
            let checkpoints = leases.iter().map(|(id, remaining_ttl_s)| LeaseCheckpoint {
                id: id.0,
                remaining_ttl: *remaining_ttl_s,
            });
            InternalRaftRequest {
                lease_checkpoint: Some(LeaseCheckpointRequest {
                    checkpoints: checkpoints.collect(),
                }),
                ..Default::default()
            }
        }
    }
}

impl Handler<Delivery<LeasesChanged>> for Lease {
    type Result = ();

    fn handle(&mut self, message: Delivery<LeasesChanged>, _: &mut Context<Self>) {
        for change in message.open().changes {
            self.follow(change);
        }
        self.propose();
    }
}

impl Handler<Delivery<KeepAlive>> for Lease {
    type Result = ();

    fn handle(&mut self, message: Delivery<KeepAlive>, _: &mut Context<Self>) {
        let KeepAlive { id, reply } = message.open();
        match self.timer.renew(id) {
            Renewal::Renewed(ttl_s) => {
                metrics::RENEWED.inc();
                reply.send(Ok(ttl_s));
            }
            Renewal::Unknown => reply.send(Ok(0)),
            Renewal::NotPrimary => reply.send(Err(EtcdError::NotPrimary)),
            Renewal::Expired => self.wait(id, reply),
            Renewal::AwaitsCheckpoint => {
                metrics::RENEWED.inc();
                self.wait(id, reply);
            }
        }
    }
}

impl Handler<Delivery<TimeToLive>> for Lease {
    type Result = ();

    fn handle(&mut self, message: Delivery<TimeToLive>, _: &mut Context<Self>) {
        let TimeToLive { id, reply } = message.open();
        reply.send(self.timer.remaining(id).ok_or(EtcdError::NotPrimary));
    }
}

impl Handler<Delivery<ListLeases>> for Lease {
    type Result = ();

    fn handle(&mut self, message: Delivery<ListLeases>, _: &mut Context<Self>) {
        message.open().reply.send(self.timer.list());
    }
}

impl Handler<Delivery<RoleChanged>> for Lease {
    type Result = ();

    fn handle(&mut self, message: Delivery<RoleChanged>, _: &mut Context<Self>) {
        let RoleChanged { role, term, .. } = message.open();
        if self.timer.lead((role == Role::Leader).then_some(term)) {
            self.proposed.clear();
            self.waiting_count = 0;
            for (_, answers) in self.waiting.drain() {
                for answer in answers {
                    answer.send(Err(EtcdError::NotPrimary));
                }
            }
        }
    }
}

impl Handler<Delivery<Tick>> for Lease {
    type Result = ();

    fn handle(&mut self, message: Delivery<Tick>, _: &mut Context<Self>) {
        let Tick { now_ms } = message.open();
        self.timer.tick(now_ms);
        self.hear_of_refusals();
        self.propose();
    }
}

impl Handler<Delivery<Stop>> for Lease {
    type Result = ();

    fn handle(&mut self, message: Delivery<Stop>, ctx: &mut Context<Self>) {
        message.open().reply.send(());
        ctx.stop();
    }
}
