//! The shell: messages in, proposals and answers out.

use crate::metrics;
use crate::proposal::Proposal;
use crate::timer::{LeaseConfig, LeaseTimer, Renewal, Settled};
use crate::waiting::Waiting;
use actix::{Actor, ActorContext, Addr, ArbiterHandle, Context, Handler};
use rusd_messages::lease::{KeepAlive, LeaseChange, LeasesChanged, ListLeases, TimeToLive};
use rusd_messages::{
    LeaseId, LiveLeases, Pending, Port, Proposer, Role, RoleChanged, Stop, Tick, receive,
};
use rusd_proto::{ApplyResult, EtcdError};
use std::collections::VecDeque;
use std::sync::Arc;

/// Batches of changes. The credits of Apply bound them; this only names the bound.
const CHANGES_QUEUE: usize = 4_096;
/// Renewals and questions of clients: about ten milliseconds of work.
const REQUESTS_QUEUE: usize = 16_384;
/// Listings cost in proportion to the leases, and nobody needs many at a time.
const LISTINGS_QUEUE: usize = 64;
/// Role changes come seconds apart.
const ROLES_QUEUE: usize = 64;

/// Whom the lease timer tells.
#[derive(Clone, Debug)]
pub struct Links {
    /// Takes revocations and checkpoints to the log.
    pub proposer: Proposer,
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
    /// Questions for all leases.
    pub list: Port<ListLeases>,
    /// From Raft.
    pub role: Port<RoleChanged>,
    /// Time, at least once per [`CHECK_INTERVAL_MS`](crate::timer::CHECK_INTERVAL_MS).
    pub tick: Port<Tick>,
    /// Ends the actor; renewals that wait are dropped.
    pub stop: Port<Stop>,
}

impl Ports {
    fn new(address: &Addr<Lease>) -> Self {
        Self {
            changes: Port::new("lease_changes", CHANGES_QUEUE, address),
            keep_alive: Port::new("lease_keep_alive", REQUESTS_QUEUE, address),
            time_to_live: Port::new("lease_time_to_live", REQUESTS_QUEUE, address),
            list: Port::new("lease_list", LISTINGS_QUEUE, address),
            role: Port::new("lease_role", ROLES_QUEUE, address),
            tick: Port::new("lease_tick", 1, address),
            stop: Port::new("lease_stop", 1, address),
        }
    }
}

/// A started lease timer, which proposes nothing until it is connected.
#[derive(Debug)]
pub struct Started {
    /// What it receives.
    pub ports: Ports,
    address: Addr<Lease>,
}

impl Started {
    /// Connects it. Do so before anything is told to it.
    pub fn connect(self, links: Links) -> Ports {
        self.address.do_send(Connect(links));
        self.ports
    }
}

/// Starts the actor on an arbiter, which it may share. `live` is the table that the state machine publishes.
pub fn start(arbiter: &ArbiterHandle, config: LeaseConfig, live: Arc<LiveLeases>) -> Started {
    metrics::init();
    let address = Lease::start_in_arbiter(arbiter, move |_| Lease {
        timer: LeaseTimer::new(config, live),
        waiting: Waiting::default(),
        links: None,
        proposed: VecDeque::new(),
    });
    Started {
        ports: Ports::new(&address),
        address,
    }
}

struct Lease {
    timer: LeaseTimer,
    waiting: Waiting,
    links: Option<Links>,
    /// Revocations on their way, in order, to learn early that Raft was too busy for one.
    proposed: VecDeque<(LeaseId, Pending<ApplyResult>)>,
}

impl Actor for Lease {
    type Context = Context<Self>;
}

struct Connect(Links);

impl actix::Message for Connect {
    type Result = ();
}

impl Handler<Connect> for Lease {
    type Result = ();

    fn handle(&mut self, Connect(links): Connect, _: &mut Context<Self>) {
        self.links = Some(links);
    }
}

impl Lease {
    /// Proposes what the timer wants.
    fn propose(&mut self) {
        let Some(Links { proposer }) = &self.links else {
            return;
        };
        for proposal in self.timer.proposals() {
            let request = proposal.request();
            let refused = match proposal {
                Proposal::Revoke(lease) => proposer
                    .propose(request)
                    .map(|pending| self.proposed.push_back((lease, pending))),
                Proposal::Checkpoint(_) => proposer.propose_unheard(request),
            }
            .is_err();
            if refused {
                self.timer.not_proposed(&proposal);
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

    fn change(&mut self, change: LeaseChange) {
        let settled = self.timer.change(change);
        metrics::count(&change, settled);
        match (change, settled) {
            (LeaseChange::Revoked { id }, _) => self.waiting.answer(id, 0),
            (LeaseChange::Checkpointed { id, .. }, Settled::Renewed(ttl_s)) => {
                self.waiting.answer(id, ttl_s)
            }
            _ => {}
        }
    }

    fn keep_alive(&mut self, KeepAlive { id, reply }: KeepAlive) {
        let renewal = self.timer.renew(id);
        if let Renewal::Renewed(_) | Renewal::AwaitsCheckpoint = renewal {
            metrics::RENEWED.inc();
        }
        match renewal {
            Renewal::Renewed(ttl_s) => reply.send(Ok(ttl_s)),
            Renewal::Unknown => reply.send(Ok(0)),
            Renewal::NotPrimary => reply.send(Err(EtcdError::NotPrimary)),
            Renewal::Expired | Renewal::AwaitsCheckpoint => self.waiting.wait(id, reply),
        }
    }
}

receive! { Lease:
    LeasesChanged => |lease, changed, context| {
        changed.changes.into_iter().for_each(|change| lease.change(change));
        lease.propose();
    };
    KeepAlive => |lease, renewal, context| lease.keep_alive(renewal);
    TimeToLive => |lease, question, context| {
        let remaining = lease.timer.remaining(question.id);
        question.reply.send(remaining.ok_or(EtcdError::NotPrimary));
    };
    ListLeases => |lease, question, context| question.reply.send(lease.timer.list());
    RoleChanged => |lease, changed, context| {
        if lease.timer.lead((changed.role == Role::Leader).then_some(changed.term)) {
            lease.proposed.clear();
            lease.waiting.not_primary();
        }
    };
    Tick => |lease, tick, context| {
        lease.timer.tick(tick.now_ms);
        lease.hear_of_refusals();
        lease.propose();
    };
    Stop => |lease, stop, context| {
        stop.reply.send(());
        context.stop();
    };
}
