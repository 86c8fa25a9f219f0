//! One member: builds the graph of actors and holds it together. The only place that names concrete actors.
//!
//! ```text
//!   thread       what runs on it
//!   grpc-*       handlers (tokio, several)
//!   raft         consensus               log-writer      raft-engine, fdatasync
//!   mvcc         state machine           engine-writer, engine-persist
//!   watch        hub                     history, reader-*
//!   timers       lease, compactor, members
//! ```

use crate::config::{AutoCompaction, Config, Gate, StorageEngine};
use crate::data_dir::DataDir;
use crate::rpc::context::Limits;
use crate::rpc::{self, Context, Grpc};
use actix::{Arbiter, ArbiterHandle, System};
use rusd_messages::{ClusterId, MemberId, Port, RaftStatus, Reply, RoleChanged, Stop, Tick};
use rusd_mvcc::actor::MvccConfig;
use rusd_mvcc::{Links as MvccLinks, Mvcc, PersistPolicy, reader};
use rusd_proto::request::RequestIds;
use rusd_raft::{
    Bootstrap, BootstrapMember, Core as RaftCore, CoreConfig, Identity, Log, LogConfig, LogError, RaftLinks, RaftPorts,
    StartError, conf_change, ids,
};
use rusd_state::{StateError, StateMachine};

use rusd_storage::engine::{EngineDir, EngineError, EngineKind, EngineOptions};
use rusd_storage::{MvccOptions, MvccStore, StorageError};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tracing::info;

/// Ticks of the timer actors: fine enough for the pause between two steps of a compaction.
const FINE_TICK: Duration = Duration::from_millis(10);

/// Why a member cannot start.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The log on disk.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log and the store do not fit together.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The storage engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StorageError),
    /// The replicated state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The configuration of a new cluster.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The data belongs to other peer URLs or another token than configured.
    #[error("cannot start the threads of the server: {0}")]
    Threads(#[from] io::Error),
    /// An actor stopped while the member started.
    #[error("the member stopped while it started")]
    Stopped,
}

/// The threads that actors run on.
struct Threads {
    system: System,
    system_thread: JoinHandle<()>,
    raft: ArbiterHandle,
    mvcc: ArbiterHandle,
    watch: ArbiterHandle,
    timers: ArbiterHandle,
}

impl Threads {
    fn start() -> io::Result<Self> {
        let (sender, started) = std::sync::mpsc::channel();
        let system_thread = std::thread::Builder::new().name("actors".to_owned()).spawn(move || {
            let runner = System::new();
            runner.block_on(async {
                let arbiter = || Arbiter::new().handle();
                let handles = [arbiter(), arbiter(), arbiter(), arbiter()];
                // Only a starter that has given up does not receive.
                let _gone = sender.send((System::current(), handles));
            });
            if let Err(error) = runner.run() {
                tracing::warn!(%error, "the actor system ended with an error");
            }
        })?;
        let (system, [raft, mvcc, watch, timers]) = started.recv().map_err(io::Error::other)?;
        Ok(Self {
            system,
            system_thread,
            raft,
            mvcc,
            watch,
            timers,
        })
    }
}

/// A member, from start to stop.
pub struct Node {
    context: Arc<Context>,
    threads: Threads,
    raft: RaftPorts,
    mvcc: rusd_mvcc::Ports,
}

impl Node {
    /// Opens what is on disk, builds the graph and connects it.
    pub fn start(config: &Config, data_dir: &DataDir) -> Result<Self, NodeError> {
        let (log, identity) = open_log(config, data_dir)?;
        let engines = EngineDir::open(&data_dir.store, &engine_options(config))?;
        let store = MvccStore::open(engines.engine(), MvccOptions::default())?;
        let engine = store.engine();
        let machine = StateMachine::open(store)?;
        let applied = machine.applied().0;
        info!(
            member = %identity.member,
            cluster = %identity.cluster,
            applied = applied.0,
            last_index = log.last_index(),
            engine = engine.name(),
            "restored the member"
        );

        let threads = Threads::start()?;
        let status = Arc::new(RaftStatus::default());
        let writer = log.writer();
        let core = RaftCore::new(core_config(config, identity.member, applied), log.into_tail(), status.clone())?;
        let raft = rusd_raft::start(&threads.raft, core, writer)?;

        let mvcc_config = MvccConfig {
            warning_apply: config.limits.warning_apply_duration,
        };
        let (mvcc_address, publications) = Mvcc::start(&threads.mvcc, machine, mvcc_config);
        let mvcc = Mvcc::ports(&mvcc_address);
        todo!()
    }
}

/// Opens the log; a new one begins with the founding of the cluster.
fn open_log(config: &Config, data_dir: &DataDir) -> Result<(Log, Identity), NodeError> {
    let mut log = Log::open(LogConfig {
        fsync: !config.raft.unsafe_no_fsync,
        segment_bytes: config.raft.log_segment_bytes,
        ..LogConfig::new(&data_dir.log)
    })?;
    if let Some(identity) = log.identity() {
        return Ok((log, identity));
    }
    config
        .cluster
        .check_bootstrap(&config.member.name, &crate::config::cluster::system_resolver)?;
    let peer_urls = config.cluster.advertise_peer_urls.to_strings();
    let member = ids::member_id(&peer_urls, &config.cluster.token, None);
    let identity = Identity {
        cluster: ids::cluster_id(&[member]),
        member,
    };
    log.bootstrap(&Bootstrap {
        identity,
        members: vec![BootstrapMember {
            id: member,
            context: conf_change::member_json(member, &config.member.name, &peer_urls),
        }],
    })?;
    Ok((log, identity))
}

fn engine_options(config: &Config) -> EngineOptions {
    let kind = match config.storage.engine {
        StorageEngine::Sled => EngineKind::Sled,
        StorageEngine::Redb => EngineKind::Redb,
    };
    let mut options = EngineOptions::new(kind);
    if let Some(bytes) = config.storage.cache_bytes {
        options.cache_bytes = bytes;
    }
    options
}

fn core_config(config: &Config, member: MemberId, applied: Index) -> CoreConfig {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    CoreConfig {
        member,
        applied,
        heartbeat_ms: ms(config.raft.heartbeat_interval),
        election_ms: ms(config.raft.election_timeout),
        incarnation: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, ms),
        priority_requests: config.gates.enabled(Gate::PriorityRequest),
    }
}
