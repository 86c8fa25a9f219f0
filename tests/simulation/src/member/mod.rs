//! A member: what is on its disks, and the process that runs on them.
//!
//! ```text
//!   disks    log, engine, checkpoint                     survive a crash, as far as they were made durable
//!   process  raft, mvcc, engine_writer, hub, duties      the product's cores, and what their shells do with effects
//! ```

mod duties;
mod engine_writer;
mod hub;
pub mod message;
mod mvcc;
mod raft;

use crate::checks::Checks;
use crate::clock::{Micros, ms};
use crate::disk::LogDisk;
use crate::engine::{LeftOut, VirtualEngine};
use crate::faults::Planted;
use crate::host::Host;
use crate::network::Party;
use duties::{Compactor, Lease, Members};
use engine_writer::EngineWriter;
use hub::WatchHub;
use message::{Input, Message};
use mvcc::Mvcc;
use raft::Raft;
use rusd_messages::raft::Propose;
use rusd_messages::watch::WatchDemand;
use rusd_messages::{LiveLeases, MemberId, Pending, RaftStatus, Reply, RequestId};
use rusd_proto::ApplyResult;
use rusd_proto::etcdserverpb::InternalRaftRequest;
use rusd_proto::request::{self, RequestIds};
use rusd_state::StateMachine;
use rusd_storage::{At, LogPosition, MvccStore, Views};
use std::sync::Arc;

/// `--heartbeat-interval`, and how often everybody is told the time.
pub const HEARTBEAT_MS: u64 = 100;
/// `--election-timeout`.
pub const ELECTION_MS: u64 = 1_000;

/// What survives the process.
pub struct Disks {
    pub id: MemberId,
    pub log: LogDisk,
    pub engine: Arc<VirtualEngine>,
    pub checkpoint: Option<Checkpoint>,
}

/// A second copy of the engine, as of an entry of the log.
pub struct Checkpoint {
    engine: VirtualEngine,
    applied: LogPosition,
    made_us: Micros,
}

impl Disks {
    fn crash(&mut self, process: Process, loses_engine: bool, host: &mut Host) {
        self.log.crash(process.raft.writing, &mut host.random);
        if loses_engine && self.may_lose_engine(host) {
            host.note("the engine is lost");
            self.engine = Arc::new(self.rebuilt());
            return;
        }
        let left_out = match host.planted {
            Some(Planted::AppliedTwice) => LeftOut::LastApplied,
            Some(Planted::ForgottenCompaction) => LeftOut::Compaction,
            _ => LeftOut::Nothing,
        };
        self.engine = Arc::new(self.engine.crash(left_out, &mut host.random));
    }

    /// Without checkpoints nothing is promised for that, unless the log has its beginning.
    fn may_lose_engine(&self, host: &Host) -> bool {
        host.settings.checkpoints.is_some() || self.log.truncated().index == 0
    }

    /// What a start makes of a lost engine: the checkpoint, or the log from its beginning.
    fn rebuilt(&self) -> VirtualEngine {
        if let Some(Checkpoint {
            engine, applied, ..
        }) = &self.checkpoint
        {
            let goes_on = self.log.term(applied.index) == Some(applied.term);
            assert!(
                goes_on,
                "the log does not go on from the checkpoint of entry {}",
                applied.index
            );
            return engine.copy();
        }
        let truncated = self.log.truncated().index;
        assert_eq!(
            truncated, 0,
            "there is no checkpoint, and the log has no beginning"
        );
        VirtualEngine::empty()
    }

    /// The log is never truncated beyond what would be needed.
    fn check(&self, host: &Host) {
        let truncated = self.log.truncated().index;
        let durable = self.engine.durable_applied();
        assert!(
            truncated <= durable,
            "the log begins after {truncated}, the engine ends at {durable}"
        );
        if host.settings.checkpoints.is_some() {
            let index = self
                .checkpoint
                .as_ref()
                .map_or(0, |checkpoint| checkpoint.applied.index);
            assert!(
                truncated <= index,
                "the log begins after {truncated}, the checkpoint ends at {index}"
            );
        }
        let last = self.log.durable_last();
        assert!(
            durable <= last,
            "the engine has applied {durable}, the log ends at {last}"
        );
    }
}

/// A running process.
pub struct Process {
    started_us: Micros,
    pub status: Arc<RaftStatus>,
    ids: RequestIds,
    pub live_leases: Arc<LiveLeases>,
    demand: Arc<WatchDemand>,
    pub views: Views,
    /// It serves clients: what was acknowledged before its start is applied.
    pub serves: bool,
    raft: Raft,
    pub mvcc: Mvcc,
    writer: EngineWriter,
    hub: WatchHub,
    lease: Lease,
    compactor: Compactor,
    members: Members,
}

impl Process {
    fn start(disks: &mut Disks, host: &mut Host) -> Self {
        let store = MvccStore::open(disks.engine.clone(), host.settings.store.clone());
        let machine = StateMachine::open(store.unwrap()).unwrap();
        host.checks.restarted(&machine, disks.log.durable_last());
        let (live_leases, demand, status) = (Arc::default(), Arc::default(), Arc::default());
        let (views, applied) = (machine.views(), machine.applied().0);
        host.checks.hashed(views.hash_kv(At::Newest).unwrap());
        let mut process = Self {
            started_us: host.now_us(),
            ids: RequestIds::new(disks.id, host.boot * 1_000_000),
            raft: Raft::start(disks, applied, &status, host),
            writer: EngineWriter::start(disks, &machine, host),
            mvcc: Mvcc::start(machine, &live_leases, &demand),
            hub: WatchHub::start(host),
            lease: Lease::start(&live_leases, host),
            compactor: Compactor::start(host),
            members: Members::start(disks.id),
            status,
            live_leases,
            demand,
            views,
            serves: false,
        };
        process.mvcc_restored(host);
        process.wake_engine_writer(host);
        host.at(host.now_us(), Input::DriveRaft);
        host.at(host.now_us(), Input::Clock);
        process
    }

    /// The time of this process.
    pub fn now_ms(&self, host: &Host) -> u64 {
        (host.now_us() - self.started_us) / 1_000
    }

    /// Proposes, as everybody does.
    pub fn propose(
        &mut self,
        from: Party,
        request: InternalRaftRequest,
        host: &mut Host,
    ) -> (RequestId, Pending<ApplyResult>) {
        let id = self.ids.next();
        let (reply, pending) = Reply::channel();
        let data = request::encode(id, request);
        host.send(
            from,
            Party::Raft,
            Message::Propose(Propose { id, data, reply }),
        );
        (id, pending)
    }

    fn input(&mut self, disks: &mut Disks, input: Input, host: &mut Host) {
        match input {
            Input::Message { to, message, .. } => self.message(disks, to, *message, host),
            Input::Clock => self.clock(host),
            Input::LogWritten => self.log_written(disks, host),
            Input::DriveRaft => self.drive_raft(host),
            Input::EngineWriter { wake } => self.engine_writer(disks, wake, host),
            Input::Persisted {
                engine,
                batches,
                covers,
            } => self.persisted(&engine, batches, covers, host),
            Input::Hash(hash) => host.checks.compaction_hashed(hash.run().unwrap()),
            Input::ContinueHub => self.continue_hub(host),
            Input::ShowView => self.mvcc.shown = self.views.load(),
            // The clients' business.
            Input::Ask { .. } => {}
        }
    }

    fn message(&mut self, disks: &mut Disks, to: Party, message: Message, host: &mut Host) {
        match to {
            Party::Raft => self.raft_message(message, host),
            Party::Mvcc => self.mvcc_message(disks, message, host),
            Party::EngineWriter => self.engine_work(message, host),
            Party::Hub => self.hub_message(message, host),
            Party::History => self.history_message(message, host),
            Party::Lease => self.lease_message(message, host),
            Party::Compactor => self.compactor_message(message, host),
            Party::Members => self.members_message(message, host),
            Party::LogWriter | Party::Clock | Party::Clients => {}
        }
    }

    /// Tells everybody the time.
    fn clock(&mut self, host: &mut Host) {
        for to in [
            Party::Raft,
            Party::Mvcc,
            Party::Hub,
            Party::Lease,
            Party::Compactor,
            Party::Members,
        ] {
            host.send(Party::Clock, to, Message::Tick);
        }
        let jitter_us = host.random.delay_us(ms(HEARTBEAT_MS) / 10);
        host.at(host.now_us() + ms(HEARTBEAT_MS) + jitter_us, Input::Clock);
    }
}

/// See the module.
pub struct Member {
    pub disks: Disks,
    boot: u64,
    pub process: Option<Process>,
}

impl Member {
    /// A lone member that has never started.
    pub fn founded(id: MemberId) -> Self {
        Self {
            disks: Disks {
                id,
                log: LogDisk::founded(id),
                engine: Arc::new(VirtualEngine::empty()),
                checkpoint: None,
            },
            boot: 0,
            process: None,
        }
    }

    /// Makes it this member's turn; false if the input was for a process that is gone.
    pub fn turn(&self, boot: u64, host: &mut Host) -> bool {
        host.boot = self.boot;
        boot == self.boot && self.process.is_some()
    }

    /// Begins a process, unless there is one.
    pub fn start(&mut self, host: &mut Host) {
        if self.process.is_none() {
            self.boot += 1;
            host.boot = self.boot;
            self.process = Some(Process::start(&mut self.disks, host));
        }
    }

    /// Ends the process, if there is one.
    pub fn crash(&mut self, loses_engine: bool, host: &mut Host) {
        if let Some(process) = self.process.take() {
            self.disks.crash(process, loses_engine, host);
        }
    }

    /// Gives the process an input.
    pub fn input(&mut self, input: Input, host: &mut Host) {
        if let Some(process) = &mut self.process {
            process.input(&mut self.disks, input, host);
            self.disks.check(host);
        }
    }

    /// Compares everything with the model.
    pub fn check(&self, checks: &mut Checks) {
        if let Some(process) = &self.process {
            checks.machine(process.mvcc.core.machine());
            checks.hashed(process.views.hash_kv(At::Newest).unwrap());
        }
    }
}
