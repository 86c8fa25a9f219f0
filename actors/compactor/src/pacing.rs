//! The pace of physical removal: a step, a pause, a step.
//!
//! A step removes at most `--compaction-batch-limit` records, in one go on the state machine's thread; the pause
//! after it is `--compaction-sleep-interval`. The steps are messages like any other, so writes pass between them.
//!
//! The pause counts from the end of a step: a slow step is not followed by a shorter pause. Ticks may be coarser
//! than the pause. Then the steps that fell due since the last tick follow each other closely, a few at most, and
//! the pace holds on average.

/// Steps that may be caught up with, after a tick that came late.
const CATCH_UP_STEPS: u64 = 10;

/// Settings of the pace.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Records removed by a step.
    pub step_records: usize,
    /// The pause after each.
    pub pause_ms: u64,
}

/// What a compaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The compacted revision.
    pub revision: i64,
    /// Records removed.
    pub removed: u64,
}

#[derive(Debug)]
struct Running {
    revision: i64,
    removed: u64,
    /// When the next step is due.
    due_ms: u64,
    /// When the step on its way was asked for.
    asked_ms: Option<u64>,
}

/// See the module.
#[derive(Debug)]
pub struct Pacing {
    pace: Pace,
    now_ms: u64,
    running: Option<Running>,
}

impl Pacing {
    /// Nothing to remove yet.
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            now_ms: 0,
            running: None,
        }
    }

    /// There is something to remove. If a removal is running already, it covers this as well: the state machine
    /// says "finished" only when nothing is left, and it says these things in order.
    pub fn pending(&mut self, revision: i64) {
        match &mut self.running {
            Some(running) => running.revision = revision,
            None => {
                self.running = Some(Running {
                    revision,
                    removed: 0,
                    due_ms: self.now_ms,
                    asked_ms: None,
                });
            }
        }
    }

    /// A step is done.
    pub fn stepped(&mut self, removed: usize, finished: bool) -> Option<Finished> {
        let running = self.running.as_mut()?;
        running.removed += removed as u64;
        let asked_ms = running.asked_ms.take().unwrap_or(self.now_ms);
        let catch_up_ms = self.pace.pause_ms.saturating_mul(CATCH_UP_STEPS);
        let began_ms = running.due_ms.max(asked_ms.saturating_sub(catch_up_ms));
        let took_ms = self.now_ms - asked_ms;
        running.due_ms = began_ms
            .saturating_add(took_ms)
            .saturating_add(self.pace.pause_ms);
        if !finished {
            return None;
        }
        let done = Finished {
            revision: running.revision,
            removed: running.removed,
        };
        self.running = None;
        Some(done)
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// How many records to remove now, if a step is due. Ask after each of the other calls.
    pub fn step(&mut self) -> Option<usize> {
        let now_ms = self.now_ms;
        let running = self.running.as_mut()?;
        if running.asked_ms.is_some() || running.due_ms > now_ms {
            return None;
        }
        running.asked_ms = Some(now_ms);
        Some(self.pace.step_records)
    }

    /// The step could not be asked for: again at the next tick.
    pub fn not_stepped(&mut self) {
        if let Some(running) = &mut self.running {
            running.asked_ms = None;
        }
    }
}
