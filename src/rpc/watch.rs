//! The Watch service (stand-in while measuring).
#![allow(missing_docs)]
use super::Context;
use rusd_messages::Port;
use rusd_messages::watch::{
    CloseStream, Content, Credits, FromStream, OpenStream, Seen, SinkReader, SinkReady, StreamId,
    StreamRequest, sink,
};
use rusd_proto::etcdserverpb as pb;
use rusd_storage::ReadAt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as Cx, Poll};
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status, Streaming};
#[derive(Clone)]
pub struct WatchService {
    c: Arc<Context>,
    open: Port<OpenStream>,
    request: Port<FromStream>,
    ready: Port<SinkReady>,
    close: Port<CloseStream>,
    next: Arc<AtomicU64>,
}
impl WatchService {
    pub fn new(c: &Arc<Context>, p: &rusd_watch::Ports, _: std::time::Duration) -> Self {
        Self {
            c: c.clone(),
            open: p.open.clone(),
            request: p.request.clone(),
            ready: p.sink_ready.clone(),
            close: p.close.clone(),
            next: Arc::default(),
        }
    }
}
pub struct Out {
    c: Arc<Context>,
    r: SinkReader,
    id: StreamId,
    ready: Port<SinkReady>,
    close: Port<CloseStream>,
}
impl Drop for Out {
    fn drop(&mut self) {
        let _ = self.close.deliver(CloseStream { stream: self.id });
    }
}
impl futures_core::Stream for Out {
    type Item = Result<pb::WatchResponse, Status>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match this.r.poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some((x, wake))) => {
                if wake {
                    let _ = this.ready.deliver(SinkReady { stream: this.id });
                }
                let mut w = pb::WatchResponse {
                    header: Some(this.c.header_at(x.revision)),
                    watch_id: x.watch_id,
                    ..Default::default()
                };
                match x.content {
                    Content::Created => w.created = true,
                    Content::Refused(e) => {
                        w.created = true;
                        w.canceled = true;
                        w.watch_id = -1;
                        w.cancel_reason = e.to_string();
                    }
                    Content::Canceled => w.canceled = true,
                    Content::Compacted { compacted_revision } => {
                        w.canceled = true;
                        w.compact_revision = compacted_revision;
                    }
                    Content::Progress | Content::ProgressOfAll => {}
                    Content::Events { events, fragment } => {
                        w.events = events.as_slice().to_vec();
                        w.fragment = fragment;
                    }
                }
                Poll::Ready(Some(Ok(w)))
            }
        }
    }
}
#[tonic::async_trait]
impl pb::watch_server::Watch for WatchService {
    type WatchStream = Out;
    async fn watch(
        &self,
        r: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Out>, Status> {
        let id = StreamId(self.next.fetch_add(1, Ordering::Relaxed));
        let (s, reader, credits): (_, _, Credits) = sink(rusd_watch::limits::SINK);
        self.open
            .tell(OpenStream {
                stream: id,
                sink: s,
            })
            .map_err(super::context::refused)?;
        let (req, c, close) = (self.request.clone(), self.c.clone(), self.close.clone());
        let mut inb = r.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(m)) = inb.next().await {
                if !credits.take().await {
                    break;
                }
                use pb::watch_request::RequestUnion as U;
                let v = c.views.load();
                let q = match m.request_union {
                    Some(U::CreateRequest(request)) => StreamRequest::Create {
                        request,
                        seen: Seen {
                            revision: v.revision(),
                            compacted_revision: v.compacted_revision(),
                        },
                    },
                    Some(U::CancelRequest(x)) => StreamRequest::Cancel {
                        watch_id: x.watch_id,
                    },
                    Some(U::ProgressRequest(_)) => StreamRequest::Progress,
                    None => continue,
                };
                let _ = req.deliver(FromStream {
                    stream: id,
                    request: q,
                });
            }
            let _ = close.deliver(CloseStream { stream: id });
        });
        Ok(Response::new(Out {
            c: self.c.clone(),
            r: reader,
            id,
            ready: self.ready.clone(),
            close: self.close.clone(),
        }))
    }
}
