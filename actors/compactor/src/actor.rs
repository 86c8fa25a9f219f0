//! The shell: messages in, proposals and steps out, and what operators read in the log.

use crate::metrics;
use crate::pacing::{Finished, Pace, Pacing};
use crate::policy::{AutoCompaction, AutoMode};
use actix::{Actor, ActorContext, Addr, ArbiterHandle, Context, Handler};
use rusd_messages::compactor::{CompactStepped, CompactionPending, RevisionAdvanced};
use rusd_messages::mvcc::CompactStep;
use rusd_messages::raft::Propose;
use rusd_messages::{Delivery, Dropped, Pending, Port, Reply, Role, RoleChanged, Stop, Tick};
use rusd_proto::etcdserverpb::{CompactionRequest, InternalRaftRequest};
use rusd_proto::request::{self, RequestIds};
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

/// The actor. Start it, then [`connect`](Compactor::connect) it before anything is told to it.
pub struct Compactor {
    auto: AutoMode,
    policy: AutoCompaction,
    pacing: Pacing,
    ids: Arc<RequestIds>,
    links: Option<Links>,
    proposed: Option<Proposed>,
    /// When the step on its way was asked for.
    step_started: Option<Instant>,
    /// When the first step of the removal was asked for.
    removal_started: Option<Instant>,
}

struct Connect(Links);

impl actix::Message for Connect {
    type Result = ();
}

impl Actor for Compactor {
    type Context = Context<Self>;
}

impl Handler<Connect> for Compactor {
    type Result = ();

    fn handle(&mut self, Connect(links): Connect, _: &mut Context<Self>) {
        self.links = Some(links);
    }
}

impl Compactor {
    /// Starts the actor on an arbiter, which it may share.
    pub fn start(
        arbiter: &ArbiterHandle,
        config: CompactorConfig,
        ids: Arc<RequestIds>,
    ) -> Addr<Self> {
        metrics::init();
        let pace = Pace {
            step_records: config.batch_records.max(1),
            pause_ms: config.pause_ms,
        };
        Self::start_in_arbiter(arbiter, move |_| Self {
            auto: config.auto,
            policy: AutoCompaction::new(config.auto),
            pacing: Pacing::new(pace),
            ids,
            links: None,
            proposed: None,
            step_started: None,
            removal_started: None,
        })
    }

    /// The doors of a started actor.
    pub fn ports(address: &Addr<Self>) -> Ports {
        Ports {
            revision: Port::new("compactor_revision", REVISIONS_QUEUE, address),
            pending: Port::new("compactor_pending", PENDING_QUEUE, address),
            stepped: Port::new("compactor_stepped", 1, address),
            role: Port::new("compactor_role", ROLES_QUEUE, address),
            tick: Port::new("compactor_tick", 1, address),
            stop: Port::new("compactor_stop", 1, address),
        }
    }

    /// Hands the links over.
    pub fn connect(address: &Addr<Self>, links: Links) {
        address.do_send(Connect(links));
    }

    fn propose(&mut self, revision: i64) {
        tracing::info!(revision, "starting auto {} compaction", self.mode_name());
        let id = self.ids.next();
        let compaction = CompactionRequest {
            revision,
            physical: false,
        };
        let request = InternalRaftRequest {
            compaction: Some(compaction),
            ..Default::default()
        };
        let data = request::encode(id, request);
        let (reply, pending) = Reply::channel();
        let told = self
            .links
            .as_ref()
            .map(|links| links.propose.tell(Propose { id, data, reply }));
        let started = Instant::now();
        self.proposed = Some(Proposed {
            revision,
            started,
            pending,
        });
        // What Raft did not take is dropped here, and so shows as any other failure.
        drop(told);
        self.settle();
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
            .links
            .as_ref()
            .map(|links| links.compact_step.tell(CompactStep { max_records }));
        if matches!(told, Some(Ok(()))) {
            let now = Instant::now();
            self.step_started = Some(now);
            self.removal_started.get_or_insert(now);
        } else {
            self.pacing.not_stepped();
        }
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

impl Handler<Delivery<RevisionAdvanced>> for Compactor {
    type Result = ();

    fn handle(&mut self, message: Delivery<RevisionAdvanced>, _: &mut Context<Self>) {
        self.policy.revision(message.open().revision);
    }
}

impl Handler<Delivery<CompactionPending>> for Compactor {
    type Result = ();

    fn handle(&mut self, message: Delivery<CompactionPending>, _: &mut Context<Self>) {
        self.pacing.pending(message.open().revision);
        self.step();
    }
}

impl Handler<Delivery<CompactStepped>> for Compactor {
    type Result = ();

    fn handle(&mut self, message: Delivery<CompactStepped>, _: &mut Context<Self>) {
        let CompactStepped { removed, finished } = message.open();
        if let Some(started) = self.step_started.take() {
            metrics::PAUSE.observe(started.elapsed().as_millis() as f64);
        }
        metrics::KEYS.inc_by(removed as u64);
        if let Some(finished) = self.pacing.stepped(removed, finished) {
            let took = self.removal_started.take().map(|started| started.elapsed());
            report(&finished, took.unwrap_or_default());
        }
        self.step();
    }
}

impl Handler<Delivery<RoleChanged>> for Compactor {
    type Result = ();

    fn handle(&mut self, message: Delivery<RoleChanged>, _: &mut Context<Self>) {
        self.policy.lead(message.open().role == Role::Leader);
    }
}

impl Handler<Delivery<Tick>> for Compactor {
    type Result = ();

    fn handle(&mut self, message: Delivery<Tick>, _: &mut Context<Self>) {
        let Tick { now_ms } = message.open();
        self.settle();
        if let Some(revision) = self.policy.tick(now_ms) {
            self.propose(revision);
        }
        self.pacing.tick(now_ms);
        self.step();
    }
}

impl Handler<Delivery<Stop>> for Compactor {
    type Result = ();

    fn handle(&mut self, message: Delivery<Stop>, ctx: &mut Context<Self>) {
        message.open().reply.send(());
        ctx.stop();
    }
}
