//! When to compact, and to which revision (O-05), as etcd does it.
//!
//! **Periodic.** The revision is sampled ten times a period (of a period above an hour: ten times an hour), and
//! as many samples are kept as span the period, so that the oldest is what was current a period ago. The first
//! compaction comes once a period has passed; from then on one every period, or every hour if that is less,
//! to the oldest sample. One that fails is tried again at the next sample.
//!
//! ```text
//!   period 24h:  samples every 6 min, 241 kept; compacts every hour, first after a day
//!   period 5m:   samples every 30 s,   11 kept; compacts every 5 min
//! ```
//!
//! **By revision.** Every five minutes to the current revision less so many.
//!
//! Only the leader compacts. The others sample all the same, so that a new leader has what it needs.

use std::collections::VecDeque;

const HOUR_MS: u64 = 3_600_000;

/// Samples in a period, or in an hour if the period is longer.
const SAMPLES_PER_INTERVAL: u64 = 10;

/// How often compaction by revision looks.
const REVISION_INTERVAL_MS: u64 = 300_000;

/// What `--auto-compaction-mode` and `--auto-compaction-retention` ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoMode {
    /// Nothing is compacted but on request.
    Off,
    /// Keep the history of a period.
    Periodic {
        /// The period.
        retention_ms: u64,
    },
    /// Keep so many revisions.
    Revisions {
        /// How many.
        retained: i64,
    },
}

/// See the module.
#[derive(Debug)]
pub struct AutoCompaction {
    mode: AutoMode,
    leads: bool,
    /// The newest revision known; None until the state machine has told.
    revision: Option<i64>,
    /// When to look next; None before the first tick.
    next_ms: Option<u64>,
    now_ms: u64,
    /// Sampled revisions, the oldest in front.
    samples: VecDeque<i64>,
    /// The revision of the last compaction that succeeded.
    last_revision: i64,
    /// When that was; at first, when counting began.
    last_success_ms: u64,
    /// Whether a compaction was tried yet: until then a whole period must pass.
    tried: bool,
    in_flight: Option<i64>,
}

impl AutoCompaction {
    /// A mode, and nothing seen yet.
    pub fn new(mode: AutoMode) -> Self {
        Self {
            mode,
            leads: false,
            revision: None,
            next_ms: None,
            now_ms: 0,
            samples: VecDeque::new(),
            last_revision: 0,
            last_success_ms: 0,
            tried: false,
            in_flight: None,
        }
    }

    /// The store moved on.
    pub fn revision(&mut self, revision: i64) {
        self.revision = Some(revision);
    }

    /// Whether this member leads.
    pub fn lead(&mut self, leads: bool) {
        self.leads = leads;
    }

    /// Time has passed: the revision to compact to, if it is time for that. The outcome is to be told to
    /// [`finished`](Self::finished); until then there is no other.
    pub fn tick(&mut self, now_ms: u64) -> Option<i64> {
        self.now_ms = self.now_ms.max(now_ms);
        let revision = self.revision?;
        let interval_ms = self.interval_ms()?;
        let Some(next_ms) = self.next_ms else {
            self.last_success_ms = self.now_ms;
            self.next_ms = Some(self.now_ms.saturating_add(interval_ms));
            self.sample(revision);
            return None;
        };
        if self.now_ms < next_ms {
            return None;
        }
        self.next_ms = Some(self.now_ms.saturating_add(interval_ms));
        let target = if self.leads && self.in_flight.is_none() {
            self.target(revision)
        } else {
            None
        };
        self.in_flight = self.in_flight.or(target);
        self.sample(revision);
        target
    }

    /// How often it looks; None if it does not.
    fn interval_ms(&self) -> Option<u64> {
        match self.mode {
            AutoMode::Off => None,
            AutoMode::Periodic { retention_ms } => {
                Some((retention_ms.min(HOUR_MS) / SAMPLES_PER_INTERVAL).max(1))
            }
            AutoMode::Revisions { .. } => Some(REVISION_INTERVAL_MS),
        }
    }

    fn target(&mut self, revision: i64) -> Option<i64> {
        match self.mode {
            AutoMode::Off => None,
            AutoMode::Revisions { retained } => {
                let target = revision.saturating_sub(retained);
                (target > 0 && target != self.last_revision).then_some(target)
            }
            AutoMode::Periodic { retention_ms } => {
                let target = *self.samples.front()?;
                let pause_ms = if self.tried {
                    retention_ms.min(HOUR_MS)
                } else {
                    retention_ms
                };
                let passed_ms = self.now_ms.saturating_sub(self.last_success_ms);
                if passed_ms < pause_ms || target == self.last_revision {
                    return None;
                }
                self.tried = true;
                Some(target)
            }
        }
    }

    fn sample(&mut self, revision: i64) {
        let (AutoMode::Periodic { retention_ms }, Some(interval_ms)) =
            (self.mode, self.interval_ms())
        else {
            return;
        };
        self.samples.push_back(revision);
        while self.samples.len() as u64 > retention_ms / interval_ms + 1 {
            self.samples.pop_front();
        }
    }

    /// How a compaction ended. That it was done already, by somebody else, is a success.
    pub fn finished(&mut self, succeeded: bool) {
        let Some(revision) = self.in_flight.take().filter(|_| succeeded) else {
            return;
        };
        self.last_revision = revision;
        self.last_success_ms = self.now_ms;
    }
}
