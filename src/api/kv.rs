//! The KV service.

use super::context::{ask, reply_or_fatal};
use super::durations::Timed;
use super::range_stream::Chunks;
use super::slow::Content;
use super::{Answers, Api, Caller, Context, Rpc};
use bytes::Bytes;
use rusd_messages::operations;
use rusd_messages::reader::{LargeRange, Read};
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use rusd_state::kv::{quota, range, txn, validate};

/// Above these a range is read by a reader thread, so that it does not hold up a thread of requests: about as long as
/// the thread hop that they save.
const LARGE_RANGE_KEYS: i64 = 256;
const LARGE_RANGE_BYTES: i64 = 256 * 1024;

impl Api {
    /// Reads keys.
    pub async fn range(
        &self,
        caller: &Caller,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, EtcdError> {
        let context = self.context();
        self.unary(Rpc::Range, caller, None, async {
            validate::range(&request)?;
            let timed = Timed::range_request();
            if !request.serializable {
                context.linearize().await?;
            }
            let response = context.read(request).await?;
            timed.end(true);
            Ok(response)
        })
        .await
    }

    /// Reads keys in chunks.
    pub async fn range_stream(
        &self,
        caller: &Caller,
        request: pb::RangeRequest,
    ) -> Result<Answers<Chunks>, EtcdError> {
        let context = self.context.clone();
        self.streaming(Rpc::RangeStream, caller, async {
            validate::range_stream(&request)?;
            if !request.serializable {
                context.linearize().await?;
            }
            if range::is_plain(&request) {
                return Ok(Chunks::paged(context, request));
            }
            let whole = context.read(request).await?;
            Ok(Chunks::cut(context, whole))
        })
        .await
    }

    /// Writes a key. Like etcd, looks at the quota first: a full member refuses even what is not valid.
    pub async fn put(
        &self,
        caller: &Caller,
        request: pb::PutRequest,
    ) -> Result<pb::PutResponse, EtcdError> {
        let content = Content::Keys {
            key: request.key.clone(),
            range_end: Bytes::new(),
            value_bytes: Some(request.value.len()),
        };
        self.unary(Rpc::Put, caller, Some(content), async {
            self.context.admit(quota::put_cost(&request)).await?;
            validate::put(&request)?;
            self.context.propose(request).await
        })
        .await
    }

    /// Deletes keys.
    pub async fn delete_range(
        &self,
        caller: &Caller,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, EtcdError> {
        let content = Content::Keys {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            value_bytes: None,
        };
        self.unary(Rpc::DeleteRange, caller, Some(content), async {
            validate::delete_range(&request)?;
            self.context.propose(request).await
        })
        .await
    }

    /// Compares, and does one thing or the other. The quota comes first, as for a put.
    pub async fn txn(
        &self,
        caller: &Caller,
        request: pb::TxnRequest,
    ) -> Result<pb::TxnResponse, EtcdError> {
        let compares = request.compare.len();
        let content = Content::Txn {
            compares,
            success: request.success.len(),
            failure: request.failure.len(),
        };
        self.unary(Rpc::Txn, caller, Some(content), async {
            self.context.admit(quota::txn_cost(&request)).await?;
            validate::txn(&request, self.context.limits.max_txn_ops)?;
            if txn::is_read_only(&request) {
                return self.context.read_only_txn(&request).await;
            }
            let response = self.context.propose(request).await?;
            operations::count_compares(compares, response.succeeded);
            Ok(response)
        })
        .await
    }

    /// Forgets what was superseded before a revision.
    pub async fn compact(
        &self,
        caller: &Caller,
        request: pb::CompactionRequest,
    ) -> Result<pb::CompactionResponse, EtcdError> {
        self.unary(Rpc::Compact, caller, None, async {
            let mut response = self.context.propose(request).await?;
            // The revision of now, as the wait for the physical work may be long.
            response.header = Some(self.context.header());
            Ok(response)
        })
        .await
    }
}

impl Context {
    /// Reads a validated range at the newest view; a large one on a reader thread.
    async fn read(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, EtcdError> {
        let timed = Timed::range();
        operations::count_range();
        let cost = range::estimate(&*self.views.load(), &request);
        let mut response = if cost.keys <= LARGE_RANGE_KEYS && cost.bytes <= LARGE_RANGE_BYTES {
            range::range_on_newest(&self.views, &request).map_err(reply_or_fatal)?
        } else {
            let large = |reply| Read::Range(LargeRange { request, reply });
            ask(&self.ports.read, large).await?
        };
        timed.end(true);
        self.complete(&mut response.header);
        Ok(response)
    }

    /// Answers a transaction that writes nothing, without the log.
    async fn read_only_txn(&self, request: &pb::TxnRequest) -> Result<pb::TxnResponse, EtcdError> {
        if !txn::is_serializable(request) {
            self.linearize().await?;
        }
        let timed = Timed::read_only_txn();
        let mut response =
            txn::read_only_on_newest(&self.views, request).map_err(reply_or_fatal)?;
        timed.end(true);
        operations::count_read_only(request.compare.len(), &response);
        self.complete(&mut response.header);
        Ok(response)
    }
}
