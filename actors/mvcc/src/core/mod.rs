//! The core of the state machine's thread: committed entries and ticks in, effects out.
//!
//! It has no thread, clock, file or metric. Its time is that of the last tick. It changes three things outside of
//! itself, which other threads read in place: the read views, the table of live leases, and the published revision.
//! Everything else is an [`Effect`], and whoever drives the core performs the effects in the order in which they come:
//!
//! ```text
//!   apply, tick, compact_step, engine_wrote, ...  --> Core --> Published, Applied, Leases, ..., Replies, Write
//!   committed_refused, lagged_refused, revision_refused <--- what a full queue did not take
//!   engine_wrote <---------------------------------------- Write, done
//! ```
//!
//! The order is the contract: `outbox` explains it.
//!
//! # Back-pressure
//!
//! At most [`batching::BATCHES_OUT_MAX`] batches are with the engine writer. Beyond [`UNWRITTEN_BYTES_MAX`] bytes that
//! the engine does not have yet, Raft gets no credits back until the engine has caught up, and so hands on no more
//! entries.

pub mod batching;
mod effect;
mod hub;
mod outbox;

pub use effect::{Effect, Write};

use crate::Progress;
use crate::events::{event, previous};
use batching::{Batching, UNWRITTEN_BYTES_MAX};
use bytes::Bytes;
use hub::Hub;
use outbox::Outbox;
use rusd_messages::compactor::{CompactStepped, CompactionPending, RevisionAdvanced};
use rusd_messages::lease::{LeaseChange, LeasesChanged};
use rusd_messages::mvcc::{CommittedEntry, EntryKind};
use rusd_messages::raft::{Applied as Credits, ConfApplied};
use rusd_messages::watch::{Committed, Compacted, Event, Lagged, RevisionEvents, WatchDemand};
use rusd_messages::{Index, LeaseId, LiveLeases, Published, Reply, fatal};
use rusd_proto::etcdserverpb::AlarmType;
use rusd_proto::{ApplyReply, ApplyResult, RequestKind};
use rusd_state::{Applied, Effect as Change, Entry, StateMachine};
use rusd_storage::engine::Engine;
use rusd_storage::{LogPosition, ReadAt, SealedBatch};
use std::sync::Arc;

/// See the module.
pub struct Core {
    machine: StateMachine,
    live_leases: Arc<LiveLeases>,
    hub: Hub,
    batching: Batching,
    /// The revision has moved since the compactor was told of it.
    revision_unreported: bool,
    /// Callers of compactions who wait for the physical removal.
    physical_compactions: Vec<Reply<ApplyResult>>,
    /// Credits through this entry are held back until the engine has caught up.
    withheld_through: Option<Index>,
}

impl Core {
    /// Takes over a machine as it was found on disk. Its first input is [`restored`](Self::restored).
    pub fn new(
        machine: StateMachine,
        live_leases: Arc<LiveLeases>,
        demand: Arc<WatchDemand>,
    ) -> Self {
        Self {
            machine,
            live_leases,
            hub: Hub::new(demand),
            batching: Batching::default(),
            revision_unreported: false,
            physical_compactions: Vec::new(),
            withheld_through: None,
        }
    }

    /// The state machine, to be looked at.
    pub fn machine(&self) -> &StateMachine {
        &self.machine
    }

    /// Tells the others what was found on disk, from which they derive what they hold.
    pub fn restored(&mut self, effects: &mut Vec<Effect>) {
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
        let keys = self.machine.keys();
        let (through, compacted) = (keys.revision().0, keys.compacted_revision().0);
        effects.push(self.published());
        if !changes.is_empty() {
            effects.push(Effect::Leases(LeasesChanged { changes }));
        }
        effects.push(Effect::Members(self.members()));
        self.report_revision(effects);
        effects.push(Effect::Compacted(Compacted {
            revision: compacted,
        }));
        self.hub.published(through);
        effects.push(Effect::Lagged(Lagged { through }));
        if let Some(revision) = self.machine.compaction_pending() {
            effects.push(Effect::CompactionPending(CompactionPending {
                revision: revision.0,
            }));
        }
    }

    /// Applies a batch of committed entries: all of it becomes visible at once, and only then are its callers answered.
    ///
    /// `observe` is called after each entry with the kind of its request (None for a conf change and for the empty
    /// entry of a new leader) and with what it came to (None if it had been applied before the restart).
    pub fn apply(
        &mut self,
        entries: Vec<CommittedEntry>,
        mut observe: impl FnMut(Option<RequestKind>, Option<&Applied>),
        effects: &mut Vec<Effect>,
    ) {
        let mut outbox = Outbox::new(self.hub.wants_events());
        for entry in entries {
            self.batching.applied(entry.data.len());
            let request = entry.kind == EntryKind::Request && !entry.data.is_empty();
            let kind = request.then(|| RequestKind::of(&entry.data));
            self.apply_entry(entry, &mut outbox, |applied| observe(kind, applied));
        }
        self.machine.seal();
        self.publish(effects);
        self.credit(!outbox.conf_changes.is_empty(), effects);
        if outbox.members_changed {
            effects.push(Effect::Members(self.members()));
        }
        self.revision_unreported |= outbox.newest_revision.is_some();
        outbox.empty_into(&mut self.hub, effects);
        self.write_out(effects);
        self.check();
    }

    fn apply_entry(
        &mut self,
        entry: CommittedEntry,
        outbox: &mut Outbox,
        observe: impl FnOnce(Option<&Applied>),
    ) {
        let reply = entry.reply.filter(Reply::is_wanted);
        let index = entry.index;
        let applied = self.machine.apply(Entry {
            index,
            term: entry.term,
            kind: match entry.kind {
                EntryKind::Request => rusd_state::EntryKind::Request,
                EntryKind::ConfChange => rusd_state::EntryKind::ConfChange,
            },
            data: entry.data,
            wanted: reply.is_some(),
        });
        match applied {
            Ok(Some(applied)) => {
                let waits_for_removal = self.note_changes(index, &applied, outbox);
                self.note_revision(&applied, outbox);
                observe(Some(&applied));
                match reply {
                    Some(reply) if waits_for_removal => self.physical_compactions.push(reply),
                    Some(reply) => outbox.replies.push((reply, applied.result)),
                    None => {}
                }
            }
            Ok(None) => {
                observe(None);
                // Applied before the restart: Raft still waits for the answer to a conf change.
                if entry.kind == EntryKind::ConfChange {
                    outbox.conf_changes.push(ConfApplied {
                        index,
                        rejected: false,
                    });
                }
            }
            Err(error) => fatal("applying the log", &error),
        }
    }

    /// What the entry changed besides keys. True if its caller waits for the physical removal of what was compacted.
    fn note_changes(&mut self, index: Index, applied: &Applied, outbox: &mut Outbox) -> bool {
        let mut waits_for_removal = false;
        for change in &applied.effects {
            match *change {
                Change::LeaseGranted { id, ttl_s } => {
                    self.live_leases.insert(id, ttl_s);
                    outbox.leases.push(LeaseChange::Granted { id, ttl_s });
                }
                Change::LeaseRevoked { id } => {
                    self.live_leases.remove(id);
                    outbox.leases.push(LeaseChange::Revoked { id });
                }
                Change::LeaseCheckpointed {
                    id,
                    remaining_ttl_s,
                } => outbox.leases.push(LeaseChange::Checkpointed {
                    id,
                    remaining_ttl_s,
                }),
                Change::AlarmsChanged | Change::MembersChanged => outbox.members_changed = true,
                Change::ConfApplied(ref change) => outbox.conf_changes.push(ConfApplied {
                    index,
                    rejected: change.is_none(),
                }),
                Change::Compacted { revision, physical } => {
                    outbox.compacted = Some(revision.0);
                    waits_for_removal = physical;
                    outbox.hash = self.machine.take_compaction_hash().or(outbox.hash.take());
                }
            }
        }
        waits_for_removal
    }

    fn note_revision(&self, applied: &Applied, outbox: &mut Outbox) {
        let Some(revision) = applied.revision else {
            return;
        };
        outbox.newest_revision = Some(revision.0);
        let Some(revisions) = &mut outbox.revisions else {
            return;
        };
        // Looked at once: a revision's events all have their previous records looked up, or none.
        let with_previous = self.hub.wants_previous();
        let changes = applied.changes.iter();
        revisions.push(RevisionEvents {
            revision: revision.0,
            with_previous,
            events: changes
                .map(|change| self.event(change, with_previous))
                .collect(),
        });
    }

    /// The event of a change, with the record it replaced only if somebody asked for that.
    fn event(&self, change: &rusd_storage::Change, with_previous: bool) -> Event {
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

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        self.batching.tick(now_ms);
        self.hub.tick(effects);
        if self.revision_unreported {
            self.report_revision(effects);
        }
        self.write_out(effects);
        self.check();
    }

    /// Removes up to `max_records` superseded records, or looks for as many.
    pub fn compact_step(&mut self, max_records: usize, effects: &mut Vec<Effect>) {
        let step = match self.machine.compact_step(max_records) {
            Ok(step) => step,
            Err(error) => fatal("removing compacted records", &error),
        };
        // A step that waits for the engine, a reader, or the compaction's hash changes nothing.
        if step.removed > 0 || step.finished {
            self.machine.seal();
        }
        if step.found > 0 || step.removed > 0 || step.finished {
            // What was only found is published too: an old view would hold on to the index as it was.
            self.publish(effects);
            self.write_out(effects);
        }
        if step.finished && !self.physical_compactions.is_empty() {
            let waiting = std::mem::take(&mut self.physical_compactions);
            let done = || Ok(ApplyReply::Compact(Default::default()));
            let replies = waiting.into_iter().map(|reply| (reply, done()));
            effects.push(Effect::Replies(replies.collect()));
        }
        effects.push(Effect::Stepped(CompactStepped {
            removed: step.removed,
            finished: step.finished,
            unwritten_bytes: self.machine.unwritten_bytes(),
            next_removes: !self.machine.compaction_only_looks(),
        }));
        self.check();
    }

    /// The engine has a batch: everything through `seq` can be read there.
    pub fn engine_wrote(&mut self, seq: u64, effects: &mut Vec<Effect>) {
        self.machine.wrote(seq);
        self.batching.wrote();
        if self.machine.unwritten_bytes() <= UNWRITTEN_BYTES_MAX
            && let Some(through) = self.withheld_through.take()
        {
            effects.push(Effect::Applied(Credits { through }));
        }
        self.write_out(effects);
        self.check();
    }

    /// The engine was rewritten: another one holds the same.
    pub fn engine_replaced(&mut self, engine: Arc<dyn Engine>) {
        self.machine.store_mut().replace_engine(engine);
    }

    /// The keys attached to a lease, in order; None if there is no such lease.
    pub fn lease_keys(&self, lease: LeaseId) -> Option<Vec<Bytes>> {
        let keys = self.machine.leases().keys(lease);
        keys.map(|keys| keys.cloned().collect())
    }

    /// Hands everything to the engine writer, for the last time.
    pub fn stop(&mut self, effects: &mut Vec<Effect>) {
        self.machine.seal();
        self.take_batch(effects);
    }

    /// The hub's queue was full for [`Effect::Committed`]: it is to be told this instead, before any other effect.
    #[must_use]
    pub fn committed_refused(&mut self, refused: &Committed) -> Option<Effect> {
        self.hub.committed_refused(refused)
    }

    /// The hub's queue was full for [`Effect::Lagged`]: it is told with a later batch or tick.
    pub fn lagged_refused(&mut self, refused: Lagged) {
        self.hub.lagged_refused(refused);
    }

    /// The compactor's queue was full for [`Effect::Revision`]: it is told at the next tick.
    pub fn revision_refused(&mut self) {
        self.revision_unreported = true;
    }

    /// Shows readers everything sealed, and notes for the hub what they can see now.
    fn publish(&mut self, effects: &mut Vec<Effect>) {
        self.machine.publish();
        effects.push(self.published());
    }

    fn published(&self) -> Effect {
        Effect::Published {
            through: self.machine.applied().0,
        }
    }

    /// Gives Raft its credits back, unless the engine is too far behind. A conf change is never held back: Raft waits
    /// for both its credits and its answer.
    fn credit(&mut self, at_once: bool, effects: &mut Vec<Effect>) {
        let (through, _) = self.machine.applied();
        if !at_once && self.machine.unwritten_bytes() > UNWRITTEN_BYTES_MAX {
            self.withheld_through = Some(through);
        } else {
            self.withheld_through = None;
            effects.push(Effect::Applied(Credits { through }));
        }
    }

    fn members(&self) -> Arc<Published> {
        Arc::new(published(&self.machine))
    }

    /// At a tick and not after every batch, which would wake the compactor's thread for nothing.
    fn report_revision(&mut self, effects: &mut Vec<Effect>) {
        self.revision_unreported = false;
        effects.push(Effect::Revision(RevisionAdvanced {
            revision: self.machine.keys().revision().0,
        }));
    }

    fn write_out(&mut self, effects: &mut Vec<Effect>) {
        if self.batching.is_due(self.machine.unwritten_bytes()) {
            self.take_batch(effects);
        }
    }

    fn take_batch(&mut self, effects: &mut Vec<Effect>) {
        if let Some(batch) = self.machine.take_sealed() {
            effects.push(Effect::Write(self.write(batch)));
        }
    }

    fn write(&mut self, batch: SealedBatch) -> Write {
        let (index, term) = self.machine.applied();
        Write {
            batch,
            progress: Progress {
                applied: LogPosition {
                    index: index.0,
                    term: term.0,
                },
                sizes: self.machine.sizes(),
            },
            log_bytes: self.batching.taken(),
        }
    }

    /// What always holds between two inputs.
    fn check(&self) {
        debug_assert!(
            self.withheld_through.is_none() || self.machine.unwritten_bytes() > 0,
            "credits are held back and no written batch will release them"
        );
        debug_assert!(
            self.withheld_through
                .is_none_or(|through| through <= self.machine.applied().0),
            "credits for what is not applied"
        );
    }
}

/// What handlers read in place.
pub(crate) fn published(machine: &StateMachine) -> Published {
    Published {
        members: machine.members().list().to_vec(),
        alarms: machine.alarms().list(AlarmType::None as i32),
        cluster_version: machine.members().cluster_version().map(str::to_owned),
    }
}
