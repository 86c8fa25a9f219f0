//! Random histories against what is promised: no lease ends early, every lease ends, and the window holds.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use rusd_lease::timer::{LeaseTimer, REVOKES_IN_FLIGHT_MAX, Renewal};
use rusd_lease::{LeaseConfig, Proposal};
use rusd_messages::lease::LeaseChange;
use rusd_messages::live_leases::InPlace;
use rusd_messages::{LeaseId, LiveLeases, Term};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, Debug)]
enum Step {
    Tick(u64),
    Grant(i64, i64),
    /// So many milliseconds later, and before the next tick.
    Renew(i64, u64),
    /// By a thread that was held up for so many milliseconds since it read the clock.
    RenewLate(i64, u64),
    Revoke(i64),
    /// So many of the proposed revocations are applied.
    Confirm(usize),
    /// So many of them never reach the log.
    Refuse(usize),
    Lead,
    Follow,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..1_500_u64).prop_map(Step::Tick),
        1 => (1..30_000_u64).prop_map(Step::Tick),
        6 => (1..40_i64, 1..20_i64).prop_map(|(id, ttl_s)| Step::Grant(id, ttl_s)),
        8 => (1..40_i64, 0..300_u64).prop_map(|(id, later_ms)| Step::Renew(id, later_ms)),
        4 => (1..40_i64, 0..2_500_u64).prop_map(|(id, late_ms)| Step::RenewLate(id, late_ms)),
        2 => (1..40_i64).prop_map(Step::Revoke),
        3 => (1..9_usize).prop_map(Step::Confirm),
        1 => (1..3_usize).prop_map(Step::Refuse),
        1 => Just(Step::Lead),
        1 => Just(Step::Follow),
    ]
}

/// A lease as its owner sees it.
struct Owned {
    ttl_ms: u64,
    /// It must not end before; None if it has been granted or renewed since the last tick.
    safe_until_ms: Option<u64>,
    /// What the last applied checkpoint left of it, which is all that a new leader knows; 0 if there is none.
    checkpoint_ms: u64,
    /// It has its full time from the next tick on; otherwise, under a new leader, what its checkpoint left.
    touched: bool,
}

const CONFIG: LeaseConfig = LeaseConfig {
    election_timeout_ms: 1_000,
    request_timeout_ms: 7_000,
    checkpoint_interval_ms: None,
};

struct World {
    timer: LeaseTimer,
    live: Arc<LiveLeases>,
    /// The real time; that of the last tick is behind it.
    now_ms: u64,
    tick_ms: u64,
    term: u64,
    leads: bool,
    owned: BTreeMap<i64, Owned>,
    proposed: BTreeSet<i64>,
    /// Checkpoints that are not applied yet.
    checkpoints: Vec<(LeaseId, i64)>,
}

impl World {
    fn new(checkpoint_interval_ms: Option<u64>) -> Self {
        let live = Arc::new(LiveLeases::default());
        let config = LeaseConfig {
            checkpoint_interval_ms,
            ..CONFIG
        };
        Self {
            timer: LeaseTimer::new(config, live.clone()),
            live,
            now_ms: 0,
            tick_ms: 0,
            term: 0,
            leads: false,
            owned: BTreeMap::new(),
            proposed: BTreeSet::new(),
            checkpoints: Vec::new(),
        }
    }

    fn change(&mut self, change: LeaseChange) {
        self.timer.change(change);
        self.collect();
    }

    fn gone(&mut self, id: i64) {
        self.owned.remove(&id);
        self.proposed.remove(&id);
        self.live.remove(LeaseId(id));
        self.change(LeaseChange::Revoked { id: LeaseId(id) });
    }

    fn collect(&mut self) {
        for proposal in self.timer.proposals() {
            assert!(self.leads);
            let id = match proposal {
                Proposal::Revoke(id) => id,
                Proposal::Checkpoint(leases) => {
                    self.checkpoints.extend(leases);
                    continue;
                }
            };
            let owned = self.owned.get(&id.0).expect("only what exists is revoked");
            let safe_until_ms = owned
                .safe_until_ms
                .expect("not before the tick that follows its renewal");
            assert!(
                safe_until_ms <= self.now_ms,
                "lease {id} ended {} ms early",
                safe_until_ms - self.now_ms
            );
            self.proposed.insert(id.0);
        }
        self.timer.check();
        assert!(self.timer.in_flight() <= REVOKES_IN_FLIGHT_MAX);
        assert_eq!(self.timer.in_flight(), self.proposed.len());
        assert_eq!(self.timer.len(), self.owned.len());
    }

    fn lead(&mut self, leads: bool) {
        if leads {
            self.term += 1;
        }
        self.timer.lead(leads.then_some(Term(self.term)));
        if leads || self.leads {
            self.proposed.clear();
            for owned in self.owned.values_mut() {
                owned.safe_until_ms = None;
                owned.touched = false;
            }
        }
        self.leads = leads;
        self.collect();
    }

    fn tick(&mut self, passed_ms: u64) {
        self.now_ms += passed_ms;
        for owned in self.owned.values_mut() {
            let full = owned.touched || owned.checkpoint_ms == 0;
            let left_ms = if full {
                owned.ttl_ms
            } else {
                owned.checkpoint_ms
            };
            owned.safe_until_ms.get_or_insert(self.now_ms + left_ms);
        }
        self.tick_ms = self.now_ms;
        self.timer.tick(self.now_ms);
        self.collect();
    }

    fn renew(&mut self, id: i64, read_ms: u64) {
        let owned = self.owned.get_mut(&id);
        match self.live.renew(LeaseId(id), read_ms) {
            InPlace::Renewed(ttl_s) => {
                let owned = owned.expect("only what exists is renewed");
                assert!(self.leads && !self.proposed.contains(&id));
                assert_eq!(ttl_s as u64 * 1_000, owned.ttl_ms);
                let told_ms = read_ms + owned.ttl_ms;
                owned.safe_until_ms = owned.safe_until_ms.max(Some(told_ms));
                return;
            }
            InPlace::Unknown => return assert!(owned.is_none()),
            InPlace::Closed => {}
        }
        match self.timer.renew(LeaseId(id)) {
            Renewal::Renewed(ttl_s) => {
                let owned = owned.expect("only what exists is renewed");
                assert!(!self.proposed.contains(&id));
                assert_eq!(ttl_s as u64 * 1_000, owned.ttl_ms);
                owned.safe_until_ms = None;
                owned.touched = true;
            }
            Renewal::Expired => assert!(owned.unwrap().safe_until_ms.unwrap() <= self.now_ms),
            Renewal::NotPrimary => assert!(!self.leads),
            // Its owner is not told yet, so nothing is promised.
            Renewal::AwaitsCheckpoint => assert!(owned.unwrap().checkpoint_ms > 0),
            Renewal::Unknown => panic!("it exists"),
        }
    }

    /// The log has them whoever leads by now; those of a lease that is gone change nothing.
    fn apply_checkpoints(&mut self, count: usize) {
        let count = count.min(self.checkpoints.len());
        for (id, remaining_ttl_s) in self.checkpoints.drain(..count).collect::<Vec<_>>() {
            let Some(owned) = self.owned.get_mut(&id.0) else {
                continue;
            };
            owned.checkpoint_ms = remaining_ttl_s as u64 * 1_000;
            self.change(LeaseChange::Checkpointed {
                id,
                remaining_ttl_s,
            });
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Tick(passed_ms) => self.tick(passed_ms),
            Step::Grant(id, _) if self.owned.contains_key(&id) => {}
            Step::Grant(id, ttl_s) => {
                let ttl_ms = ttl_s as u64 * 1_000;
                self.owned.insert(
                    id,
                    Owned {
                        ttl_ms,
                        safe_until_ms: None,
                        checkpoint_ms: 0,
                        touched: true,
                    },
                );
                self.live.insert(LeaseId(id), ttl_s);
                self.change(LeaseChange::Granted {
                    id: LeaseId(id),
                    ttl_s,
                });
            }
            Step::Renew(id, later_ms) => {
                self.now_ms += later_ms;
                self.renew(id, self.now_ms);
            }
            Step::RenewLate(id, late_ms) => self.renew(id, self.now_ms.saturating_sub(late_ms)),
            Step::Revoke(id) => self.gone(id),
            Step::Confirm(count) => {
                self.apply_checkpoints(count);
                for id in self
                    .proposed
                    .iter()
                    .copied()
                    .take(count)
                    .collect::<Vec<_>>()
                {
                    self.gone(id);
                }
            }
            Step::Refuse(count) => {
                let kept = self.checkpoints.len().saturating_sub(count);
                self.checkpoints.truncate(kept);
                for id in self
                    .proposed
                    .iter()
                    .copied()
                    .take(count)
                    .collect::<Vec<_>>()
                {
                    self.proposed.remove(&id);
                    self.timer.not_proposed(&Proposal::Revoke(LeaseId(id)));
                }
            }
            Step::Lead => self.lead(true),
            Step::Follow => self.lead(false),
        }
    }

    fn live_through(mut self, steps: Vec<Step>) {
        for step in steps {
            self.step(step);
        }
        self.end();
    }

    /// Left alone under a leader, everything ends: within its time, the extension and two looks.
    fn end(&mut self) {
        self.lead(true);
        for _ in 0..(20_000 + 1_000 + 1_000) / 100 {
            self.tick(100);
            self.step(Step::Confirm(usize::MAX));
        }
        assert!(
            self.owned.is_empty(),
            "{} leases never ended",
            self.owned.len()
        );
        assert!(self.timer.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn l_09_no_lease_ends_early_and_every_lease_ends(steps in prop::collection::vec(step(), 1..200)) {
        World::new(None).live_through(steps);
    }

    #[test]
    fn l_10_nor_with_checkpoints(steps in prop::collection::vec(step(), 1..200)) {
        World::new(Some(3_000)).live_through(steps);
    }
}

#[test]
fn l_09_a_hundred_thousand_expiries_in_one_second_go_window_by_window() {
    const LEASES: i64 = 100_000;
    let mut timer = LeaseTimer::new(CONFIG, Arc::default());
    timer.lead(Some(Term(1)));
    timer.tick(0);
    for id in 1..=LEASES {
        timer.change(LeaseChange::Granted {
            id: LeaseId(id),
            ttl_s: 60,
        });
    }
    timer.tick(0);
    timer.tick(60_000);
    let mut revoked = 0;
    let mut window = timer.proposals();
    while !window.is_empty() {
        assert!(window.len() <= REVOKES_IN_FLIGHT_MAX);
        for proposal in &window {
            let Proposal::Revoke(id) = proposal else {
                panic!("{proposal:?}")
            };
            timer.change(LeaseChange::Revoked { id: *id });
            revoked += 1;
        }
        window = timer.proposals();
    }
    assert_eq!(revoked, LEASES);
}
