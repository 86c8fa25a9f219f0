//! Listeners: our own accept loop, so that TLS, sniffing and limits sit where we can reach them.
//!
//! One port carries gRPC (HTTP/2 with prior knowledge) and HTTP/1.1, told apart by the connection
//! preface (P-01). Requests of content type `application/grpc*` go to the gRPC services, others to
//! the HTTP handlers.

pub mod gather;
pub mod keepalive;

use crate::api::{Peer, PeerAddress};
use gather::GatheringIo;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use keepalive::{KeepAlivePolicy, PolicedIo};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tracing::{debug, warn};

/// How long a client may take to send the head of an HTTP/1 request (V-12).
const HTTP1_HEADER_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// Pause after `accept` failed (typically: out of file descriptors), so that the loop does not spin.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(50);
/// What a client may send on one call before it is read.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// What a client may send on one connection before it is read.
///
/// `h2` also derives from it how many small frames may wait to be read (half of it, at up to 256 bytes a frame), and
/// ends a connection that has more. A client that renews or watches by the thousand fills the window of its stream
/// with small frames while the server is busy; this is room for a dozen such streams.
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;
/// The headers of a call: tokens and tracing baggage. etcd takes 16 MiB; this is ample, and bounds what waits.
const HEADERS_BYTES_MAX: u32 = 1024 * 1024;
/// Calls that a client has opened and abandoned before they were looked at; with more, `h2` ends the connection. One
/// cancelled context may abandon hundreds at once.
const ABANDONED_CALLS_MAX: usize = 1024;
/// Connections waiting to be accepted; the kernel caps it at `net.core.somaxconn`.
const ACCEPT_BACKLOG: i32 = 4096;

/// Why an address could not be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Binding failed.
    #[error(
        "cannot listen on {address}: {source}; is another server running there? choose another --listen-client-urls"
    )]
    Bind {
        /// The address, as configured.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// `--socket-reuse-port` and `--socket-reuse-address`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketOptions {
    /// SO_REUSEPORT.
    pub reuse_port: bool,
    /// SO_REUSEADDR also for addresses in use (on Linux: in TIME_WAIT, which is always allowed here).
    pub reuse_address: bool,
}

/// A bound socket, not yet served.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket and its path, removed when the listener goes.
    Unix(UnixListener, PathBuf),
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _already_gone = std::fs::remove_file(path);
        }
    }
}

impl Listener {
    /// Binds an address. Must be called inside a tokio runtime.
    pub fn bind(address: &Address, options: SocketOptions) -> Result<Self, ListenError> {
        let bound = match address {
            Address::Tcp(address) => bind_tcp(*address, options).map(Self::Tcp),
            Address::Unix(path) => bind_unix(path).map(|l| Self::Unix(l, path.clone())),
        };
        bound.map_err(|source| ListenError::Bind {
            address: match address {
                Address::Tcp(address) => address.to_string(),
                Address::Unix(path) => path.display().to_string(),
            },
            source,
        })
    }

    /// The address it got, for logs.
    pub fn describe(&self) -> String {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|e| e.to_string(), |a| a.to_string()),
            Self::Unix(_, path) => path.display().to_string(),
        }
    }

    async fn accept(&self) -> io::Result<(Connection, Peer)> {
        let (connection, address) = match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                stream.set_nodelay(true)?;
                (Connection::Tcp(stream), PeerAddress::Tcp(remote))
            }
            Self::Unix(listener, path) => {
                let (stream, _) = listener.accept().await?;
                (Connection::Unix(stream), PeerAddress::Unix(path.clone()))
            }
        };
        let peer = Peer {
            address,
            certificate: None,
        };
        Ok((connection, peer))
    }
}

fn bind_tcp(address: SocketAddr, options: SocketOptions) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Without it a restarted server could not bind while old connections linger; Go sets it too.
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(ACCEPT_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    // A socket file that a killed server left behind is in the way; one that somebody serves is not ours.
    if let Ok(metadata) = std::fs::symlink_metadata(path)
        && metadata.file_type().is_socket()
        && std::os::unix::net::UnixStream::connect(path).is_err()
    {
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What listeners share: HTTP/2 settings, limits, and the signal to stop.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// `--max-concurrent-streams`.
    pub max_concurrent_streams: u32,
    /// `--grpc-keepalive-interval`: how often the server pings.
    pub server_ping_interval: Duration,
    /// `--grpc-keepalive-timeout`.
    pub server_ping_timeout: Duration,
    /// How often clients may ping.
    pub keep_alive: KeepAlivePolicy,
    /// Open connections at most, over all listeners (V-11).
    pub connections: Arc<Semaphore>,
}

/// What serves the requests of one connection.
pub trait ConnectionService:
    hyper::service::Service<
        http::Request<hyper::body::Incoming>,
        Response = http::Response<Self::Body>,
        Error = Infallible,
        Future: Send,
    > + Send
    + 'static
{
    /// The body of its responses.
    type Body: http_body::Body<Data = bytes::Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static;
}

/// Accepts until `stop` turns true, then lets open requests finish. `make` is told who is at the other end of a new
/// connection, and makes what serves it.
///
/// Returns once every connection of this listener is closed; the caller bounds how long it waits for that.
pub async fn serve<S: ConnectionService>(
    listener: Listener,
    make: impl Fn(Arc<Peer>) -> S,
    options: ServeOptions,
    mut stop: watch::Receiver<bool>,
) {
    let builder = connection_builder(&options);
    let open = OpenConnections::default();
    loop {
        let Ok(permit) = options.connections.clone().acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            accepted = listener.accept() => accepted,
        };
        let (connection, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
                continue;
            }
        };
        let peer = Arc::new(peer);
        let serving = Serving {
            service: make(peer.clone()),
            peer,
            builder: builder.clone(),
            policy: options.keep_alive.clone(),
            stop: stop.clone(),
        };
        let guard = open.clone();
        tokio::spawn(async move {
            let _open = (permit, guard);
            match connection {
                Connection::Tcp(io) => serving.run(io).await,
                Connection::Unix(io) => serving.run(io).await,
            }
        });
    }
    drop(listener);
    open.closed().await;
}

fn connection_builder(options: &ServeOptions) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP1_HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.max_concurrent_streams)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .max_pending_accept_reset_streams(ABANDONED_CALLS_MAX)
        .keep_alive_interval(options.server_ping_interval)
        .keep_alive_timeout(options.server_ping_timeout);
    builder
}

/// One connection, and how it is served.
struct Serving<S> {
    peer: Arc<Peer>,
    service: S,
    builder: auto::Builder<TokioExecutor>,
    policy: KeepAlivePolicy,
    stop: watch::Receiver<bool>,
}

impl<S: ConnectionService> Serving<S> {
    async fn run<I>(mut self, io: I)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(GatheringIo::new(PolicedIo::new(io, self.policy)));
        let connection = self.builder.serve_connection(io, self.service);
        tokio::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = stopped(&mut self.stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            debug!(remote = %self.peer.address, %error, "connection closed");
        }
    }
}

/// Resolves when the server stops (or whoever would say so is gone).
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _sender_gone = stop.wait_for(|stop| *stop).await.is_err();
}

/// Counts open connections by the clones of one sender.
#[derive(Clone)]
struct OpenConnections(Arc<watch::Sender<()>>);

impl Default for OpenConnections {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(())))
    }
}

impl OpenConnections {
    /// Resolves when every other clone is gone.
    async fn closed(self) {
        let mut receiver = self.0.subscribe();
        drop(self);
        while receiver.changed().await.is_ok() {}
    }
}
