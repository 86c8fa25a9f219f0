//! The engine writer's thread: does what its [core](super::core) says, and reads the clock once after each.
#![allow(clippy::disallowed_methods)]

use super::copy::Copy;
use super::core::{Action, Core};
use super::persist::Persister;
use super::{EngineReplaced, Work};
use crate::core::Write;
use crate::metrics::COMMIT_SECONDS;
use rusd_messages::mvcc::EngineWrote;
use rusd_messages::raft::EnginePersisted;
use rusd_messages::{Port, fatal};
use rusd_storage::engine::{Engine, EngineDir, Rewrite};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) struct Writer {
    pub(super) core: Core,
    /// When the core's time began.
    pub(super) epoch: Instant,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) engines: EngineDir,
    /// The copy under way, and the directory that it goes to.
    pub(super) copying: Option<(Copy, Rewrite)>,
    pub(super) persister: Persister,
    pub(super) wrote: Port<EngineWrote>,
    pub(super) replaced: Port<EngineReplaced>,
    pub(super) persisted: Port<EnginePersisted>,
}

impl Writer {
    pub(super) fn run(mut self, queue: &flume::Receiver<Work>) {
        let mut now = self.epoch;
        loop {
            let now_ms = (now - self.epoch).as_millis() as u64;
            let action = self.core.next(now_ms, !queue.is_empty());
            let is_write = matches!(action, Action::Write(_));
            match action {
                Action::Wait { until_ms } => match self.wait(queue, until_ms) {
                    Some(work) => self.take(work),
                    // Only if whoever sends has panicked.
                    None if queue.is_disconnected() => return,
                    None => {}
                },
                Action::Close(reply) => {
                    self.close();
                    reply.send(());
                    return;
                }
                action => self.perform(action),
            }
            let ended = Instant::now();
            if is_write {
                COMMIT_SECONDS.observe((ended - now).as_secs_f64());
            }
            now = ended;
        }
    }

    fn wait(&self, queue: &flume::Receiver<Work>, until_ms: Option<u64>) -> Option<Work> {
        match until_ms {
            None => queue.recv().ok(),
            Some(until_ms) => {
                let deadline = self.epoch + Duration::from_millis(until_ms);
                queue.recv_deadline(deadline).ok()
            }
        }
    }

    fn take(&mut self, work: Work) {
        match work {
            Work::Write(write) => self.core.write(write),
            Work::Defragment { reply } => self.core.defragment(reply),
            Work::Retire { retired } => {
                if let Err(error) = retired.destroy() {
                    tracing::warn!(%error, "cannot remove the engine that was replaced; the next start removes it");
                }
            }
            Work::Close { reply } => self.core.close(reply),
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Wait { .. } | Action::Close(_) => {}
            Action::Write(write) => self.write(&write),
            Action::Persist(covers) => {
                if !self.persister.start(self.engine.clone(), covers) {
                    self.core.persist_refused();
                }
            }
            Action::BeginCopy(purpose) => self.begin_copy(purpose),
            Action::CopyPage => self.copy_page(),
            Action::AbandonCopy { purpose, why } => self.abandon_copy(purpose, &why),
            Action::Switch {
                took_ms,
                covers,
                replies,
            } => self.switch(took_ms, covers, replies),
            Action::CompleteCheckpoint { applied, took_ms } => {
                self.complete_checkpoint(applied, took_ms)
            }
            Action::RemoveCheckpoint { applied } => self.remove_checkpoint(applied),
            Action::Answer(replies, answer) => {
                for reply in replies {
                    reply.send(answer.clone());
                }
            }
        }
    }

    fn write(&mut self, write: &Write) {
        let batch = &write.batch;
        if let Err(error) = self.engine.write(&batch.batch) {
            fatal("writing to the engine", &error);
        }
        if let Some((copy, _)) = &self.copying
            && let Err(error) = copy.tee(&batch.batch)
        {
            self.copy_failed(error);
        }
        // A stopped state machine needs no news.
        let _stopped = self.wrote.deliver(EngineWrote { seq: batch.seq });
    }

    fn close(&mut self) {
        self.persister.finish();
        if let Err(error) = self.engine.close() {
            fatal("closing the engine", &error);
        }
    }
}
