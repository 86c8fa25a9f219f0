//! The shell: receives messages, drives the core, performs its effects.
//!
//! The mailbox is drained before the core is driven: a handler only notes its input and schedules one drive, which
//! actix runs after everything that is queued. So whatever arrived while a write was in flight goes into one
//! batch. A flood would put that off without end, so the core is also driven after so many inputs or bytes.

use crate::core::{Core, Counts, Effect};
use crate::limits;
use crate::log::LogWriter;
use crate::log::writer::{Persisted, WriterThread, failed};
use crate::metrics;
use crate::start::{Links, RaftConfig};
use actix::{Actor, ActorContext, AsyncContext, Context, Handler};
use rusd_messages::raft::{
    Applied, ConfApplied, EnginePersisted, Propose, ReadIndex, TransferLeader,
};
use rusd_messages::{Heartbeat, Stop, Tick, receive};

/// What is closed when the actor stops.
struct Running {
    core: Core,
    writer: LogWriter,
}

/// Sent once, by [`Started::connect`](crate::Started::connect).
pub(crate) struct Connect {
    pub(crate) links: Links,
    pub(crate) thread: WriterThread,
}

impl actix::Message for Connect {
    type Result = ();
}

/// Do what the inputs so far have made possible.
struct Drive;

impl actix::Message for Drive {
    type Result = ();
}

/// The actor. See the module.
pub(crate) struct Raft {
    /// None once stopped.
    running: Option<Running>,
    connected: Option<Connect>,
    effects: Vec<Effect>,
    inputs: usize,
    input_bytes: usize,
    scheduled: bool,
    /// What was published last.
    counts: Counts,
    config: RaftConfig,
}

impl Actor for Raft {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        // Every sender keeps its own count; the mailbox must never be what refuses.
        context.set_mailbox_capacity(limits::PROPOSE_QUEUE);
    }
}

impl Raft {
    pub(crate) fn new(core: Core, writer: LogWriter, config: RaftConfig) -> Self {
        Self {
            running: Some(Running { core, writer }),
            connected: None,
            effects: Vec::new(),
            inputs: 0,
            input_bytes: 0,
            scheduled: false,
            counts: Counts::default(),
            config,
        }
    }

    /// Gives the core an input that counts for `bytes`, and sees to it that the core is driven.
    fn input(&mut self, bytes: usize, context: &mut Context<Self>, give: impl FnOnce(&mut Core)) {
        let Some(running) = &mut self.running else {
            return;
        };
        give(&mut running.core);
        self.inputs += 1;
        self.input_bytes += bytes;
        if self.inputs >= limits::DRIVE_INPUTS_MAX || self.input_bytes >= limits::DRIVE_BYTES_MAX {
            self.drive(context);
        } else if !self.scheduled {
            self.scheduled = true;
            context.notify(Drive);
        }
    }

    fn drive(&mut self, context: &mut Context<Self>) {
        self.inputs = 0;
        self.input_bytes = 0;
        if self.connected.is_none() {
            return;
        }
        let mut effects = std::mem::take(&mut self.effects);
        while let Some(running) = &mut self.running {
            running.core.drive(&mut effects);
            let counts = running.core.counts();
            metrics::publish(&self.counts, &counts);
            self.counts = counts;
            let mut written_inline = false;
            for effect in effects.drain(..) {
                written_inline |= self.perform(effect, context);
            }
            if !written_inline {
                break;
            }
        }
        self.effects = effects;
    }

    /// Performs one effect; true if it was a write that is done already.
    fn perform(&mut self, effect: Effect, context: &mut Context<Self>) -> bool {
        let (Some(running), Some(connected)) = (&mut self.running, &self.connected) else {
            return false;
        };
        match effect {
            Effect::Append(append) => {
                if running.core.is_sole_voter() && append.fits_inline(self.config.inline_bytes_max)
                {
                    if let Err(error) = running.writer.write(&append) {
                        failed(&error);
                    }
                    running.core.persisted(append.ready);
                    return true;
                }
                connected.thread.append(append);
            }
            Effect::Apply(apply) => {
                if connected.links.apply.deliver(apply).is_err() {
                    panic!("the state machine has ended before Raft");
                }
            }
            Effect::RoleChanged(changed) => {
                for port in &connected.links.role_changed {
                    // Rare, and whoever has stopped already need not know.
                    let _stopped = port.deliver(changed);
                }
            }
            // Lost on purpose: no transport is linked, and Raft tolerates loss.
            Effect::Send(_) => {}
            Effect::Stopped(reply) => {
                let thread = self.connected.take().map(|connected| connected.thread);
                if let Some(thread) = thread {
                    thread.stop();
                }
                self.running = None;
                reply.send(());
                context.stop();
            }
        }
        false
    }
}

impl Handler<Connect> for Raft {
    type Result = ();

    fn handle(&mut self, connect: Connect, context: &mut Context<Self>) {
        self.connected = Some(connect);
        self.drive(context);
    }
}

impl Handler<Drive> for Raft {
    type Result = ();

    fn handle(&mut self, _: Drive, context: &mut Context<Self>) {
        self.scheduled = false;
        self.drive(context);
    }
}

receive! { Raft:
    Propose => |raft, proposal, context| {
        let bytes = proposal.data.len();
        raft.input(bytes, context, |core| core.propose(proposal));
    };
    ReadIndex => |raft, read, context| raft.input(0, context, |core| core.read_index(read));
    Persisted => |raft, persisted, context| raft.input(0, context, |core| core.persisted(persisted.ready));
    Applied => |raft, applied, context| raft.input(0, context, |core| core.applied(applied.through));
    ConfApplied => |raft, settled, context| {
        raft.input(0, context, |core| core.conf_applied(settled.index, settled.rejected));
    };
    EnginePersisted => |raft, persisted, context| raft.input(0, context, |core| core.engine_persisted(persisted));
    TransferLeader => |raft, transfer, context| raft.input(0, context, |core| core.transfer_leader(transfer));
    Tick => |raft, tick, context| raft.input(0, context, |core| core.tick(tick.now_ms));
    Stop => |raft, stop, context| raft.input(0, context, |core| core.stop(stop.reply));
    Heartbeat => |raft, heartbeat, context| heartbeat.reply.send(());
}
