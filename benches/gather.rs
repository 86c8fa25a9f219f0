//! What gathering writes saves: the processor time of a thread that answers small requests over HTTP/2, with and
//! without [`GatheringIo`].
//!
//! Real sockets on loopback. One server thread; one client thread with a few connections, each with a few calls open at
//! once, and an answer of 100 bytes to each. Measured is what the server thread alone uses, as the kernel counts it,
//! for a round of one call on every stream: not the time on the wall, and nothing of the client. The answers are ready
//! at once, so the numbers say nothing of a request that waits for a disk.
#![allow(missing_docs, clippy::unwrap_used)]

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use h2::client::SendRequest;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rusd::listen::gather::GatheringIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// Connections, and calls open at once on each.
const SHAPES: [(usize, usize); 3] = [(1, 1), (8, 1), (8, 8)];
const ANSWER: &[u8] = &[b'v'; 100];

/// A serving thread, which ends with the process.
struct Server {
    address: SocketAddr,
    /// Where the kernel says how much processor time the thread has used.
    used: PathBuf,
}

impl Server {
    fn start(gathers: bool) -> Self {
        let (ready, started) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let task = std::fs::read_link("/proc/thread-self").unwrap();
            runtime().block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let used = PathBuf::from("/proc").join(task).join("schedstat");
                let address = listener.local_addr().unwrap();
                ready.send(Self { address, used }).unwrap();
                loop {
                    let (io, _) = listener.accept().await.unwrap();
                    io.set_nodelay(true).unwrap();
                    if gathers {
                        tokio::spawn(serve(GatheringIo::new(io)));
                    } else {
                        tokio::spawn(serve(io));
                    }
                }
            });
        });
        started.recv().unwrap()
    }

    fn used(&self) -> Duration {
        let text = std::fs::read_to_string(&self.used).unwrap();
        let nanoseconds = text.split_whitespace().next().unwrap();
        Duration::from_nanos(nanoseconds.parse().unwrap())
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn serve(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let answer = service_fn(|_: http::Request<Incoming>| async {
        Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from_static(ANSWER))))
    });
    let _client_gone = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(io), answer)
        .await;
}

async fn connect(server: &Server) -> SendRequest<Bytes> {
    let io = TcpStream::connect(server.address).await.unwrap();
    io.set_nodelay(true).unwrap();
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn call(client: SendRequest<Bytes>) {
    let request = http::Request::post("http://localhost/").body(()).unwrap();
    let (response, _) = client
        .ready()
        .await
        .unwrap()
        .send_request(request, true)
        .unwrap();
    let mut body = response.await.unwrap().into_body();
    while let Some(data) = body.data().await {
        let bytes = data.unwrap().len();
        body.flow_control().release_capacity(bytes).unwrap();
    }
}

/// One call on every stream, all at once.
async fn round(clients: &[SendRequest<Bytes>], calls: usize) {
    let mut open = JoinSet::new();
    for client in clients {
        for _ in 0..calls {
            open.spawn(call(client.clone()));
        }
    }
    while let Some(called) = open.join_next().await {
        called.unwrap();
    }
}

fn gathering(c: &mut Criterion) {
    let client_runtime = runtime();
    for (how, gathers) in [("each write by itself", false), ("gathered", true)] {
        let server = Server::start(gathers);
        for (connections, calls) in SHAPES {
            let clients: Vec<_> = client_runtime.block_on(async {
                let mut clients = Vec::new();
                for _ in 0..connections {
                    clients.push(connect(&server).await);
                }
                clients
            });
            let name = format!("server time of {connections} x {calls} calls, {how}");
            c.bench_function(&name, |b| {
                b.iter_custom(|rounds| {
                    client_runtime.block_on(async {
                        let before = server.used();
                        for _ in 0..rounds {
                            round(&clients, calls).await;
                        }
                        server.used().saturating_sub(before)
                    })
                });
            });
        }
    }
}

criterion_group!(benches, gathering);
criterion_main!(benches);
