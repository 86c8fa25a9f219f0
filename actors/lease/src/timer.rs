//! The core: deadlines, renewals, expiry and checkpoints. No clock, no I/O.
//!
//! **Time.** It passes only in ticks. A grant between two ticks counts from the later one, so that no lease ends
//! early, however coarse or late the ticks are: such leases are noted in `touched` and get their deadline at the
//! next tick. A renewal in place brings its own time.
//!
//! **Renewal.** Nearly all happen in place, in [`LiveLeases`], without this actor: see there. It opens the leases
//! whose deadlines it counts, reads the deadlines back when it looks at them, and closes a lease before it
//! proposes to revoke it. What finds its lease closed comes here.
//!
//! **The timer** is an ordered set of `(wake-up, lease)`, one entry for each lease. Renewing only moves the
//! deadline in the lease, not the entry: the entry wakes too early, finds the new deadline and goes back with it.
//! So a renewal costs one hash look-up, and the set is touched once per lease and time to live.
//!
//! ```text
//!   live --deadline passes--> expired --check--> revoking --Revoked--> gone
//!    ^ |                      (renewal waits)     | ^ no answer: again after the request timeout
//!    +-+ renewal                                  +-+
//! ```
//!
//! **Pace of expiry.** Deadlines are looked at every [`CHECK_INTERVAL_MS`], as etcd does. At most
//! [`REVOKES_IN_FLIGHT_MAX`] revocations are on their way; each confirmation lets the next one go. So 100,000 leases
//! that end in one second are gone in about two hundred rounds of group commit, and a write waits behind no
//! more than one window of small entries, a few milliseconds.
//!
//! **Leadership.** A new leader knows no deadlines: every lease gets its full time again (or what the last
//! checkpoint left of it) and an election timeout on top, for the clients that have to find it first.

use crate::proposal::Proposal;
use crate::spread::Spread;
use rusd_messages::lease::{LeaseChange, Remaining};
use rusd_messages::live_leases::LiveLease;
use rusd_messages::{LeaseId, LiveLeases, Term};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// How often deadlines are looked at (L-09).
pub const CHECK_INTERVAL_MS: u64 = 500;

/// Revocations proposed and not yet applied: enough to fill a batch of the log, few enough that a write
/// queued behind all of them does not notice.
pub const REVOKES_IN_FLIGHT_MAX: usize = 512;

/// Timer entries looked at in one go. Further ones wait for the next tick, so that renewals are not held up.
const WAKE_UPS_MAX: usize = 10_000;

/// Leases in one checkpoint entry (L-10).
const CHECKPOINT_BATCH: usize = 1_000;

/// Checkpoint entries proposed at one check: 20,000 leases a second.
const CHECKPOINT_BATCHES_MAX: usize = 10;

/// The deadline of a lease that this member does not count.
const NEVER: u64 = u64::MAX;

/// Settings of the lease timer.
#[derive(Clone, Copy, Debug)]
pub struct LeaseConfig {
    /// Added to every deadline by a new leader.
    pub election_timeout_ms: u64,
    /// After which a revocation that was not confirmed is proposed again.
    pub request_timeout_ms: u64,
    /// How often the remaining time of a long lease is replicated; None without the gate `LeaseCheckpoint`.
    pub checkpoint_interval_ms: Option<u64>,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It has its granted time again, in seconds.
    Renewed(i64),
    /// It does not exist.
    Unknown,
    /// Its time is over, and its revocation on the way: the answer is 0 once it is gone, keys and all (L-06).
    Expired,
    /// It has its time again, but a checkpoint says otherwise: the answer is due once that is taken back (many at
    /// a time, at the next tick), or another leader would end the lease before the time that the client was told.
    AwaitsCheckpoint,
    /// This member does not lead.
    NotPrimary,
}

/// What a replicated change means for renewals of the lease that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Nothing.
    Nothing,
    /// It is gone.
    Gone {
        /// Because this timer proposed it.
        expired: bool,
    },
    /// It is renewed, for so many seconds.
    Renewed(i64),
}

#[derive(Debug)]
struct Entry {
    ttl_s: i64,
    remaining_ttl_s: i64,
    /// Shared with those who renew it in place.
    live: Arc<LiveLease>,
    /// Its deadline while it is closed; while it is open, `live` has it.
    closed_deadline_ms: u64,
    /// Among leases that were given their time within one tick, which have one deadline: the later, the higher.
    order: u64,
    /// Its place in the timer.
    wake_ms: Option<u64>,
    /// Its place among the checkpoints.
    checkpoint_ms: Option<u64>,
    /// Whether it is in `touched`.
    touched: bool,
    /// Whether its revocation has been proposed.
    revoking: bool,
}

impl Entry {
    fn new(ttl_s: i64, remaining_ttl_s: i64, live: Arc<LiveLease>) -> Self {
        Self {
            ttl_s,
            remaining_ttl_s,
            live,
            closed_deadline_ms: NEVER,
            order: 0,
            wake_ms: None,
            checkpoint_ms: None,
            touched: false,
            revoking: false,
        }
    }

    fn deadline_ms(&self) -> u64 {
        self.live.deadline_ms().unwrap_or(self.closed_deadline_ms)
    }

    /// From here on nobody else moves its deadline, which is returned.
    fn close(&mut self) -> u64 {
        if let Some(deadline_ms) = self.live.close() {
            self.closed_deadline_ms = deadline_ms;
        }
        self.closed_deadline_ms
    }

    /// Lets it be renewed in place, if this member counts its deadline and nothing stands against it.
    fn open(&mut self) {
        let counted = self.closed_deadline_ms != NEVER && !self.touched;
        if counted
            && !self.revoking
            && self.remaining_ttl_s == 0
            && self.live.deadline_ms().is_none()
        {
            self.live.open(self.closed_deadline_ms);
        }
    }

    /// What a new leader gives it.
    fn time_left_s(&self) -> i64 {
        if self.remaining_ttl_s > 0 {
            self.remaining_ttl_s
        } else {
            self.ttl_s
        }
    }
}

fn ms(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000)
}

fn place(
    set: &mut BTreeSet<(u64, LeaseId)>,
    slot: &mut Option<u64>,
    id: LeaseId,
    at_ms: Option<u64>,
) {
    if let Some(old_ms) = std::mem::replace(slot, at_ms) {
        set.remove(&(old_ms, id));
    }
    if let Some(at_ms) = at_ms {
        set.insert((at_ms, id));
    }
}

/// See the module.
#[derive(Debug)]
pub struct LeaseTimer {
    config: LeaseConfig,
    live: Arc<LiveLeases>,
    leases: HashMap<LeaseId, Entry>,
    /// The term this member leads in.
    leads: Option<Term>,
    /// It has just come to lead: deadlines are set at the next tick.
    promoted: bool,
    now_ms: u64,
    /// The last [`Entry::order`] given.
    last_order: u64,
    /// Deadlines up to here are being acted on.
    checked_ms: Option<u64>,
    timer: BTreeSet<(u64, LeaseId)>,
    checkpoints: BTreeSet<(u64, LeaseId)>,
    /// Granted, or renewed here, since the last tick.
    touched: Vec<LeaseId>,
    /// Renewed while a checkpoint stands that must be taken back.
    resets: BTreeSet<LeaseId>,
    in_flight: usize,
}

impl LeaseTimer {
    /// A timer without leases, on a member that does not lead.
    pub fn new(config: LeaseConfig, live: Arc<LiveLeases>) -> Self {
        Self {
            config,
            live,
            leases: HashMap::new(),
            leads: None,
            promoted: false,
            now_ms: 0,
            last_order: 0,
            checked_ms: None,
            timer: BTreeSet::new(),
            checkpoints: BTreeSet::new(),
            touched: Vec::new(),
            resets: BTreeSet::new(),
            in_flight: 0,
        }
    }

    /// Follows the state machine.
    pub fn change(&mut self, change: LeaseChange) -> Settled {
        match change {
            LeaseChange::Restored {
                id,
                ttl_s,
                remaining_ttl_s,
            } => self.add(id, ttl_s, remaining_ttl_s),
            LeaseChange::Granted { id, ttl_s } => self.add(id, ttl_s, 0),
            LeaseChange::Revoked { id } => return self.remove(id),
            LeaseChange::Checkpointed {
                id,
                remaining_ttl_s,
            } => return self.checkpointed(id, remaining_ttl_s),
        }
        Settled::Nothing
    }

    fn add(&mut self, id: LeaseId, ttl_s: i64, remaining_ttl_s: i64) {
        self.remove(id);
        // The state machine is ahead: the lease may be gone again, and we shall be told so next.
        let live = self
            .live
            .get(id)
            .unwrap_or_else(|| Arc::new(LiveLease::closed(ttl_s)));
        self.leases
            .insert(id, Entry::new(ttl_s, remaining_ttl_s, live));
        self.put_last(id);
        self.touch(id);
        self.schedule_checkpoint(id);
    }

    fn remove(&mut self, id: LeaseId) -> Settled {
        let Some(mut entry) = self.leases.remove(&id) else {
            return Settled::Nothing;
        };
        place(&mut self.timer, &mut entry.wake_ms, id, None);
        place(&mut self.checkpoints, &mut entry.checkpoint_ms, id, None);
        self.resets.remove(&id);
        entry.close();
        self.in_flight -= usize::from(entry.revoking);
        Settled::Gone {
            expired: entry.revoking,
        }
    }

    fn checkpointed(&mut self, id: LeaseId, remaining_ttl_s: i64) -> Settled {
        let Some(entry) = self.leases.get_mut(&id) else {
            return Settled::Nothing;
        };
        let deadline_ms = entry.close();
        entry.remaining_ttl_s = remaining_ttl_s;
        entry.open();
        let renewed = remaining_ttl_s == 0 && !entry.revoking && deadline_ms > self.now_ms;
        let ttl_s = entry.ttl_s;
        if remaining_ttl_s == 0 {
            self.resets.remove(&id);
        }
        self.schedule_checkpoint(id);
        if renewed {
            Settled::Renewed(ttl_s)
        } else {
            Settled::Nothing
        }
    }

    fn put_last(&mut self, id: LeaseId) {
        if let Some(entry) = self.leases.get_mut(&id) {
            self.last_order += 1;
            entry.order = self.last_order;
        }
    }

    /// Gives a lease its full time, from the next tick on.
    fn touch(&mut self, id: LeaseId) {
        let (Some(entry), Some(_)) = (self.leases.get_mut(&id), self.leads) else {
            return;
        };
        let counted_ms = entry.close();
        if !entry.touched {
            entry.touched = true;
            self.touched.push(id);
        }
        if self.promoted {
            return;
        }
        // A deadline that was pushed back by `spread` stays.
        let deadline_ms = self.now_ms.saturating_add(ms(entry.ttl_s));
        if counted_ms == NEVER || counted_ms < deadline_ms {
            entry.closed_deadline_ms = deadline_ms;
        }
        if entry.wake_ms.is_none() {
            place(&mut self.timer, &mut entry.wake_ms, id, Some(deadline_ms));
        }
    }

    /// This member leads in a term (and has applied an entry of it), or does not lead. True if it no longer does
    /// what it did: renewals that wait are another's business.
    pub fn lead(&mut self, leads: Option<Term>) -> bool {
        if leads == self.leads {
            return false;
        }
        let led = self.leads.is_some();
        self.leads = leads;
        self.promoted = leads.is_some();
        self.checked_ms = None;
        self.timer.clear();
        self.checkpoints.clear();
        self.touched.clear();
        self.resets.clear();
        self.in_flight = 0;
        for entry in self.leases.values_mut() {
            entry.close();
            *entry = Entry::new(entry.ttl_s, entry.remaining_ttl_s, entry.live.clone());
        }
        led
    }

    /// L-10: everybody gets their time again.
    fn set_deadlines(&mut self) {
        let from_ms = self.now_ms.saturating_add(self.config.election_timeout_ms);
        let mut order: Vec<(u64, LeaseId)> = self
            .leases
            .iter()
            .map(|(id, entry)| (from_ms.saturating_add(ms(entry.time_left_s())), *id))
            .collect();
        order.sort_unstable();
        let mut spread = Spread::default();
        for (wanted_ms, id) in order {
            let deadline_ms = spread.place(wanted_ms);
            if let Some(entry) = self.leases.get_mut(&id) {
                entry.closed_deadline_ms = deadline_ms;
                entry.open();
                place(&mut self.timer, &mut entry.wake_ms, id, Some(deadline_ms));
            }
            self.schedule_checkpoint(id);
        }
    }

    fn schedule_checkpoint(&mut self, id: LeaseId) {
        let (Some(interval_ms), Some(_)) = (self.config.checkpoint_interval_ms, self.leads) else {
            return;
        };
        let at_ms = self.now_ms.saturating_add(interval_ms);
        if let Some(entry) = self.leases.get_mut(&id) {
            let long = ms(entry.time_left_s()) > interval_ms;
            place(
                &mut self.checkpoints,
                &mut entry.checkpoint_ms,
                id,
                long.then_some(at_ms),
            );
        }
    }

    /// Renews a lease that could not be renewed in place.
    pub fn renew(&mut self, id: LeaseId) -> Renewal {
        if self.leads.is_none() {
            return Renewal::NotPrimary;
        }
        let Some(entry) = self.leases.get(&id) else {
            return Renewal::Unknown;
        };
        if entry.revoking || entry.deadline_ms() <= self.now_ms {
            return Renewal::Expired;
        }
        let (ttl_s, checkpointed) = (entry.ttl_s, entry.remaining_ttl_s > 0);
        self.put_last(id);
        self.touch(id);
        if checkpointed {
            self.resets.insert(id);
            return Renewal::AwaitsCheckpoint;
        }
        Renewal::Renewed(ttl_s)
    }

    /// What is left of a lease, if there is such a lease, and never more than it was granted; the outer None if this
    /// member does not lead.
    pub fn remaining(&self, id: LeaseId) -> Option<Option<Remaining>> {
        self.leads?;
        Some(self.leases.get(&id).map(|entry| {
            let left_ms = match entry.deadline_ms() {
                NEVER => ms(entry.time_left_s()),
                deadline_ms => deadline_ms.saturating_sub(self.now_ms).min(ms(entry.ttl_s)),
            };
            // Some time has passed since the last tick, if only a moment.
            let left_ms = left_ms.saturating_sub(1);
            Remaining {
                ttl_s: i64::try_from(left_ms / 1_000).unwrap_or(i64::MAX),
                granted_ttl_s: entry.ttl_s,
            }
        }))
    }

    /// All leases, the next to expire first (L-08).
    pub fn list(&self) -> Vec<LeaseId> {
        let mut order: Vec<(u64, u64, LeaseId)> = self
            .leases
            .iter()
            .map(|(id, entry)| (entry.deadline_ms(), entry.order, *id))
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, _, id)| id).collect()
    }

    /// Time has passed. [`proposals`](Self::proposals) has what follows from it.
    pub fn tick(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        if self.leads.is_none() {
            return;
        }
        if std::mem::take(&mut self.promoted) {
            self.set_deadlines();
        }
        for id in std::mem::take(&mut self.touched) {
            // It may have been revoked and granted again since: then it is here twice, which does no harm.
            self.touch(id);
            if let Some(entry) = self.leases.get_mut(&id) {
                entry.touched = false;
                entry.open();
            }
        }
        self.touched.clear();
        if self
            .checked_ms
            .is_none_or(|at| self.now_ms >= at.saturating_add(CHECK_INTERVAL_MS))
        {
            self.checked_ms = Some(self.now_ms);
        }
    }

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
            let Some((wake_ms, id)) = self
                .timer
                .first()
                .copied()
                .filter(|(at, _)| *at <= checked_ms)
            else {
                return;
            };
            let Some(entry) = self.leases.get_mut(&id) else {
                self.timer.pop_first();
                continue;
            };
            let mut deadline_ms = entry.deadline_ms();
            if deadline_ms <= checked_ms {
                if !entry.revoking && self.in_flight >= REVOKES_IN_FLIGHT_MAX {
                    return;
                }
                // Closed, so that no renewal comes between this look and the revocation.
                deadline_ms = entry.close();
            }
            let next_ms = if deadline_ms > checked_ms {
                entry.open();
                deadline_ms
            } else {
                self.in_flight += usize::from(!entry.revoking);
                entry.revoking = true;
                proposals.push(Proposal::Revoke(id));
                self.now_ms
                    .saturating_add(self.config.request_timeout_ms.max(CHECK_INTERVAL_MS))
            };
            debug_assert!(next_ms > wake_ms);
            place(&mut self.timer, &mut entry.wake_ms, id, Some(next_ms));
        }
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
                let Some((_, id)) = self
                    .checkpoints
                    .first()
                    .copied()
                    .filter(|(at, _)| *at <= checked_ms)
                else {
                    break;
                };
                self.checkpoints.pop_first();
                let Some(entry) = self.leases.get_mut(&id) else {
                    continue;
                };
                entry.checkpoint_ms = None;
                let deadline_ms = entry.deadline_ms();
                if entry.revoking || deadline_ms <= self.now_ms {
                    continue;
                }
                let left_s = (deadline_ms - self.now_ms).div_ceil(1_000);
                let left_s = i64::try_from(left_s).unwrap_or(i64::MAX);
                if left_s < entry.ttl_s {
                    batch.push((id, left_s));
                }
                // Applied, it is scheduled anew; this one stands in case the proposal is lost.
                self.schedule_checkpoint(id);
            }
            if batch.is_empty() {
                return;
            }
            proposals.push(Proposal::Checkpoint(batch));
        }
    }

    /// A proposal did not reach the log, which is busy: again at the next check. (A checkpoint has its next turn
    /// anyway, and a renewal that awaits one is repeated by its client.)
    pub fn not_proposed(&mut self, proposal: &Proposal) {
        let Proposal::Revoke(id) = proposal else {
            return;
        };
        let Some(entry) = self.leases.get_mut(id).filter(|entry| entry.revoking) else {
            return;
        };
        entry.revoking = false;
        self.in_flight -= 1;
        let next_ms = self.now_ms.saturating_add(CHECK_INTERVAL_MS);
        place(&mut self.timer, &mut entry.wake_ms, *id, Some(next_ms));
    }

    /// Revocations proposed and not yet applied.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is no lease.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }
}
