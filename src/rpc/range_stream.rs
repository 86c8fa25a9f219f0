//! RangeStream: a range in chunks, at one revision, holding a page and not the range (KV-S01 to KV-S09).

use super::Context;
use super::context::status;
use rusd_proto::etcdserverpb as pb;
use rusd_state::kv::stream::Pager;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use tonic::Status;

const PATH: &str = "/etcdserverpb.KV/RangeStream";

/// The chunks of one call, read one at a time as the client takes them.
#[derive(Debug)]
pub struct Chunks {
    context: Arc<Context>,
    pager: Option<Pager>,
}

impl Chunks {
    /// Pins the newest revision, if the request names none.
    pub fn start(context: Arc<Context>, request: pb::RangeRequest) -> Self {
        let view = context.views.load();
        let pager = Pager::new(&*view, request, context.limits.max_request_bytes);
        Self {
            context: context.clone(),
            pager: Some(pager),
        }
    }
}

impl futures_core::Stream for Chunks {
    type Item = Result<pb::RangeStreamResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(pager) = &mut this.pager else {
            return Poll::Ready(None);
        };
        let chunk = pager.next_on_newest(&this.context.views).map_err(status);
        let finished = pager.is_finished();
        if finished || chunk.is_err() {
            this.pager = None;
        }
        Poll::Ready(Some(chunk.map(|mut response| {
            if response.header.is_some() {
                this.context.complete(&mut response.header);
            }
            if let Some(method) = super::metrics::method(PATH) {
                method.message_sent();
            }
            pb::RangeStreamResponse {
                range_response: Some(response),
            }
        })))
    }
}
