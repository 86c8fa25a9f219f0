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
use crate::store::{self, LogSpan, Opened, StoreError};
use actix::{Arbiter, ArbiterHandle, System};
use rusd_compactor::{AutoMode, Compactor, CompactorConfig, Links as CompactorLinks};
use rusd_lease::{Lease, LeaseConfig, Links as LeaseLinks, Renewer};
use rusd_members::version::ClusterVersion;
use rusd_members::{Links as MembersLinks, Members, MembersConfig};
use rusd_messages::mvcc::Defragment;
use rusd_messages::{
    Clock, Dropped, Index, MemberId, Pending, Port, RaftStatus, Reply, Stop, Tick,
};
use rusd_mvcc::actor::MvccConfig;
use rusd_mvcc::{
    CheckpointPolicy, EngineSetup, Links as MvccLinks, Mvcc, PersistPolicy, Progress, reader,
};
use rusd_proto::request::RequestIds;
use rusd_raft::{
    Bootstrap, BootstrapMember, Core as RaftCore, CoreConfig, Identity, Log, LogConfig, LogError,
    RaftLinks, StartError, conf_change, ids,
};
use rusd_storage::Applied as LogPosition;
use rusd_storage::engine::{EngineDir, EngineError, EngineKind, EngineOptions};
use rusd_watch::{Links as WatchLinks, Watch, WatchConfig};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tracing::{info, warn};

/// Ticks of the timer actors: fine enough for the pause between two steps of a compaction.
const FINE_TICK: Duration = Duration::from_millis(10);
/// Ticks of those that count in tenths of seconds.
const COARSE_TICK: Duration = Duration::from_millis(100);
/// How often the remaining time of leases is written down, with the gate LeaseCheckpoint (L-10).
const LEASE_CHECKPOINT_INTERVAL_MS: u64 = 5 * 60 * 1000;
/// How long an actor may take to let go of its files.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a member cannot start.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The log on disk.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log and the store do not fit together.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There is a store, but no log.
    #[error(
        "the storage in {} holds data, but the log in {} is empty: acknowledged writes are lost, so this member refuses \
         to start. Does --wal-dir name the right directory? Put the log that belongs to the storage back, or a backup of \
         the whole data directory",
        store.display(), log.display()
    )]
    LostLog {
        /// The directory of the storage.
        store: PathBuf,
        /// The directory of the log.
        log: PathBuf,
    },
    /// The storage engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store in it.
    #[error(transparent)]
    Store(#[from] StoreError),
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
        let system_thread = std::thread::Builder::new()
            .name("actors".to_owned())
            .spawn(move || {
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
    watch: rpc::watch::WatchService,
    health: HealthReporter,
    joined: Option<Pending<()>>,
    threads: Threads,
    stops: Vec<Port<Stop>>,
    /// Dropping it ends the clock.
    _clock: flume::Sender<()>,
}

impl Node {
    /// Opens what is on disk, builds the graph and connects it.
    pub fn start(config: &Config, data_dir: &DataDir) -> Result<Self, NodeError> {
        let (log, identity) = open_log(config, data_dir)?;
        let truncated = log.truncated();
        let span = LogSpan {
            begins_after: truncated.index,
            ends_at: log.last_index(),
            term: &|index| log.term(index).ok().flatten(),
        };
        let Opened { engines, machine } =
            store::open(&data_dir.store, &engine_options(config), &span)?;
        let (applied, applied_term) = machine.applied();
        info!(
            local_member_id = %identity.member,
            cluster_id = %identity.cluster,
            applied_index = applied.0,
            last_index = log.last_index(),
            storage_engine = engines.engine().name(),
            "restored the member"
        );
        crate::gauges::init(config, identity.member);
        let disk_bytes = engines.engine().stats()?.disk_bytes;
        let reclaimable_bytes = disk_bytes.saturating_sub(machine.sizes().logical_bytes);
        let progress = Progress {
            applied: LogPosition {
                index: applied.0,
                term: applied_term.0,
            },
            sizes: machine.sizes(),
        };
        let checkpoints = checkpoints(config, &engines, &log)?;
        let threads = Threads::start()?;
        let status = Arc::new(RaftStatus::default());
        let request_ids = Arc::new(RequestIds::starting_now(identity.member));
        let election_ms = millis(config.raft.election_timeout);

        // First every actor, so that all ports exist; then the links between them.
        let writer = log.writer();
        let core = RaftCore::new(
            core_config(config, identity.member, applied),
            log.into_tail(),
            status.clone(),
        )?;
        let inline_bytes_max = if config.raft.inline_append {
            rusd_raft::limits::INLINE_BYTES_MAX
        } else {
            0
        };
        let raft = rusd_raft::actor::start_with(&threads.raft, core, writer, inline_bytes_max)?;
        let (mvcc_address, publications) = Mvcc::start(
            &threads.mvcc,
            machine,
            MvccConfig {
                warning_apply: config.limits.warning_apply_duration,
            },
        );
        let mvcc = Mvcc::ports(&mvcc_address);
        let watch = Watch::start(
            &threads.watch,
            WatchConfig {
                progress_notify_interval: config.watch.progress_notify_interval,
            },
        );
        let lease_address = Lease::start(
            &threads.timers,
            LeaseConfig {
                election_timeout_ms: election_ms,
                request_timeout_ms: millis(config.request_timeout()),
                checkpoint_interval_ms: config
                    .gates
                    .enabled(Gate::LeaseCheckpoint)
                    .then_some(LEASE_CHECKPOINT_INTERVAL_MS),
            },
            request_ids.clone(),
            publications.live_leases.clone(),
        );
        let lease = Lease::ports(&lease_address);
        let compactor_address = Compactor::start(
            &threads.timers,
            compactor_config(config),
            request_ids.clone(),
        );
        let compactor = Compactor::ports(&compactor_address);
        let (joined_reply, joined) = Reply::channel();
        let members_address = Members::start(
            &threads.timers,
            MembersConfig {
                member: identity.member,
                name: config.member.name.clone(),
                client_urls: config.cluster.advertise_client_urls.to_strings(),
                cluster_version: ClusterVersion {
                    major: 3,
                    minor: config.reported_version.minor().into(),
                },
            },
            request_ids.clone(),
            joined_reply,
        );
        let members = Members::ports(&members_address);

        watch.connect(WatchLinks {
            history: reader::spawn_history(&publications.views)?,
            previous_wanted: publications.previous_wanted.clone(),
        });
        Lease::connect(
            &lease_address,
            LeaseLinks {
                propose: raft.ports.propose.clone(),
            },
        );
        Compactor::connect(
            &compactor_address,
            CompactorLinks {
                propose: raft.ports.propose.clone(),
                compact_step: mvcc.compact_step.clone(),
            },
        );
        Members::connect(
            &members_address,
            MembersLinks {
                propose: raft.ports.propose.clone(),
            },
        );
        Mvcc::connect(
            &mvcc_address,
            &mvcc,
            MvccLinks {
                applied: raft.ports.applied.clone(),
                conf_applied: raft.ports.conf_applied.clone(),
                engine_persisted: raft.ports.engine_persisted.clone(),
                committed: watch.ports.committed.clone(),
                lagged: watch.ports.lagged.clone(),
                compacted: watch.ports.compacted.clone(),
                leases: lease.changes.clone(),
                revision: compactor.revision.clone(),
                compaction: compactor.pending.clone(),
                stepped: compactor.stepped.clone(),
                members: members.changed.clone(),
            },
            EngineSetup {
                engines,
                progress,
                persist: PersistPolicy {
                    bytes: usize::try_from(config.storage.persist_bytes).unwrap_or(usize::MAX),
                    interval: config.storage.persist_interval,
                },
                checkpoints,
            },
        )?;
        let raft = raft.connect(RaftLinks {
            apply: mvcc.apply.clone(),
            role_changed: vec![
                lease.role.clone(),
                compactor.role.clone(),
                members.role.clone(),
            ],
        });
        if let Some(threshold) = config.storage.bootstrap_defrag_threshold_bytes
            && reclaimable_bytes > threshold
        {
            info!(
                reclaimable_bytes,
                threshold, "rewriting the storage, as it has grown"
            );
            let reply = Reply::ignored();
            if mvcc.defragment.tell(Defragment { reply }).is_err() {
                warn!("cannot begin to rewrite the storage");
            }
        }
        let heartbeat = config.raft.heartbeat_interval;
        let clock = Clock::start();
        let ticking = start_clock(
            clock,
            vec![
                (heartbeat.min(FINE_TICK * 2), raft.tick.clone()),
                (FINE_TICK, compactor.tick.clone()),
                (FINE_TICK, mvcc.tick.clone()),
                (COARSE_TICK, watch.ports.tick.clone()),
                (COARSE_TICK, lease.tick.clone()),
                // Its first proposal is what a start waits for.
                (FINE_TICK, members.tick.clone()),
            ],
        )?;

        let health = HealthReporter::new();
        let stop_on_defragment = config.gates.enabled(Gate::StopGrpcServiceOnDefrag);
        let context = Arc::new(Context {
            health: stop_on_defragment.then(|| health.clone()),
            cluster: identity.cluster,
            member: identity.member,
            version: config.reported_version,
            limits: Limits {
                min_lease_ttl_s: min_lease_ttl_s(election_ms),
                max_request_bytes: config.limits.max_request_bytes as usize,
                max_txn_ops: config.limits.max_txn_ops as usize,
                quota_bytes: config.storage.quota_bytes,
                request_timeout: config.request_timeout(),
                warning_unary_request: config.limits.warning_unary_request_duration,
            },
            request_ids,
            raft: status.clone(),
            views: publications.views.clone(),
            applied: publications.applied,
            published: publications.published,
            ports: rpc::context::Ports {
                propose: raft.propose,
                read_index: raft.read_index,
                transfer_leader: raft.transfer_leader,
                read: reader::spawn_readers(
                    &publications.views,
                    config.storage.reader_threads as usize,
                )?,
                renewer: Renewer::new(publications.live_leases, clock, lease.keep_alive),
                time_to_live: lease.time_to_live,
                list_leases: lease.list,
                lease_keys: mvcc.lease_keys,
                defragment: mvcc.defragment,
                raise_alarm: members.raise_alarm,
            },
        });
        Ok(Self {
            watch: rpc::watch::WatchService::new(
                &context,
                &watch.ports,
                config.raft.election_timeout,
            ),
            context,
            health,
            joined: Some(joined),
            threads,
            // From the edge inwards: what still answers clients goes last.
            stops: vec![
                watch.ports.stop,
                compactor.stop,
                lease.stop,
                members.stop,
                raft.stop,
                mvcc.stop,
            ],
            _clock: ticking,
        })
    }

    /// Resolves once the member leads or follows, and has published itself.
    pub async fn joined(&mut self) -> Result<(), NodeError> {
        match self.joined.take() {
            Some(joined) => joined.await.map_err(|Dropped| NodeError::Stopped),
            None => Ok(()),
        }
    }

    /// What handlers share.
    pub fn context(&self) -> Arc<Context> {
        self.context.clone()
    }

    /// The gRPC services.
    pub fn grpc(&self) -> Grpc {
        Grpc::new(
            self.context.clone(),
            self.watch.clone(),
            rpc::lease::LeaseService::new(self.context.clone()),
            HealthServer::new(HealthService::from_health_reporter(self.health.clone())),
        )
    }

    /// Stops the actors in order; the log and the engine are closed when this returns.
    pub async fn stop(self) {
        for stop in &self.stops {
            let (reply, stopped) = Reply::channel();
            if stop.deliver(Stop { reply }).is_ok()
                && tokio::time::timeout(STOP_TIMEOUT, stopped).await.is_err()
            {
                warn!("an actor does not stop in time; what is acknowledged is on disk");
            }
        }
        self.threads.system.stop();
        let _ended = tokio::task::spawn_blocking(move || self.threads.system_thread.join()).await;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One and a half election timeouts, rounded up to seconds (L-01).
fn min_lease_ttl_s(election_ms: u64) -> i64 {
    i64::try_from((election_ms.saturating_mul(3) / 2).div_ceil(1000)).unwrap_or(i64::MAX)
}

/// Ticks each port at its interval, from one thread, until the returned sender is dropped.
fn start_clock(
    clock: Clock,
    mut ports: Vec<(Duration, Port<Tick>)>,
) -> io::Result<flume::Sender<()>> {
    let (keep_running, ended) = flume::bounded::<()>(0);
    std::thread::Builder::new()
        .name("clock".to_owned())
        .spawn(move || {
            let mut next_ms: Vec<u64> = ports.iter().map(|_| 0).collect();
            while matches!(
                ended.recv_timeout(FINE_TICK),
                Err(flume::RecvTimeoutError::Timeout)
            ) {
                let now_ms = clock.now_ms();
                for ((interval, port), next_ms) in ports.iter_mut().zip(&mut next_ms) {
                    if now_ms >= *next_ms {
                        *next_ms = now_ms + millis(*interval);
                        // A full port has a tick already; a closed one is stopping.
                        let _coalesced = port.tell(Tick { now_ms });
                    }
                }
            }
        })?;
    Ok(keep_running)
}

fn compactor_config(config: &Config) -> CompactorConfig {
    CompactorConfig {
        auto: match config.compaction.auto {
            AutoCompaction::Off => AutoMode::Off,
            AutoCompaction::Periodic(retention) => AutoMode::Periodic {
                retention_ms: millis(retention),
            },
            AutoCompaction::Revisions(retained) => AutoMode::Revisions { retained },
        },
        batch_records: config.compaction.batch_limit as usize,
        pause_ms: millis(config.compaction.sleep_interval),
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
    // The log is set up before the storage: this one was, and is gone. A damaged storage must not be rebuilt from nothing.
    if !matches!(EngineDir::holds_anything(&data_dir.store), Ok(false)) {
        return Err(NodeError::LostLog {
            store: data_dir.store.clone(),
            log: data_dir.log.clone(),
        });
    }
    config.cluster.check_bootstrap(
        &config.member.name,
        &crate::config::cluster::system_resolver,
    )?;
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

/// How checkpoints are kept. One that is not wanted any more is removed.
fn checkpoints(
    config: &Config,
    engines: &EngineDir,
    log: &Log,
) -> Result<Option<CheckpointPolicy>, EngineError> {
    let Some(interval) = config.storage.checkpoint_interval else {
        if let Some(removed) = engines.remove_checkpoint()? {
            info!(
                checkpoint = removed.name(),
                "removed the checkpoint, as --checkpoint-interval is 0"
            );
        }
        return Ok(None);
    };
    if let Some(checkpoint) = engines.checkpoint()
        && checkpoint.index < log.truncated().index
    {
        warn!(
            checkpoint = checkpoint.name(),
            index = checkpoint.index,
            log_begins_after = log.truncated().index,
            "the log does not go on from the checkpoint any more; making another"
        );
        engines.remove_checkpoint()?;
    }
    Ok(Some(CheckpointPolicy {
        interval,
        log_is_whole: log.truncated().index == 0,
        kept_bytes: log.kept_bytes(),
    }))
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
    CoreConfig {
        member,
        applied,
        heartbeat_ms: millis(config.raft.heartbeat_interval),
        election_ms: millis(config.raft.election_timeout),
        incarnation: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, millis),
        priority_requests: config.gates.enabled(Gate::PriorityRequest),
    }
}
