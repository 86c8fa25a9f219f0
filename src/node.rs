//! One member: opens its disk, builds the graph of actors, and holds it together until it stops. This module is the
//! only place that names concrete actors.
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
mod graph;
mod parts;
mod threads;

use crate::api::heartbeats::Heartbeats;
use crate::api::{Api, Context, context};
use crate::disk::{DataDir, Disk, DiskError};
use crate::rpc::Grpc;
use graph::{Graph, Unlinked};
pub(crate) use parts::Parts;
use parts::{NodeParts, RequestParts};
use rusd_messages::mvcc::Defragment;
use rusd_messages::{Clock, Dropped, Pending, Port, Proposer, Renewer, Reply, Stop};
use rusd_mvcc::readers;
use rusd_raft::{Identity, StartError};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use threads::Threads;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tracing::warn;

/// How long an actor may take to let go of its files.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a member cannot start.
#[derive(Debug, Error)]
pub enum NodeError {
    /// What is on disk cannot be served.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log and the store do not fit together.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system gives no more threads.
    #[error("cannot start the threads of the server: {0}")]
    Threads(#[from] io::Error),
    /// An actor stopped while the member started.
    #[error("the member stopped while it started")]
    Stopped,
}

/// A member, from start to stop.
pub struct Node {
    api: Arc<Api>,
    health: HealthReporter,
    joined: Option<Pending<()>>,
    threads: Threads,
    stops: Vec<Port<Stop>>,
    /// Dropping it ends the clock.
    _clock: flume::Sender<()>,
}

impl Node {
    /// Opens what is on disk, builds the graph and sets it in motion.
    pub fn start(parts: NodeParts, data_dir: &DataDir) -> Result<Self, NodeError> {
        let NodeParts {
            disk,
            actors,
            requests,
            facts,
            heartbeat_interval,
        } = parts;
        let disk = Disk::open(disk, data_dir)?;
        let identity = disk.identity;
        let has_grown = disk.has_grown;
        crate::process_metrics::init(facts, identity.member);
        let threads = Threads::start()?;
        let graph = Unlinked::start(actors, disk, &threads)?.link()?;
        if has_grown {
            rewrite(&graph);
        }
        let clock = Clock::start();
        let ticking = clock::start(clock, graph.ticks(heartbeat_interval))?;
        let stops = graph.stops();
        let health = HealthReporter::new();
        let (context, joined) = context(requests, identity, graph, clock, &health)?;
        Ok(Self {
            api: Arc::new(Api::new(context)),
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

    /// The requests it answers.
    pub fn api(&self) -> Arc<Api> {
        self.api.clone()
    }

    /// The gRPC services.
    pub fn grpc(&self) -> Grpc {
        let health = HealthService::from_health_reporter(self.health.clone());
        Grpc::new(self.api.clone(), HealthServer::new(health))
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

/// Begins to rewrite the storage.
fn rewrite(graph: &Graph) {
    let reply = Reply::ignored();
    if graph.mvcc.defragment.tell(Defragment { reply }).is_err() {
        warn!("cannot begin to rewrite the storage");
    }
}

/// What requests share of the graph, and when it has joined its cluster.
fn context(
    parts: RequestParts,
    identity: Identity,
    graph: Graph,
    clock: Clock,
    health: &HealthReporter,
) -> Result<(Context, Pending<()>), NodeError> {
    let RequestParts {
        version,
        limits,
        reader_threads,
        stop_serving_on_defragment,
    } = parts;
    let publications = graph.publications;
    let proposer = Proposer::new(graph.raft.propose, graph.request_ids);
    let context = Context {
        cluster: identity.cluster,
        member: identity.member,
        versions: context::Versions {
            server: version.to_string(),
            storage: version.cluster().to_string(),
        },
        proposer: proposer.with_limit(limits.max_request_bytes),
        renewer: Renewer::new(publications.live_leases, clock, graph.lease.keep_alive),
        limits,
        raft: graph.status,
        heartbeats: Heartbeats::start(graph.raft.heartbeat, graph.mvcc.heartbeat),
        set_serving: stop_serving_on_defragment.then(|| set_serving(health)),
        ports: context::Ports {
            read_index: graph.raft.read_index,
            transfer_leader: graph.raft.transfer_leader,
            read: readers::spawn_readers(&publications.views, reader_threads)?,
            time_to_live: graph.lease.time_to_live,
            list_leases: graph.lease.list,
            lease_keys: graph.mvcc.lease_keys,
            defragment: graph.mvcc.defragment,
            raise_alarm: graph.members.raise_alarm,
            watch: watch_ports(graph.watch),
        },
        views: publications.views,
        applied: publications.applied,
        published: publications.published,
    };
    Ok((context, graph.joined))
}

fn watch_ports(hub: rusd_watch::Ports) -> context::WatchPorts {
    context::WatchPorts {
        open: hub.open,
        request: hub.request,
        sink_ready: hub.sink_ready,
        close: hub.close,
        wake_through: hub.wake_through,
        sink_limits: rusd_watch::limits::SINK,
    }
}

/// Tells gRPC's health service.
fn set_serving(health: &HealthReporter) -> context::SetServing {
    let health = health.clone();
    Arc::new(move |serving| {
        let health = health.clone();
        let status = match serving {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        Box::pin(async move { health.set_service_status("", status).await })
    })
}
