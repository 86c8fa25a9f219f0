//! The shell: messages in, proposals out.

use crate::proposal::Proposal;
use crate::reconciler::{MembersConfig, Reconciler};
use crate::waiting::Waiting;
use crate::{metrics, report};
use actix::{Actor, ActorContext, Addr, ArbiterHandle, Context, Handler};
use rusd_messages::members::{MembersChanged, RaiseAlarm};
use rusd_messages::{Pending, Port, Proposer, Published, Reply, RoleChanged, Stop, Tick, receive};
use rusd_proto::ApplyResult;
use std::sync::Arc;

/// Changes of members, alarms and version are rare; the credits of Apply bound them.
const CHANGES_QUEUE: usize = 4_096;
/// Every refused write asks for the same alarm; what does not fit is asked for again by the next.
const ALARMS_QUEUE: usize = 4_096;
/// Role changes come seconds apart.
const ROLES_QUEUE: usize = 64;

/// Whom the members actor tells.
#[derive(Clone, Debug)]
pub struct Links {
    /// Takes its proposals to the log.
    pub proposer: Proposer,
}

/// What the members actor receives.
#[derive(Clone, Debug)]
pub struct Ports {
    /// From the state machine.
    pub changed: Port<MembersChanged>,
    /// From whoever sees a condition for an alarm.
    pub raise_alarm: Port<RaiseAlarm>,
    /// From Raft.
    pub role: Port<RoleChanged>,
    /// Time, several times per [`RETRY_MS`](crate::reconciler::RETRY_MS).
    pub tick: Port<Tick>,
    /// Ends the actor; those who wait for an alarm are dropped.
    pub stop: Port<Stop>,
}

impl Ports {
    fn new(address: &Addr<Members>) -> Self {
        Self {
            changed: Port::new("members_changed", CHANGES_QUEUE, address),
            raise_alarm: Port::new("members_raise_alarm", ALARMS_QUEUE, address),
            role: Port::new("members_role", ROLES_QUEUE, address),
            tick: Port::new("members_tick", 1, address),
            stop: Port::new("members_stop", 1, address),
        }
    }
}

/// A started actor, which proposes nothing until it is connected.
#[derive(Debug)]
pub struct Started {
    /// What it receives.
    pub ports: Ports,
    address: Addr<Members>,
}

impl Started {
    /// Connects it. Do so before anything is told to it.
    pub fn connect(self, links: Links) -> Ports {
        self.address.do_send(Connect(links));
        self.ports
    }
}

/// Starts the actor on an arbiter, which it may share. `joined` is answered once this member has published itself
/// through the log, and so can serve.
pub fn start(arbiter: &ArbiterHandle, config: MembersConfig, joined: Reply<()>) -> Started {
    metrics::init();
    let address = Members::start_in_arbiter(arbiter, move |_| Members {
        reconciler: Reconciler::new(config.clone()),
        waiting: Waiting::new(config.member),
        config,
        published: Arc::default(),
        links: None,
        proposed: Vec::new(),
        joined: Some(joined),
    });
    Started {
        ports: Ports::new(&address),
        address,
    }
}

struct Members {
    config: MembersConfig,
    reconciler: Reconciler,
    waiting: Waiting,
    /// What the replicated state says.
    published: Arc<Published>,
    links: Option<Links>,
    /// At most one for each subject.
    proposed: Vec<(Proposal, Pending<ApplyResult>)>,
    joined: Option<Reply<()>>,
}

impl Actor for Members {
    type Context = Context<Self>;
}

struct Connect(Links);

impl actix::Message for Connect {
    type Result = ();
}

impl Handler<Connect> for Members {
    type Result = ();

    fn handle(&mut self, Connect(links): Connect, _: &mut Context<Self>) {
        self.links = Some(links);
    }
}

impl Members {
    /// After every message: hears how proposals ended, and makes new ones.
    fn turn(&mut self) {
        self.hear();
        if self.reconciler.just_joined() {
            report::joined(&self.config);
            if let Some(joined) = self.joined.take() {
                joined.send(());
            }
        }
        self.propose();
    }

    fn hear(&mut self) {
        let reconciler = &mut self.reconciler;
        self.proposed.retain_mut(|(proposal, pending)| {
            let Some(answer) = pending.now() else {
                return true;
            };
            match answer {
                Ok(Ok(_)) => reconciler.finished(proposal, true),
                Ok(Err(error)) => failed(reconciler, proposal, &error),
                Err(dropped) => failed(reconciler, proposal, &dropped),
            }
            false
        });
    }

    fn propose(&mut self) {
        let Some(Links { proposer }) = &self.links else {
            return;
        };
        for proposal in self.reconciler.proposals() {
            tracing::debug!(?proposal, "proposing");
            match proposer.propose(proposal.request(&self.config)) {
                Ok(pending) => self.proposed.push((proposal, pending)),
                Err(error) => failed(&mut self.reconciler, &proposal, &error),
            }
        }
    }

    fn changed(&mut self, published: Arc<Published>) {
        metrics::show(&self.published, &published);
        report::changes(&self.published, &published);
        self.published = published.clone();
        self.waiting.published(&published);
        if let Err(too_old) = self.reconciler.changed(published) {
            report::refuse(too_old);
        }
    }
}

fn failed(reconciler: &mut Reconciler, proposal: &Proposal, error: &dyn std::fmt::Display) {
    tracing::warn!(
        ?proposal,
        error = error.to_string(),
        "a proposal of this member failed, and will be repeated"
    );
    reconciler.finished(proposal, false);
}

receive! { Members:
    MembersChanged => |members, changed, context| {
        members.changed(changed.published);
        members.turn();
    };
    RaiseAlarm => |members, raise, context| {
        members.reconciler.raise(raise.alarm);
        members.waiting.wait(raise.alarm, raise.reply, &members.published);
        members.turn();
    };
    RoleChanged => |members, changed, context| {
        members.reconciler.role(&changed);
        members.turn();
    };
    Tick => |members, tick, context| {
        members.reconciler.tick(tick.now_ms);
        members.turn();
    };
    Stop => |members, stop, context| {
        stop.reply.send(());
        context.stop();
    };
}
