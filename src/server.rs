//! The server around the graph: binds the listeners, starts the node, serves until a signal comes.

use crate::api;
use crate::config::{Allowed, BindAddress, Config, EtcdUrl, Listen, MetricsDetail, Urls};
use crate::disk::{DataDir, DataDirError};
use crate::http::{Http, Origins, Surface};
use crate::listen::keepalive::KeepAlivePolicy;
use crate::listen::{
    self, Address, ConnectionService, ListenError, Listener, ServeOptions, SocketOptions,
};
use crate::node::{Node, NodeError, Parts};
use crate::process::{self, StopSignal};
use crate::rpc::{self, Grpc};
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use prometheus::IntCounter;
use rusd_messages::metrics::counter;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

/// The end of the line that tools wait for.
const INSECURE: &str = "serving client traffic insecurely; this is strongly discouraged!";

/// Files kept back from connections: the log, the engine, the listeners (V-11).
const RESERVED_FILES: u64 = 150;
/// How long open calls may take to finish once a signal has come. Streams that never end are cut then.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// gRPC's own default for how often clients may ping.
const KEEPALIVE_MIN_TIME: Duration = Duration::from_secs(5 * 60);
/// gRPC's own defaults for the server's pings.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

static RECEIVED_BYTES: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "etcd_network_client_grpc_received_bytes_total",
        "Bytes received from gRPC clients.",
    )
});
static SENT_BYTES: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "etcd_network_client_grpc_sent_bytes_total",
        "Bytes sent to gRPC clients.",
    )
});

/// Why the server does not serve (any more).
#[derive(Debug, Error)]
pub enum ServeError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A URL that cannot be bound.
    #[error("cannot listen on {url}: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// What it lacks, or has too much of.
        reason: String,
    },
    /// Too few files.
    #[error(
        "the limit of open files is {limit}, and the server needs more than {RESERVED_FILES}: raise it (ulimit -n)"
    )]
    OpenFiles {
        /// The limit.
        limit: u64,
    },
    /// The operating system.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

/// Serves until a signal comes; returns which.
pub fn run(config: Config) -> Result<StopSignal, ServeError> {
    let parts = Parts::of(config);
    let data_dir = DataDir::open(&parts.data_dir, parts.wal_dir.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("grpc")
        .enable_all()
        .build()
        .map_err(|source| ServeError::System {
            doing: "start the runtime",
            source,
        })?;
    let signal = runtime.block_on(serve(parts, data_dir))?;
    runtime.shutdown_timeout(DRAIN_TIMEOUT);
    Ok(signal)
}

async fn serve(parts: Parts, data_dir: DataDir) -> Result<StopSignal, ServeError> {
    let signal = tokio::spawn(process::stop_signal());
    api::metrics::init(parts.metrics == MetricsDetail::Extensive);
    crate::http::health::init();
    let (listeners, options, origins) = bind_all(parts.listen)?;
    let mut server = Server::new(options);
    let joined = Arc::new(OnceLock::new());
    // Health and metrics answer while the member still starts: its probes fail until it has joined (O-13).
    let probes = Http::new(joined.clone(), Surface::Metrics, origins.clone());
    for (url, listener) in listeners.metrics {
        info!(address = %url, "serving metrics");
        server.accept(listener, None, Some(probes.clone()));
    }
    let mut node = Node::start(parts.node, &data_dir)?;
    process::storage_is_open();
    node.joined().await?;
    // The order that etcd has: first the member is ready, then its listeners say that they serve.
    let _set_once = joined.set(node.api());
    info!("ready to serve client requests");
    let http = Http::new(joined, Surface::Client, origins);
    server.accept_clients(
        listeners.client,
        listeners.client_http,
        Arc::new(node.grpc()),
        http,
    );

    let signal = signal
        .await
        .map_err(io::Error::other)
        .flatten()
        .map_err(|source| ServeError::System {
            doing: "listen for signals",
            source,
        })?;
    info!(signal = signal.name(), "received signal; shutting down");
    server.drain().await;
    node.stop().await;
    Ok(signal)
}

/// Listeners that are bound and not served yet, each with the URL it was configured by.
struct Listeners {
    client: Vec<(EtcdUrl, Listener)>,
    client_http: Vec<(EtcdUrl, Listener)>,
    metrics: Vec<(EtcdUrl, Listener)>,
}

/// Binds every address before anything is started, so that a port that is taken changes nothing.
fn bind_all(listen: Listen) -> Result<(Listeners, ServeOptions, Arc<Origins>), ServeError> {
    let Listen {
        client_urls,
        client_http_urls,
        // A member alone has no peers to listen to.
        peer_urls: _,
        metrics_urls,
        reuse_port,
        reuse_address,
        cors,
        host_whitelist,
        max_concurrent_streams,
        keepalive_min_time,
        keepalive,
    } = listen;
    let connections = Arc::new(Semaphore::new(connection_limit()?));
    let sockets = SocketOptions {
        reuse_port,
        reuse_address,
    };
    let bind = |urls: &Urls| -> Result<Vec<(EtcdUrl, Listener)>, ServeError> {
        urls.iter()
            .map(|url| Ok((url.clone(), bind(url, sockets)?)))
            .collect()
    };
    let listeners = Listeners {
        client: bind(&client_urls)?,
        client_http: bind(&client_http_urls)?,
        metrics: bind(&metrics_urls)?,
    };
    let options = ServeOptions {
        max_concurrent_streams,
        server_ping_interval: keepalive.map_or(KEEPALIVE_INTERVAL, |k| k.interval),
        server_ping_timeout: keepalive.map_or(KEEPALIVE_TIMEOUT, |k| k.timeout),
        keep_alive: KeepAlivePolicy {
            min_interval: keepalive_min_time.unwrap_or(KEEPALIVE_MIN_TIME),
            received_bytes: RECEIVED_BYTES.clone(),
            sent_bytes: SENT_BYTES.clone(),
        },
        connections,
    };
    let origins = Origins {
        hosts: names(host_whitelist),
        cors: names(cors),
    };
    Ok((listeners, options, Arc::new(origins)))
}

fn names(allowed: Allowed) -> Option<Vec<String>> {
    match allowed {
        Allowed::All => None,
        Allowed::Only(names) => Some(names),
    }
}

/// The listeners at work.
struct Server {
    options: ServeOptions,
    served: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Server {
    fn new(options: ServeOptions) -> Self {
        Self {
            options,
            served: JoinSet::new(),
            stop: watch::Sender::new(false),
        }
    }

    /// Serves gRPC, HTTP or both on a listener.
    fn accept(&mut self, listener: Listener, grpc: Option<Arc<Grpc>>, http: Option<Http>) {
        let app = move |peer| App {
            grpc: grpc.clone().map(|grpc| rpc::Connection::new(grpc, peer)),
            http: http.clone(),
        };
        let (options, stop) = (self.options.clone(), self.stop.subscribe());
        self.served
            .spawn(listen::serve(listener, app, options, stop));
    }

    fn accept_clients(
        &mut self,
        client: Vec<(EtcdUrl, Listener)>,
        client_http: Vec<(EtcdUrl, Listener)>,
        grpc: Arc<Grpc>,
        http: Http,
    ) {
        let split = !client_http.is_empty();
        if !split {
            warn!(
                "gRPC and HTTP share the client listeners; --listen-client-http-urls would separate them"
            );
        }
        for (url, listener) in client {
            info!(traffic = "grpc+http", address = %url, "{INSECURE}");
            let http = (!split).then(|| http.clone());
            self.accept(listener, Some(grpc.clone()), http);
        }
        for (url, listener) in client_http {
            info!(traffic = "http", address = %url, "{INSECURE}");
            self.accept(listener, None, Some(http.clone()));
        }
    }

    /// Accepts no more, and lets open calls finish within reason.
    async fn drain(mut self) {
        self.stop.send_replace(true);
        let drained = async { while self.served.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
            info!("closing the streams that are still open");
        }
    }
}

/// What the files of this process leave for connections.
fn connection_limit() -> Result<usize, ServeError> {
    match process::open_files_limit() {
        None => Ok(Semaphore::MAX_PERMITS),
        Some(limit) if limit <= RESERVED_FILES => Err(ServeError::OpenFiles { limit }),
        Some(limit) => Ok(usize::try_from(limit - RESERVED_FILES)
            .unwrap_or(usize::MAX)
            .min(Semaphore::MAX_PERMITS)),
    }
}

fn bind(url: &EtcdUrl, options: SocketOptions) -> Result<Listener, ServeError> {
    let address = url.bind_address().map_err(|reason| ServeError::Url {
        url: url.to_string(),
        reason,
    })?;
    let address = match address {
        BindAddress::Localhost(port) => Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        BindAddress::Ip(ip, port) => Address::Tcp(SocketAddr::from((ip, port))),
        BindAddress::Unix(path) => Address::Unix(path),
    };
    Ok(Listener::bind(&address, options)?)
}

/// What answers on a connection: gRPC, HTTP, or both, told apart by the content type.
struct App {
    grpc: Option<rpc::Connection>,
    http: Option<Http>,
}

type AppBody = UnsyncBoxBody<bytes::Bytes, Box<dyn std::error::Error + Send + Sync>>;

impl ConnectionService for App {
    type Body = AppBody;
}

impl hyper::service::Service<Request<Incoming>> for App {
    type Response = Response<AppBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        match (&self.grpc, &self.http) {
            (Some(grpc), _) if rpc::is_grpc(&request) => {
                let answer = grpc.call(request);
                Box::pin(async move {
                    Ok(answer
                        .await
                        .map(|body| body.map_err(Into::into).boxed_unsync()))
                })
            }
            (_, Some(http)) => {
                let http = http.clone();
                Box::pin(async move {
                    let answer = http.call(request).await;
                    Ok(answer.map(|body| body.map_err(|never| match never {}).boxed_unsync()))
                })
            }
            _ => Box::pin(std::future::ready(Ok(grpc_only()))),
        }
    }
}

fn grpc_only() -> Response<AppBody> {
    let body = Full::new(bytes::Bytes::from_static(
        b"this listener serves gRPC only\n",
    ));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = http::StatusCode::NOT_FOUND;
    response
}
