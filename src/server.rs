//! The server around the graph: binds the listeners, starts the node, serves until a signal comes.

use crate::config::{BindAddress, Config, EtcdUrl, Listen, MetricsDetail};
use crate::disk::{DataDir, DataDirError};
use crate::http::{Http, Origins, Surface};
use crate::listen::keepalive::KeepAlivePolicy;
use crate::listen::{self, Address, ListenError, Listener, ServeOptions, SocketOptions};
use crate::node::{Node, NodeError, Parts};
use crate::process::{self, StopSignal};
use crate::rpc::{self, Grpc};
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use prometheus::{IntCounter, register_int_counter};
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

/// Files kept back from connections: the log, the engine, the listeners (V-11).
const RESERVED_FILES: u64 = 150;
/// How long open calls may take to finish once a signal has come. Streams that never end are cut then.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// gRPC's own default for how often clients may ping.
const KEEPALIVE_MIN_TIME: Duration = Duration::from_secs(5 * 60);
/// gRPC's own defaults for the server's pings.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

#[allow(clippy::expect_used)] // A constant name, registered once.
static RECEIVED_BYTES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "etcd_network_client_grpc_received_bytes_total",
        "Bytes received from gRPC clients."
    )
    .expect("registered once")
});
#[allow(clippy::expect_used)] // A constant name, registered once.
static SENT_BYTES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "etcd_network_client_grpc_sent_bytes_total",
        "Bytes sent to gRPC clients."
    )
    .expect("registered once")
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
        /// Why.
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
    let connections = Arc::new(Semaphore::new(connection_limit()?));
    rpc::metrics::init(parts.metrics == MetricsDetail::Extensive);
    crate::http::health::init();

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
    } = parts.listen;
    let sockets = SocketOptions {
        reuse_port,
        reuse_address,
    };
    let bind = |urls: &crate::config::Urls| -> Result<Vec<(EtcdUrl, Listener)>, ServeError> {
        urls.iter()
            .map(|url| Ok((url.clone(), bind(url, sockets)?)))
            .collect()
    };
    let client = bind(&client_urls)?;
    let client_http = bind(&client_http_urls)?;
    let metrics = bind(&metrics_urls)?;

    let joined = Arc::new(OnceLock::new());
    let origins = Arc::new(Origins {
        hosts: host_whitelist,
        cors,
    });
    let (stop, stopped) = watch::channel(false);
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
    let mut served = JoinSet::new();
    // Health and metrics answer while the member still starts: its probes fail until it has joined (O-13).
    let probes = App::http_only(Http::new(joined.clone(), Surface::Metrics, origins.clone()));
    for (url, listener) in metrics {
        info!(address = %url, "serving metrics");
        served.spawn(listen::serve(
            listener,
            probes.clone(),
            options.clone(),
            stopped.clone(),
        ));
    }

    let mut node = Node::start(parts.node, &data_dir)?;
    process::storage_is_open();
    node.joined().await?;
    let http = Http::new(joined.clone(), Surface::Client, origins);
    let grpc = Arc::new(node.grpc());
    // The order that etcd has: first the member is ready, then its listeners say that they serve.
    let _set_once = joined.set(node.context());
    let split = !client_http.is_empty();
    let app = App {
        grpc: Some(grpc),
        http: (!split).then(|| http.clone()),
    };
    info!("ready to serve client requests");
    if !split {
        warn!(
            "gRPC and HTTP share the client listeners; --listen-client-http-urls would separate them"
        );
    }
    for (url, listener) in client {
        info!(traffic = "grpc+http", address = %url, "serving client traffic insecurely; this is strongly discouraged!");
        served.spawn(listen::serve(
            listener,
            app.clone(),
            options.clone(),
            stopped.clone(),
        ));
    }
    for (url, listener) in client_http {
        info!(traffic = "http", address = %url, "serving client traffic insecurely; this is strongly discouraged!");
        served.spawn(listen::serve(
            listener,
            App::http_only(http.clone()),
            options.clone(),
            stopped.clone(),
        ));
    }

    let signal = signal
        .await
        .map_err(io::Error::other)
        .flatten()
        .map_err(|source| ServeError::System {
            doing: "listen for signals",
            source,
        })?;
    info!(signal = signal.name(), "received signal; shutting down");
    stop.send_replace(true);
    let drained = async { while served.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        info!("closing the streams that are still open");
    }
    node.stop().await;
    Ok(signal)
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

/// What answers on a listener: gRPC, HTTP, or both, told apart by the content type.
#[derive(Clone)]
struct App {
    grpc: Option<Arc<Grpc>>,
    http: Option<Http>,
}

impl App {
    fn http_only(http: Http) -> Self {
        Self {
            grpc: None,
            http: Some(http),
        }
    }
}

type AppBody = UnsyncBoxBody<bytes::Bytes, Box<dyn std::error::Error + Send + Sync>>;

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
