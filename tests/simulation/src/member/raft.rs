//! What the shell of Raft and the log's writer do.

use super::message::{Input, Message};
use super::{Disks, ELECTION_MS, HEARTBEAT_MS, Process};
use crate::faults::Planted;
use crate::host::Host;
use crate::network::Party;
use rusd_messages::{Index, RaftStatus};
use rusd_raft::core::Effect;
use rusd_raft::log::Append;
use rusd_raft::{Core, CoreConfig};
use std::sync::Arc;

pub struct Raft {
    core: Core,
    /// What is being written to the log.
    pub writing: Option<Append>,
    /// It is to be driven soon.
    driving: bool,
}

impl Raft {
    pub fn start(disks: &Disks, applied: Index, status: &Arc<RaftStatus>, host: &Host) -> Self {
        let config = CoreConfig {
            member: disks.id,
            applied,
            heartbeat_ms: HEARTBEAT_MS,
            election_ms: ELECTION_MS,
            pre_vote: true,
            incarnation: host.boot,
            priority_requests: false,
        };
        Self {
            core: Core::new(config, disks.log.open(), status.clone()).unwrap(),
            writing: None,
            driving: false,
        }
    }
}

impl Process {
    pub(super) fn raft_message(&mut self, message: Message, host: &mut Host) {
        let now_ms = self.now_ms(host);
        let core = &mut self.raft.core;
        match message {
            Message::Tick => core.tick(now_ms),
            Message::Propose(propose) => core.propose(propose),
            Message::ReadIndex(read) => core.read_index(read),
            Message::LogPersisted(ready) => core.persisted(ready),
            Message::Credits(applied) => core.applied(applied.through),
            Message::ConfApplied(change) => core.conf_applied(change.index, change.rejected),
            Message::EnginePersisted(persisted) => core.engine_persisted(persisted),
            _ => {}
        }
        // As the shell, which drives once the messages at hand are taken in.
        if host.random.percent(60) {
            self.drive_raft(host);
        } else if !std::mem::replace(&mut self.raft.driving, true) {
            host.later(host.settings.hop_us, Input::DriveRaft);
        }
    }

    pub(super) fn drive_raft(&mut self, host: &mut Host) {
        self.raft.driving = false;
        let mut effects = Vec::new();
        self.raft.core.drive(&mut effects);
        self.raft.core.check();
        for effect in effects {
            self.perform_raft(effect, host);
        }
    }

    fn perform_raft(&mut self, effect: Effect, host: &mut Host) {
        match effect {
            Effect::Append(append) => {
                if host.has(Planted::AcknowledgedBeforeWritten) {
                    host.send(
                        Party::LogWriter,
                        Party::Raft,
                        Message::LogPersisted(append.ready),
                    );
                }
                let before = self.raft.writing.replace(append);
                assert!(
                    before.is_none() || host.planted.is_some(),
                    "one write at a time"
                );
                host.later(host.settings.disk_us, Input::LogWritten);
            }
            Effect::Send(messages) => {
                panic!("a sole voter has nobody to talk to: {messages:?}")
            }
            Effect::Apply(apply) => host.send(Party::Raft, Party::Mvcc, Message::Apply(apply)),
            Effect::RoleChanged(role) => {
                for to in [Party::Lease, Party::Compactor, Party::Members] {
                    host.send(Party::Raft, to, Message::Role(role));
                }
            }
            Effect::Stopped(reply) => reply.send(()),
        }
    }

    pub(super) fn log_written(&mut self, disks: &mut Disks, host: &mut Host) {
        let Some(append) = self.raft.writing.take() else {
            return;
        };
        let (ready, must_sync) = (append.ready, append.must_sync);
        disks.log.write(append);
        if must_sync && !host.has(Planted::SkippedSync) {
            disks.log.sync();
        }
        host.send(Party::LogWriter, Party::Raft, Message::LogPersisted(ready));
    }
}
