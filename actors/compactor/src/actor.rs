//! The shell: messages in, proposals and steps out, and what operators read in the log.
#![allow(clippy::disallowed_methods)]

use crate::metrics;
use crate::pacing::{Pace, Pacing};
use crate::policy::{AutoCompaction, AutoMode};
use crate::report;
use actix::{Actor, ActorContext, Context, Handler};
use rusd_messages::compactor::{CompactStepped, CompactionPending, RevisionAdvanced};
use rusd_messages::mvcc::CompactStep;
use rusd_messages::{Dropped, Pending, Port, Proposer, Role, RoleChanged, Stop, Tick, receive};
use rusd_proto::etcdserverpb::{CompactionRequest, InternalRaftRequest};
use rusd_proto::{ApplyResult, EtcdError};
use std::time::{Duration, Instant};

struct Proposed {
    revision: i64,
    started: Instant,
    pending: Pending<ApplyResult>,
}

/// The actor. It does nothing until it is connected.
pub(crate) struct Compactor {
    auto: AutoMode,
    policy: AutoCompaction,
    pacing: Pacing,
    connected: Option<Connect>,
    proposed: Option<Proposed>,
    /// When the step on its way was asked for.
    step_started: Option<Instant>,
    /// When the first step of the removal was asked for.
    removal_started: Option<Instant>,
}

/// Hands a started actor whom it tells.
pub(crate) struct Connect {
    pub(crate) proposer: Proposer,
    pub(crate) compact_step: Port<CompactStep>,
}

impl actix::Message for Connect {
    type Result = ();
}

impl Actor for Compactor {
    type Context = Context<Self>;
}

impl Handler<Connect> for Compactor {
    type Result = ();

    fn handle(&mut self, connect: Connect, _: &mut Context<Self>) {
        self.connected = Some(connect);
    }
}

impl Compactor {
    pub(crate) fn new(auto: AutoMode, pace: Pace) -> Self {
        Self {
            auto,
            policy: AutoCompaction::new(auto),
            pacing: Pacing::new(pace),
            connected: None,
            proposed: None,
            step_started: None,
            removal_started: None,
        }
    }

    fn propose(&mut self, revision: i64) {
        let Some(connected) = &self.connected else {
            return;
        };
        report::proposing(self.auto, revision);
        let started = Instant::now();
        let proposed = connected.proposer.propose(InternalRaftRequest {
            compaction: Some(CompactionRequest {
                revision,
                physical: false,
            }),
            ..Default::default()
        });
        match proposed {
            Ok(pending) => {
                self.proposed = Some(Proposed {
                    revision,
                    started,
                    pending,
                });
                self.settle();
            }
            Err(error) => self.settled(revision, started.elapsed(), Some(error.to_string())),
        }
    }

    /// Learns how a proposed compaction ended.
    fn settle(&mut self) {
        let Some(proposed) = &mut self.proposed else {
            return;
        };
        let Some(answer) = proposed.pending.now() else {
            return;
        };
        let (revision, took) = (proposed.revision, proposed.started.elapsed());
        self.proposed = None;
        let failure = match answer {
            Ok(Ok(_) | Err(EtcdError::Compacted)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(Dropped) => Some(Dropped.to_string()),
        };
        self.settled(revision, took, failure);
    }

    fn settled(&mut self, revision: i64, took: Duration, failure: Option<String>) {
        self.policy.finished(failure.is_none());
        report::proposed(self.auto, revision, took, failure.as_deref());
    }

    /// Asks for a step, if one is due.
    fn step(&mut self) {
        let Some(max_records) = self.pacing.step() else {
            return;
        };
        let told = self
            .connected
            .as_ref()
            .map(|connected| connected.compact_step.tell(CompactStep { max_records }));
        if matches!(told, Some(Ok(()))) {
            let now = Instant::now();
            self.step_started = Some(now);
            self.removal_started.get_or_insert(now);
        } else {
            self.pacing.not_stepped();
        }
    }

    fn stepped(&mut self, stepped: CompactStepped) {
        if let Some(started) = self.step_started.take() {
            metrics::PAUSE.observe(started.elapsed().as_millis() as f64);
        }
        metrics::KEYS.inc_by(stepped.removed as u64);
        if let Some(finished) = self.pacing.stepped(&stepped) {
            let took = self.removal_started.take().map(|started| started.elapsed());
            report::finished(&finished, took.unwrap_or_default());
        }
        self.step();
    }

    fn pending(&mut self, revision: i64) {
        self.pacing.pending(revision);
        self.step();
    }

    fn tick(&mut self, now_ms: u64) {
        self.settle();
        if let Some(revision) = self.policy.tick(now_ms) {
            self.propose(revision);
        }
        self.pacing.tick(now_ms);
        self.step();
    }
}

receive! { Compactor:
    RevisionAdvanced => |actor, advanced, _context| actor.policy.revision(advanced.revision);
    CompactionPending => |actor, pending, _context| actor.pending(pending.revision);
    CompactStepped => |actor, stepped, _context| actor.stepped(stepped);
    RoleChanged => |actor, changed, _context| actor.policy.lead(changed.role == Role::Leader);
    Tick => |actor, tick, _context| actor.tick(tick.now_ms);
    Stop => |_actor, stop, context| {
        stop.reply.send(());
        context.stop();
    };
}
