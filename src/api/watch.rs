//! The Watch service: one stream with many watches, between a client and the watch hub.
//!
//! Two parties serve a stream. A task takes the client's requests and tells them to the hub, as many at a time
//! as the stream has credits. The response side drains the stream's queue, completes headers, cuts large
//! responses into pieces for those who want that, and tells the hub when there is room again. When either
//! ends, so does the other.

use super::context::{TRANSPORT_OVERHEAD_BYTES, refused};
use super::durations::SendLoop;
use super::metrics::Received;
use super::{Answers, Api, Caller, Context, Rpc, watch_pieces};
use futures_core::Stream;
use rusd_messages::watch::{
    CloseStream, Credits, FromStream, OpenStream, Response as HubResponse, Seen, SinkReader,
    SinkReady, StreamId, StreamRequest, WakeStreams, WakeThrough, sink,
};
use rusd_messages::{Port, RaftStatus};
use rusd_proto::etcdserverpb::watch_request::RequestUnion;
use rusd_proto::etcdserverpb::{WatchRequest, WatchResponse};
use rusd_proto::{Code, EtcdError};
use rusd_storage::ReadAt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll, Waker, ready};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;

/// Polls without a leader, one per election timeout, after which a stream that requires one ends (G-04).
const LEADERLESS_POLLS_MAX: u32 = 3;
/// Never the bound in force: each stream is in at most one message.
const WAKE_QUEUE: usize = 1024;
/// Responses in a row after which the response side looks whether the stream is over, though there are more.
const RESPONSES_BETWEEN_LOOKS: u32 = 64;

/// What the watch streams of a member share.
#[derive(Debug, Default)]
pub(super) struct Streams {
    next: AtomicU64,
    /// Set once the hub wakes its streams through this runtime.
    wakes: OnceLock<()>,
}

impl Api {
    /// Opens a stream of watches. A client that has no more requests keeps its watches until it ends the call.
    pub async fn watch<R>(
        &self,
        caller: &Caller,
        requests: R,
    ) -> Result<Answers<Responses>, EtcdError>
    where
        R: Stream<Item = Result<WatchRequest, EtcdError>> + Send + Unpin + 'static,
    {
        self.streaming(Rpc::Watch, caller, async {
            self.open_stream(caller.requires_leader, requests)
        })
        .await
    }

    fn open_stream<R>(&self, requires_leader: bool, requests: R) -> Result<Responses, EtcdError>
    where
        R: Stream<Item = Result<WatchRequest, EtcdError>> + Send + Unpin + 'static,
    {
        let context = &self.context;
        let hub = &context.ports.watch;
        self.streams
            .wakes
            .get_or_init(|| wake_streams_from_here(&hub.wake_through));
        let stream = StreamId(self.streams.next.fetch_add(1, Ordering::Relaxed));
        let (sink, reader, credits) = sink(hub.sink_limits);
        hub.open
            .tell(OpenStream { stream, sink })
            .map_err(refused)?;
        let requests = Requests {
            stream,
            received: Received::on(Rpc::Watch),
            requests,
            credits,
            context: context.clone(),
        };
        let leader =
            requires_leader.then(|| (context.raft.clone(), context.limits.election_timeout));
        Ok(Responses {
            stream,
            reader,
            pieces: None,
            over: tokio::spawn(until_over(requests, leader)),
            ended: false,
            responses_until_look: RESPONSES_BETWEEN_LOOKS,
            send_loop: SendLoop::new(),
            context: context.clone(),
        })
    }
}

/// Lets the hub wake many streams with one message: woken here, they are next to each other in the run
/// queue, and what they have to say on one connection is written together.
fn wake_streams_from_here(wake_through: &Port<WakeThrough>) {
    let (port, queue) = Port::<WakeStreams>::to_thread("watch_wake", WAKE_QUEUE);
    tokio::spawn(async move {
        while let Ok(wake) = queue.recv_async().await {
            wake.open().wakers.into_iter().for_each(Waker::wake);
        }
    });
    if let Err(refused) = wake_through.tell(WakeThrough { port }) {
        tracing::debug!(?refused, "the watch hub wakes streams one by one");
    }
}

/// Resolves to the reason when the stream is to end before its client goes away.
async fn until_over<R>(
    requests: Requests<R>,
    leader: Option<(Arc<RaftStatus>, Duration)>,
) -> EtcdError
where
    R: Stream<Item = Result<WatchRequest, EtcdError>> + Unpin,
{
    match leader {
        None => requests.take_all().await,
        Some((raft, election_timeout)) => tokio::select! {
            error = requests.take_all() => error,
            () = leader_lost(&raft, election_timeout) => EtcdError::NoLeader,
        },
    }
}

async fn leader_lost(raft: &RaftStatus, election_timeout: Duration) {
    let mut grace = LeaderGrace::default();
    loop {
        tokio::time::sleep(election_timeout).await;
        if !grace.goes_on(raft.leader().is_some()) {
            return;
        }
    }
}

/// How long a stream that requires a leader has been without.
#[derive(Debug, Default)]
struct LeaderGrace {
    leaderless_polls: u32,
}

impl LeaderGrace {
    /// Counts a poll; false when there were too many without a leader in a row.
    fn goes_on(&mut self, has_leader: bool) -> bool {
        self.leaderless_polls = if has_leader {
            0
        } else {
            self.leaderless_polls + 1
        };
        self.leaderless_polls < LEADERLESS_POLLS_MAX
    }
}

/// The client's side of a stream.
struct Requests<R> {
    stream: StreamId,
    received: Received,
    requests: R,
    credits: Credits,
    context: Arc<Context>,
}

impl<R> Requests<R>
where
    R: Stream<Item = Result<WatchRequest, EtcdError>> + Unpin,
{
    /// Tells the hub every request. A client that has no more of them keeps its watches: this returns only
    /// when something is wrong.
    async fn take_all(mut self) -> EtcdError {
        let hub = self.context.ports.watch.request.clone();
        loop {
            let union = match self.requests.next().await {
                Some(Ok(request)) => request.request_union,
                None => std::future::pending().await,
                Some(Err(error)) if error.code() == Code::Canceled => {
                    return EtcdError::WatchCanceled;
                }
                Some(Err(error)) => return error,
            };
            self.received.message();
            // Requests of no known kind are ignored (W-01).
            let Some(union) = union else {
                continue;
            };
            if !self.credits.take().await {
                return EtcdError::Stopped;
            }
            let request = self.typed(union);
            let stream = self.stream;
            if let Err(error) = hub.deliver(FromStream { stream, request }) {
                return refused(error);
            }
        }
    }

    fn typed(&self, union: RequestUnion) -> StreamRequest {
        match union {
            RequestUnion::CreateRequest(request) => {
                let view = self.context.views.peek();
                let seen = Seen {
                    revision: view.revision().0,
                    compacted_revision: view.compacted_revision().0,
                };
                StreamRequest::Create { request, seen }
            }
            RequestUnion::CancelRequest(request) => StreamRequest::Cancel {
                watch_id: request.watch_id,
            },
            RequestUnion::ProgressRequest(_) => StreamRequest::Progress,
        }
    }
}

/// The server's side of a stream.
#[derive(Debug)]
pub struct Responses {
    stream: StreamId,
    reader: SinkReader,
    /// What is left of a response that goes out in pieces.
    pieces: Option<watch_pieces::Pieces>,
    over: JoinHandle<EtcdError>,
    ended: bool,
    responses_until_look: u32,
    send_loop: SendLoop,
    context: Arc<Context>,
}

impl Responses {
    fn poll_response(
        &mut self,
        context: &mut TaskContext<'_>,
    ) -> Poll<Result<WatchResponse, EtcdError>> {
        if let Some(piece) = self.pieces.as_mut().and_then(Iterator::next) {
            return Poll::Ready(Ok(piece));
        }
        self.pieces = None;
        if self.responses_until_look == 0
            && let Poll::Ready(error) = self.poll_over(context)
        {
            return Poll::Ready(Err(error));
        }
        match self.reader.poll_next(context) {
            Poll::Ready(Some((response, wake_hub))) => {
                self.responses_until_look = self.responses_until_look.saturating_sub(1);
                Poll::Ready(Ok(self.complete(response, wake_hub)))
            }
            Poll::Ready(None) => Poll::Ready(Err(EtcdError::Stopped)),
            Poll::Pending => Poll::Ready(Err(ready!(self.poll_over(context)))),
        }
    }

    /// Whether the other side has found a reason to end.
    fn poll_over(&mut self, context: &mut TaskContext<'_>) -> Poll<EtcdError> {
        self.responses_until_look = RESPONSES_BETWEEN_LOOKS;
        let over = ready!(Pin::new(&mut self.over).poll(context));
        Poll::Ready(over.unwrap_or(EtcdError::Stopped))
    }

    fn complete(&mut self, response: HubResponse, wake_hub: bool) -> WatchResponse {
        if wake_hub {
            let stream = self.stream;
            // A hub that has stopped has let go of the sink as well, which is noticed next.
            let _stopped = self
                .context
                .ports
                .watch
                .sink_ready
                .deliver(SinkReady { stream });
        }
        let header = self.context.header_at(response.revision);
        let (response, may_be_split) = response.into_message(header);
        if !may_be_split {
            return response;
        }
        let limit_bytes = self.context.limits.max_request_bytes + TRANSPORT_OVERHEAD_BYTES;
        let mut pieces = watch_pieces::split(response, limit_bytes);
        let first = pieces.next();
        self.pieces = Some(pieces);
        first.unwrap_or_default()
    }
}

impl Stream for Responses {
    type Item = Result<WatchResponse, EtcdError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let asked = this.send_loop.asked();
        let Poll::Ready(response) = this.poll_response(context) else {
            this.send_loop.idle();
            return Poll::Pending;
        };
        this.ended = response.is_err();
        if let Ok(response) = &response {
            this.send_loop.send(response, asked);
        }
        Poll::Ready(Some(response))
    }
}

/// The call is over, whoever ended it: the hub forgets the stream, and its requests are no longer read.
impl Drop for Responses {
    fn drop(&mut self) {
        self.over.abort();
        let stream = self.stream;
        // A hub that has stopped has forgotten it already.
        let _stopped = self
            .context
            .ports
            .watch
            .close
            .deliver(CloseStream { stream });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g_04_three_polls_in_a_row_without_a_leader_are_too_many() {
        let mut grace = LeaderGrace::default();
        let polls = [true, false, false, true, false, false, false];
        let goes_on: Vec<bool> = polls
            .into_iter()
            .map(|has_leader| grace.goes_on(has_leader))
            .collect();
        assert_eq!(goes_on, [true, true, true, true, true, true, false]);
    }
}
