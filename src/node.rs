//! One member: opens its disk, builds the graph of actors, and holds it together until it stops. This module is the only
//! place that names concrete actors.
//!
//! ```text
//!   thread       what runs on it
//!   grpc-*       handlers (tokio, several)
//!   raft         consensus               log-writer      raft-engine, fdatasync
//!   mvcc         state machine           engine-writer, engine-persist
//!   watch        hub                     history, reader-*
//!   timers       lease, compactor, members
//! ```

mod clock;
mod disk;
mod graph;
mod threads;

use crate::config::{Config, Gate};
use crate::data_dir::DataDir;
use crate::rpc::context::Limits;
use crate::rpc::{self, Context, Grpc};
use crate::store::StoreError;
use disk::Disk;
use graph::{Graph, Unlinked};
use rusd_lease::Renewer;
use rusd_messages::mvcc::Defragment;
use rusd_messages::{Clock, Dropped, Pending, Port, Reply, Stop};
use rusd_mvcc::reader;
use rusd_raft::{Identity, LogError, StartError};
use rusd_storage::engine::EngineError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use threads::Threads;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tracing::{info, warn};

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
    /// The system gives no more threads.
    #[error("cannot start the threads of the server: {0}")]
    Threads(#[from] io::Error),
    /// An actor stopped while the member started.
    #[error("the member stopped while it started")]
    Stopped,
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
    /// Opens what is on disk, builds the graph and sets it in motion.
    pub fn start(config: &Config, data_dir: &DataDir) -> Result<Self, NodeError> {
        let disk = Disk::open(config, data_dir)?;
        let identity = disk.identity;
        let reclaimable_bytes = disk.reclaimable_bytes;
        crate::gauges::init(config, identity.member);
        let threads = Threads::start()?;
        let graph = Unlinked::start(config, disk, &threads)?.link()?;
        rewrite_if_grown(config, reclaimable_bytes, &graph);
        let clock = Clock::start();
        let ticking = clock::start(clock, graph.ticks(config.raft.heartbeat_interval))?;
        let stops = graph.stops();
        let health = HealthReporter::new();
        let watch_ports = graph.watch.clone();
        let (context, joined) = context(config, identity, graph, clock, &health)?;
        Ok(Self {
            watch: rpc::watch::WatchService::new(
                &context,
                &watch_ports,
                config.raft.election_timeout,
            ),
            context,
            health,
            joined: Some(joined),
            threads,
            stops,
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
        self.threads.stop().await;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One and a half election timeouts, rounded up to seconds (L-01).
fn min_lease_ttl_s(election_ms: u64) -> i64 {
    i64::try_from((election_ms.saturating_mul(3) / 2).div_ceil(1000)).unwrap_or(i64::MAX)
}

/// Rewrites a storage that would give back more than its owner wants to spare.
fn rewrite_if_grown(config: &Config, reclaimable_bytes: u64, graph: &Graph) {
    let Some(threshold) = config.storage.bootstrap_defrag_threshold_bytes else {
        return;
    };
    if reclaimable_bytes <= threshold {
        // etcd's words.
        info!(reclaimable_bytes, threshold, "Skipping defragmentation");
        return;
    }
    info!(
        reclaimable_bytes,
        threshold, "rewriting the storage, as it has grown"
    );
    let reply = Reply::ignored();
    if graph.mvcc.defragment.tell(Defragment { reply }).is_err() {
        warn!("cannot begin to rewrite the storage");
    }
}

/// What handlers share of the graph, and when it has joined its cluster.
fn context(
    config: &Config,
    identity: Identity,
    graph: Graph,
    clock: Clock,
    health: &HealthReporter,
) -> Result<(Arc<Context>, Pending<()>), NodeError> {
    let stop_on_defragment = config.gates.enabled(Gate::StopGrpcServiceOnDefrag);
    let publications = graph.publications;
    let readers = config.storage.reader_threads as usize;
    let context = Context {
        health: stop_on_defragment.then(|| health.clone()),
        cluster: identity.cluster,
        member: identity.member,
        version: config.reported_version,
        limits: Limits {
            min_lease_ttl_s: min_lease_ttl_s(millis(config.raft.election_timeout)),
            max_request_bytes: config.limits.max_request_bytes as usize,
            max_txn_ops: config.limits.max_txn_ops as usize,
            quota_bytes: config.storage.quota_bytes,
            request_timeout: config.request_timeout(),
            warning_unary_request: config.limits.warning_unary_request_duration,
        },
        request_ids: graph.request_ids,
        raft: graph.status,
        ports: rpc::context::Ports {
            propose: graph.raft.propose,
            read_index: graph.raft.read_index,
            transfer_leader: graph.raft.transfer_leader,
            read: reader::spawn_readers(&publications.views, readers)?,
            renewer: Renewer::new(publications.live_leases, clock, graph.lease.keep_alive),
            time_to_live: graph.lease.time_to_live,
            list_leases: graph.lease.list,
            lease_keys: graph.mvcc.lease_keys,
            defragment: graph.mvcc.defragment,
            raise_alarm: graph.members.raise_alarm,
        },
        views: publications.views,
        applied: publications.applied,
        published: publications.published,
    };
    Ok((Arc::new(context), graph.joined))
}
