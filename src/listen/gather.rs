//! Many small writes of a connection become one system call.
//!
//! An HTTP/2 connection is polled as soon as the first of its streams has something to say, and hands frames to
//! its socket one by one. With ten streams answering at once that is ten system calls, each of which
//! costs more than everything else about a small response. This wrapper copies writes into a buffer, and
//! when the connection flushes, it first lets the other tasks of the thread have a turn: many of them are
//! streams of the same connection. It writes when a turn has added nothing, after a few turns, or when
//! there is enough. A single client notices nothing, since then there is no other task. `benches/gather.rs` measures
//! the processor time of the serving thread with and without this.
//!
//! It says that it cannot write vectored, because then `h2` copies frames below a kilobyte into its own buffer
//! instead of flushing after each.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the buffer holds at most: a few frames of the largest size.
const GATHERED_BYTES_MAX: usize = 64 * 1024;
/// This much is worth a system call without waiting for more.
const ENOUGH_BYTES: usize = 32 * 1024;
/// Turns of the other tasks, each of which added something, before a flush writes all the same.
const TURNS_MAX: u32 = 4;
/// After this much in a row the other tasks of the thread have a turn: a large reply takes long to hand over, and small
/// ones of other connections must not wait for all of it.
const TURN_BYTES: usize = 256 * 1024;
/// What an idle connection keeps of its buffer.
const KEPT_BYTES: usize = 4 * 1024;

/// A connection whose writes are gathered.
#[derive(Debug)]
pub struct GatheringIo<I> {
    io: I,
    gathered: Vec<u8>,
    /// How much of `gathered` the socket has taken.
    written: usize,
    /// How much waited at the last flush that gave the other tasks a turn.
    waited_before: usize,
    /// How many turns they have had.
    turns: u32,
    /// Bytes handed to the socket since the others last had a turn for the sake of that.
    in_a_row: usize,
}

impl<I> GatheringIo<I> {
    /// Wraps a connection.
    pub fn new(io: I) -> Self {
        Self {
            io,
            gathered: Vec::new(),
            written: 0,
            waited_before: 0,
            turns: 0,
            in_a_row: 0,
        }
    }

    fn waiting(&self) -> usize {
        self.gathered.len() - self.written
    }

    /// Whether a flush is to give the other tasks a turn; counts it.
    fn takes_a_turn(&mut self) -> bool {
        let waiting = self.waiting();
        if waiting <= self.waited_before || waiting >= ENOUGH_BYTES || self.turns >= TURNS_MAX {
            return false;
        }
        self.waited_before = waiting;
        self.turns += 1;
        true
    }
}

impl<I: AsyncWrite + Unpin> GatheringIo<I> {
    /// Writes everything gathered.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.gathered.get(self.written..)
            && !rest.is_empty()
        {
            if self.in_a_row >= TURN_BYTES {
                self.in_a_row = 0;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let taken = ready!(Pin::new(&mut self.io).poll_write(context, rest))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += taken;
            self.in_a_row += taken;
        }
        self.gathered.clear();
        self.gathered.shrink_to(KEPT_BYTES);
        (self.written, self.waited_before, self.turns) = (0, 0, 0);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for GatheringIo<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for GatheringIo<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.waiting() + bytes.len() > GATHERED_BYTES_MAX {
            ready!(this.poll_drain(context))?;
            if bytes.len() > GATHERED_BYTES_MAX {
                return Pin::new(&mut this.io).poll_write(context, bytes);
            }
        }
        if this.written >= GATHERED_BYTES_MAX {
            // A socket that is never quite empty must not make the buffer grow.
            this.gathered.drain(..this.written);
            this.written = 0;
        }
        this.gathered.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.takes_a_turn() {
            // To the back of the run queue, behind the tasks that are ready now.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(this.poll_drain(context))?;
        Pin::new(&mut this.io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(context))?;
        Pin::new(&mut this.io).poll_shutdown(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// A socket that takes at most so many bytes before it is full.
    #[derive(Default)]
    struct Socket {
        room: usize,
        writes: Vec<Vec<u8>>,
        shut_down: bool,
    }

    impl AsyncWrite for Socket {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            let taken = bytes.len().min(this.room);
            if taken == 0 {
                return Poll::Pending;
            }
            this.room -= taken;
            this.writes.push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.get_mut().shut_down = true;
            Poll::Ready(Ok(()))
        }
    }

    fn connection(room: usize) -> GatheringIo<Socket> {
        GatheringIo::new(Socket {
            room,
            ..Socket::default()
        })
    }

    fn write(io: &mut GatheringIo<Socket>, bytes: &[u8]) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(io).poll_write(&mut context, bytes) {
            Poll::Ready(written) => {
                assert_eq!(written.unwrap(), bytes.len());
                true
            }
            Poll::Pending => false,
        }
    }

    fn flush(io: &mut GatheringIo<Socket>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(io).poll_flush(&mut context).is_ready()
    }

    #[test]
    fn what_is_written_during_a_turn_goes_out_together() {
        let mut io = connection(usize::MAX);
        write(&mut io, b"one ");
        assert!(!flush(&mut io), "the others have their turn");
        write(&mut io, b"two ");
        write(&mut io, b"three");
        assert!(!flush(&mut io), "they used it: another");
        assert!(flush(&mut io), "they did not");
        assert_eq!(io.io.writes, [b"one two three"]);
        assert!(flush(&mut io), "nothing to write, nothing to wait for");
        write(&mut io, b"four");
        assert!(!flush(&mut io));
        assert!(flush(&mut io));
        assert_eq!(io.io.writes.len(), 2);
    }

    #[test]
    fn a_flush_waits_for_a_few_turns_only() {
        let mut io = connection(usize::MAX);
        let mut flushes = 0;
        loop {
            write(&mut io, b"more");
            flushes += 1;
            if flush(&mut io) {
                break;
            }
        }
        assert_eq!(flushes, TURNS_MAX + 1);
        assert_eq!(io.io.writes.len(), 1);
    }

    #[test]
    fn enough_is_written_at_once() {
        let mut io = connection(usize::MAX);
        write(&mut io, &[0; ENOUGH_BYTES]);
        assert!(flush(&mut io));
        assert_eq!(io.io.writes.len(), 1);
    }

    #[test]
    fn a_full_buffer_is_written_before_more_is_taken() {
        let mut io = connection(GATHERED_BYTES_MAX - 1);
        assert!(write(&mut io, &[1; GATHERED_BYTES_MAX]));
        assert!(!write(&mut io, &[2]), "the socket holds it back");
        io.io.room = usize::MAX;
        assert!(write(&mut io, &[2]));
        assert!(write(&mut io, &[3; GATHERED_BYTES_MAX + 1]));
        let written: usize = io.io.writes.iter().map(Vec::len).sum();
        assert_eq!(written, 2 * GATHERED_BYTES_MAX + 2);
        assert_eq!(io.io.writes.last().unwrap().first(), Some(&3));
    }

    #[test]
    fn a_large_reply_is_handed_over_in_turns() {
        const TURNS: usize = 5;
        let mut io = connection(usize::MAX);
        let (mut sent, mut refused) = (0, 0);
        while sent < TURNS * TURN_BYTES + GATHERED_BYTES_MAX {
            if write(&mut io, &[4; 16 * 1024]) {
                sent += 16 * 1024;
            } else {
                refused += 1;
            }
        }
        // The last turn is for the flush to give.
        assert_eq!(refused, TURNS - 1);
        while !flush(&mut io) {}
        let written: usize = io.io.writes.iter().map(Vec::len).sum();
        assert_eq!(written, sent);
    }

    #[test]
    fn a_slow_socket_loses_nothing() {
        let mut io = connection(3);
        write(&mut io, b"abcdef");
        assert!(!flush(&mut io));
        assert!(!flush(&mut io), "three bytes are left");
        write(&mut io, b"gh");
        for _ in 0..20 {
            io.io.room = 1;
            if flush(&mut io) {
                break;
            }
        }
        assert_eq!(io.io.writes.concat(), b"abcdefgh");
    }

    #[test]
    fn a_socket_that_is_never_quite_empty_does_not_make_the_buffer_grow() {
        let mut io = connection(0);
        let mut sent = 0;
        while sent < 100 * GATHERED_BYTES_MAX {
            io.io.room = 1000;
            if write(&mut io, &[7; 1001]) {
                sent += 1001;
            }
            let _blocked = flush(&mut io);
            io.io.writes.clear();
            assert!(io.gathered.len() <= 2 * GATHERED_BYTES_MAX);
        }
    }

    #[test]
    fn a_shutdown_writes_what_is_left() {
        let mut io = connection(usize::MAX);
        write(&mut io, b"bye");
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut io).poll_shutdown(&mut context).is_ready());
        assert_eq!(io.io.writes, [b"bye"]);
        assert!(io.io.shut_down);
    }
}
