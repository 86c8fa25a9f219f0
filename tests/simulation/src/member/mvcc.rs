//! What the shell of the state machine does.

use super::message::{Input, Message};
use super::{Disks, Process};
use crate::faults::Planted;
use crate::host::Host;
use crate::network::Party;
use prost::Message as _;
use rusd_messages::mvcc::{CommittedEntry, EntryKind};
use rusd_messages::watch::WatchDemand;
use rusd_messages::{LiveLeases, Reply};
use rusd_model::Model;
use rusd_mvcc::{Core, Effect};
use rusd_proto::etcdserverpb::InternalRaftRequest;
use rusd_state::StateMachine;
use rusd_storage::{At, ReadView};
use std::sync::Arc;

pub struct Mvcc {
    pub core: Core,
    /// What readers see.
    pub shown: Arc<ReadView>,
    /// Messages on their way to the hub, and to the compactor.
    committed_queued: usize,
    lagged_queued: usize,
    revisions_queued: usize,
}

impl Mvcc {
    pub fn start(
        machine: StateMachine,
        leases: &Arc<LiveLeases>,
        demand: &Arc<WatchDemand>,
    ) -> Self {
        Self {
            shown: machine.views().load(),
            core: Core::new(machine, leases.clone(), demand.clone()),
            committed_queued: 0,
            lagged_queued: 0,
            revisions_queued: 0,
        }
    }

    pub fn committed_taken(&mut self) {
        self.committed_queued -= 1;
    }

    pub fn lagged_taken(&mut self) {
        self.lagged_queued -= 1;
    }

    pub fn revision_taken(&mut self) {
        self.revisions_queued -= 1;
    }
}

impl Process {
    pub(super) fn mvcc_restored(&mut self, host: &mut Host) {
        self.drive_mvcc(host, Core::restored);
    }

    pub(super) fn mvcc_message(&mut self, disks: &Disks, message: Message, host: &mut Host) {
        let now_ms = self.now_ms(host);
        match message {
            Message::Tick => self.drive_mvcc(host, |core, effects| core.tick(now_ms, effects)),
            Message::Apply(apply) => self.apply(disks, apply.entries, host),
            Message::CompactStep(records) => {
                self.drive_mvcc(host, |core, effects| core.compact_step(records, effects));
            }
            Message::EngineWrote(batch) => {
                self.drive_mvcc(host, |core, effects| core.engine_wrote(batch, effects));
            }
            Message::EngineReplaced(engine) => {
                self.mvcc.core.engine_replaced(engine);
                host.checks.machine(self.mvcc.core.machine());
                host.checks.hashed(self.views.hash_kv(At::Newest).unwrap());
            }
            _ => {}
        }
    }

    fn apply(&mut self, disks: &Disks, mut entries: Vec<CommittedEntry>, host: &mut Host) {
        let mut expected = Vec::new();
        for entry in &mut entries {
            let lost = host.has(Planted::LostDetachment);
            let attached = lost
                .then(|| still_attached(entry, host.checks.model()))
                .flatten();
            host.checks
                .entry(entry, disks.log.durable_last(), host.now_us());
            expected.push((
                entry.index,
                entry.reply.as_ref().is_some_and(Reply::is_wanted),
            ));
            entry.data = attached.unwrap_or_else(|| entry.data.clone());
        }
        let mut effects = Vec::new();
        let mut expected = expected.into_iter();
        let checks = &host.checks;
        let observe = |_, applied: Option<&rusd_state::Applied>| {
            if let (Some((index, wanted)), Some(applied)) = (expected.next(), applied) {
                checks.applied(index, wanted, applied);
            }
        };
        self.mvcc.core.apply(entries, observe, &mut effects);
        self.perform_mvcc_all(effects, host);
        if host.random.percent(5) {
            host.checks.machine(self.mvcc.core.machine());
        }
    }

    fn drive_mvcc(&mut self, host: &mut Host, input: impl FnOnce(&mut Core, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        input(&mut self.mvcc.core, &mut effects);
        self.perform_mvcc_all(effects, host);
    }

    fn perform_mvcc_all(&mut self, effects: Vec<Effect>, host: &mut Host) {
        for effect in effects {
            self.perform_mvcc(effect, host);
        }
    }

    fn perform_mvcc(&mut self, effect: Effect, host: &mut Host) {
        let (to, message) = match effect {
            Effect::Published { .. } if host.has(Planted::ReplyBeforeView) => {
                return host.later(20 * host.settings.hop_us, Input::ShowView);
            }
            Effect::Published { through } => {
                self.mvcc.shown = self.views.load();
                let shown = self.mvcc.shown.applied_index();
                return assert_eq!(shown, through.0, "published, and not visible");
            }
            Effect::Replies(replies) => {
                return replies
                    .into_iter()
                    .for_each(|(reply, result)| reply.send(result));
            }
            Effect::Hash(_) if host.random.percent(10) => return,
            Effect::Hash(hash) => return host.later(host.settings.persist_us, Input::Hash(hash)),
            Effect::Committed(_) | Effect::Lagged(_) | Effect::Revision(_) => {
                return self.tell_if_room(effect, host);
            }
            Effect::Applied(credits) => (Party::Raft, Message::Credits(credits)),
            Effect::ConfApplied(change) => (Party::Raft, Message::ConfApplied(change)),
            Effect::Members(published) => (Party::Members, Message::Members(published)),
            Effect::Leases(changed) => (Party::Lease, Message::Leases(changed)),
            Effect::Compacted(compacted) => (Party::Hub, Message::Compacted(compacted)),
            Effect::CompactionPending(pending) => {
                (Party::Compactor, Message::CompactionPending(pending))
            }
            Effect::Stepped(stepped) => (Party::Compactor, Message::Stepped(stepped)),
            Effect::Write(write) => (Party::EngineWriter, Message::Write(write)),
        };
        host.send(Party::Mvcc, to, message);
    }

    /// What a full queue refuses goes back to the core.
    fn tell_if_room(&mut self, effect: Effect, host: &mut Host) {
        let room = host.settings.hub_queue;
        match effect {
            Effect::Committed(committed) if self.mvcc.committed_queued >= room => {
                let instead = self.mvcc.core.committed_refused(&committed);
                if let Some(instead) = instead.filter(|_| !host.has(Planted::SkippedEvent)) {
                    self.perform_mvcc(instead, host);
                }
            }
            Effect::Committed(committed) => {
                self.mvcc.committed_queued += 1;
                host.send(Party::Mvcc, Party::Hub, Message::Committed(committed));
            }
            Effect::Lagged(lagged) if self.mvcc.lagged_queued >= room => {
                self.mvcc.core.lagged_refused(lagged);
            }
            Effect::Lagged(lagged) => {
                self.mvcc.lagged_queued += 1;
                host.send(Party::Mvcc, Party::Hub, Message::Lagged(lagged));
            }
            Effect::Revision(_) if self.mvcc.revisions_queued > 0 => {
                self.mvcc.core.revision_refused()
            }
            Effect::Revision(revision) => {
                self.mvcc.revisions_queued += 1;
                host.send(Party::Mvcc, Party::Compactor, Message::Revision(revision));
            }
            _ => {}
        }
    }
}

/// A put without a lease on a key with one, changed so that the key keeps it; None for any other entry.
fn still_attached(entry: &CommittedEntry, model: &Model) -> Option<bytes::Bytes> {
    if entry.kind != EntryKind::Request {
        return None;
    }
    let mut request = InternalRaftRequest::decode(entry.data.clone()).ok()?;
    let put = request.put.as_mut()?;
    let has_lease = model
        .get(&put.key, model.revision)
        .is_some_and(|kv| kv.lease != 0);
    put.ignore_lease = put.lease == 0 && has_lease;
    put.ignore_lease.then(|| request.encode_to_vec().into())
}
