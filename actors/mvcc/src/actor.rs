//! The actor that owns the state machine.

use crate::engine_writer::{EngineWriter, PersistPolicy, Work};
use crate::events::event;
use crate::metrics;
use crate::reader::fatal;
use actix::{Actor, Addr, AsyncContext, Context, Handler};
use arc_swap::ArcSwap;
use rusd_messages::compactor::{CompactionPending, CompactStepped, RevisionAdvanced};
use rusd_messages::lease::{LeaseChange, LeasesChanged};
use rusd_messages::members::MembersChanged;
use rusd_messages::mvcc::{Apply, CommittedEntry, CompactStep, Defragment, EngineWrote, HashAll, LeaseKeys};
use rusd_messages::raft::{Applied, ConfApplied, EnginePersisted};
use rusd_messages::watch::{Committed, Compacted, Lagged, Revision};
use rusd_messages::{Delivery, Index, Port, Published, Reply, Stop, Tick};
use rusd_proto::{ApplyReply, ApplyResult, EtcdError};
use rusd_state::{Effect, StateMachine};
use rusd_storage::{Change, ReadAt, Views};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Batches of the log that may wait. Raft withholds entries until the credits of earlier ones come back, so this
/// is never reached; it only names the bound.
const APPLY_QUEUE: usize = 64;
/// Rare requests (keys of a lease, defragmentation, hashes).
const REQUEST_QUEUE: usize = 256;
/// Sealed bytes that the engine does not have yet: beyond this the state machine waits for the engine writer,
/// which holds back the credits of Apply, and so in the end the clients.
const UNWRITTEN_BYTES_MAX: usize = 64 << 20;
/// Pause between two publications of the gauges.
const GAUGES_INTERVAL_MS: u64 = 500;

/// Who the state machine tells.
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
    /// Watch hub: revisions it is not told one by one.
    pub lagged: Port<Lagged>,
    /// Watch hub: the compacted revision.
    pub compacted: Port<Compacted>,
    /// Lease timer.
    pub leases: Port<LeasesChanged>,
    /// Compactor.
    pub revision: Port<RevisionAdvanced>,
    /// Compactor: there is something to remove.
    pub compaction: Port<CompactionPending>,
    /// Compactor: a step is done.
    pub stepped: Port<CompactStepped>,
    /// Members.
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
    /// Hash of everything.
    pub hash_all: Port<HashAll>,
    /// Time.
    pub tick: Port<Tick>,
    /// The end.
    pub stop: Port<Stop>,
    wrote: Port<EngineWrote>,
}

/// Settings of the shell.
#[derive(Clone, Copy, Debug)]
pub struct MvccConfig {
    /// When the engine is persisted.
    pub persist: PersistPolicy,
    /// `--warning-apply-duration`.
    pub warning_apply: Duration,
}

/// What the state machine publishes for everybody to read in place.
#[derive(Clone, Debug)]
pub struct Publications {
    /// Read views.
    pub views: Views,
    /// The index through which the newest view has applied the log.
    pub applied: watch::Receiver<Index>,
    /// Members, alarms, cluster version.
    pub published: Arc<ArcSwap<Published>>,
    /// How many watchers and streams want previous records; counted by the watch hub.
    pub previous_wanted: Arc<AtomicUsize>,
}

/// The actor. Start it, then [`connect`](Mvcc::connect) it before anything is told to it.
pub struct Mvcc {
    machine: StateMachine,
    config: MvccConfig,
    links: Option<Connected>,
    applied: watch::Sender<Index>,
    published: Arc<ArcSwap<Published>>,
    previous_wanted: Arc<AtomicUsize>,
    /// The newest revision that the hub could not be told, if it is behind.
    lagging_through: Option<i64>,
    /// Compactions whose callers wait for the physical removal, with the revision each waits for.
    physical_compactions: Vec<Reply<ApplyResult>>,
    gauges_at_ms: u64,
}

struct Connected {
    links: Links,
    writer: EngineWriter,
}

/// Hands the links to a started actor.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct Connect(Connected);

impl Actor for Mvcc {
    type Context = Context<Self>;
}

impl Handler<Connect> for Mvcc {
    type Result = ();

    fn handle(&mut self, Connect(connected): Connect, _: &mut Context<Self>) {
        self.links = Some(connected);
        self.tell_restored_state();
    }
}

impl Mvcc {
    /// Starts the actor on an arbiter of its own.
    pub fn start(arbiter: &actix::ArbiterHandle, machine: StateMachine, config: MvccConfig) -> (Addr<Self>, Publications) {
        metrics::init();
        let (sender, receiver) = watch::channel(Index(machine.applied().index));
        let published = Arc::new(ArcSwap::from_pointee(published(&machine)));
        let publications = Publications {
            views: machine.views(),
            applied: receiver,
            published: published.clone(),
            previous_wanted: Arc::new(AtomicUsize::new(0)),
        };
        let previous_wanted = publications.previous_wanted.clone();
        let address = Self::start_in_arbiter(arbiter, move |_| Self {
            machine,
            config,
            links: None,
            applied: sender,
            published,
            previous_wanted,
            lagging_through: None,
            physical_compactions: Vec::new(),
            gauges_at_ms: 0,
        });
        (address, publications)
    }
}

fn published(machine: &StateMachine) -> Published {
    Published {
        members: machine.members().list(),
        alarms: machine.alarms().list(),
        cluster_version: machine.members().cluster_version().map(str::to_owned),
    }
}

/// What a batch of entries leaves behind for others to be told.
#[derive(Default)]
struct Told {
    replies: Vec<(Reply<ApplyResult>, ApplyResult)>,
    revisions: Vec<Revision>,
    leases: Vec<LeaseChange>,
    members_changed: bool,
    compacted: Option<i64>,
    conf_changes: Vec<ConfApplied>,
}

impl Mvcc {
    /// Hands the links over and returns the actor's ports. To be called once, before anything is told to it.
    pub fn connect(address: &Addr<Self>, links: Links, ports: Ports, writer: EngineWriter) -> Ports {
        address.do_send(Connect(Connected { links, writer }));
        ports
    }

    /// The doors of a started actor.
    pub fn ports(address: &Addr<Self>) -> Ports {
        Ports {
            apply: Port::new("mvcc_apply", APPLY_QUEUE, address),
            compact_step: Port::new("mvcc_compact_step", 1, address),
            lease_keys: Port::new("mvcc_lease_keys", REQUEST_QUEUE, address),
            defragment: Port::new("mvcc_defragment", REQUEST_QUEUE, address),
            hash_all: Port::new("mvcc_hash_all", REQUEST_QUEUE, address),
            tick: Port::new("mvcc_tick", 1, address),
            stop: Port::new("mvcc_stop", 1, address),
            wrote: Port::new("mvcc_wrote", APPLY_QUEUE, address),
        }
    }

    fn connected(&self) -> &Connected {
        match &self.links {
            Some(connected) => connected,
            None => fatal("starting", &"the state machine was told something before it was connected"),
        }
    }

    /// What the others hold is derived from ours: tell them what we found on disk.
    fn tell_restored_state(&mut self) {
        let links = self.connected().links.clone();
        let leases = self.machine.leases().iter().map(|lease| LeaseChange::Granted {
            id: lease.id,
            ttl_s: lease.ttl_s,
        });
        let checkpoints = self.machine.leases().iter().filter(|lease| lease.remaining_ttl_s > 0);
        let checkpoints = checkpoints.map(|lease| LeaseChange::Checkpointed {
            id: lease.id,
            remaining_ttl_s: lease.remaining_ttl_s,
        });
        let changes: Vec<_> = leases.chain(checkpoints).collect();
        self.tell_leases(changes);
        self.tell_members();
        self.tell_revision();
        let compacted = self.machine.store().compacted_revision();
        expect_open(links.compacted.deliver(Compacted { revision: compacted }));
        let revision = self.machine.store().revision();
        expect_open(links.lagged.deliver(Lagged { through: revision }));
        if let Some(revision) = self.machine.store().compaction_pending() {
            expect_open(links.compaction.deliver(CompactionPending { revision }));
        }
    }

    fn tell_leases(&self, changes: Vec<LeaseChange>) {
        if !changes.is_empty() {
            expect_open(self.connected().links.leases.deliver(LeasesChanged { changes }));
        }
    }

    fn tell_members(&self) {
        let published = Arc::new(published(&self.machine));
        self.published.store(published.clone());
        expect_open(self.connected().links.members.deliver(MembersChanged { published }));
    }

    fn tell_revision(&self) {
        let store = self.machine.store();
        let advanced = RevisionAdvanced {
            revision: store.revision(),
            compacted_revision: store.compacted_revision(),
        };
        // Coalesced: the next one says more.
        let _full = self.connected().links.revision.tell(advanced);
    }

    fn apply(&mut self, entries: Vec<CommittedEntry>) {
        let started = Instant::now();
        let count = entries.len();
        let mut bytes = 0;
        let mut told = Told::default();
        let mut through = Index(self.machine.applied().index);
        for entry in entries {
            bytes += entry.data.len();
            through = entry.index;
            self.apply_entry(entry, &mut told);
        }
        self.machine.publish();
        self.applied.send_replace(through);
        for (reply, result) in told.replies {
            reply.send(result);
        }
        let links = &self.connected().links;
        expect_open(links.applied.deliver(Applied {
            through,
            entries: count,
            bytes,
        }));
        for change in told.conf_changes {
            expect_open(links.conf_applied.deliver(change));
        }
        self.tell_leases(told.leases);
        if told.members_changed {
            self.tell_members();
        }
        let changed = !told.revisions.is_empty();
        self.tell_hub(told.revisions);
        if let Some(revision) = told.compacted {
            let links = &self.connected().links;
            expect_open(links.compacted.deliver(Compacted { revision }));
            expect_open(links.compaction.deliver(CompactionPending { revision }));
        }
        if changed || told.compacted.is_some() {
            self.tell_revision();
        }
        self.write_out();
        self.warn_if_slow(started, count);
    }
}
