//! The Watch service: one stream with many watches, between a client and the watch hub.
//!
//! Two parties serve a stream. A task takes the client's requests and tells them to the hub, as many at a time
//! as the stream has credits. The response side drains the stream's queue, completes headers, cuts large
//! responses into pieces for those who want that, and tells the hub when there is room again. When either
//! ends, so does the other.

use super::context::{refused, status};
use super::durations::SendLoop;
use super::metrics::{self, Method, Received};
use super::{Context, TRANSPORT_OVERHEAD_BYTES};
use rusd_messages::watch::{
    CloseStream, Credits, FromStream, OpenStream, Response as HubResponse, Seen, SinkReader,
    SinkReady, StreamId, StreamRequest, WakeStreams, WakeThrough, sink,
};
use rusd_messages::{Port, RaftStatus};
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb::watch_request::RequestUnion;
use rusd_proto::etcdserverpb::watch_server;
use rusd_proto::etcdserverpb::{ResponseHeader, WatchRequest, WatchResponse};
use rusd_storage::ReadAt;
use rusd_watch::{limits, wire};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll, Waker, ready};
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::{Code, Request, Response, Status, Streaming};

const PATH: &str = "/etcdserverpb.Watch/Watch";
/// Polls without a leader, one per election timeout, after which a stream that requires one ends (G-04).
const LEADERLESS_POLLS_MAX: u32 = 3;
/// Never the bound in force: each stream is in at most one message.
const WAKE_QUEUE: usize = 1024;
/// Responses in a row after which the response side looks whether the stream is over, though there are more.
const RESPONSES_BETWEEN_LOOKS: u32 = 64;

/// Handler of `etcdserverpb.Watch`.
#[derive(Clone, Debug)]
pub struct WatchService {
    context: Arc<Context>,
    ports: Ports,
    election_timeout: Duration,
    next_stream: Arc<AtomicU64>,
    /// Set once the hub wakes its streams through this runtime.
    wakes: Arc<OnceLock<()>>,
}

/// The hub's ports that streams use.
#[derive(Clone, Debug)]
struct Ports {
    open: Port<OpenStream>,
    request: Port<FromStream>,
    sink_ready: Port<SinkReady>,
    close: Port<CloseStream>,
    wake_through: Port<WakeThrough>,
}

impl WatchService {
    /// Over the shared context and the hub's ports. `election_timeout` is how often a stream that requires a
    /// leader looks for one.
    pub fn new(
        context: &Arc<Context>,
        hub: &rusd_watch::Ports,
        election_timeout: Duration,
    ) -> Self {
        Self {
            context: context.clone(),
            ports: Ports {
                open: hub.open.clone(),
                request: hub.request.clone(),
                sink_ready: hub.sink_ready.clone(),
                close: hub.close.clone(),
                wake_through: hub.wake_through.clone(),
            },
            election_timeout,
            wakes: Arc::default(),
            next_stream: Arc::default(),
        }
    }
}

impl WatchService {
    /// Lets the hub wake many streams with one message: woken here, they are next to each other in the run
    /// queue, and what they have to say on one connection is written together.
    fn wake_streams_from_here(&self) {
        let (port, queue) = Port::<WakeStreams>::to_thread("watch_wake", WAKE_QUEUE);
        tokio::spawn(async move {
            while let Ok(wake) = queue.recv_async().await {
                wake.open().wakers.into_iter().for_each(Waker::wake);
            }
        });
        if let Err(refused) = self.ports.wake_through.tell(WakeThrough { port }) {
            tracing::debug!(?refused, "the watch hub wakes streams one by one");
        }
    }
}

#[tonic::async_trait]
impl watch_server::Watch for WatchService {
    type WatchStream = Responses;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let requires_leader = request
            .metadata()
            .get("hasleader")
            .is_some_and(|value| value == "true");
        if requires_leader && self.context.raft.leader().is_none() {
            return Err(status(EtcdError::NoLeader));
        }
        self.wakes.get_or_init(|| self.wake_streams_from_here());
        let stream = StreamId(self.next_stream.fetch_add(1, Ordering::Relaxed));
        let (sink, reader, credits) = sink(limits::SINK);
        self.ports
            .open
            .tell(OpenStream { stream, sink })
            .map_err(refused)?;
        let requests = Requests {
            stream,
            received: Received::on(PATH),
            requests: request.into_inner(),
            credits,
            context: self.context.clone(),
            hub: self.ports.request.clone(),
        };
        let leader = requires_leader.then(|| (self.context.raft.clone(), self.election_timeout));
        Ok(Response::new(Responses {
            stream,
            reader,
            pieces: None,
            over: tokio::spawn(until_over(requests, leader)),
            ended: false,
            responses_until_look: RESPONSES_BETWEEN_LOOKS,
            method: metrics::method(PATH),
            send_loop: SendLoop::new(),
            context: self.context.clone(),
            sink_ready: self.ports.sink_ready.clone(),
            close: self.ports.close.clone(),
        }))
    }
}

/// Resolves to the reason when the stream is to end before its client goes away.
async fn until_over(requests: Requests, leader: Option<(Arc<RaftStatus>, Duration)>) -> Status {
    match leader {
        None => requests.take_all().await,
        Some((raft, election_timeout)) => tokio::select! {
            status = requests.take_all() => status,
            () = leader_lost(&raft, election_timeout) => status(EtcdError::NoLeader),
        },
    }
}

async fn leader_lost(raft: &RaftStatus, election_timeout: Duration) {
    let mut patience = Patience::default();
    loop {
        tokio::time::sleep(election_timeout).await;
        if !patience.goes_on(raft.leader().is_some()) {
            return;
        }
    }
}

/// How long a stream that requires a leader has been without.
#[derive(Debug, Default)]
struct Patience {
    leaderless_polls: u32,
}

impl Patience {
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
struct Requests {
    stream: StreamId,
    received: Received,
    requests: Streaming<WatchRequest>,
    credits: Credits,
    context: Arc<Context>,
    hub: Port<FromStream>,
}

impl Requests {
    /// Tells the hub every request. A client that has no more of them keeps its watches: this returns only
    /// when something is wrong.
    async fn take_all(mut self) -> Status {
        loop {
            let union = match self.requests.message().await {
                Ok(Some(request)) => request.request_union,
                Ok(None) => std::future::pending().await,
                Err(error) if error.code() == Code::Cancelled => {
                    return status(EtcdError::WatchCanceled);
                }
                Err(error) => return error,
            };
            self.received.message();
            // What is neither of the three is ignored (W-01).
            let Some(union) = union else {
                continue;
            };
            if !self.credits.take().await {
                return status(EtcdError::Stopped);
            }
            let request = self.typed(union);
            let stream = self.stream;
            if let Err(error) = self.hub.deliver(FromStream { stream, request }) {
                return refused(error);
            }
        }
    }

    fn typed(&self, union: RequestUnion) -> StreamRequest {
        match union {
            RequestUnion::CreateRequest(request) => {
                let view = self.context.views.peek();
                let seen = Seen {
                    revision: view.revision(),
                    compacted_revision: view.compacted_revision(),
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
    pieces: Option<wire::Pieces>,
    over: JoinHandle<Status>,
    ended: bool,
    responses_until_look: u32,
    method: Option<&'static Method>,
    send_loop: SendLoop,
    context: Arc<Context>,
    sink_ready: Port<SinkReady>,
    close: Port<CloseStream>,
}

impl Responses {
    fn poll_response(
        &mut self,
        context: &mut TaskContext<'_>,
    ) -> Poll<Result<WatchResponse, Status>> {
        if let Some(piece) = self.pieces.as_mut().and_then(Iterator::next) {
            return Poll::Ready(Ok(piece));
        }
        self.pieces = None;
        if self.responses_until_look == 0
            && let Poll::Ready(status) = self.poll_over(context)
        {
            return Poll::Ready(Err(status));
        }
        match self.reader.poll_next(context) {
            Poll::Ready(Some((response, wake_hub))) => {
                self.responses_until_look = self.responses_until_look.saturating_sub(1);
                Poll::Ready(Ok(self.complete(response, wake_hub)))
            }
            Poll::Ready(None) => Poll::Ready(Err(status(EtcdError::Stopped))),
            Poll::Pending => Poll::Ready(Err(ready!(self.poll_over(context)))),
        }
    }

    /// Whether the other side has found a reason to end.
    fn poll_over(&mut self, context: &mut TaskContext<'_>) -> Poll<Status> {
        self.responses_until_look = RESPONSES_BETWEEN_LOOKS;
        let over = ready!(Pin::new(&mut self.over).poll(context));
        Poll::Ready(over.unwrap_or_else(|_| status(EtcdError::Stopped)))
    }

    fn complete(&mut self, response: HubResponse, wake_hub: bool) -> WatchResponse {
        if wake_hub {
            let stream = self.stream;
            // A hub that has stopped has let go of the sink as well, which is noticed next.
            let _stopped = self.sink_ready.deliver(SinkReady { stream });
        }
        let header = ResponseHeader {
            cluster_id: self.context.cluster.0,
            member_id: self.context.member.0,
            revision: response.revision,
            raft_term: self.context.raft.term().0,
        };
        let (response, may_be_split) = wire::to_wire(response, header);
        if !may_be_split {
            return response;
        }
        let limit_bytes = self.context.limits.max_request_bytes + TRANSPORT_OVERHEAD_BYTES;
        let mut pieces = wire::split(response, limit_bytes);
        let first = pieces.next();
        self.pieces = Some(pieces);
        first.unwrap_or_default()
    }
}

impl futures_core::Stream for Responses {
    type Item = Result<WatchResponse, Status>;

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
            if let Some(method) = this.method {
                method.message_sent();
            }
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
        let _stopped = self.close.deliver(CloseStream { stream });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g_04_three_polls_in_a_row_without_a_leader_are_too_many() {
        let mut patience = Patience::default();
        let polls = [true, false, false, true, false, false, false];
        let goes_on: Vec<bool> = polls
            .into_iter()
            .map(|has_leader| patience.goes_on(has_leader))
            .collect();
        assert_eq!(goes_on, [true, true, true, true, true, true, false]);
    }
}
