//! The actor that owns the state machine.

use crate::compaction_hasher::CompactionHasher;
use crate::engine_writer::{EngineReplaced, EngineSetup, EngineWriter, Progress, Work};
use crate::events::{event, previous};
use crate::give_way::GiveWay;
use crate::metrics;
use actix::{Actor, ActorContext, Addr, Context, Handler};
use arc_swap::ArcSwap;
use rusd_messages::compactor::{CompactStepped, CompactionPending, RevisionAdvanced};
use rusd_messages::lease::{LeaseChange, LeasesChanged};
use rusd_messages::members::MembersChanged;
use rusd_messages::mvcc::{
    self as messages, Apply, CommittedEntry, CompactStep, Defragment, EngineWrote, LeaseKeys,
};
use rusd_messages::raft::{Applied, ConfApplied, EnginePersisted};
use rusd_messages::watch::{Committed, Compacted, Lagged, Revision, WatchDemand};
use rusd_messages::{Delivery, Index, LiveLeases, Port, Published, Reply, Stop, Tick, fatal};
use rusd_proto::etcdserverpb::AlarmType;
use rusd_proto::{ApplyReply, ApplyResult, RequestKind};
use rusd_state::{Effect, Entry, EntryKind, StateMachine};
use rusd_storage::{Applied as LogPosition, Change, ReadAt, SealedBatch, Views};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Batches of the log that may wait. Raft withholds entries until the credits of earlier ones come back, so this
/// is never reached; it only names the bound.
const APPLY_QUEUE: usize = 64;
/// Rare requests (keys of a lease, defragmentation, hashes).
const REQUEST_QUEUE: usize = 256;
/// So many sealed bytes are handed to the engine writer at once.
const BATCH_BYTES: usize = 64 << 10;
/// How long fewer may wait for company: as long as etcd's backend waits between commits. The fewer the batches, the
/// less the engine's writing is in the way of the log's.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);
/// Sealed bytes that the engine does not have yet: beyond this the state machine waits for the engine writer,
/// which holds back the credits of Apply, and so in the end the clients.
const UNWRITTEN_BYTES_MAX: usize = 32 << 20;
/// Sealed bytes that the engine does not have yet, beyond which compaction gives way to it. Less than this lies between
/// any two batches of an engine that keeps up; of a compaction alone it is some twenty thousand records.
const REMOVAL_UNWRITTEN_BYTES_MAX: usize = 512 << 10;
/// What an entry takes in the log besides its data, about.
const ENTRY_OVERHEAD_BYTES: usize = 32;
/// Bytes of log that change nothing, after which the engine writer is told of them all the same.
const UNTOLD_LOG_BYTES_MAX: usize = 1 << 20;

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
    /// Watch hub: what it wants to be told.
    pub demand: Arc<WatchDemand>,
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
    /// Time.
    pub tick: Port<Tick>,
    /// The end.
    pub stop: Port<Stop>,
    wrote: Port<EngineWrote>,
    replaced: Port<EngineReplaced>,
}

/// Settings of the shell.
#[derive(Clone, Copy, Debug)]
pub struct MvccConfig {
    /// `--warning-apply-duration`.
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

/// The actor. Start it, then [`connect`](Mvcc::connect) it before anything is told to it.
pub struct Mvcc {
    machine: StateMachine,
    config: MvccConfig,
    links: Option<Connected>,
    applied: watch::Sender<Index>,
    published: Arc<ArcSwap<Published>>,
    live_leases: Arc<LiveLeases>,
    /// The newest revision that the hub could not be told, if it is behind.
    lagging_through: Option<i64>,
    /// The compactor does not know the revision.
    revision_untold: bool,
    /// Callers of compactions who wait for the physical removal.
    physical_compactions: Vec<Reply<ApplyResult>>,
    /// Compaction's steps and the engine writer.
    give_way: GiveWay,
    /// Since when something waits for the engine writer.
    unwritten_since: Option<Instant>,
    /// Bytes of the entries that the engine writer has not been told of.
    untold_log_bytes: usize,
}

struct Connected {
    links: Links,
    writer: EngineWriter,
    hasher: CompactionHasher,
}

/// Hands the links to a started actor.
struct Connect(Connected);

impl actix::Message for Connect {
    type Result = ();
}

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
    pub fn start(
        arbiter: &actix::ArbiterHandle,
        machine: StateMachine,
        config: MvccConfig,
    ) -> (Addr<Self>, Publications) {
        metrics::init();
        let (sender, receiver) = watch::channel(machine.applied().0);
        let published = Arc::new(ArcSwap::from_pointee(published(&machine)));
        let publications = Publications {
            views: machine.views(),
            applied: receiver,
            published: published.clone(),
            live_leases: Arc::default(),
        };
        let live_leases = publications.live_leases.clone();
        let address = Self::start_in_arbiter(arbiter, move |_| Self {
            machine,
            config,
            links: None,
            applied: sender,
            published,
            live_leases,
            lagging_through: None,
            revision_untold: false,
            physical_compactions: Vec::new(),
            give_way: GiveWay::default(),
            unwritten_since: None,
            untold_log_bytes: 0,
        });
        (address, publications)
    }
}

fn published(machine: &StateMachine) -> Published {
    Published {
        members: machine.members().list().to_vec(),
        alarms: machine.alarms().list(AlarmType::None as i32),
        cluster_version: machine.members().cluster_version().map(str::to_owned),
    }
}

/// What a batch of entries leaves behind for others to be told.
#[derive(Default)]
struct Told {
    replies: Vec<(Reply<ApplyResult>, ApplyResult)>,
    newest_revision: Option<i64>,
    /// What changed, from the oldest revision on; None if nobody watches.
    revisions: Option<Vec<Revision>>,
    leases: Vec<LeaseChange>,
    members_changed: bool,
    compacted: Option<i64>,
    conf_changes: Vec<ConfApplied>,
}

impl Mvcc {
    /// Hands the links over and starts the engine writer. To be called once, before anything is told to the actor.
    pub fn connect(
        address: &Addr<Self>,
        ports: &Ports,
        links: Links,
        setup: EngineSetup,
    ) -> io::Result<()> {
        let writer = EngineWriter::spawn(
            setup,
            ports.wrote.clone(),
            ports.replaced.clone(),
            links.engine_persisted.clone(),
        )?;
        let hasher = CompactionHasher::spawn()?;
        address.do_send(Connect(Connected {
            links,
            writer,
            hasher,
        }));
        Ok(())
    }

    /// The doors of a started actor.
    pub fn ports(address: &Addr<Self>) -> Ports {
        Ports {
            apply: Port::new("mvcc_apply", APPLY_QUEUE, address),
            compact_step: Port::new("mvcc_compact_step", 1, address),
            lease_keys: Port::new("mvcc_lease_keys", REQUEST_QUEUE, address),
            defragment: Port::new("mvcc_defragment", REQUEST_QUEUE, address),
            tick: Port::new("mvcc_tick", 1, address),
            stop: Port::new("mvcc_stop", 1, address),
            wrote: Port::new("mvcc_wrote", APPLY_QUEUE, address),
            replaced: Port::new("mvcc_replaced", 1, address),
        }
    }

    fn connected(&self) -> &Connected {
        match &self.links {
            Some(connected) => connected,
            None => fatal(
                "starting",
                &"the state machine was told something before it was connected",
            ),
        }
    }

    /// What the others hold is derived from ours: tell them what we found on disk.
    fn tell_restored_state(&mut self) {
        let mut changes = Vec::new();
        self.live_leases.clear();
        for (id, lease) in self.machine.leases().iter() {
            self.live_leases.insert(id, lease.ttl_s);
            changes.push(LeaseChange::Restored {
                id,
                ttl_s: lease.ttl_s,
                remaining_ttl_s: lease.remaining_ttl_s,
            });
        }
        self.tell_leases(changes);
        self.tell_members();
        self.tell_revision();
        let keys = self.machine.keys();
        let (through, compacted) = (keys.revision(), keys.compacted_revision());
        let links = &self.connected().links;
        expect_open(links.compacted.deliver(Compacted {
            revision: compacted,
        }));
        links.demand.published(through);
        expect_open(links.lagged.deliver(Lagged { through }));
        if let Some(revision) = self.machine.compaction_pending() {
            expect_open(links.compaction.deliver(CompactionPending { revision }));
        }
        metrics::publish(&self.machine.views().peek());
    }

    fn tell_leases(&self, changes: Vec<LeaseChange>) {
        if !changes.is_empty() {
            expect_open(
                self.connected()
                    .links
                    .leases
                    .deliver(LeasesChanged { changes }),
            );
        }
    }

    fn tell_members(&self) {
        let published = Arc::new(published(&self.machine));
        self.published.store(published.clone());
        expect_open(
            self.connected()
                .links
                .members
                .deliver(MembersChanged { published }),
        );
    }

    /// At a tick and not after every batch, which would wake the compactor's thread for nothing.
    fn tell_revision(&mut self) {
        let advanced = RevisionAdvanced {
            revision: self.machine.keys().revision(),
        };
        let told = self.connected().links.revision.tell(advanced);
        self.revision_untold = told.is_err();
    }

    fn apply(&mut self, entries: Vec<CommittedEntry>) {
        let started = Instant::now();
        let count = entries.len();
        let mut bytes = 0;
        let mut told = Told {
            revisions: self.connected().links.demand.events().then(Vec::new),
            ..Told::default()
        };
        let mut entry_started = started;
        for entry in entries {
            bytes += entry.data.len();
            let request = entry.kind == messages::EntryKind::Request && !entry.data.is_empty();
            let kind = request.then(|| RequestKind::of(&entry.data));
            let success = self.apply_entry(entry, &mut told);
            // One look at the clock for each: where an entry ends, the next begins.
            let ended = Instant::now();
            if let (Some(kind), Some(success)) = (kind, success) {
                metrics::applied_in(kind, success, ended - entry_started);
            }
            entry_started = ended;
        }
        self.untold_log_bytes += bytes + count * ENTRY_OVERHEAD_BYTES;
        self.machine.seal();
        self.machine.publish();
        // Before the replies: whoever was answered finds its write counted.
        metrics::publish(&self.machine.views().peek());
        let (through, _) = self.machine.applied();
        self.applied.send_replace(through);
        // The credits before the replies: Raft goes on while callers wake up.
        let links = &self.connected().links;
        expect_open(links.applied.deliver(Applied {
            through,
            entries: count,
            bytes,
        }));
        if told.members_changed {
            self.tell_members();
        }
        // Before the replies as well: a client that was told of its lease, or of its end, may ask the lease timer next.
        self.tell_leases(told.leases);
        let links = &self.connected().links;
        for change in told.conf_changes {
            expect_open(links.conf_applied.deliver(change));
        }
        if let Some(revision) = told.compacted {
            expect_open(links.compacted.deliver(Compacted { revision }));
            expect_open(links.compaction.deliver(CompactionPending { revision }));
        }
        // The hub and the lease timer first: what a caller asks them after its answer, they answer knowing of it.
        if let Some(newest) = told.newest_revision {
            self.tell_hub(newest, told.revisions);
        }
        for (reply, result) in told.replies {
            reply.send(result);
        }
        self.revision_untold |= told.newest_revision.is_some();
        self.write_out();
        let took = started.elapsed();
        if took > self.config.warning_apply && !self.config.warning_apply.is_zero() {
            metrics::SLOW_APPLIES.inc();
            tracing::warn!(
                took = ?took,
                "expected-duration" = ?self.config.warning_apply,
                entries = count,
                through = through.0,
                "apply request took too long"
            );
        }
    }

    /// Whether the entry was applied with success; None if it had been applied before.
    fn apply_entry(&mut self, entry: CommittedEntry, told: &mut Told) -> Option<bool> {
        let reply = entry.reply.filter(Reply::is_wanted);
        let index = entry.index;
        let applied = self.machine.apply(Entry {
            index,
            term: entry.term,
            kind: match entry.kind {
                messages::EntryKind::Request => EntryKind::Request,
                messages::EntryKind::ConfChange => EntryKind::ConfChange,
            },
            data: entry.data,
            wanted: reply.is_some(),
        });
        let applied = match applied {
            Ok(Some(applied)) => applied,
            Ok(None) => {
                // Applied before the restart: Raft still waits for the answer to a conf change.
                if entry.kind == messages::EntryKind::ConfChange {
                    told.conf_changes.push(ConfApplied {
                        index,
                        rejected: false,
                    });
                }
                return None;
            }
            Err(error) => fatal("applying the log", &error),
        };
        metrics::count(&applied);
        let success = metrics::is_success(&applied.result);
        let mut waits_for_removal = false;
        for effect in applied.effects {
            match effect {
                Effect::LeaseGranted { id, ttl_s } => {
                    self.live_leases.insert(id, ttl_s);
                    told.leases.push(LeaseChange::Granted { id, ttl_s });
                }
                Effect::LeaseRevoked { id } => {
                    self.live_leases.remove(id);
                    told.leases.push(LeaseChange::Revoked { id });
                }
                Effect::LeaseCheckpointed {
                    id,
                    remaining_ttl_s,
                } => {
                    told.leases.push(LeaseChange::Checkpointed {
                        id,
                        remaining_ttl_s,
                    });
                }
                Effect::AlarmsChanged | Effect::MembersChanged => told.members_changed = true,
                Effect::ConfApplied(change) => told.conf_changes.push(ConfApplied {
                    index,
                    rejected: change.is_none(),
                }),
                Effect::Compacted { revision, physical } => {
                    told.compacted = Some(revision);
                    waits_for_removal = physical;
                    if let Some(compaction) = self.machine.take_compaction_hash() {
                        self.connected().hasher.send(compaction);
                    }
                }
            }
        }
        told.newest_revision = applied.revision.or(told.newest_revision);
        if let (Some(revision), Some(revisions)) = (applied.revision, &mut told.revisions) {
            // Looked at once: a revision's events all have their previous records looked up, or none.
            let with_previous = self.connected().links.demand.previous();
            let changes = applied.changes.iter();
            revisions.push(Revision {
                revision,
                with_previous,
                events: changes
                    .map(|change| self.event(change, with_previous))
                    .collect(),
            });
        }
        match reply {
            Some(reply) if waits_for_removal => self.physical_compactions.push(reply),
            Some(reply) => told.replies.push((reply, applied.result)),
            None => {}
        }
        Some(success)
    }

    /// The event of a change, with the record it replaced only if somebody asked for that.
    fn event(&self, change: &Change, with_previous: bool) -> rusd_messages::watch::Event {
        let previous = if with_previous {
            match previous(self.machine.keys(), change) {
                Ok(previous) => previous,
                Err(error) => fatal("reading the previous record of a key", &error),
            }
        } else {
            None
        };
        event(change, previous)
    }

    /// Never waits for the hub: what it cannot take, it reads from history later, and so it does with what happened
    /// just before its first stream opened.
    fn tell_hub(&mut self, newest: i64, revisions: Option<Vec<Revision>>) {
        let links = &self.connected().links;
        if !links.demand.published(newest) {
            return;
        }
        let told = match revisions {
            Some(revisions) if self.lagging_through.is_none() => {
                links.committed.tell(Committed { revisions }).is_ok()
            }
            _ => false,
        };
        if !told {
            tracing::debug!(through = newest, "the watch hub is to read history");
            self.lagging_through = Some(newest);
        }
        self.tell_lag();
    }

    fn tell_lag(&mut self) {
        if let Some(through) = self.lagging_through
            && self
                .connected()
                .links
                .lagged
                .tell(Lagged { through })
                .is_ok()
        {
            self.lagging_through = None;
        }
    }

    /// Hands sealed batches to the engine writer: together, since an engine's batch costs nearly as much as it
    /// costs to write a hundred records; and at any rate before too much piles up.
    fn write_out(&mut self) {
        let unwritten = self.machine.unwritten_bytes();
        // Entries that change nothing make no batch, yet the log is only truncated through what a batch has said.
        if unwritten == 0 && self.untold_log_bytes < UNTOLD_LOG_BYTES_MAX {
            return;
        }
        let since = *self.unwritten_since.get_or_insert_with(Instant::now);
        let due = unwritten >= BATCH_BYTES || since.elapsed() >= BATCH_INTERVAL;
        let must = unwritten > UNWRITTEN_BYTES_MAX;
        let may = due && self.connected().writer.has_room();
        if !must && !may {
            return;
        }
        self.unwritten_since = None;
        if let Some(batch) = self.machine.take_sealed() {
            let work = self.written(batch);
            self.connected().writer.send(work);
        }
    }

    fn written(&mut self, batch: SealedBatch) -> Work {
        let (index, term) = self.machine.applied();
        Work::Write {
            batch,
            progress: Progress {
                applied: LogPosition {
                    index: index.0,
                    term: term.0,
                },
                sizes: self.machine.sizes(),
            },
            log_bytes: std::mem::take(&mut self.untold_log_bytes) as u64,
        }
    }

    fn compact_step(&mut self, max_records: usize) {
        let engine_is_behind = self.machine.unwritten_bytes() > REMOVAL_UNWRITTEN_BYTES_MAX;
        let in_the_way = engine_is_behind && !self.machine.compaction_only_looks();
        let step = if self.give_way.puts_off(in_the_way) {
            Ok(Default::default())
        } else {
            self.machine.compact_step(max_records)
        };
        let step = match step {
            Ok(step) => step,
            Err(error) => fatal("removing compacted records", &error),
        };
        // A step that waits for the engine, a reader, or the compaction's hash changes nothing.
        if step.removed > 0 || step.finished {
            self.machine.seal();
        }
        if step.found > 0 || step.removed > 0 || step.finished {
            // What was only found is published too: an old view would hold on to the index as it was.
            self.machine.publish();
            metrics::publish(&self.machine.views().peek());
            self.write_out();
        }
        if step.finished {
            for reply in std::mem::take(&mut self.physical_compactions) {
                reply.send(Ok(ApplyReply::Compact(Default::default())));
            }
        }
        expect_open(self.connected().links.stepped.deliver(CompactStepped {
            removed: step.removed,
            finished: step.finished,
        }));
    }
}

/// A port that is closed while the state machine still works means that the graph is coming down.
fn expect_open<M>(told: Result<(), rusd_messages::Refused<M>>) {
    if let Err(refused) = told {
        tracing::debug!(?refused, "told an actor that has stopped");
    }
}

impl Handler<Delivery<Apply>> for Mvcc {
    type Result = ();

    fn handle(&mut self, message: Delivery<Apply>, _: &mut Context<Self>) {
        self.apply(message.open().entries);
    }
}

impl Handler<Delivery<CompactStep>> for Mvcc {
    type Result = ();

    fn handle(&mut self, message: Delivery<CompactStep>, _: &mut Context<Self>) {
        self.compact_step(message.open().max_records);
    }
}

impl Handler<Delivery<EngineWrote>> for Mvcc {
    type Result = ();

    fn handle(&mut self, message: Delivery<EngineWrote>, _: &mut Context<Self>) {
        self.machine.wrote(message.open().seq);
        self.write_out();
    }
}

impl Handler<Delivery<LeaseKeys>> for Mvcc {
    type Result = ();

    fn handle(&mut self, message: Delivery<LeaseKeys>, _: &mut Context<Self>) {
        let LeaseKeys { lease, reply } = message.open();
        let keys = self
            .machine
            .leases()
            .keys(lease)
            .map(|keys| keys.cloned().collect());
        reply.send(keys);
    }
}

impl Handler<Delivery<Tick>> for Mvcc {
    type Result = ();

    fn handle(&mut self, message: Delivery<Tick>, _: &mut Context<Self>) {
        let Tick { .. } = message.open();
        self.tell_lag();
        if self.revision_untold {
            self.tell_revision();
        }
        self.write_out();
    }
}

impl Handler<Delivery<Stop>> for Mvcc {
    type Result = ();

    fn handle(&mut self, message: Delivery<Stop>, ctx: &mut Context<Self>) {
        let Stop { reply } = message.open();
        self.machine.seal();
        let batch = self.machine.take_sealed();
        let writer = self.connected().writer.clone();
        if let Some(batch) = batch {
            writer.send(self.written(batch));
        }
        writer.send(Work::Close { reply });
        ctx.stop();
    }
}

impl Handler<Delivery<Defragment>> for Mvcc {
    type Result = ();

    fn handle(&mut self, message: Delivery<Defragment>, _: &mut Context<Self>) {
        let Defragment { reply } = message.open();
        self.connected().writer.send(Work::Rewrite { reply });
    }
}

impl Handler<Delivery<EngineReplaced>> for Mvcc {
    type Result = ();

    fn handle(&mut self, message: Delivery<EngineReplaced>, _: &mut Context<Self>) {
        let EngineReplaced { engine, retired } = message.open();
        self.machine.store_mut().replace_engine(engine);
        self.connected().writer.send(Work::Retire { retired });
    }
}
