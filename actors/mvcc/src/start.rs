//! How the state machine's actor is started and linked, and its doors.

use crate::actor::Mvcc;
use crate::connection::Connect;
use crate::core::{Core, published};
use crate::engine::{EngineReplaced, EngineSetup, EngineWriter};
use crate::metrics;
use crate::readers::compaction_hash::CompactionHasher;
use actix::{Actor, Addr, ArbiterHandle};
use arc_swap::ArcSwap;
use rusd_messages::compactor::{CompactStepped, CompactionPending, RevisionAdvanced};
use rusd_messages::lease::LeasesChanged;
use rusd_messages::members::MembersChanged;
use rusd_messages::mvcc::{Apply, CompactStep, Defragment, EngineWrote, LeaseKeys};
use rusd_messages::raft::{Applied, ConfApplied, EnginePersisted};
use rusd_messages::watch::{Committed, Compacted, Lagged, WatchDemand};
use rusd_messages::{Heartbeat, Index, LiveLeases, Port, Published, Stop, Tick};
use rusd_state::StateMachine;
use rusd_storage::Views;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Batches of the log that may wait. Raft withholds entries until the credits of earlier ones come back, so this
/// is never reached; it only names the bound.
const APPLY_QUEUE: usize = 64;
/// Rare requests (keys of a lease, defragmentation).
const REQUEST_QUEUE: usize = 256;
/// What the engine's threads report: a few per batch that they have.
const ENGINE_QUEUE: usize = 64;

/// Whom the state machine tells.
#[derive(Clone, Debug)]
pub struct Links {
    /// Raft: credits.
    pub applied: Port<Applied>,
    /// Raft: membership changes.
    pub conf_applied: Port<ConfApplied>,
    /// Raft: what the engine has made durable.
    pub engine_persisted: Port<EnginePersisted>,
    /// Watch hub: new revisions.
    pub committed: Port<Committed>,
    /// Watch hub: what it wants to be told.
    pub demand: Arc<WatchDemand>,
    /// Watch hub: revisions it is not told one by one.
    pub lagged: Port<Lagged>,
    /// Watch hub: the compacted revision.
    pub compacted: Port<Compacted>,
    /// Lease timer: leases granted, revoked, checkpointed.
    pub leases: Port<LeasesChanged>,
    /// Compactor: how far the store is.
    pub revision: Port<RevisionAdvanced>,
    /// Compactor: there is something to remove.
    pub compaction: Port<CompactionPending>,
    /// Compactor: a step is done.
    pub stepped: Port<CompactStepped>,
    /// Members: members, alarms or cluster version changed.
    pub members: Port<MembersChanged>,
}

/// What the state machine receives.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Committed entries.
    pub apply: Port<Apply>,
    /// Paced physical compaction.
    pub compact_step: Port<CompactStep>,
    /// The keys of a lease.
    pub lease_keys: Port<LeaseKeys>,
    /// Online rewrite.
    pub defragment: Port<Defragment>,
    /// Is the thread alive?
    pub heartbeat: Port<Heartbeat>,
    /// The time: batches are due by it.
    pub tick: Port<Tick>,
    /// The end.
    pub stop: Port<Stop>,
}

impl Ports {
    fn of(address: &Addr<Mvcc>) -> Self {
        Self {
            apply: Port::new("mvcc_apply", APPLY_QUEUE, address),
            compact_step: Port::new("mvcc_compact_step", 1, address),
            lease_keys: Port::new("mvcc_lease_keys", REQUEST_QUEUE, address),
            defragment: Port::new("mvcc_defragment", REQUEST_QUEUE, address),
            heartbeat: Port::new("mvcc_heartbeat", 1, address),
            tick: Port::new("mvcc_tick", 1, address),
            stop: Port::new("mvcc_stop", 1, address),
        }
    }
}

/// What the engine's threads tell the actor.
pub(crate) struct EnginePorts {
    pub(crate) wrote: Port<EngineWrote>,
    pub(crate) replaced: Port<EngineReplaced>,
    pub(crate) persisted: Port<EnginePersisted>,
}

impl EnginePorts {
    fn of(address: &Addr<Mvcc>) -> Self {
        Self {
            wrote: Port::new("mvcc_wrote", ENGINE_QUEUE, address),
            replaced: Port::new("mvcc_replaced", 1, address),
            persisted: Port::new("mvcc_persisted", ENGINE_QUEUE, address),
        }
    }
}

/// Settings of the state machine's actor.
#[derive(Clone, Copy, Debug)]
pub struct MvccConfig {
    /// `--warning-apply-duration`; zero for no warnings.
    pub warning_apply: Duration,
}

/// What the state machine publishes for everybody to read in place.
#[derive(Clone)]
pub struct Publications {
    /// Read views.
    pub views: Views,
    /// The index through which the newest view has applied the log.
    pub applied: watch::Receiver<Index>,
    /// Members, alarms, cluster version.
    pub published: Arc<ArcSwap<Published>>,
    /// The leases that exist, to be renewed in place.
    pub live_leases: Arc<LiveLeases>,
}

/// A started actor that does nothing until it is connected.
pub struct Started {
    /// What it receives.
    pub ports: Ports,
    /// What it publishes.
    pub publications: Publications,
    address: Addr<Mvcc>,
    machine: StateMachine,
    writer: EngineWriter,
    hasher: CompactionHasher,
}

/// Starts the actor on `arbiter`, which should be its own, and the threads of the engine. An error if the operating
/// system gives no thread.
pub fn start(
    arbiter: &ArbiterHandle,
    machine: StateMachine,
    setup: EngineSetup,
    config: MvccConfig,
) -> io::Result<Started> {
    metrics::init();
    let (sender, receiver) = watch::channel(machine.applied().0);
    let publications = Publications {
        views: machine.views(),
        applied: receiver,
        published: Arc::new(ArcSwap::from_pointee(published(&machine))),
        live_leases: Arc::default(),
    };
    let (views, published) = (machine.views(), publications.published.clone());
    let address = Mvcc::start_in_arbiter(arbiter, move |_| {
        Mvcc::new(config, views, sender, published)
    });
    let engine_ports = EnginePorts::of(&address);
    Ok(Started {
        ports: Ports::of(&address),
        publications,
        writer: EngineWriter::spawn(
            setup,
            engine_ports.wrote,
            engine_ports.replaced,
            engine_ports.persisted,
        )?,
        hasher: CompactionHasher::spawn()?,
        address,
        machine,
    })
}

impl Started {
    /// Connects it: it tells everybody what was found on disk.
    pub fn connect(self, links: Links) -> Ports {
        let live_leases = self.publications.live_leases;
        self.address.do_send(Connect {
            core: Core::new(self.machine, live_leases, links.demand.clone()),
            links,
            writer: self.writer,
            hasher: self.hasher,
        });
        self.ports
    }
}
