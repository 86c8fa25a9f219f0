//! What the thread does for a copy: from its directory to its end.

use super::EngineReplaced;
use super::copy::{Copy, CopyError, Damage};
use super::core::{Defragmented, Purpose};
use super::thread::Writer;
use crate::metrics::{DEFRAG_INFLIGHT, DEFRAG_SECONDS};
use rusd_messages::raft::EnginePersisted;
use rusd_messages::{Index, fatal};
use rusd_storage::LogPosition;
use rusd_storage::engine::Rewrite;
use std::time::Duration;

impl Writer {
    pub(super) fn begin_copy(&mut self, purpose: Purpose) {
        let (target, damage) = match purpose {
            Purpose::Defragmentation => (self.engines.begin_rewrite(), Damage::Copied),
            Purpose::Checkpoint => (self.engines.begin_checkpoint(), Damage::Refused),
        };
        match (target, purpose) {
            (Ok(target), _) => {
                match purpose {
                    Purpose::Defragmentation => {
                        tracing::info!("starting defragmentation");
                        DEFRAG_INFLIGHT.set(1);
                    }
                    Purpose::Checkpoint => tracing::info!("starting a checkpoint"),
                }
                let copy = Copy::begin(self.engine.clone(), target.engine().clone(), damage);
                self.copying = Some((copy, target));
            }
            (Err(error), Purpose::Defragmentation) => {
                tracing::warn!(%error, "cannot begin to defragment");
                self.core.copy_refused(error.to_string());
            }
            (Err(error), Purpose::Checkpoint) => {
                tracing::warn!(%error, "cannot begin a checkpoint; trying again later");
                self.core.copy_refused(error.to_string());
            }
        }
    }

    /// Ends the copy: what it was copied to, with nobody else at it.
    fn take_target(&mut self) -> Option<Rewrite> {
        self.copying.take().map(|(_, target)| target)
    }

    pub(super) fn copy_page(&mut self) {
        let Some((copy, target)) = &mut self.copying else {
            return;
        };
        match copy_page_within_room(copy, target) {
            Ok(finished) => self.core.page_copied(finished),
            Err(error) => self.copy_failed(error),
        }
    }

    /// Damage of the live engine ends the process, which finds it again when it starts. Anything else is no reason to:
    /// the live engine is as it was.
    pub(super) fn copy_failed(&mut self, error: CopyError) {
        match error {
            CopyError::Live(error) if error.is_rebuild() => {
                fatal("reading the engine to copy it", &error)
            }
            CopyError::Damaged(error) => fatal("looking through the engine to copy it", &error),
            error => self.core.copy_failed(error.to_string()),
        }
    }

    pub(super) fn abandon_copy(&mut self, purpose: Purpose, why: &str) {
        if let Some(target) = self.take_target()
            && let Err(error) = target.abandon()
        {
            tracing::warn!(%error, "cannot remove the unfinished copy; the next start removes it");
        }
        match purpose {
            Purpose::Defragmentation => {
                tracing::warn!(error = why, "gave up defragmentation");
                DEFRAG_INFLIGHT.set(0);
            }
            Purpose::Checkpoint => checkpoint_failed(why),
        }
    }

    pub(super) fn switch(
        &mut self,
        took_ms: u64,
        covers: EnginePersisted,
        replies: Vec<Defragmented>,
    ) {
        let Some(target) = self.take_target() else {
            return;
        };
        let retired = match self.engines.switch(target) {
            Ok(retired) => retired,
            Err(error) => fatal("switching to the rewritten engine", &error),
        };
        DEFRAG_SECONDS.observe(Duration::from_millis(took_ms).as_secs_f64());
        DEFRAG_INFLIGHT.set(0);
        tracing::info!(took_ms, "finished defragmentation");
        self.engine = self.engines.engine();
        let _stopped = self.persisted.deliver(covers);
        let engine = self.engine.clone();
        let _stopped = self.replaced.deliver(EngineReplaced { engine, retired });
        for reply in replies {
            reply.send(Ok(()));
        }
    }

    pub(super) fn complete_checkpoint(&mut self, applied: LogPosition, took_ms: u64) {
        let Some(target) = self.take_target() else {
            return;
        };
        let LogPosition { index, term } = applied;
        let completed = self.engines.complete_checkpoint(target, index, term);
        match &completed {
            Ok(_) => tracing::info!(index, term, took_ms, "finished a checkpoint"),
            Err(error) => checkpoint_failed(&error.to_string()),
        }
        self.core.checkpoint_completed(completed.is_ok());
    }

    /// A bounded disk wins over a second copy of the data.
    pub(super) fn remove_checkpoint(&mut self, applied: Index) {
        tracing::warn!(
            applied = applied.0,
            "the log kept for the checkpoint has outgrown its bounds, and no new checkpoint could be made: giving the \
             old one up. Until the next one succeeds, only a backup helps against damage to the storage engine. Is the \
             disk full?"
        );
        if let Err(error) = self.engines.remove_checkpoint() {
            tracing::warn!(%error, "cannot remove the checkpoint");
        }
    }
}

/// A full disk would end the live engine and the log as well, so a copy ends before it is full.
fn copy_page_within_room(copy: &mut Copy, target: &Rewrite) -> Result<bool, CopyError> {
    target.check_room().map_err(CopyError::Copy)?;
    let finished = copy.step()?;
    if finished {
        target.check_room().map_err(CopyError::Copy)?;
    }
    Ok(finished)
}

fn checkpoint_failed(why: &str) {
    tracing::warn!(
        error = why,
        "gave up a checkpoint; the one before stays, and another is tried later"
    );
}
