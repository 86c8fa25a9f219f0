//! The core of the engine writer: what its thread does next.
//!
//! [`Core::next`] says one thing at a time; the thread does it and reports what the action's description says, then
//! asks again. There is no clock in here: each question comes with the time.
//!
//! ```text
//!   work:     write, defragment, close                              \
//!   reports:  page_copied, copy_refused, copy_failed,                --> Core --next(now_ms)--> Action
//!             checkpoint_completed, persist_refused                 /
//! ```
//!
//! One copy runs at a time: a defragmentation takes the place of the live engine, a checkpoint is put beside it.
//! Batches go between any two pages, for a while even before them. Nobody waits for a checkpoint, so it takes at most
//! half of the thread's time, and a defragmentation waits until it is done.
#![deny(clippy::disallowed_methods)]

use super::checkpoint::{Due, Schedule};
use super::{PersistPolicy, Progress};
use crate::core::Write;
use rusd_messages::raft::EnginePersisted;
use rusd_messages::{Index, Reply};
use rusd_proto::EtcdError;
use rusd_storage::LogPosition;
use std::collections::VecDeque;

/// How long a copy lets waiting batches go first: under constant load it would never end otherwise.
pub const COPY_PATIENCE_MS: u64 = 50;

/// Who waits for a defragmentation.
pub type Defragmented = Reply<Result<(), EtcdError>>;

/// What a copy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To take the place of the live engine.
    Defragmentation,
    /// To be kept beside it.
    Checkpoint,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Action {
    /// Wait for work: until then at the latest, or for however long it takes.
    Wait {
        /// When to ask again even if no work comes.
        until_ms: Option<u64>,
    },
    /// Write the batch to the live engine, repeat it on what is copied already ([`Core::copy_failed`] if that fails),
    /// and tell the state machine.
    Write(Write),
    /// Persist the live engine beside further work, and tell Raft when that is done. [`Core::persist_refused`] if the
    /// last one still runs.
    Persist(EnginePersisted),
    /// Begin to copy the live engine into a fresh one. [`Core::copy_refused`] if there cannot be one.
    BeginCopy(Purpose),
    /// Copy a page, and report [`Core::page_copied`] or [`Core::copy_failed`].
    CopyPage,
    /// Remove the unfinished copy.
    AbandonCopy {
        /// What it was for.
        purpose: Purpose,
        /// The reason, for the log and for those who wait.
        why: String,
    },
    /// Make the copy the live engine, then tell Raft what is durable with it, the state machine, and those who wait.
    Switch {
        /// How long the copy has taken.
        took_ms: u64,
        /// What is durable once it is made.
        covers: EnginePersisted,
        /// Who waits.
        replies: Vec<Defragmented>,
    },
    /// Make the copy the checkpoint of this position, and report [`Core::checkpoint_completed`].
    CompleteCheckpoint {
        /// The last entry of the log in it.
        applied: LogPosition,
        /// How long the copy has taken.
        took_ms: u64,
    },
    /// Remove the checkpoint there is: the log that it needs has outgrown its bounds.
    RemoveCheckpoint {
        /// The last entry of the log that is in the engine.
        applied: Index,
    },
    /// Answer those who wait for a defragmentation.
    Answer(Vec<Defragmented>, Result<(), EtcdError>),
    /// Close the engine and answer. Nothing comes after it.
    Close(Reply<()>),
}

struct Copying {
    purpose: Purpose,
    /// Who waits for it.
    replies: Vec<Defragmented>,
    started_ms: u64,
    /// When the next page is due.
    next_page_ms: u64,
    /// When the page that is being copied was begun.
    page_began_ms: Option<u64>,
    /// It holds what the live engine holds.
    finished: bool,
}

/// See the module.
pub struct Core {
    now_ms: u64,
    policy: PersistPolicy,
    /// None if no checkpoints are kept.
    checkpoints: Option<Schedule>,
    progress: Progress,
    /// What is to be done before anything is decided.
    actions: VecDeque<Action>,
    copying: Option<Copying>,
    /// The last entry of the log in the checkpoint that is being completed.
    completing: Index,
    /// Those who want a defragmentation once the checkpoint under way is done.
    waiting: Vec<Defragmented>,
    unpersisted_bytes: usize,
    /// What the last persist was asked for.
    persisting_bytes: usize,
    /// When there is to be a persist; None while there is nothing to tell Raft.
    persist_at_ms: Option<u64>,
}

impl Core {
    /// Goes on with an engine as it was found.
    pub fn new(policy: PersistPolicy, checkpoints: Option<Schedule>, progress: Progress) -> Self {
        Self {
            now_ms: 0,
            policy,
            checkpoints,
            progress,
            actions: VecDeque::new(),
            copying: None,
            completing: Index(0),
            waiting: Vec::new(),
            unpersisted_bytes: 0,
            persisting_bytes: 0,
            persist_at_ms: None,
        }
    }

    /// What is to be done now. `work_waits`: whether there is work that has not been taken in yet.
    pub fn next(&mut self, now_ms: u64, work_waits: bool) -> Action {
        self.now_ms = self.now_ms.max(now_ms);
        self.check();
        self.end_page();
        self.begin_what_waits();
        if let Some(action) = self.actions.pop_front() {
            if let Action::Write(write) = &action {
                self.note_write(write);
            }
            return action;
        }
        let action = self
            .copy_if_finished()
            .or_else(|| self.checkpoint_if_due())
            .or_else(|| self.persist_if_due())
            .or_else(|| self.page_if_due(work_waits));
        action.unwrap_or_else(|| Action::Wait {
            until_ms: self.next_deadline_ms(),
        })
    }

    /// Work: a batch to write.
    pub fn write(&mut self, write: Write) {
        self.actions.push_back(Action::Write(write));
    }

    /// Work: a defragmentation.
    pub fn defragment(&mut self, reply: Defragmented) {
        match &mut self.copying {
            Some(copying) if copying.purpose == Purpose::Defragmentation => {
                copying.replies.push(reply);
            }
            _ => self.waiting.push(reply),
        }
    }

    /// Work, the last: the end.
    pub fn close(&mut self, reply: Reply<()>) {
        if !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            self.answer(waiting, Err(EtcdError::Stopped));
        }
        self.copy_failed("the server is stopping".to_owned());
        self.actions.push_back(Action::Close(reply));
    }

    /// [`Action::BeginCopy`] could not be done.
    pub fn copy_refused(&mut self, why: String) {
        if let Some(copying) = self.copying.take() {
            self.end_copy(copying, why);
        }
    }

    /// [`Action::CopyPage`] is done. With `finished` the copy holds what the live engine holds.
    pub fn page_copied(&mut self, finished: bool) {
        if let Some(copying) = &mut self.copying {
            copying.finished = finished;
        }
    }

    /// The copy under way cannot go on; the live engine is as it was.
    pub fn copy_failed(&mut self, why: String) {
        if let Some(copying) = self.copying.take() {
            self.actions.push_back(Action::AbandonCopy {
                purpose: copying.purpose,
                why: why.clone(),
            });
            self.end_copy(copying, why);
        }
    }

    /// [`Action::CompleteCheckpoint`] is done, or has failed and left the one before.
    pub fn checkpoint_completed(&mut self, succeeded: bool) {
        let Some(schedule) = &mut self.checkpoints else {
            return;
        };
        if succeeded {
            schedule.made(self.completing, self.now_ms);
            // The next persist tells Raft; it follows soon even if nothing more is written.
            self.persist_by(self.next_persist_ms());
        } else {
            schedule.failed(self.now_ms);
        }
    }

    /// [`Action::Persist`] cannot be done yet: again after another interval, or with the next batch if there is much.
    pub fn persist_refused(&mut self) {
        self.unpersisted_bytes += self.persisting_bytes;
        self.persist_by(self.next_persist_ms());
    }

    fn note_write(&mut self, write: &Write) {
        self.progress = write.progress;
        if let Some(schedule) = &mut self.checkpoints {
            schedule.applied(write.log_bytes);
        }
        self.unpersisted_bytes += write.batch.bytes;
        let is_much = self.unpersisted_bytes >= self.policy.bytes;
        self.persist_by(if is_much {
            self.now_ms
        } else {
            self.next_persist_ms()
        });
    }

    fn end_copy(&mut self, copying: Copying, why: String) {
        match copying.purpose {
            Purpose::Defragmentation => {
                self.answer(copying.replies, Err(EtcdError::Defragment(why)));
            }
            Purpose::Checkpoint => {
                if let Some(schedule) = &mut self.checkpoints {
                    schedule.failed(self.now_ms);
                }
            }
        }
    }

    fn answer(&mut self, replies: Vec<Defragmented>, answer: Result<(), EtcdError>) {
        self.actions.push_back(Action::Answer(replies, answer));
    }

    /// What a page has cost until now decides when the next one is due.
    fn end_page(&mut self) {
        if let Some(copying) = &mut self.copying
            && let Some(began_ms) = copying.page_began_ms.take()
        {
            copying.next_page_ms = match copying.purpose {
                Purpose::Defragmentation => self.now_ms,
                // A page may take less than the clock shows.
                Purpose::Checkpoint => self.now_ms + (self.now_ms - began_ms).max(1),
            };
        }
    }

    fn copy_if_finished(&mut self) -> Option<Action> {
        let copying = self.copying.take_if(|copying| copying.finished)?;
        let took_ms = self.now_ms - copying.started_ms;
        Some(match copying.purpose {
            Purpose::Defragmentation => {
                // The switch makes everything durable that was written so far.
                self.unpersisted_bytes = 0;
                self.persist_at_ms = None;
                Action::Switch {
                    took_ms,
                    covers: self.persisted(),
                    replies: copying.replies,
                }
            }
            Purpose::Checkpoint => {
                let applied = self.progress.applied;
                self.completing = Index(applied.index);
                Action::CompleteCheckpoint { applied, took_ms }
            }
        })
    }

    fn persist_if_due(&mut self) -> Option<Action> {
        self.persist_at_ms.take_if(|at_ms| *at_ms <= self.now_ms)?;
        self.persisting_bytes = std::mem::take(&mut self.unpersisted_bytes);
        Some(Action::Persist(self.persisted()))
    }

    fn page_if_due(&mut self, work_waits: bool) -> Option<Action> {
        let patience_ms = if work_waits { COPY_PATIENCE_MS } else { 0 };
        let copying = self.copying.as_mut()?;
        if copying.next_page_ms + patience_ms > self.now_ms {
            return None;
        }
        copying.page_began_ms = Some(self.now_ms);
        Some(Action::CopyPage)
    }

    fn begin(&mut self, purpose: Purpose, replies: Vec<Defragmented>) -> Action {
        self.copying = Some(Copying {
            purpose,
            replies,
            started_ms: self.now_ms,
            next_page_ms: self.now_ms,
            page_began_ms: None,
            finished: false,
        });
        Action::BeginCopy(purpose)
    }

    fn begin_what_waits(&mut self) {
        if self.copying.is_none() && !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            let begin = self.begin(Purpose::Defragmentation, waiting);
            self.actions.push_back(begin);
        }
    }

    fn checkpoint_if_due(&mut self) -> Option<Action> {
        if self.copying.is_some() {
            return None;
        }
        let applied = Index(self.progress.applied.index);
        let schedule = self.checkpoints.as_mut()?;
        match schedule.due(self.now_ms, applied, &self.progress.sizes) {
            Due::Nothing => None,
            Due::Make => Some(self.begin(Purpose::Checkpoint, Vec::new())),
            Due::GiveUp => {
                schedule.given_up();
                self.persist_by(self.next_persist_ms());
                Some(Action::RemoveCheckpoint { applied })
            }
        }
    }

    /// What is durable once everything written so far is.
    fn persisted(&self) -> EnginePersisted {
        EnginePersisted {
            applied: Index(self.progress.applied.index),
            checkpoint: self.checkpoints.as_ref().and_then(Schedule::kept_beyond),
        }
    }

    fn next_persist_ms(&self) -> u64 {
        let interval_ms = u64::try_from(self.policy.interval.as_millis()).unwrap_or(u64::MAX);
        self.now_ms.saturating_add(interval_ms.max(1))
    }

    fn persist_by(&mut self, at_ms: u64) {
        self.persist_at_ms = Some(self.persist_at_ms.map_or(at_ms, |other| other.min(at_ms)));
    }

    /// What always holds between two actions.
    fn check(&self) {
        debug_assert!(
            self.unpersisted_bytes == 0 || self.persist_at_ms.is_some(),
            "written, and never to be persisted"
        );
        debug_assert!(
            self.checkpoints.is_some()
                || !matches!(&self.copying, Some(c) if c.purpose == Purpose::Checkpoint),
            "a checkpoint that nobody keeps"
        );
    }

    /// When there is something to do even if no work comes.
    fn next_deadline_ms(&self) -> Option<u64> {
        let next_ms = match (&self.copying, &self.checkpoints) {
            (Some(copying), _) => Some(copying.next_page_ms),
            (None, Some(schedule)) => schedule.due_at_ms(Index(self.progress.applied.index)),
            (None, None) => None,
        };
        [self.persist_at_ms, next_ms].into_iter().flatten().min()
    }
}
