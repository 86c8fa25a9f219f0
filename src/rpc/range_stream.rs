//! RangeStream: a range in chunks, at one revision, holding a page and not the range (KV-S01 to KV-S09).
//!
//! One kind of request cannot be answered page by page: a target without an order asks for what Range gives, which is
//! sorted. It is read as Range reads it, and cut.

use super::Context;
use super::context::status;
use rusd_proto::etcdserverpb as pb;
use rusd_state::kv::stream::Pager;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use tonic::Status;

const PATH: &str = "/etcdserverpb.KV/RangeStream";

/// Where the chunks of one call come from.
#[derive(Debug)]
enum Source {
    /// Read one at a time as the client takes them.
    Pager(Pager),
    /// All there; what was not sent yet.
    Whole(pb::RangeResponse),
    /// The last one was sent.
    End,
}

/// The chunks of one call.
#[derive(Debug)]
pub struct Chunks {
    context: Arc<Context>,
    source: Source,
}

impl Chunks {
    /// Pages of a range in key order. Pins the newest revision, if the request names none.
    pub fn paged(context: Arc<Context>, request: pb::RangeRequest) -> Self {
        let view = context.views.load();
        let pager = Pager::new(&*view, request, context.limits.max_request_bytes);
        Self {
            context: context.clone(),
            source: Source::Pager(pager),
        }
    }

    /// Pieces of a reply to Range.
    pub fn cut(context: Arc<Context>, reply: pb::RangeResponse) -> Self {
        Self {
            context,
            source: Source::Whole(reply),
        }
    }

    fn next(&mut self) -> Option<Result<pb::RangeResponse, Status>> {
        match std::mem::replace(&mut self.source, Source::End) {
            Source::Pager(mut pager) => {
                let chunk = pager.next_on_newest(&self.context.views).map_err(status);
                if chunk.is_ok() && !pager.is_finished() {
                    self.source = Source::Pager(pager);
                }
                Some(chunk.map(|mut response| {
                    if response.header.is_some() {
                        self.context.complete(&mut response.header);
                    }
                    response
                }))
            }
            Source::Whole(mut rest) => {
                let bytes_max = self.context.limits.max_request_bytes;
                let Some(chunk) = cut_first(&mut rest.kvs, bytes_max) else {
                    return Some(Ok(rest));
                };
                self.source = Source::Whole(rest);
                Some(Ok(chunk))
            }
            Source::End => None,
        }
    }
}

/// Takes a chunk of `kvs` that has about so many bytes, unless all of them have less: those are the last chunk's.
fn cut_first(kvs: &mut Vec<bytes::Bytes>, bytes_max: usize) -> Option<pb::RangeResponse> {
    let mut bytes = 0;
    let end = kvs.iter().position(|kv| {
        bytes += kv.len();
        bytes >= bytes_max
    })?;
    let rest = kvs.split_off(end + 1);
    (!rest.is_empty()).then_some(())?;
    Some(pb::RangeResponse {
        kvs: std::mem::replace(kvs, rest),
        ..pb::RangeResponse::default()
    })
}

impl futures_core::Stream for Chunks {
    type Item = Result<pb::RangeStreamResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.get_mut().next().map(|chunk| {
            chunk.map(|response| {
                if let Some(method) = super::metrics::method(PATH) {
                    method.message_sent();
                }
                pb::RangeStreamResponse {
                    range_response: Some(response),
                }
            })
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::cut_first;
    use bytes::Bytes;

    #[test]
    fn kv_s03_a_sorted_reply_is_cut_and_nothing_is_lost() {
        let kv = |byte: u8| Bytes::from(vec![byte; 10]);
        let mut kvs: Vec<Bytes> = (0..5).map(kv).collect();
        assert_eq!(cut_first(&mut kvs, 15).unwrap().kvs, [kv(0), kv(1)]);
        assert_eq!(cut_first(&mut kvs, 1).unwrap().kvs, [kv(2)]);
        // What ends with the range goes into the last chunk, with the count.
        assert_eq!(cut_first(&mut kvs, 15), None);
        assert_eq!(cut_first(&mut kvs, 100), None);
        assert_eq!(kvs, [kv(3), kv(4)]);
        assert_eq!(cut_first(&mut Vec::new(), 0), None);
    }
}
