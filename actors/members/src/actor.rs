//! The shell: messages in, proposals out.

use crate::proposal::Proposal;
use crate::reconciler::{MembersConfig, Reconciler};
use crate::start::Links;
use crate::waiting::Waiting;
use crate::{metrics, report};
use actix::{Actor, ActorContext, Context, Handler};
use rusd_messages::members::{MembersChanged, RaiseAlarm};
use rusd_messages::{Pending, Published, Reply, RoleChanged, Stop, Tick, receive};
use rusd_proto::ApplyResult;
use std::sync::Arc;

/// The actor.
pub(crate) struct Members {
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

pub(crate) struct Connect(pub(crate) Links);

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
    /// An actor that is not connected.
    pub(crate) fn new(config: MembersConfig, joined: Reply<()>) -> Self {
        Self {
            reconciler: Reconciler::new(config.clone()),
            waiting: Waiting::new(config.member),
            config,
            published: Arc::default(),
            links: None,
            proposed: Vec::new(),
            joined: Some(joined),
        }
    }

    /// After every message: looks how proposals ended, and makes new ones.
    fn turn(&mut self) {
        self.collect_answers();
        if self.reconciler.just_joined() {
            report::joined(&self.config);
            if let Some(joined) = self.joined.take() {
                joined.send(());
            }
        }
        self.propose();
    }

    fn collect_answers(&mut self) {
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
