//! The pace of physical removal: a step, a pause, a step.
//!
//! A step removes at most `--compaction-batch-limit` records, in one go on the state machine's thread; the pause
//! after it is `--compaction-sleep-interval`. The steps are messages like any other, so writes pass between them.
//!
//! The pause counts from the end of a step: a slow step is not followed by a shorter pause. Ticks may be coarser
//! than the pause. Then the steps that fell due since the last tick follow each other closely, a few at most, and
//! the pace holds on average.
//!
//! A removed record is a few bytes in a batch, yet costs the engine as much as a written one. Steps that went on while
//! the engine is behind would pile up in one batch that takes it seconds, and so hold up everything else. So steps are
//! skipped while the engine has much still to write. Not for ever: an engine that writes alone keep busy would never
//! get smaller.

use rusd_messages::compactor::CompactStepped;

/// Bytes that the engine does not have yet, beyond which steps are skipped. Less than this lies between any two batches
/// of an engine that keeps up; of a compaction alone it is some twenty thousand records.
pub const UNWRITTEN_BYTES_MAX: usize = 512 << 10;
/// Consecutive steps to skip before one is made anyway. At etcd's pace, a thousand records every ten milliseconds, that
/// still removes 25,000 a second: about as many as a saturated server writes.
const SKIPPED_STEPS_MAX: u32 = 3;
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

/// Skips steps while the engine is behind.
#[derive(Debug, Default)]
struct RemovalBackoff {
    /// As the last step found it, with a next one that would add to what the engine has to write.
    engine_is_behind: bool,
    skipped: u32,
}

impl RemovalBackoff {
    fn stepped(&mut self, stepped: &CompactStepped) {
        self.engine_is_behind =
            stepped.next_removes && stepped.unwritten_bytes > UNWRITTEN_BYTES_MAX;
    }

    /// Whether the step that is due now is to be skipped.
    fn skips(&mut self) -> bool {
        let skips = self.engine_is_behind && self.skipped < SKIPPED_STEPS_MAX;
        self.skipped = if skips { self.skipped + 1 } else { 0 };
        skips
    }
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
    backoff: RemovalBackoff,
}

impl Pacing {
    /// Nothing to remove yet.
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            now_ms: 0,
            running: None,
            backoff: RemovalBackoff::default(),
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

    /// A step is done. Returns what the compaction came to, if it was the last one.
    pub fn stepped(&mut self, stepped: &CompactStepped) -> Option<Finished> {
        self.backoff.stepped(stepped);
        let catch_up_ms = self.catch_up_ms();
        let running = self.running.as_mut()?;
        running.removed += stepped.removed as u64;
        let asked_ms = running.asked_ms.take().unwrap_or(self.now_ms);
        let began_ms = running.due_ms.max(asked_ms.saturating_sub(catch_up_ms));
        let took_ms = self.now_ms - asked_ms;
        running.due_ms = began_ms
            .saturating_add(took_ms)
            .saturating_add(self.pace.pause_ms);
        if !stepped.finished {
            return None;
        }
        let done = Finished {
            revision: running.revision,
            removed: running.removed,
        };
        self.running = None;
        self.backoff = RemovalBackoff::default();
        Some(done)
    }

    fn catch_up_ms(&self) -> u64 {
        self.pace.pause_ms.saturating_mul(CATCH_UP_STEPS)
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// How many records to remove now, if a step is due. Ask after each of the other calls.
    pub fn step(&mut self) -> Option<usize> {
        let (now_ms, catch_up_ms) = (self.now_ms, self.catch_up_ms());
        let running = self.running.as_mut()?;
        if running.asked_ms.is_some() {
            return None;
        }
        while running.due_ms <= now_ms {
            if !self.backoff.skips() {
                running.asked_ms = Some(now_ms);
                return Some(self.pace.step_records);
            }
            // As if a step had been made that took no time. Without a pause, the engine has until the next tick.
            running.due_ms = running.due_ms.max(now_ms.saturating_sub(catch_up_ms));
            running.due_ms = running.due_ms.saturating_add(self.pace.pause_ms.max(1));
        }
        None
    }

    /// The step could not be asked for: again at the next tick.
    pub fn not_stepped(&mut self) {
        if let Some(running) = &mut self.running {
            running.asked_ms = None;
        }
    }
}
