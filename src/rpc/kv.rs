//! The KV service.

use super::Context;
use super::context::{answered, mismatched, refused, status};
use super::durations::Timed;
use super::large_reply;
use super::range_stream;
use super::slow::{Content, warn_if_slow};
use bytes::Bytes;
use rusd_messages::Reply;
use rusd_messages::reader::{LargeRange, Read};
use rusd_mvcc::metrics;
use rusd_proto::ApplyReply;
use rusd_proto::etcdserverpb::{self as pb, InternalRaftRequest};
use rusd_state::kv::{quota, range, txn, validate};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::{Request, Response, Status};

/// Above these a range is read by a reader thread, so that it does not hold up a gRPC thread: about as long as
/// the thread hop that they save.
const LARGE_RANGE_KEYS: i64 = 256;
const LARGE_RANGE_BYTES: i64 = 256 * 1024;

/// Handlers of `etcdserverpb.KV`.
#[derive(Debug)]
pub struct KvService {
    context: Arc<Context>,
}

impl KvService {
    /// Over the shared context.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Logs the call if it turns out to be slow.
    fn logged(&self, method: &'static str, content: Content) -> Logged {
        Logged {
            method,
            content,
            started: Instant::now(),
            slow_after: self.context.limits.warning_unary_request,
        }
    }

    /// Reads a validated range at the newest view; a large one on a reader thread.
    async fn read(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        let views = &self.context.views;
        let timed = Timed::range();
        metrics::RANGES.inc();
        let cost = range::estimate(&*views.load(), &request);
        let mut response = if cost.keys <= LARGE_RANGE_KEYS && cost.bytes <= LARGE_RANGE_BYTES {
            range::range_on_newest(views, &request).map_err(status)?
        } else {
            let (reply, pending) = Reply::channel();
            self.context
                .ports
                .read
                .tell(Read::Range(LargeRange { request, reply }))
                .map_err(refused)?;
            answered(pending).await?
        };
        timed.end(true);
        self.context.complete(&mut response.header);
        Ok(response)
    }
}

/// A call that is logged at its end, if it was slow.
struct Logged {
    method: &'static str,
    content: Content,
    started: Instant,
    slow_after: Duration,
}

impl Drop for Logged {
    fn drop(&mut self) {
        warn_if_slow(self.method, self.started, self.slow_after, &self.content);
    }
}

fn keys(key: &Bytes, range_end: &Bytes, value_bytes: Option<usize>) -> Content {
    Content::Keys {
        key: key.clone(),
        range_end: range_end.clone(),
        value_bytes,
    }
}

#[tonic::async_trait]
impl pb::kv_server::Kv for KvService {
    type RangeStreamStream = range_stream::Chunks;

    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        let request = request.into_inner();
        validate::range(&request).map_err(status)?;
        let timed = Timed::range_request();
        if !request.serializable {
            self.context.linearize().await?;
        }
        let response = self.read(request).await?;
        timed.end(true);
        large_reply::response(response)
    }

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let request = request.into_inner();
        validate::range_stream(&request).map_err(status)?;
        if !request.serializable {
            self.context.linearize().await?;
        }
        let context = self.context.clone();
        Ok(Response::new(if range::is_plain(&request) {
            range_stream::Chunks::paged(context, request)
        } else {
            range_stream::Chunks::cut(context, self.read(request).await?)
        }))
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        let request = request.into_inner();
        let value_bytes = Some(request.value.len());
        let _logged = self.logged(
            "/etcdserverpb.KV/Put",
            keys(&request.key, &Bytes::new(), value_bytes),
        );
        self.context.admit(quota::put_cost(&request)).await?;
        validate::put(&request).map_err(status)?;
        let request = InternalRaftRequest {
            put: Some(request),
            ..InternalRaftRequest::default()
        };
        match self.context.propose(request).await? {
            ApplyReply::Put(mut response) => {
                self.context.complete(&mut response.header);
                Ok(Response::new(response))
            }
            other => Err(mismatched(&other)),
        }
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        let _logged = self.logged(
            "/etcdserverpb.KV/DeleteRange",
            keys(&request.key, &request.range_end, None),
        );
        validate::delete_range(&request).map_err(status)?;
        let request = InternalRaftRequest {
            delete_range: Some(request),
            ..InternalRaftRequest::default()
        };
        match self.context.propose(request).await? {
            ApplyReply::DeleteRange(mut response) => {
                self.context.complete(&mut response.header);
                Ok(Response::new(response))
            }
            other => Err(mismatched(&other)),
        }
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        let request = request.into_inner();
        let compares = request.compare.len();
        let content = Content::Txn {
            compares,
            success: request.success.len(),
            failure: request.failure.len(),
        };
        let _logged = self.logged("/etcdserverpb.KV/Txn", content);
        self.context.admit(quota::txn_cost(&request)).await?;
        validate::txn(&request, self.context.limits.max_txn_ops).map_err(status)?;
        if txn::is_read_only(&request) {
            if !txn::is_serializable(&request) {
                self.context.linearize().await?;
            }
            let timed = Timed::read_only_txn();
            let mut response =
                txn::read_only_on_newest(&self.context.views, &request).map_err(status)?;
            timed.end(true);
            metrics::count_read_only(compares, &response);
            self.context.complete(&mut response.header);
            return Ok(Response::new(response));
        }
        let request = InternalRaftRequest {
            txn: Some(request),
            ..InternalRaftRequest::default()
        };
        match self.context.propose(request).await? {
            ApplyReply::Txn(mut response) => {
                metrics::count_compares(compares, response.succeeded);
                self.context.complete(&mut response.header);
                Ok(Response::new(response))
            }
            other => Err(mismatched(&other)),
        }
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let request = InternalRaftRequest {
            compaction: Some(request.into_inner()),
            ..InternalRaftRequest::default()
        };
        match self.context.propose(request).await? {
            ApplyReply::Compact(mut response) => {
                response.header = Some(self.context.header());
                Ok(Response::new(response))
            }
            other => Err(mismatched(&other)),
        }
    }
}
