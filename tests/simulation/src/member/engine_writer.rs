//! What the engine's threads do.

use super::message::{Input, Message};
use super::{Checkpoint, Disks, Process};
use crate::engine::VirtualEngine;
use crate::faults::Planted;
use crate::host::Host;
use crate::network::Party;
use rusd_messages::raft::EnginePersisted;
use rusd_messages::{Index, Reply};
use rusd_mvcc::engine::copy::{Copy, Damage};
use rusd_mvcc::engine::{Action, Core, Purpose, Schedule};
use rusd_mvcc::{CheckpointPolicy, Progress, Write};
use rusd_proto::EtcdError;
use rusd_state::StateMachine;
use rusd_storage::LogPosition;
use rusd_storage::engine::Engine;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

enum Work {
    Write(Write),
    Defragment(Reply<Result<(), EtcdError>>),
}

pub struct EngineWriter {
    core: Core,
    queue: VecDeque<Work>,
    copying: Option<(Copy, Arc<VirtualEngine>)>,
    persisting: bool,
    /// Wake-ups so far: only the last one counts.
    wakes: u64,
    /// It waits for work.
    waits: bool,
}

impl EngineWriter {
    pub fn start(disks: &Disks, machine: &StateMachine, host: &Host) -> Self {
        let (index, term) = machine.applied();
        let progress = Progress {
            applied: LogPosition {
                index: index.0,
                term: term.0,
            },
            sizes: machine.sizes(),
        };
        let found = disks.checkpoint.as_ref().map(|checkpoint| {
            let age_us = host.now_us() - checkpoint.made_us;
            (
                Index(checkpoint.applied.index),
                Duration::from_micros(age_us),
            )
        });
        let schedule = host.settings.checkpoints.map(|interval| {
            let policy = CheckpointPolicy {
                interval,
                log_is_whole: disks.log.truncated().index == 0,
                kept_bytes: 0,
            };
            Schedule::new(policy, found, 0)
        });
        Self {
            core: Core::new(host.settings.persist, schedule, progress),
            queue: VecDeque::new(),
            copying: None,
            persisting: false,
            wakes: 0,
            waits: false,
        }
    }
}

impl Process {
    pub(super) fn engine_work(&mut self, message: Message, host: &mut Host) {
        match message {
            Message::Write(write) => self.writer.queue.push_back(Work::Write(write)),
            Message::Defragment(reply) => self.writer.queue.push_back(Work::Defragment(reply)),
            _ => {}
        }
        if self.writer.waits {
            self.wake_engine_writer(host);
        }
    }

    pub(super) fn wake_engine_writer(&mut self, host: &mut Host) {
        self.writer.wakes += 1;
        self.writer.waits = false;
        let wake = self.writer.wakes;
        host.later(host.settings.disk_us, Input::EngineWriter { wake });
    }

    /// Does the next thing.
    pub(super) fn engine_writer(&mut self, disks: &mut Disks, wake: u64, host: &mut Host) {
        if wake != self.writer.wakes {
            return;
        }
        let now_ms = self.now_ms(host);
        let writer = &mut self.writer;
        match writer.core.next(now_ms, !writer.queue.is_empty()) {
            Action::Wait { until_ms } => match writer.queue.pop_front() {
                Some(Work::Write(write)) => writer.core.write(write),
                Some(Work::Defragment(reply)) => writer.core.defragment(reply),
                None => {
                    writer.waits = true;
                    if let Some(until_ms) = until_ms {
                        let at_us = self.started_us + until_ms.max(now_ms + 1) * 1_000;
                        host.at(at_us, Input::EngineWriter { wake });
                    }
                    return;
                }
            },
            action => self.perform_engine(disks, action, host),
        }
        self.wake_engine_writer(host);
    }

    fn perform_engine(&mut self, disks: &mut Disks, action: Action, host: &mut Host) {
        match action {
            Action::Write(write) => self.write(disks, &write, host),
            Action::Persist(_) if self.writer.persisting => self.writer.core.persist_refused(),
            Action::Persist(covers) => {
                self.writer.persisting = true;
                let (engine, batches) = (disks.engine.clone(), disks.engine.written());
                host.later(
                    host.settings.persist_us,
                    Input::Persisted {
                        engine,
                        batches,
                        covers,
                    },
                );
            }
            Action::BeginCopy(_) if host.random.percent(5) => {
                self.writer.core.copy_refused("no room".to_owned());
            }
            Action::BeginCopy(purpose) => {
                let damage = match purpose {
                    Purpose::Defragmentation => Damage::Copied,
                    Purpose::Checkpoint => Damage::Refused,
                };
                let target = Arc::new(VirtualEngine::empty());
                let copy = Copy::begin(disks.engine.clone(), target.clone(), damage)
                    .in_pages_of(host.settings.page_bytes);
                self.writer.copying = Some((copy, target));
            }
            Action::CopyPage if host.random.percent(5) => {
                self.writer.core.copy_failed("the disk is full".to_owned());
            }
            Action::CopyPage => {
                if let Some((copy, _)) = &mut self.writer.copying {
                    let finished = copy.step().unwrap();
                    self.writer.core.page_copied(finished);
                }
            }
            Action::AbandonCopy { .. } => self.writer.copying = None,
            Action::Switch {
                covers, replies, ..
            } => {
                self.switch(disks, covers, host);
                replies.into_iter().for_each(|reply| reply.send(Ok(())));
            }
            Action::CompleteCheckpoint { applied, .. } => {
                self.complete_checkpoint(disks, applied, host)
            }
            Action::RemoveCheckpoint { .. } => disks.checkpoint = None,
            Action::Answer(replies, answer) => {
                replies
                    .into_iter()
                    .for_each(|reply| reply.send(answer.clone()));
            }
            Action::Wait { .. } | Action::Close(_) => {}
        }
    }

    fn write(&mut self, disks: &Disks, write: &Write, host: &mut Host) {
        disks.engine.write(&write.batch.batch).unwrap();
        if let Some((copy, _)) = &self.writer.copying
            && !host.has(Planted::CopyWithoutBatches)
        {
            copy.tee(&write.batch.batch).unwrap();
        }
        let wrote = Message::EngineWrote(write.batch.seq);
        host.send(Party::EngineWriter, Party::Mvcc, wrote);
        if host.has(Planted::TruncatedAboveDurable) {
            let index = Index(write.progress.applied.index);
            let covers = EnginePersisted {
                applied: index,
                checkpoint: Some(index),
            };
            host.send(
                Party::EngineWriter,
                Party::Raft,
                Message::EnginePersisted(covers),
            );
        }
    }

    pub(super) fn persisted(
        &mut self,
        engine: &VirtualEngine,
        batches: u64,
        covers: EnginePersisted,
        host: &mut Host,
    ) {
        engine.persisted(batches);
        self.writer.persisting = false;
        host.send(
            Party::EngineWriter,
            Party::Raft,
            Message::EnginePersisted(covers),
        );
    }

    fn switch(&mut self, disks: &mut Disks, covers: EnginePersisted, host: &mut Host) {
        let Some((_, target)) = self.writer.copying.take() else {
            return;
        };
        target.persist().unwrap();
        disks.engine = target.clone();
        host.send(
            Party::EngineWriter,
            Party::Raft,
            Message::EnginePersisted(covers),
        );
        host.send(
            Party::EngineWriter,
            Party::Mvcc,
            Message::EngineReplaced(target),
        );
    }

    fn complete_checkpoint(&mut self, disks: &mut Disks, applied: LogPosition, host: &mut Host) {
        let Some((_, target)) = self.writer.copying.take() else {
            return;
        };
        let succeeds = !host.random.percent(5);
        if succeeds {
            target.persist().unwrap();
            disks.checkpoint = Some(Checkpoint {
                engine: target.copy(),
                applied,
                made_us: host.now_us(),
            });
        }
        self.writer.core.checkpoint_completed(succeeds);
    }
}
