//! How the actor is started, and connected to its neighbours.
//!
//! # Who writes
//!
//! A sole voter's batches are written and synced by the Raft thread itself: it saves the two hops to the writer
//! thread and back, and while it blocks the mailbox collects the next batch just as well. Measured on two cores and
//! ext4, callers in a closed loop, writer thread against Raft thread, median latency in microseconds: 1 caller 192
//! to 165, 16 callers 305 to 226, 64 callers 380 to 300, 256 and 1000 callers alike; CPU per proposal 123 to 103 at 1
//! caller, 4.7 to 3.9 at 64. With other voters the Raft thread must never wait for a disk (they wait for its
//! heartbeats), and large batches take long enough for their encoding to be worth a second thread.

use crate::actor::{Connect, Raft};
use crate::core::Core;
use crate::limits;
use crate::log::LogWriter;
use crate::log::writer::WriterThread;
use crate::metrics;
use actix::{Actor, Addr, ArbiterHandle};
use rusd_messages::mvcc::Apply;
use rusd_messages::raft::{
    Applied, ConfApplied, EnginePersisted, Propose, ReadIndex, TransferLeader,
};
use rusd_messages::{Heartbeat, Port, RoleChanged, Stop, Tick};

/// The neighbours that Raft sends to.
#[derive(Clone, Debug)]
pub struct Links {
    /// Committed entries, for the state machine.
    pub apply: Port<Apply>,
    /// Those who act on leadership: lease timer, compactor, members.
    pub role_changed: Vec<Port<RoleChanged>>,
}

/// What Raft receives. The bounds are in [`limits`](crate::limits).
#[derive(Clone, Debug)]
pub struct Ports {
    /// Proposals of this member's callers and actors.
    pub propose: Port<Propose>,
    /// Linearizable reads that cannot be answered from the published status.
    pub read_index: Port<ReadIndex>,
    /// Credits of the state machine.
    pub applied: Port<Applied>,
    /// Its answers to membership changes.
    pub conf_applied: Port<ConfApplied>,
    /// What the engine has made durable.
    pub engine_persisted: Port<EnginePersisted>,
    /// Leadership for another member, as MoveLeader asks.
    pub transfer_leader: Port<TransferLeader>,
    /// Time, at least once per heartbeat interval.
    pub tick: Port<Tick>,
    /// Answered by the Raft thread at once.
    pub heartbeat: Port<Heartbeat>,
    /// Fail what waits, write everything down, close the log.
    pub stop: Port<Stop>,
}

/// A started actor that does nothing until it is connected.
#[derive(Debug)]
pub struct Started {
    /// Its doors, usable before it is connected: what comes in early waits.
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
    let address = Raft::start_in_arbiter(arbiter, move |_| Raft::new(core, writer, config));
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
