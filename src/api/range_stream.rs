//! RangeStream: a range in chunks, at one revision, holding a page and not the range (KV-S01 to KV-S09).
//!
//! One kind of request cannot be answered page by page: a target without an order asks for what Range gives, which is
//! sorted. It is read as Range reads it, and cut.

use super::Context;
use super::context::reply_or_fatal;
use bytes::Bytes;
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use rusd_state::kv::stream::Pager;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

/// Where the chunks of one call come from.
#[derive(Debug)]
enum Source {
    /// Read one at a time as the client takes them.
    Pager(Pager),
    /// All there: what was not sent yet, and the rest of the last chunk.
    Whole(std::vec::IntoIter<Bytes>, pb::RangeResponse),
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
    pub(super) fn paged(context: Arc<Context>, request: pb::RangeRequest) -> Self {
        let view = context.views.load();
        let pager = Pager::new(&*view, request, context.limits.max_request_bytes);
        Self {
            context: context.clone(),
            source: Source::Pager(pager),
        }
    }

    /// Pieces of a reply to Range.
    pub(super) fn cut(context: Arc<Context>, mut reply: pb::RangeResponse) -> Self {
        let kvs = std::mem::take(&mut reply.kvs).into_iter();
        Self {
            context,
            source: Source::Whole(kvs, reply),
        }
    }

    fn next(&mut self) -> Option<Result<pb::RangeResponse, EtcdError>> {
        match std::mem::replace(&mut self.source, Source::End) {
            Source::Pager(mut pager) => {
                rusd_messages::operations::count_range();
                let chunk = pager
                    .next_on_newest(&self.context.views)
                    .map_err(reply_or_fatal);
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
            Source::Whole(mut kvs, mut last) => {
                let chunk = take_chunk(&mut kvs, self.context.limits.max_request_bytes);
                if kvs.len() == 0 {
                    last.kvs = chunk;
                    return Some(Ok(last));
                }
                self.source = Source::Whole(kvs, last);
                Some(Ok(pb::RangeResponse {
                    kvs: chunk,
                    ..pb::RangeResponse::default()
                }))
            }
            Source::End => None,
        }
    }
}

/// Takes about so many bytes, and at least one, if there is one.
fn take_chunk(kvs: &mut std::vec::IntoIter<Bytes>, bytes_max: usize) -> Vec<Bytes> {
    let mut bytes = 0;
    let mut chunk = Vec::new();
    while bytes < bytes_max || chunk.is_empty() {
        let Some(kv) = kvs.next() else {
            break;
        };
        bytes += kv.len();
        chunk.push(kv);
    }
    chunk
}

impl futures_core::Stream for Chunks {
    type Item = Result<pb::RangeStreamResponse, EtcdError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.get_mut().next().map(|chunk| {
            chunk.map(|response| pb::RangeStreamResponse {
                range_response: Some(response),
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::take_chunk;
    use bytes::Bytes;

    #[test]
    fn kv_s03_a_sorted_reply_is_cut_and_nothing_is_lost() {
        let kv = |byte: u8| Bytes::from(vec![byte; 10]);
        let all: Vec<Bytes> = (0..5).map(kv).collect();
        let mut kvs = all.into_iter();
        assert_eq!(take_chunk(&mut kvs, 15), [kv(0), kv(1)]);
        assert_eq!(take_chunk(&mut kvs, 0), [kv(2)]);
        assert_eq!(take_chunk(&mut kvs, 100), [kv(3), kv(4)]);
        assert_eq!(take_chunk(&mut kvs, 100), Vec::<Bytes>::new());
    }
}
