//! What a client may ping, enforced where the bytes pass (G-09).
//!
//! The `h2` crate answers PING frames itself and tells nobody, so this wrapper around a connection reads
//! the frame headers that go by in both directions (nine bytes a frame, payloads are skipped) and applies
//! the policy that gRPC servers apply: a client that pings more often than `min_interval`, or at all
//! without an open stream, is told GOAWAY `ENHANCE_YOUR_CALM` and disconnected after its third offence.
//! It also counts the bytes of HTTP/2 connections.

use prometheus::IntCounter;
use std::collections::HashSet;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_BYTES: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const PING: u8 = 0x6;
const END_STREAM_FLAG: u8 = 0x1;
const ACK_FLAG: u8 = 0x1;

/// Offences forgiven between two frames of the server's own (the number every gRPC server uses).
const MAX_STRIKES: u32 = 2;
/// How often a client without an open stream may ping.
const IDLE_PING_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);

/// How often clients may ping, and where their bytes are counted.
#[derive(Clone, Debug)]
pub struct KeepAlivePolicy {
    /// `--grpc-keepalive-min-time`.
    pub min_interval: Duration,
    /// Bytes read from HTTP/2 connections.
    pub received_bytes: IntCounter,
    /// Bytes written to HTTP/2 connections.
    pub sent_bytes: IntCounter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FrameHeader {
    kind: u8,
    flags: u8,
    stream: u32,
}

/// Finds the frame headers in one direction of a connection.
#[derive(Debug, Default)]
struct FrameScanner {
    header: [u8; FRAME_HEADER_BYTES],
    header_len: usize,
    payload_left: usize,
}

impl FrameScanner {
    fn at_boundary(&self) -> bool {
        self.header_len == 0 && self.payload_left == 0
    }

    fn scan(&mut self, mut bytes: &[u8], mut on_frame: impl FnMut(FrameHeader)) {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skipped = self.payload_left.min(bytes.len());
                self.payload_left -= skipped;
                bytes = bytes.split_at(skipped).1;
                continue;
            }
            let wanted = (FRAME_HEADER_BYTES - self.header_len).min(bytes.len());
            let (head, rest) = bytes.split_at(wanted);
            for byte in head {
                self.header[self.header_len] = *byte;
                self.header_len += 1;
            }
            bytes = rest;
            if self.header_len == FRAME_HEADER_BYTES {
                let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.header;
                self.header_len = 0;
                self.payload_left = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
                on_frame(FrameHeader {
                    kind,
                    flags,
                    stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
                });
            }
        }
    }
}

/// The policy's state for one connection: frames in, verdict out. No clock and no I/O.
#[derive(Debug)]
struct PingJudge {
    min_interval: Duration,
    open_streams: HashSet<u32>,
    newest_stream: u32,
    last_ping: Option<Instant>,
    strikes: u32,
    server_wrote: bool,
}

impl PingJudge {
    fn new(min_interval: Duration) -> Self {
        Self {
            min_interval,
            open_streams: HashSet::new(),
            newest_stream: 0,
            last_ping: None,
            strikes: 0,
            server_wrote: false,
        }
    }

    /// A frame from the client; true when the connection is to be closed.
    fn received(&mut self, frame: FrameHeader, now: Instant) -> bool {
        match frame.kind {
            HEADERS if frame.stream > self.newest_stream => {
                self.newest_stream = frame.stream;
                self.open_streams.insert(frame.stream);
            }
            RST_STREAM => {
                self.open_streams.remove(&frame.stream);
            }
            PING if frame.flags & ACK_FLAG == 0 => return self.pinged(now),
            _ => {}
        }
        false
    }

    fn pinged(&mut self, now: Instant) -> bool {
        let since_last = self
            .last_ping
            .replace(now)
            .map(|last| now.saturating_duration_since(last));
        if std::mem::take(&mut self.server_wrote) {
            self.strikes = 0;
            return false;
        }
        let allowed_after = if self.open_streams.is_empty() {
            IDLE_PING_INTERVAL
        } else {
            self.min_interval
        };
        if since_last.is_some_and(|since| since < allowed_after) {
            self.strikes += 1;
        }
        self.strikes > MAX_STRIKES
    }

    /// A frame from the server.
    fn sent(&mut self, frame: FrameHeader) {
        match frame.kind {
            DATA | HEADERS => {
                self.server_wrote = true;
                if frame.flags & END_STREAM_FLAG != 0 {
                    self.open_streams.remove(&frame.stream);
                }
            }
            RST_STREAM => {
                self.open_streams.remove(&frame.stream);
            }
            _ => {}
        }
    }
}

/// GOAWAY: last stream `newest`, ENHANCE_YOUR_CALM (11), and the debug text that clients look for.
fn goaway(newest_stream: u32) -> Vec<u8> {
    const DEBUG: &[u8] = b"too_many_pings";
    const ENHANCE_YOUR_CALM: u32 = 11;
    let mut frame = vec![0, 0, 8 + DEBUG.len() as u8, 0x7, 0, 0, 0, 0, 0];
    frame.extend(newest_stream.to_be_bytes());
    frame.extend(ENHANCE_YOUR_CALM.to_be_bytes());
    frame.extend(DEBUG);
    frame
}

#[derive(Debug)]
enum Protocol {
    /// The first bytes may still become the HTTP/2 preface.
    Undecided {
        matched: usize,
    },
    Http1,
    Http2,
}

/// A client connection under a [`KeepAlivePolicy`].
#[derive(Debug)]
pub struct PolicedIo<I> {
    io: I,
    policy: KeepAlivePolicy,
    protocol: Protocol,
    incoming: FrameScanner,
    outgoing: FrameScanner,
    judge: PingJudge,
}

impl<I> PolicedIo<I> {
    /// Wraps a fresh connection.
    pub fn new(io: I, policy: KeepAlivePolicy) -> Self {
        Self {
            io,
            judge: PingJudge::new(policy.min_interval),
            policy,
            protocol: Protocol::Undecided { matched: 0 },
            incoming: FrameScanner::default(),
            outgoing: FrameScanner::default(),
        }
    }

    /// Looks at bytes from the client; true when the connection is to be closed.
    fn inspect(&mut self, mut bytes: &[u8]) -> bool {
        if let Protocol::Undecided { matched } = self.protocol {
            let expected = &PREFACE[matched..];
            let common = expected.len().min(bytes.len());
            let (head, rest) = bytes.split_at(common);
            bytes = rest;
            self.protocol = if head != &expected[..common] {
                Protocol::Http1
            } else if matched + common == PREFACE.len() {
                Protocol::Http2
            } else {
                Protocol::Undecided {
                    matched: matched + common,
                }
            };
        }
        if !matches!(self.protocol, Protocol::Http2) || bytes.is_empty() {
            return false;
        }
        self.policy.received_bytes.inc_by(bytes.len() as u64);
        let mut close = false;
        let mut now = None;
        let judge = &mut self.judge;
        self.incoming.scan(bytes, |frame| {
            let now = *now.get_or_insert_with(Instant::now);
            close |= judge.received(frame, now);
        });
        close
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for PolicedIo<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let close = this.inspect(&buf.filled()[before..]);
        if close {
            if this.outgoing.at_boundary() {
                // Best effort: a client that cannot take these few bytes is disconnected all the same.
                let frame = goaway(this.judge.newest_stream);
                let _written = Pin::new(&mut this.io).poll_write(cx, &frame);
                let _flushed = Pin::new(&mut this.io).poll_flush(cx);
            }
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the client pings more often than --grpc-keepalive-min-time allows",
            )));
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> PolicedIo<I> {
    fn wrote<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]>, mut written: usize) {
        if !matches!(self.protocol, Protocol::Http2) {
            return;
        }
        self.policy.sent_bytes.inc_by(written as u64);
        for slice in slices {
            let part = &slice[..slice.len().min(written)];
            let judge = &mut self.judge;
            self.outgoing.scan(part, |frame| judge.sent(frame));
            written -= part.len();
            if written == 0 {
                return;
            }
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for PolicedIo<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, buf))?;
        this.wrote(std::iter::once(buf), written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs))?;
        this.wrote(bufs.iter().map(|b| &**b), written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32) -> FrameHeader {
        FrameHeader {
            kind,
            flags,
            stream,
        }
    }

    #[test]
    fn g_09_frames_are_found_however_the_bytes_are_cut() {
        let mut bytes = vec![0, 0, 3, DATA, 0, 0, 0, 0, 5, 1, 2, 3];
        bytes.extend([0, 0, 8, PING, ACK_FLAG, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([0, 0, 0, HEADERS, END_STREAM_FLAG, 0x80, 0, 0, 7]);
        for cut in 1..bytes.len() {
            let mut scanner = FrameScanner::default();
            let mut seen = Vec::new();
            for part in bytes.chunks(cut) {
                scanner.scan(part, |f| seen.push(f));
            }
            let expected = [
                frame(DATA, 0, 5),
                frame(PING, ACK_FLAG, 0),
                frame(HEADERS, END_STREAM_FLAG, 7),
            ];
            assert_eq!(seen, expected, "cut every {cut} bytes");
            assert!(scanner.at_boundary());
        }
    }

    #[test]
    fn g_09_pings_without_a_stream_are_not_permitted() {
        let mut judge = PingJudge::new(Duration::from_secs(5));
        let start = Instant::now();
        let ping = |judge: &mut PingJudge, s| {
            judge.received(frame(PING, 0, 0), start + Duration::from_secs(s))
        };
        assert!(!ping(&mut judge, 0));
        assert!(!ping(&mut judge, 60));
        assert!(!ping(&mut judge, 120));
        assert!(ping(&mut judge, 180));
    }

    #[test]
    fn g_09_an_open_stream_may_be_pinged_at_the_minimum_interval() {
        let mut judge = PingJudge::new(Duration::from_secs(5));
        let start = Instant::now();
        judge.received(frame(HEADERS, 0, 1), start);
        for i in 0..100 {
            assert!(!judge.received(frame(PING, 0, 0), start + Duration::from_secs(5 * i)));
        }
        for (i, close) in [(1, false), (2, false), (3, true)] {
            let at = start + Duration::from_secs(495 + i);
            assert_eq!(judge.received(frame(PING, 0, 0), at), close, "strike {i}");
        }
    }

    #[test]
    fn g_09_answers_of_the_server_forgive_strikes() {
        let mut judge = PingJudge::new(Duration::from_secs(5));
        let now = Instant::now();
        judge.received(frame(HEADERS, 0, 1), now);
        for _ in 0..50 {
            judge.sent(frame(DATA, 0, 1));
            assert!(!judge.received(frame(PING, 0, 0), now));
        }
        judge.sent(frame(HEADERS, END_STREAM_FLAG, 1));
        assert!(judge.open_streams.is_empty());
    }
}
