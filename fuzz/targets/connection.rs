//! The frames that go by on a connection, in both directions (G-09).
//!
//! Whatever a client sends, the bytes pass unchanged until the connection is closed, and whether it is closed does not
//! depend on how the bytes are cut into reads and writes.

use super::{Case, Outcome, Target};
use prometheus::IntCounter;
use rusd::listen::keepalive::{KeepAlivePolicy, PolicedIo};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// See the module.
pub const TARGET: Target = Target {
    name: "connection",
    corpus,
    run,
    cases: 8_000,
};

/// The first byte of a part that the server sends; anything else comes from the client.
const SERVER: u8 = b's';
const CLIENT: u8 = b'c';
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// So long that no test takes as long: every ping but the first comes too early.
const MIN_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn corpus() -> Vec<Case> {
    let part = |side: u8, bytes: &[u8]| [&[side], bytes].concat();
    let ping = frame(6, 0, 0, &[7; 8]);
    let headers = frame(1, 4, 1, b"headers");
    let data = frame(0, 1, 1, b"data");
    vec![
        vec![
            part(CLIENT, PREFACE),
            part(CLIENT, &frame(4, 0, 0, &[])),
            part(SERVER, &frame(4, 0, 0, &[])),
            part(CLIENT, &headers),
            part(CLIENT, &data),
            part(CLIENT, &ping),
            part(SERVER, &frame(6, 1, 0, &[7; 8])),
            part(SERVER, &frame(1, 5, 1, b"trailers")),
            part(CLIENT, &ping),
            part(CLIENT, &frame(3, 0, 1, &[0; 4])),
        ],
        // One more ping is one too many.
        vec![
            part(CLIENT, PREFACE),
            part(CLIENT, &headers),
            part(CLIENT, &ping),
            part(SERVER, &frame(8, 0, 0, &[0; 4])),
            part(CLIENT, &ping),
            part(CLIENT, &data),
            part(CLIENT, &ping),
        ],
        vec![
            part(CLIENT, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"),
            part(SERVER, b"HTTP/1.1 200 OK\r\n\r\n"),
        ],
    ]
}

/// One end of a connection: what is to be read, and what was written.
#[derive(Debug, Default)]
struct Wire {
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

/// A wire that the test keeps a hand on while a connection owns it.
#[derive(Clone, Debug)]
struct Held {
    wire: Arc<Mutex<Wire>>,
    /// How many bytes pass at a time.
    at_once: usize,
}

impl Held {
    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap()
    }
}

impl AsyncRead for Held {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut wire = self.wire();
        let length = self.at_once.min(wire.incoming.len()).min(buf.remaining());
        let bytes: Vec<u8> = wire.incoming.drain(..length).collect();
        buf.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let length = self.at_once.min(buf.len());
        self.wire().outgoing.extend(&buf[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Lets the parts pass in pieces of at most `at_once`; the number of the part at which the connection is closed.
fn pass(parts: &[Vec<u8>], at_once: usize) -> Option<usize> {
    let counter = || IntCounter::new("bytes", "Bytes.").unwrap();
    let policy = KeepAlivePolicy {
        min_interval: MIN_INTERVAL,
        received_bytes: counter(),
        sent_bytes: counter(),
    };
    let held = Held {
        wire: Arc::default(),
        at_once,
    };
    let mut connection = PolicedIo::new(held.clone(), policy);
    for (number, part) in parts.iter().enumerate() {
        let open = match part.split_first() {
            None => true,
            Some((&SERVER, bytes)) => {
                send(&mut connection, &held, bytes);
                true
            }
            Some((_, bytes)) => receive(&mut connection, &held, bytes),
        };
        if !open {
            return Some(number);
        }
    }
    None
}

fn send(connection: &mut PolicedIo<Held>, held: &Held, bytes: &[u8]) {
    let mut context = Context::from_waker(Waker::noop());
    let before = held.wire().outgoing.len();
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = Pin::new(&mut *connection).poll_write(&mut context, rest);
        let Poll::Ready(Ok(written)) = written else {
            panic!("a wire that takes everything: {written:?}");
        };
        rest = &rest[written..];
    }
    assert_eq!(held.wire().outgoing[before..], *bytes);
}

/// False when the connection is closed.
fn receive(connection: &mut PolicedIo<Held>, held: &Held, bytes: &[u8]) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    held.wire().incoming = bytes.to_vec();
    let before = held.wire().outgoing.len();
    let mut received: Vec<u8> = Vec::new();
    while received.len() < bytes.len() {
        let mut space = [0; 4096];
        let mut buf = ReadBuf::new(&mut space);
        match Pin::new(&mut *connection).poll_read(&mut context, &mut buf) {
            Poll::Ready(Ok(())) => received.extend(buf.filled()),
            Poll::Ready(Err(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
                return false;
            }
            Poll::Pending => panic!("a wire that has everything"),
        }
    }
    assert_eq!(received, bytes);
    assert_eq!(held.wire().outgoing.len(), before, "the policy spoke up");
    true
}

fn run(parts: &[Vec<u8>]) -> Outcome {
    let closed_at = pass(parts, usize::MAX);
    for at_once in [1, 5] {
        assert_eq!(pass(parts, at_once), closed_at, "{at_once} at a time");
    }
    match closed_at {
        None => Outcome::Accepted,
        Some(_) => Outcome::Refused,
    }
}
