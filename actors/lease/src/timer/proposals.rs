//! What follows from the time that has passed: revocations and checkpoints.

use super::entry::Phase;
use super::{CHECK_INTERVAL_MS, LeaseTimer, REVOKES_IN_FLIGHT_MAX};
use crate::proposal::Proposal;
use rusd_messages::LeaseId;

/// Timer entries looked at in one go. Further ones wait for the next tick, so that renewals are not held up.
const WAKE_UPS_MAX: usize = 10_000;

/// Leases in one checkpoint entry (L-10).
const CHECKPOINT_BATCH: usize = 1_000;

/// Checkpoint entries proposed at one check: 20,000 leases a second.
const CHECKPOINT_BATCHES_MAX: usize = 10;

impl LeaseTimer {
    /// What is to be proposed now, after a tick or a change. Each is to be proposed, or given back to
    /// [`not_proposed`](Self::not_proposed).
    pub fn proposals(&mut self) -> Vec<Proposal> {
        let mut proposals = Vec::new();
        self.revoke_expired(&mut proposals);
        self.take_back_checkpoints(&mut proposals);
        self.checkpoint(&mut proposals);
        proposals
    }

    fn revoke_expired(&mut self, proposals: &mut Vec<Proposal>) {
        let Some(checked_ms) = self.checked_ms else {
            return;
        };
        for _ in 0..WAKE_UPS_MAX {
            let Some((wake_ms, id)) = self.timer.due(checked_ms) else {
                return;
            };
            if !self.wake(id, wake_ms, checked_ms, proposals) {
                return;
            }
        }
    }

    /// Looks at a lease whose entry in the timer is due. False if its revocation has to wait for a place in the window.
    fn wake(
        &mut self,
        id: LeaseId,
        wake_ms: u64,
        checked_ms: u64,
        proposals: &mut Vec<Proposal>,
    ) -> bool {
        let entry = self.leases.get_mut(&id);
        let Some(entry) = entry.filter(|entry| entry.wake_ms() == Some(wake_ms)) else {
            debug_assert!(
                false,
                "{id} has an entry in the timer and does not know of it"
            );
            self.timer.remove(wake_ms, id);
            return true;
        };
        let is_over = entry.is_over(checked_ms);
        if is_over && !entry.is_revoking() && self.in_flight >= REVOKES_IN_FLIGHT_MAX {
            return false;
        }
        if is_over {
            // Closed, so that no renewal comes between the look that follows and the revocation.
            entry.close();
        }
        let Some(deadline_ms) = entry.deadline_ms() else {
            return true;
        };
        let next_ms = if deadline_ms > checked_ms {
            entry.open();
            if let Phase::Counting { wake_ms, .. } = &mut entry.phase {
                *wake_ms = deadline_ms;
            }
            deadline_ms
        } else {
            if let Some(at_ms) = entry.checkpoint_ms() {
                self.checkpoints.remove(at_ms, id);
            }
            self.in_flight += usize::from(!entry.is_revoking());
            proposals.push(Proposal::Revoke(id));
            let again_ms = self.config.request_timeout_ms.max(CHECK_INTERVAL_MS);
            let wake_ms = self.now_ms.saturating_add(again_ms);
            entry.phase = Phase::Revoking {
                deadline_ms,
                wake_ms,
            };
            wake_ms
        };
        debug_assert!(next_ms > wake_ms, "{id} would be looked at again at once");
        self.timer.remove(wake_ms, id);
        self.timer.insert(next_ms, id);
        true
    }

    fn take_back_checkpoints(&mut self, proposals: &mut Vec<Proposal>) {
        while !self.resets.is_empty() {
            let batch: Vec<_> = self
                .resets
                .iter()
                .take(CHECKPOINT_BATCH)
                .map(|id| (*id, 0))
                .collect();
            for (id, _) in &batch {
                self.resets.remove(id);
            }
            proposals.push(Proposal::Checkpoint(batch));
        }
    }

    fn checkpoint(&mut self, proposals: &mut Vec<Proposal>) {
        let Some(checked_ms) = self.checked_ms else {
            return;
        };
        for _ in 0..CHECKPOINT_BATCHES_MAX {
            let mut batch = Vec::new();
            while batch.len() < CHECKPOINT_BATCH {
                let Some((at_ms, id)) = self.checkpoints.due(checked_ms) else {
                    break;
                };
                batch.extend(self.remaining_for_checkpoint(id).map(|left_s| (id, left_s)));
                // Applied, it is scheduled anew; this one stands in case the proposal is lost.
                self.checkpoints.remove(at_ms, id);
                self.schedule_checkpoint(id);
            }
            if batch.is_empty() {
                return;
            }
            proposals.push(Proposal::Checkpoint(batch));
        }
    }

    /// Seconds that remain of a lease, rounded up, if that is less than its full time.
    fn remaining_for_checkpoint(&self, id: LeaseId) -> Option<i64> {
        let entry = self.leases.get(&id)?;
        let left_ms = entry.deadline_ms()?.saturating_sub(self.now_ms);
        let left_s = i64::try_from(left_ms.div_ceil(1_000)).unwrap_or(i64::MAX);
        (left_s > 0 && left_s < entry.ttl_s).then_some(left_s)
    }

    /// A proposal did not reach the log, which is busy: again at the next check. (A checkpoint has its next turn
    /// anyway, and a renewal that awaits one is repeated by its client.)
    pub fn not_proposed(&mut self, proposal: &Proposal) {
        let Proposal::Revoke(id) = proposal else {
            return;
        };
        let Some(entry) = self.leases.get_mut(id) else {
            return;
        };
        let Phase::Revoking {
            deadline_ms,
            wake_ms,
        } = entry.phase
        else {
            return;
        };
        let next_ms = self.now_ms.saturating_add(CHECK_INTERVAL_MS);
        entry.phase = Phase::Expired {
            deadline_ms,
            wake_ms: next_ms,
        };
        self.in_flight -= 1;
        self.timer.remove(wake_ms, *id);
        self.timer.insert(next_ms, *id);
    }
}
