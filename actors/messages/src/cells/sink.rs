//! The queue between the hub and a gRPC stream.
//!
//! Writer: the watch hub. It stages what it has for a stream, so that however many watches of the stream are
//! served at once, the queue is locked and its reader woken once. Reader: the stream. Events are
//! refused beyond a bound in responses and in bytes; the hub then keeps the watch for later, and the reader
//! tells when there is room again. Answers to requests are always taken: a stream's requests are bounded by
//! [`Credits`], and a credit comes back only when the answer has left the queue (or there is none).
//!
//! ```text
//!  requests --[credit]--> hub --> staged --flush--> queue --> reader --> client
//!      ^                                                         |
//!      +-------------------- credit of an answer ----------------+
//! ```

use crate::watch::{Content, Response};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::Semaphore;

/// The bounds of a stream's queue.
#[derive(Clone, Copy, Debug)]
pub struct SinkLimits {
    /// Responses in the queue.
    pub responses: usize,
    /// Bytes of events in the queue. The response that crosses it is still taken, so that one larger than
    /// the bound can pass.
    pub bytes: usize,
    /// Requests that are not answered yet, or whose answer the client has not taken.
    pub requests: usize,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Responses in the queue or in the reader's hands.
    responses: AtomicUsize,
    /// Bytes of their events.
    bytes: AtomicUsize,
    /// The number of their events.
    events: AtomicUsize,
    /// The hub found no room and waits to be told.
    starved: AtomicBool,
    reader_gone: AtomicBool,
    credits: Arc<Semaphore>,
    limits: SinkLimits,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Response>,
    waker: Option<Waker>,
    hub_gone: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while holding it; a poisoned queue is still a queue.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the hub, which writes.
#[derive(Debug)]
pub struct Sink {
    shared: Arc<Shared>,
    staged: Vec<Response>,
    staged_bytes: usize,
    staged_events: usize,
    room_responses: usize,
    room_bytes: usize,
}

/// The end of the gRPC stream, which reads.
#[derive(Debug)]
pub struct SinkReader {
    shared: Arc<Shared>,
    taken: VecDeque<Response>,
}

/// How many more requests of a stream may be told to the hub.
#[derive(Clone, Debug)]
pub struct Credits(Arc<Semaphore>);

/// A queue with its two ends, and the credits for requests on the stream.
pub fn sink(limits: SinkLimits) -> (Sink, SinkReader, Credits) {
    let credits = Arc::new(Semaphore::new(limits.requests));
    let shared = Arc::new(Shared {
        queue: Mutex::default(),
        responses: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        events: AtomicUsize::new(0),
        starved: AtomicBool::new(false),
        reader_gone: AtomicBool::new(false),
        credits: credits.clone(),
        limits,
    });
    let sink = Sink {
        shared: shared.clone(),
        staged: Vec::new(),
        staged_bytes: 0,
        staged_events: 0,
        room_responses: 0,
        room_bytes: 0,
    };
    let reader = SinkReader {
        shared,
        taken: VecDeque::new(),
    };
    (sink, reader, Credits(credits))
}

impl Credits {
    /// Waits for a credit and takes it. False when the stream is over.
    pub async fn take(&self) -> bool {
        match self.0.acquire().await {
            Ok(permit) => {
                permit.forget();
                true
            }
            Err(_) => false,
        }
    }

    /// Credits that are left.
    pub fn left(&self) -> usize {
        self.0.available_permits()
    }
}

fn size(response: &Response) -> (usize, usize) {
    match &response.content {
        Content::Events { events, .. } => (events.len(), events.bytes()),
        _ => (0, 0),
    }
}

impl Sink {
    /// Stages a response, or gives it back if there is no room: then the reader says when there is.
    pub fn offer(&mut self, response: Response) -> Result<(), Response> {
        if !self.has_room() {
            return Err(response);
        }
        self.put(response);
        Ok(())
    }

    /// Stages a response whether or not there is room: for answers, which credits bound.
    pub fn push_unbounded(&mut self, response: Response) {
        self.put(response);
    }

    /// A request needs no answer: its credit goes back.
    pub fn answer_nothing(&mut self) {
        self.shared.credits.add_permits(1);
    }

    /// Whether [`offer`](Self::offer) would take a response. If not, the reader says when it would.
    pub fn has_room(&mut self) -> bool {
        if self.room_responses > 0 && self.room_bytes > 0 {
            return true;
        }
        // Twice: the reader may take everything between the first look and the mark.
        self.look_for_room() || {
            self.shared.starved.store(true, Ordering::SeqCst);
            self.look_for_room()
        }
    }

    fn look_for_room(&mut self) -> bool {
        let limits = self.shared.limits;
        let responses = self.shared.responses.load(Ordering::SeqCst) + self.staged.len();
        let bytes = self.shared.bytes.load(Ordering::SeqCst) + self.staged_bytes;
        self.room_responses = limits.responses.saturating_sub(responses);
        self.room_bytes = limits.bytes.saturating_sub(bytes);
        self.room_responses > 0 && self.room_bytes > 0
    }

    fn put(&mut self, response: Response) {
        let (events, bytes) = size(&response);
        self.room_responses = self.room_responses.saturating_sub(1);
        self.room_bytes = self.room_bytes.saturating_sub(bytes);
        self.staged_bytes += bytes;
        self.staged_events += events;
        self.staged.push(response);
    }

    /// Whether something is staged.
    pub fn is_dirty(&self) -> bool {
        !self.staged.is_empty()
    }

    /// Hands what is staged to the reader, and returns the waker to call: streams that are woken together have their
    /// frames written together.
    #[must_use = "the reader sleeps until it is woken"]
    pub fn flush(&mut self) -> Option<Waker> {
        if self.staged.is_empty() {
            return None;
        }
        if self.shared.reader_gone.load(Ordering::Acquire) {
            self.staged.clear();
            (self.staged_bytes, self.staged_events) = (0, 0);
            return None;
        }
        let shared = &self.shared;
        // Counted before the reader can see them, so that it never takes away more than is there.
        shared
            .responses
            .fetch_add(self.staged.len(), Ordering::SeqCst);
        shared
            .bytes
            .fetch_add(std::mem::take(&mut self.staged_bytes), Ordering::SeqCst);
        shared
            .events
            .fetch_add(std::mem::take(&mut self.staged_events), Ordering::Relaxed);
        let waker = {
            let mut queue = shared.lock();
            queue.waiting.extend(self.staged.drain(..));
            queue.waker.take()
        };
        // A burst must not leave its vector behind on ten thousand idle streams.
        self.staged.shrink_to(KEPT);
        waker
    }

    /// Events that the reader has not passed on yet.
    pub fn waiting_events(&self) -> usize {
        self.shared.events.load(Ordering::Relaxed)
    }
}

/// Room for responses that either side keeps while it has none.
const KEPT: usize = 16;

impl Drop for Sink {
    fn drop(&mut self) {
        let waker = {
            let mut queue = self.shared.lock();
            queue.hub_gone = true;
            queue.waker.take()
        };
        self.shared.credits.close();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl SinkReader {
    /// The next response; None when the hub has closed the stream. The flag says that the hub waits
    /// for a [`SinkReady`](crate::watch::SinkReady), the queue being at most half full again.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(Response, bool)>> {
        if let Some(next) = self.try_next() {
            return Poll::Ready(Some(next));
        }
        let mut queue = self.shared.lock();
        if !queue.waiting.is_empty() {
            drop(queue);
            return Poll::Ready(self.try_next());
        }
        if queue.hub_gone {
            return Poll::Ready(None);
        }
        match &queue.waker {
            Some(waker) if waker.will_wake(context.waker()) => {}
            _ => queue.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// As [`poll_next`](Self::poll_next), for tests and tasks that do nothing else.
    pub async fn next(&mut self) -> Option<(Response, bool)> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The next response, if one is there.
    pub fn try_next(&mut self) -> Option<(Response, bool)> {
        if self.taken.is_empty() {
            std::mem::swap(&mut self.taken, &mut self.shared.lock().waiting);
        }
        let response = self.taken.pop_front()?;
        if self.taken.is_empty() && self.taken.capacity() > KEPT {
            self.taken = VecDeque::new();
        }
        let wake_hub = self.gone(&response);
        Some((response, wake_hub))
    }

    /// Takes a response off the counts; whether the hub waits for that.
    fn gone(&self, response: &Response) -> bool {
        let shared = &self.shared;
        let (events, bytes) = size(response);
        let responses = shared.responses.fetch_sub(1, Ordering::SeqCst) - 1;
        let bytes = shared.bytes.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        if events > 0 {
            shared.events.fetch_sub(events, Ordering::Relaxed);
        }
        if response.content.is_answer() {
            shared.credits.add_permits(1);
        }
        let half_empty =
            responses * 2 <= shared.limits.responses && bytes * 2 <= shared.limits.bytes;
        half_empty
            && shared.starved.load(Ordering::SeqCst)
            && shared.starved.swap(false, Ordering::SeqCst)
    }
}

impl Drop for SinkReader {
    fn drop(&mut self) {
        self.shared.reader_gone.store(true, Ordering::Release);
        self.shared.credits.close();
        // What waits is freed now, not when the hub hears of the end.
        let waiting = std::mem::take(&mut self.shared.lock().waiting);
        drop(waiting);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::watch::Events;
    use bytes::Bytes;

    const LIMITS: SinkLimits = SinkLimits {
        responses: 4,
        bytes: 100,
        requests: 2,
    };

    fn events(bytes: usize) -> Response {
        let all: Arc<[Bytes]> = vec![Bytes::from(vec![0; bytes])].into();
        Response {
            watch_id: 0,
            revision: 2,
            content: Content::Events {
                events: Events::from(all, 0, bytes),
                fragment: false,
            },
        }
    }

    fn created() -> Response {
        Response {
            watch_id: 0,
            revision: 1,
            content: Content::Created,
        }
    }

    #[test]
    fn w_18_a_full_queue_refuses_until_it_is_half_empty() {
        let (mut sink, mut reader, _) = sink(LIMITS);
        for _ in 0..4 {
            assert!(sink.offer(events(1)).is_ok());
        }
        assert!(sink.offer(events(1)).is_err());
        let _nobody = sink.flush();
        assert!(sink.offer(events(1)).is_err());
        assert_eq!(sink.waiting_events(), 4);
        let woken: Vec<bool> = std::iter::from_fn(|| reader.try_next())
            .map(|(_, wake)| wake)
            .collect();
        assert_eq!(woken, [false, true, false, false]);
        assert!(sink.offer(events(1)).is_ok());
    }

    #[test]
    fn w_18_a_full_queue_is_counted_in_bytes_too() {
        let (mut sink, mut reader, _) = sink(LIMITS);
        assert!(
            sink.offer(events(1000)).is_ok(),
            "larger than the bound, but the only one"
        );
        assert!(sink.offer(events(1)).is_err());
        let _nobody = sink.flush();
        assert_eq!(reader.try_next().map(|(_, wake)| wake), Some(true));
        assert!(sink.offer(events(60)).is_ok());
        assert!(sink.offer(events(60)).is_ok());
        assert!(sink.offer(events(60)).is_err());
    }

    #[test]
    fn a_reader_that_drains_before_the_mark_leaves_room() {
        let (mut sink, mut reader, _) = sink(LIMITS);
        for _ in 0..4 {
            sink.offer(events(1)).unwrap();
        }
        let _nobody = sink.flush();
        while reader.try_next().is_some() {}
        assert!(sink.offer(events(1)).is_ok());
    }

    #[test]
    fn answers_are_taken_beyond_the_bound_and_give_their_credit_back_when_they_leave() {
        let (mut sink, mut reader, credits) = sink(LIMITS);
        for _ in 0..4 {
            sink.offer(events(1)).unwrap();
        }
        credits.0.try_acquire().unwrap().forget();
        credits.0.try_acquire().unwrap().forget();
        assert_eq!(credits.left(), 0);
        sink.push_unbounded(created());
        sink.answer_nothing();
        let _nobody = sink.flush();
        assert_eq!(credits.left(), 1);
        while reader.try_next().is_some() {}
        assert_eq!(credits.left(), 2);
    }

    #[test]
    fn either_side_notices_that_the_other_is_gone() {
        let mut context = Context::from_waker(Waker::noop());
        let (hub_side, mut reader, _) = sink(LIMITS);
        assert!(reader.poll_next(&mut context).is_pending());
        drop(hub_side);
        assert!(matches!(reader.poll_next(&mut context), Poll::Ready(None)));

        let (mut hub_side, reader, credits) = sink(LIMITS);
        hub_side.offer(events(1)).unwrap();
        drop(reader);
        let _nobody = hub_side.flush();
        assert!(!hub_side.is_dirty());
        assert!(credits.0.is_closed());
    }
}
