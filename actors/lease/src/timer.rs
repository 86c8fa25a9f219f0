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
//!   counting --deadline passes, a check--> revoking --Revoked--> gone
//!    ^ |                    (from here on   | ^ | ^ no answer: again after the request timeout
//!    +-+ renewal             renewals wait) | | +-+
//!                                           v |
//!                                         expired: Raft was busy, again at the next check
//! ```
//! A lease that nobody counts, as this member does not lead, is *uncounted*.
//!
//! **Pace of expiry.** Deadlines are looked at every [`CHECK_INTERVAL_MS`], as etcd does. At most
//! [`REVOKES_IN_FLIGHT_MAX`] revocations are on their way; each confirmation lets the next one go. So 100,000 leases
//! that end in one second are gone in about two hundred rounds of group commit, and a write waits behind no
//! more than one window of small entries, a few milliseconds.
//!
//! **Leadership.** A new leader knows no deadlines: every lease gets its full time again (or what the last
//! checkpoint left of it) and an election timeout on top, for the clients that have to find the leader first.

mod entry;
mod proposals;

use crate::spread::Spread;
use entry::{Entry, Phase, Schedule};
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
    /// Nobody's answer depended on it.
    Nothing,
    /// It is gone, so a renewal is answered with 0.
    Gone {
        /// Because this timer proposed it.
        expired: bool,
    },
    /// It is renewed, for so many seconds.
    Renewed(i64),
}

fn ms(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000)
}

/// All leases, and when something is to be done about them.
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
    timer: Schedule,
    checkpoints: Schedule,
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
            timer: Schedule::default(),
            checkpoints: Schedule::default(),
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
        entry.close();
        if let Some(at_ms) = entry.wake_ms() {
            self.timer.remove(at_ms, id);
        }
        if let Some(at_ms) = entry.checkpoint_ms() {
            self.checkpoints.remove(at_ms, id);
        }
        self.resets.remove(&id);
        let expired = entry.is_revoking();
        self.in_flight -= usize::from(expired);
        Settled::Gone { expired }
    }

    fn checkpointed(&mut self, id: LeaseId, remaining_ttl_s: i64) -> Settled {
        let Some(entry) = self.leases.get_mut(&id) else {
            return Settled::Nothing;
        };
        entry.close();
        entry.remaining_ttl_s = remaining_ttl_s;
        let renewed = remaining_ttl_s == 0 && !entry.is_over(self.now_ms);
        entry.open();
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
        entry.close();
        if !entry.touched {
            entry.touched = true;
            self.touched.push(id);
        }
        if self.promoted {
            return;
        }
        let deadline_ms = self.now_ms.saturating_add(ms(entry.ttl_s));
        match &mut entry.phase {
            Phase::Uncounted => self.count(id, deadline_ms),
            Phase::Counting {
                closed_deadline_ms, ..
            } => {
                // A deadline that was pushed back by `spread` stays.
                *closed_deadline_ms = deadline_ms.max(*closed_deadline_ms);
            }
            Phase::Expired { .. } | Phase::Revoking { .. } => {}
        }
    }

    /// Begins to count a lease.
    fn count(&mut self, id: LeaseId, deadline_ms: u64) {
        if let Some(entry) = self.leases.get_mut(&id) {
            entry.phase = Phase::Counting {
                closed_deadline_ms: deadline_ms,
                wake_ms: deadline_ms,
                checkpoint_ms: None,
            };
            entry.open();
            self.timer.insert(deadline_ms, id);
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
            self.count(id, deadline_ms);
            self.schedule_checkpoint(id);
        }
    }

    fn schedule_checkpoint(&mut self, id: LeaseId) {
        let (Some(interval_ms), Some(_)) = (self.config.checkpoint_interval_ms, self.leads) else {
            return;
        };
        let at_ms = self.now_ms.saturating_add(interval_ms);
        let Some(entry) = self.leases.get_mut(&id) else {
            return;
        };
        let long = ms(entry.time_left_s()) > interval_ms;
        if let Phase::Counting { checkpoint_ms, .. } = &mut entry.phase {
            let before_ms = std::mem::replace(checkpoint_ms, long.then_some(at_ms));
            if let Some(before_ms) = before_ms {
                self.checkpoints.remove(before_ms, id);
            }
            if long {
                self.checkpoints.insert(at_ms, id);
            }
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
        if entry.is_over(self.now_ms) {
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
                None => ms(entry.time_left_s()),
                Some(deadline_ms) => deadline_ms.saturating_sub(self.now_ms).min(ms(entry.ttl_s)),
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
            .map(|(id, entry)| (entry.deadline_ms().unwrap_or(u64::MAX), entry.order, *id))
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

    /// Asserts what always holds. It looks at every lease: for tests.
    pub fn check(&self) {
        let (mut counted, mut checkpointed, mut revoking) = (0, 0, 0);
        for (id, entry) in &self.leases {
            entry.check(self.leads.is_some());
            revoking += usize::from(entry.is_revoking());
            if let Some(at_ms) = entry.wake_ms() {
                counted += 1;
                assert!(self.timer.contains(at_ms, *id), "{id} is not in the timer");
            }
            if let Some(at_ms) = entry.checkpoint_ms() {
                checkpointed += 1;
                let scheduled = self.checkpoints.contains(at_ms, *id);
                assert!(scheduled, "{id} is not among the checkpoints");
            }
            let listed = !entry.touched || self.touched.contains(id);
            assert!(listed, "{id} waits for a tick that does not know of it");
        }
        assert_eq!(
            self.timer.len(),
            counted,
            "the timer has entries of no lease"
        );
        let scheduled = self.checkpoints.len();
        assert_eq!(scheduled, checkpointed, "checkpoints of no lease");
        assert_eq!(self.in_flight, revoking, "revocations in flight");
        assert!(
            revoking <= REVOKES_IN_FLIGHT_MAX,
            "the window is wider than it may be"
        );
        let known = self.resets.iter().all(|id| self.leases.contains_key(id));
        assert!(known, "a checkpoint of no lease is to be taken back");
    }
}
