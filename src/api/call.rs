//! What every call goes through, whatever transport it came by: the leader requirement (G-04), the client's API version
//! (G-05), its deadline (G-13), the counters of calls, and the log of slow ones (G-12).

use super::caller::{ApiVersion, Caller};
use super::metrics::{self, RpcCounters};
use super::rpcs::Rpc;
use super::slow::{self, Content};
use super::{Api, Context};
use futures_core::Stream;
use rusd_proto::{Code, EtcdError};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

impl Api {
    /// Answers a call with one request and one response. `content` describes it in the log of slow calls; without any
    /// it is not logged.
    pub(super) async fn unary<T>(
        &self,
        rpc: Rpc,
        caller: &Caller,
        content: Option<Content>,
        answer: impl Future<Output = Result<T, EtcdError>>,
    ) -> Result<T, EtcdError> {
        let counters = RpcCounters::of(rpc);
        counters.start(&caller.api_version);
        let call = Call {
            rpc,
            content,
            started: Instant::now(),
            slow_after: self.context().limits.warning_unary_request,
        };
        let answer = match (self.context().meets_needs(caller), caller.deadline) {
            (Err(error), _) => Err(error),
            (Ok(()), None) => answer.await,
            (Ok(()), Some(deadline)) => tokio::time::timeout_at(deadline.into(), answer)
                .await
                .unwrap_or(Err(EtcdError::DeadlineExceeded)),
        };
        if answer.is_ok() {
            counters.message_sent();
        }
        counters.handled(metrics::code(&answer), call.started);
        answer
    }

    /// Begins a call whose responses are a stream.
    pub(super) async fn streaming<S>(
        &self,
        rpc: Rpc,
        caller: &Caller,
        open: impl Future<Output = Result<S, EtcdError>>,
    ) -> Result<Answers<S>, EtcdError> {
        let counters = RpcCounters::of(rpc);
        counters.start(&caller.api_version);
        let started = Instant::now();
        let opened = match self.context().meets_needs(caller) {
            Ok(()) => open.await,
            Err(error) => Err(error),
        };
        match opened {
            Ok(stream) => Ok(Answers {
                stream,
                counters,
                started,
                handled: false,
            }),
            Err(error) => {
                counters.handled(error.code(), started);
                Err(error)
            }
        }
    }
}

impl Context {
    /// Whether this member is one that the caller wants an answer from.
    fn meets_needs(&self, caller: &Caller) -> Result<(), EtcdError> {
        if caller.api_version == ApiVersion::NotText {
            return Err(EtcdError::InvalidClientApiVersion);
        }
        if caller.requires_leader && self.raft.leader().is_none() {
            return Err(EtcdError::NoLeader);
        }
        Ok(())
    }
}

/// A unary call under way. Logged when it ends, if it was slow; also when the client gave up.
struct Call {
    rpc: Rpc,
    content: Option<Content>,
    started: Instant,
    slow_after: Duration,
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(content) = &self.content {
            slow::warn_if_slow(self.rpc.path(), self.started, self.slow_after, content);
        }
    }
}

/// The responses of a call, counted as they are sent. The call counts as handled when the stream ends, with the code
/// that it ends with; one that is dropped before was cancelled by its client.
#[derive(Debug)]
pub struct Answers<S> {
    stream: S,
    counters: &'static RpcCounters,
    started: Instant,
    handled: bool,
}

impl<S> Answers<S> {
    fn ended(&mut self, code: Code) {
        if !std::mem::replace(&mut self.handled, true) {
            self.counters.handled(code, self.started);
        }
    }
}

impl<S, T> Stream for Answers<S>
where
    S: Stream<Item = Result<T, EtcdError>> + Unpin,
{
    type Item = Result<T, EtcdError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = ready!(Pin::new(&mut this.stream).poll_next(context));
        match &next {
            Some(Ok(_)) => this.counters.message_sent(),
            Some(Err(error)) => this.ended(error.code()),
            None => this.ended(Code::Ok),
        }
        Poll::Ready(next)
    }
}

impl<S> Drop for Answers<S> {
    fn drop(&mut self) {
        self.ended(Code::Canceled);
    }
}
