//! Driving: what the inputs have made possible is done here, as the numbered duties of the host.

use super::{Core, Effect, Shown, member, shown};
use crate::limits;
use crate::log::tail::size_of;
use crate::log::{Append, ReadyNumber};
use raft::StateRole;
use raft::eraftpb::{Message, MessageType};
use rusd_messages::{Index, Role, RoleChanged};

impl Core {
    /// Does everything that the inputs since the last call have made possible.
    pub fn drive(&mut self, effects: &mut Vec<Effect>) {
        loop {
            self.campaign_alone();
            self.submit_proposals();
            self.submit_read_round();
            if !self.wants_ready() {
                break;
            }
            self.handle_ready(effects);
        }
        self.send_what_is_persisted(effects);
        self.release_append(effects);
        if !self.stopping {
            while let Some(apply) = self.applying.next_batch(&mut self.proposals) {
                effects.push(Effect::Apply(apply));
            }
        }
        self.publish(effects);
        self.finish_stopping(effects);
        if cfg!(debug_assertions) {
            self.check_order();
        }
    }

    /// Whether a write is in flight or about to be.
    fn is_writing(&self) -> bool {
        self.in_flight.is_some() || !self.collecting.is_empty()
    }

    fn campaign_alone(&mut self) {
        let raft = &self.node.raft;
        let committed = raft.raft_log.committed;
        let can = self.membership.is_sole_voter()
            && raft.state == StateRole::Follower
            && !self.stopping
            && self.all_entries_are_persisted()
            && !self.membership.any_unapplied_through(Index(committed))
            && committed.saturating_sub(self.applied.0) <= limits::CAMPAIGN_GAP_MAX;
        if can && let Err(error) = self.node.campaign() {
            tracing::warn!(%error, "cannot campaign");
        }
    }

    fn submit_proposals(&mut self) {
        while self.proposals.any_held() && self.can_submit() {
            let raft_log = &self.node.raft.raft_log;
            let entries = raft_log.unstable.entries.len() + self.collecting.entries.len();
            let bytes = raft_log.unstable.entries_size + self.collecting.entry_bytes;
            if entries >= limits::WRITE_BATCH_ENTRIES_MAX || bytes >= limits::WRITE_BATCH_BYTES_MAX
            {
                break;
            }
            let entries = self.proposals.take(
                limits::WRITE_BATCH_ENTRIES_MAX - entries,
                limits::WRITE_BATCH_BYTES_MAX - bytes,
            );
            let mut message = Message::default();
            message.set_msg_type(MessageType::MsgPropose);
            message.from = self.config.member.0;
            message.set_entries(entries.into());
            // Every reason to drop it has been ruled out; should one remain, the callers time out.
            if let Err(error) = self.node.raft.step(message) {
                tracing::warn!(%error, "proposals were dropped");
            }
        }
    }

    /// Whether raft-rs would take proposals now. It loses those it does not take, so they are held.
    fn can_submit(&self) -> bool {
        let raft = &self.node.raft;
        member(raft.leader_id).is_some()
            && raft.lead_transferee.is_none()
            && raft.prs().get(raft.id).is_some()
            && raft.uncommitted_size() < limits::UNCOMMITTED_BYTES_MAX
            && !(self.membership.is_sole_voter() && self.in_flight.is_some())
    }

    fn submit_read_round(&mut self) {
        let Some(leader) = member(self.node.raft.leader_id) else {
            return;
        };
        if !self.reads.any() {
            return;
        }
        // A leader that has committed nothing in its term would drop it.
        if self.leads() && !self.node.raft.commit_to_current_term() {
            return;
        }
        if let Some(context) = self.reads.due(leader, self.now_ms) {
            self.node.read_index(context);
        }
    }

    fn wants_ready(&mut self) -> bool {
        let chunk = if self.applying.is_full() {
            0
        } else {
            limits::APPLY_BATCH_BYTES_MAX as u64
        };
        self.node.raft.set_max_committed_size_per_ready(chunk);
        if !self.applying.is_full() {
            return self.node.has_ready();
        }
        let raft = &self.node.raft;
        !raft.msgs.is_empty()
            || !raft.read_states.is_empty()
            || !raft.raft_log.unstable.entries.is_empty()
            || shown(&self.node) != self.shown
    }

    /// The host's duties around one ready.
    fn handle_ready(&mut self, effects: &mut Vec<Effect>) {
        let mut ready = self.node.ready();
        let number = ReadyNumber(ready.number());
        self.newest_ready = number;
        self.note_leadership();
        for read in ready.take_read_states() {
            self.reads.confirmed(&read.request_ctx, Index(read.index));
        }

        // 1. Persist.
        let entries = ready.take_entries();
        if let Some(index) = self.membership.note(&entries) {
            self.vote.last_conf_change = index.0;
        }
        if let Some(hard_state) = ready.hs() {
            self.vote.term = hard_state.term;
            self.vote.vote = hard_state.vote;
            self.vote.commit = hard_state.commit;
        }
        let must_write = ready.must_sync();
        if must_write {
            self.node.mut_store().append(&entries);
            self.vote_given = self.vote;
            self.collecting.merge(Append {
                ready: number,
                entry_bytes: entries.iter().map(size_of).sum(),
                entries,
                vote: Some(self.vote),
                must_sync: true,
                ..Append::default()
            });
        }

        // 2. Send.
        let messages = ready.take_messages();
        if !messages.is_empty() {
            effects.push(Effect::Send(messages));
        }
        let persisted_messages = ready.take_persisted_messages();
        if !persisted_messages.is_empty() {
            self.after_persist.push((number, persisted_messages));
            if self.after_persist.len() > limits::AFTER_PERSIST_MAX {
                // The disk has stalled. Raft tolerates loss, and the newest messages say most.
                self.after_persist.remove(0);
            }
        }

        // 3. Apply.
        self.applying.push(ready.take_committed_entries());

        // 4. Advance.
        self.node.advance_append_async(ready);
        if !self.is_writing() {
            self.persist_through(number);
        }
    }

    fn send_what_is_persisted(&mut self, effects: &mut Vec<Effect>) {
        let through = self.persisted_through;
        for (_, messages) in self
            .after_persist
            .extract_if(.., |(ready, _)| *ready <= through)
        {
            effects.push(Effect::Send(messages));
        }
    }

    fn release_append(&mut self, effects: &mut Vec<Effect>) {
        if self.in_flight.is_some() {
            return;
        }
        if self.collecting.is_empty() && !self.truncation_is_overdue() {
            return;
        }
        let mut append = std::mem::take(&mut self.collecting);
        append.ready = self.newest_ready;
        if let Some(truncated) = self.truncate.take() {
            append.truncate = Some(truncated);
            append.must_sync = true;
        }
        self.in_flight = Some(append.ready);
        effects.push(Effect::Append(append));
    }

    /// Whether a truncation has waited long enough for entries to be written with, or the log is about to be closed.
    fn truncation_is_overdue(&self) -> bool {
        self.truncate.is_some()
            && (self.stopping
                || self.now_ms >= self.truncate_since_ms + limits::TRUNCATION_DELAY_MS_MAX)
    }

    /// Notices a change of leader.
    fn note_leadership(&mut self) {
        let now = shown(&self.node);
        if now == self.shown {
            return;
        }
        if let Some(leader) = now.leader
            && now.leader != self.shown.leader
        {
            self.leader_changes += 1;
            self.leader_elected_ms = Some(self.now_ms);
            self.reads.leader_changed(leader);
            if let Some(transfer) = self.transfer.take_if(|transfer| transfer.target == leader) {
                transfer.reply.send(Ok(()));
            }
        }
        if now.role != self.shown.role || now.leader != self.shown.leader {
            let leader = now.leader.unwrap_or_default();
            tracing::info!(term = now.term.0, role = ?now.role, %leader, "raft state");
        }
        self.shown = now;
    }

    /// Publishes where this member stands. Runs before the effects are performed: the shortcut for reads is
    /// withdrawn before any entry that ends it leaves this function.
    fn publish(&mut self, effects: &mut Vec<Effect>) {
        self.note_leadership();
        let Shown { term, leader, .. } = self.shown;
        let committed = self.node.raft.raft_log.committed;
        self.status.set_committed(Index(committed));
        self.status.set_applied(self.applied);

        if self.leads() && self.led_term != Some(term) && self.node.raft.apply_to_current_term() {
            self.led_term = Some(term);
        }
        let leads = self.leads() && self.led_term == Some(term);
        let role = match (leads, self.membership.is_learner()) {
            (true, _) => Role::Leader,
            (false, true) => Role::Learner,
            (false, false) => Role::Follower,
        };
        let local = leads && self.membership.stays_sole_voter() && !self.stopping;
        if !local {
            self.status.set_reads_are_local(false);
        }
        let changed = RoleChanged { role, term, leader };
        if self.announced != Some(changed) {
            self.announced = Some(changed);
            self.status.set_leadership(term, leader);
            effects.push(Effect::RoleChanged(changed));
        }
        if local {
            self.status.set_reads_are_local(true);
        }
    }

    fn finish_stopping(&mut self, effects: &mut Vec<Effect>) {
        if self.stopped.is_none() || self.is_writing() {
            return;
        }
        if self.vote != self.vote_given {
            // The commit index, so that the next start need not wait for an election to know it.
            self.vote_given = self.vote;
            self.collecting.vote = Some(self.vote);
            self.collecting.must_sync = true;
            self.release_append(effects);
            return;
        }
        if let Some(reply) = self.stopped.take() {
            effects.push(Effect::Stopped(reply));
        }
    }
}
