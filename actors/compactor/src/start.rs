//! How the actor is started and linked, and its doors.

use crate::actor::{Compactor, Connect};
use crate::metrics;
use crate::pacing::Pace;
use crate::policy::AutoMode;
use actix::{Actor, Addr, ArbiterHandle};
use rusd_messages::compactor::{CompactStepped, CompactionPending, RevisionAdvanced};
use rusd_messages::mvcc::CompactStep;
use rusd_messages::raft::Propose;
use rusd_messages::{Port, Proposer, RoleChanged, Stop, Tick};
use rusd_proto::request::RequestIds;
use std::sync::Arc;

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
    /// The time: compactions and their steps are due by it.
    pub tick: Port<Tick>,
    /// The end.
    pub stop: Port<Stop>,
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
    let address = Compactor::start_in_arbiter(arbiter, move |_| Compactor::new(config.auto, pace));
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
