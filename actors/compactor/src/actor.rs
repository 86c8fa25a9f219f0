//! The shell: messages in, proposals and steps out, and what operators read in the log.

use crate::metrics;
use crate::pacing::{Finished, Pace, Pacing};
use crate::policy::{AutoCompaction, AutoMode};
use actix::{Actor, ActorContext, Addr, ArbiterHandle, Context, Handler};
use rusd_messages::compactor::{CompactStepped, CompactionPending, RevisionAdvanced};
use rusd_messages::mvcc::CompactStep;
use rusd_messages::raft::Propose;
use rusd_messages::{
    Dropped, Pending, Port, Proposer, Reply, Role, RoleChanged, Stop, Tick, receive,
};
use rusd_proto::etcdserverpb::{CompactionRequest, InternalRaftRequest};
use rusd_proto::request::RequestIds;
use rusd_proto::{ApplyResult, EtcdError};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Revisions: only the last one counts, but a port cannot replace what is queued, so there is some room.
const REVISIONS_QUEUE: usize = 64;
/// Compactions to carry out; they come through Apply, whose credits bound them.
const PENDING_QUEUE: usize = 4_096;
/// Role changes come seconds apart.
const ROLES_QUEUE: usize = 64;

/// Settings of the compactor.
#[derive(Clone, Copy, Debug)]
pub struct CompactorConfig {
    /// `--auto-compaction-mode` and `--auto-compaction-retention`.
    pub auto: AutoMode,
    /// `--compaction-batch-limit`: records removed in one go.
    pub batch_records: usize,
    /// `--compaction-sleep-interval`: the pause after each batch.
    pub pause_ms: u64,
}

/// Who the compactor tells.
#[derive(Clone, Debug)]
pub struct Links {
    /// Raft.
    pub propose: Port<Propose>,
    /// The state machine.
    pub compact_step: Port<CompactStep>,
}

/// What the compactor receives.
#[derive(Clone, Debug)]
pub struct Ports {
    /// From the state machine: where the store is.
    pub revision: Port<RevisionAdvanced>,
    /// From the state machine: there is something to remove.
    pub pending: Port<CompactionPending>,
    /// From the state machine: a step is done. There is never more than one.
    pub stepped: Port<CompactStepped>,
    /// From Raft.
    pub role: Port<RoleChanged>,
    /// Time.
    pub tick: Port<Tick>,
    /// The end.
    pub stop: Port<Stop>,
}

struct Proposed {
    revision: i64,
    started: Instant,
    pending: Pending<ApplyResult>,
}

/// A started actor that does nothing until it is connected.
#[derive(Debug)]
pub struct Started {
    /// What it receives.
    pub ports: Ports,
    address: Addr<Compactor>,
    ids: Arc<RequestIds>,
}

/// Starts the actor on an arbiter, which it may share. Its proposals get their ids from `ids`.
pub fn start(arbiter: &ArbiterHandle, config: CompactorConfig, ids: Arc<RequestIds>) -> Started {
    metrics::init();
    let pace = Pace {
        step_records: config.batch_records.max(1),
        pause_ms: config.pause_ms,
    };
    let address = Compactor::start_in_arbiter(arbiter, move |_| Compactor {
        auto: config.auto,
        policy: AutoCompaction::new(config.auto),
        pacing: Pacing::new(pace),
        connected: None,
        proposed: None,
        step_started: None,
        removal_started: None,
    });
    Started {
        ports: Ports {
            revision: Port::new("compactor_revision", REVISIONS_QUEUE, &address),
            pending: Port::new("compactor_pending", PENDING_QUEUE, &address),
            stepped: Port::new("compactor_stepped", 1, &address),
            role: Port::new("compactor_role", ROLES_QUEUE, &address),
            tick: Port::new("compactor_tick", 1, &address),
            stop: Port::new("compactor_stop", 1, &address),
        },
        address,
        ids,
    }
}

impl Started {
    /// Connects it: from now on it compacts.
    pub fn connect(self, links: Links) -> Ports {
        self.address.do_send(Connect {
            proposer: Proposer::new(links.propose, self.ids),
            compact_step: links.compact_step,
        });
        self.ports
    }
}

struct Compactor {
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

struct Connect {
    proposer: Proposer,
    compact_step: Port<CompactStep>,
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
    fn propose(&mut self, revision: i64) {
        let Some(connected) = &self.connected else {
            return;
        };
        tracing::info!(revision, "starting auto {} compaction", self.mode_name());
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

    fn mode_name(&self) -> &'static str {
        match self.auto {
            AutoMode::Off => "no",
            AutoMode::Periodic { .. } => "periodic",
            AutoMode::Revisions { .. } => "revision",
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
        let mode = self.mode_name();
        match failure {
            None => tracing::info!(revision, ?took, "completed auto {mode} compaction"),
            Some(error) => {
                tracing::warn!(revision, ?took, error, "failed auto {mode} compaction")
            }
        }
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
            report(&finished, took.unwrap_or_default());
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

    fn stop(reply: Reply<()>, context: &mut Context<Self>) {
        reply.send(());
        context.stop();
    }
}

fn report(finished: &Finished, took: Duration) {
    metrics::TOTAL.observe(took.as_millis() as f64);
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    metrics::LAST.set(unix.as_secs() as f64);
    tracing::info!(
        "compact-revision" = finished.revision,
        ?took,
        "number-of-keys-compacted" = finished.removed,
        "finished scheduled compaction"
    );
}

receive! { Compactor:
    RevisionAdvanced => |actor, advanced, _context| actor.policy.revision(advanced.revision);
    CompactionPending => |actor, pending, _context| actor.pending(pending.revision);
    CompactStepped => |actor, stepped, _context| actor.stepped(stepped);
    RoleChanged => |actor, changed, _context| actor.policy.lead(changed.role == Role::Leader);
    Tick => |actor, tick, _context| actor.tick(tick.now_ms);
    Stop => |_actor, stop, context| Self::stop(stop.reply, context);
}
