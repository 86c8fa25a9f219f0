//! What the watch hub receives, and the events it passes on.

use bytes::Bytes;
use rusd_proto::etcdserverpb as pb;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

/// A gRPC watch stream of this process; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// One change of one key, encoded once however many watch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key that changed.
    pub key: Bytes,
    /// Whether it was deleted rather than put.
    pub deleted: bool,
    /// The marshalled `mvccpb.Event`, without `prev_kv`.
    pub encoded: Bytes,
    /// The marshalled `mvccpb.Event` with `prev_kv`; None if nobody asked for it, or the change created
    /// the key, or the previous record is compacted away: then `encoded` stands for both.
    pub encoded_with_previous: Option<Bytes>,
}

/// All events of one revision, in the order of their sub-revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The revision.
    pub revision: i64,
    /// Its events; never empty.
    pub events: Arc<[Event]>,
}

/// New revisions, each told exactly once, in order.
#[derive(Clone, Debug)]
pub struct Committed {
    /// In ascending order, without gaps.
    pub revisions: Vec<Revision>,
}

/// The hub was too far behind to be told every revision: everything through this one is to be read from history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged {
    /// The newest revision not told.
    pub through: i64,
}

/// The compacted revision moved: watchers that still need something at or below it are cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The new compacted revision.
    pub revision: i64,
}

/// A page of history, in answer to [`crate::reader::History`].
#[derive(Debug)]
pub struct HistoryPage {
    /// The request's token.
    pub token: u64,
    /// What was found.
    pub result: Result<HistoryRevisions, HistoryError>,
}

/// The revisions of a page that changed anything.
#[derive(Debug)]
pub struct HistoryRevisions {
    /// In ascending order.
    pub revisions: Vec<Revision>,
    /// Where the next page starts; beyond the requested end when the page was the last.
    pub next_revision: i64,
}

/// Why a page could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryError {
    /// Some of it is compacted away.
    Compacted {
        /// The compacted revision.
        compacted_revision: i64,
    },
}

/// The hub's side of a stream: a bounded queue that the gRPC stream drains.
#[derive(Clone, Debug)]
pub struct Sink {
    responses: mpsc::Sender<pb::WatchResponse>,
    starved: Arc<AtomicBool>,
}

/// The gRPC stream's side: yields responses, and tells when a hub that found it full may go on.
#[derive(Debug)]
pub struct SinkReader {
    responses: mpsc::Receiver<pb::WatchResponse>,
    starved: Arc<AtomicBool>,
}

/// A stream's queue of at most `capacity` responses.
pub fn sink(capacity: usize) -> (Sink, SinkReader) {
    let (sender, receiver) = mpsc::channel(capacity);
    let starved = Arc::new(AtomicBool::new(false));
    (
        Sink {
            responses: sender,
            starved: starved.clone(),
        },
        SinkReader {
            responses: receiver,
            starved,
        },
    )
}

/// Why a sink did not take a response.
#[derive(Debug)]
pub enum SinkRefused {
    /// It is full; a [`SinkReady`] follows once it has been drained.
    Full(pb::WatchResponse),
    /// The stream has ended.
    Closed,
}

impl Sink {
    /// Queues a response.
    pub fn push(&self, response: pb::WatchResponse) -> Result<(), SinkRefused> {
        // Twice: the reader may drain the queue between the first refusal and the mark.
        let response = match self.responses.try_send(response) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(SinkRefused::Closed),
            Err(mpsc::error::TrySendError::Full(response)) => response,
        };
        self.starved.store(true, Ordering::SeqCst);
        match self.responses.try_send(response) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(SinkRefused::Closed),
            Err(mpsc::error::TrySendError::Full(response)) => Err(SinkRefused::Full(response)),
        }
    }

    /// Responses it would take now.
    pub fn room(&self) -> usize {
        self.responses.capacity()
    }
}

impl SinkReader {
    /// The next response; None when the hub has let go of the stream. The flag says that the hub waits
    /// for a [`SinkReady`] and that the queue is at most half full again.
    pub async fn next(&mut self) -> Option<(pb::WatchResponse, bool)> {
        let response = self.responses.recv().await?;
        let drained = self.responses.len() * 2 <= self.responses.max_capacity();
        let wake_hub = drained && self.starved.swap(false, Ordering::SeqCst);
        Some((response, wake_hub))
    }
}

/// A gRPC watch stream has opened.
#[derive(Debug)]
pub struct OpenStream {
    /// Its id.
    pub stream: StreamId,
    /// Where its responses go. The header's revision is the hub's; the server fills in the rest.
    pub sink: Sink,
}

/// A request on a stream.
#[derive(Debug)]
pub enum StreamRequest {
    /// Start a watch.
    Create(pb::WatchCreateRequest),
    /// End a watch.
    Cancel {
        /// Its id.
        watch_id: i64,
    },
    /// Tell how far the stream is.
    Progress,
}

/// A request of a client, on the stream it came on.
#[derive(Debug)]
pub struct FromStream {
    /// The stream.
    pub stream: StreamId,
    /// What is asked.
    pub request: StreamRequest,
}

/// The stream's queue, found full before, has been drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkReady {
    /// The stream.
    pub stream: StreamId,
}

/// The stream is gone, and its watches with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseStream {
    /// The stream.
    pub stream: StreamId,
}
