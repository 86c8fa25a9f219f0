//! The shell: messages in, proposals and answers out.

use crate::metrics;
use crate::proposal::Proposal;
use crate::start::Links;
use crate::timer::{LeaseTimer, Renewal, Settled};
use crate::waiting::Waiting;
use actix::{Actor, ActorContext, Context, Handler};
use rusd_messages::lease::{KeepAlive, LeaseChange, LeasesChanged, ListLeases, TimeToLive};
use rusd_messages::{LeaseId, Pending, Role, RoleChanged, Stop, Tick, receive};
use rusd_proto::{ApplyResult, EtcdError};
use std::collections::VecDeque;

/// The actor.
pub(crate) struct Lease {
    timer: LeaseTimer,
    waiting: Waiting,
    links: Option<Links>,
    /// Revocations on their way, in order, to learn early that Raft was too busy for one.
    proposed: VecDeque<(LeaseId, Pending<ApplyResult>)>,
}

impl Actor for Lease {
    type Context = Context<Self>;
}

pub(crate) struct Connect(pub(crate) Links);

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
    /// An actor that is not connected.
    pub(crate) fn new(timer: LeaseTimer) -> Self {
        Self {
            timer,
            waiting: Waiting::default(),
            links: None,
            proposed: VecDeque::new(),
        }
    }

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
                Proposal::Checkpoint(_) => proposer.propose_and_forget(request),
            }
            .is_err();
            if refused {
                self.timer.not_proposed(&proposal);
            }
        }
    }

    /// Looks which revocations Raft has refused since. Any other failure shows by the lease staying: it is tried again
    /// after the request timeout.
    fn collect_refusals(&mut self) {
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
        lease.collect_refusals();
        lease.propose();
    };
    Stop => |lease, stop, context| {
        stop.reply.send(());
        context.stop();
    };
}
