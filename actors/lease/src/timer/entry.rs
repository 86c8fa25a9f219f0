//! One lease, and how far it is on its way from being counted to being revoked.

use rusd_messages::LeaseId;
use rusd_messages::live_leases::LiveLease;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Leases in the order of a moment that each of them waits for, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Schedule(BTreeSet<(u64, LeaseId)>);

impl Schedule {
    pub(super) fn insert(&mut self, at_ms: u64, id: LeaseId) {
        self.0.insert((at_ms, id));
    }

    pub(super) fn remove(&mut self, at_ms: u64, id: LeaseId) {
        self.0.remove(&(at_ms, id));
    }

    /// The first lease whose moment is not later than `by_ms`.
    pub(super) fn due(&self, by_ms: u64) -> Option<(u64, LeaseId)> {
        self.0.first().copied().filter(|(at_ms, _)| *at_ms <= by_ms)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, at_ms: u64, id: LeaseId) -> bool {
        self.0.contains(&(at_ms, id))
    }
}

/// How far a lease is. All but the first have a place in the timer, at `wake_ms`.
#[derive(Debug)]
pub(super) enum Phase {
    /// It has no deadline: this member does not lead, or no tick has passed since it does.
    Uncounted,
    /// It lives until its deadline.
    Counting {
        /// The deadline while it is closed; while it is open, the shared lease has it.
        closed_deadline_ms: u64,
        /// Not later than the deadline: a renewal moves only that.
        wake_ms: u64,
        /// Its place among the checkpoints.
        checkpoint_ms: Option<u64>,
    },
    /// Its time is over, and Raft had no room for its revocation, which is proposed at `wake_ms`.
    Expired { deadline_ms: u64, wake_ms: u64 },
    /// Its revocation is proposed, and is proposed again at `wake_ms`.
    Revoking { deadline_ms: u64, wake_ms: u64 },
}

/// A lease as its timer knows it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) ttl_s: i64,
    /// What the last checkpoint left of it; 0 if there is none to go by.
    pub(super) remaining_ttl_s: i64,
    /// Shared with those who renew it in place.
    pub(super) live: Arc<LiveLease>,
    /// Among leases that were given their time within one tick, which have one deadline: the later, the higher.
    pub(super) order: u64,
    /// It was given its full time since the last tick, and is in the list of those.
    pub(super) touched: bool,
    pub(super) phase: Phase,
}

impl Entry {
    pub(super) fn new(ttl_s: i64, remaining_ttl_s: i64, live: Arc<LiveLease>) -> Self {
        Self {
            ttl_s,
            remaining_ttl_s,
            live,
            order: 0,
            touched: false,
            phase: Phase::Uncounted,
        }
    }

    /// When its time is over; None if nobody counts it.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Uncounted => None,
            Phase::Counting {
                closed_deadline_ms, ..
            } => Some(self.live.deadline_ms().unwrap_or(closed_deadline_ms)),
            Phase::Expired { deadline_ms, .. } | Phase::Revoking { deadline_ms, .. } => {
                Some(deadline_ms)
            }
        }
    }

    /// Its place in the timer.
    pub(super) fn wake_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Uncounted => None,
            Phase::Counting { wake_ms, .. }
            | Phase::Expired { wake_ms, .. }
            | Phase::Revoking { wake_ms, .. } => Some(wake_ms),
        }
    }

    /// Its place among the checkpoints.
    pub(super) fn checkpoint_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Counting { checkpoint_ms, .. } => checkpoint_ms,
            _ => None,
        }
    }

    pub(super) fn is_revoking(&self) -> bool {
        matches!(self.phase, Phase::Revoking { .. })
    }

    /// Nothing renews it any more.
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        match self.phase {
            Phase::Uncounted => false,
            Phase::Counting { .. } => self.deadline_ms().is_some_and(|at_ms| at_ms <= now_ms),
            Phase::Expired { .. } | Phase::Revoking { .. } => true,
        }
    }

    /// From here on nobody else moves its deadline.
    pub(super) fn close(&mut self) {
        if let (
            Some(at_ms),
            Phase::Counting {
                closed_deadline_ms, ..
            },
        ) = (self.live.close(), &mut self.phase)
        {
            *closed_deadline_ms = at_ms;
        }
    }

    /// Lets it be renewed in place, if this member counts its deadline and nothing stands against it.
    pub(super) fn open(&self) {
        if let Phase::Counting {
            closed_deadline_ms, ..
        } = self.phase
            && !self.touched
            && self.remaining_ttl_s == 0
            && self.live.deadline_ms().is_none()
        {
            self.live.open(closed_deadline_ms);
        }
    }

    /// What a new leader gives it, in seconds.
    pub(super) fn time_left_s(&self) -> i64 {
        if self.remaining_ttl_s > 0 {
            self.remaining_ttl_s
        } else {
            self.ttl_s
        }
    }

    /// What holds of a lease by itself; `leads` says whether this member counts.
    pub(super) fn check(&self, leads: bool) {
        let counting = matches!(self.phase, Phase::Counting { .. });
        assert!(
            leads || matches!(self.phase, Phase::Uncounted),
            "only a leader counts: {self:?}"
        );
        if let Some(deadline_ms) = self.live.deadline_ms() {
            assert!(counting, "open without being counted: {self:?}");
            assert!(
                !self.touched,
                "open before the tick that counts it: {self:?}"
            );
            assert_eq!(
                self.remaining_ttl_s, 0,
                "open against its checkpoint: {self:?}"
            );
            assert!(
                self.wake_ms().is_some_and(|at_ms| at_ms <= deadline_ms),
                "{self:?}"
            );
        }
    }
}
