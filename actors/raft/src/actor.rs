//! The shell: receives messages, drives the core, performs its effects.
//!
//! The mailbox is drained before the core is driven: a handler only notes its input and schedules one drive, which
//! actix runs after everything that is queued. So whatever arrived while a write was in flight goes into one
//! batch. A flood would put that off without end, so the core is also driven after so many inputs or bytes.
//!
//! # Who writes
//!
//! A sole voter's batches are written and synced by this thread itself: it saves the two hops to the writer
//! thread and back, and while it blocks the mailbox collects the next batch just as well. Measured on two cores and
//! ext4, callers in a closed loop, writer thread against this thread, median latency in microseconds: 1 caller 192
//! to 165, 16 callers 305 to 226, 64 callers 380 to 300, 256 and 1000 callers alike; CPU per proposal 123 to 103 at 1
//! caller, 4.7 to 3.9 at 64. With other voters this thread must never wait for a disk (they wait for its
//! heartbeats), and large batches take long enough for their encoding to be worth a second thread.

use crate::core::{Core, Counts, Effect};
use crate::limits;
use crate::log::LogWriter;
use crate::log::writer::{Append, Persisted, WriterThread, failed};
use crate::metrics;
use actix::{Actor, ActorContext, Addr, ArbiterHandle, AsyncContext, Context, Handler};
use rusd_messages::mvcc::Apply;
use rusd_messages::raft::{
    Applied, ConfApplied, EnginePersisted, Propose, ReadIndex, TransferLeader,
};
use rusd_messages::{Heartbeat, Port, RoleChanged, Stop, Tick, receive};

/// Whom Raft tells.
#[derive(Clone, Debug)]
pub struct Links {
    /// The state machine.
    pub apply: Port<Apply>,
    /// Those who act on leadership: lease timer, compactor, members.
    pub role_changed: Vec<Port<RoleChanged>>,
}

/// What Raft receives. The bounds are in [`limits`].
#[derive(Clone, Debug)]
pub struct Ports {
    /// Proposals.
    pub propose: Port<Propose>,
    /// Linearizable reads.
    pub read_index: Port<ReadIndex>,
    /// Credits of the state machine.
    pub applied: Port<Applied>,
    /// Its answers to membership changes.
    pub conf_applied: Port<ConfApplied>,
    /// What the engine has made durable.
    pub engine_persisted: Port<EnginePersisted>,
    /// MoveLeader.
    pub transfer_leader: Port<TransferLeader>,
    /// Time, at least once per heartbeat interval.
    pub tick: Port<Tick>,
    /// Answered by the Raft thread at once.
    pub heartbeat: Port<Heartbeat>,
    /// The end.
    pub stop: Port<Stop>,
}

/// A started actor that does nothing until it is connected.
#[derive(Debug)]
pub struct Started {
    /// What it receives.
    pub ports: Ports,
    address: Addr<Raft>,
    thread: WriterThread,
}

impl Started {
    /// Connects it: it begins to campaign and to hand on what is committed.
    pub fn connect(self, links: Links) -> Ports {
        self.address.do_send(Connect {
            links,
            thread: self.thread,
        });
        self.ports
    }
}

/// Settings of the shell; those of the core are in [`CoreConfig`](crate::CoreConfig).
#[derive(Clone, Copy, Debug)]
pub struct RaftConfig {
    /// Up to this size a sole voter's Raft thread writes batches itself; with 0 the writer thread writes all entries.
    pub inline_bytes_max: usize,
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self {
            inline_bytes_max: limits::INLINE_BYTES_MAX,
        }
    }
}

/// Starts the actor on `arbiter`, which should be its own, and its writer thread.
pub fn start(
    arbiter: &ArbiterHandle,
    core: Core,
    writer: LogWriter,
    config: RaftConfig,
) -> std::io::Result<Started> {
    metrics::init();
    let thread_writer = writer.another();
    let address = Raft::start_in_arbiter(arbiter, move |_| Raft {
        running: Some(Running { core, writer }),
        connected: None,
        effects: Vec::new(),
        inputs: 0,
        input_bytes: 0,
        scheduled: false,
        counts: Counts::default(),
        config,
    });
    let persisted = Port::new("raft_persisted", limits::CONTROL_QUEUE, &address);
    let thread = WriterThread::start(thread_writer, persisted)?;
    let ports = Ports {
        propose: Port::new("raft_propose", limits::PROPOSE_QUEUE, &address),
        read_index: Port::new("raft_read_index", limits::READ_INDEX_QUEUE, &address),
        applied: Port::new("raft_applied", limits::APPLIED_QUEUE, &address),
        conf_applied: Port::new("raft_conf_applied", limits::CONTROL_QUEUE, &address),
        engine_persisted: Port::new("raft_engine_persisted", limits::CONTROL_QUEUE, &address),
        transfer_leader: Port::new("raft_transfer_leader", limits::CONTROL_QUEUE, &address),
        tick: Port::new("raft_tick", 1, &address),
        heartbeat: Port::new("raft_heartbeat", 1, &address),
        stop: Port::new("raft_stop", limits::CONTROL_QUEUE, &address),
    };
    Ok(Started {
        ports,
        address,
        thread,
    })
}

/// What is let go of when the actor stops.
struct Running {
    core: Core,
    writer: LogWriter,
}

struct Connect {
    links: Links,
    thread: WriterThread,
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
pub struct Raft {
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

impl std::fmt::Debug for Raft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raft")
            .field("inputs", &self.inputs)
            .finish_non_exhaustive()
    }
}

impl Actor for Raft {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        // Every sender keeps its own count; the mailbox must never be what refuses.
        context.set_mailbox_capacity(limits::PROPOSE_QUEUE);
    }
}

impl Raft {
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
                if running.core.is_sole_voter()
                    && fits_inline(&append, self.config.inline_bytes_max)
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

/// Whether a batch is small. Truncations go to the thread that can have segments removed.
fn fits_inline(append: &Append, bytes_max: usize) -> bool {
    append.entry_bytes <= bytes_max && append.truncate.is_none()
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
