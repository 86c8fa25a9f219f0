//! What the watch hub receives, and what it says to the streams.

pub mod demand;
pub mod response;
pub mod sink;

pub use demand::WatchDemand;
pub use response::{Content, Events, Response, WatchRefusal};
pub use sink::{Credits, Sink, SinkLimits, SinkReader, sink};

use bytes::Bytes;
use rusd_proto::etcdserverpb as pb;
use std::sync::Arc;
use std::task::Waker;

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
    /// The marshalled `mvccpb.Event` with `prev_kv`; None if the change created the key or the previous
    /// record is compacted away (then `encoded` stands for both), or if it was not looked up.
    pub encoded_with_previous: Option<Bytes>,
}

/// All events of one revision, in the order of their sub-revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The revision.
    pub revision: i64,
    /// Whether previous records were looked up for all of its events. If not, nothing follows from an
    /// event without one, and a watcher that wants them has to take the revision from history.
    pub with_previous: bool,
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

/// A gRPC watch stream has opened.
#[derive(Debug)]
pub struct OpenStream {
    /// Its id.
    pub stream: StreamId,
    /// Where its responses go.
    pub sink: Sink,
}

/// What the newest read view said when a request was taken. The hub may be a few messages behind it, and
/// a client must not see the past of what it already knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The current revision.
    pub revision: i64,
    /// The compacted revision.
    pub compacted_revision: i64,
}

/// A request on a stream.
#[derive(Debug)]
pub enum StreamRequest {
    /// Start a watch.
    Create {
        /// What to watch, and how.
        request: pb::WatchCreateRequest,
        /// What the store said meanwhile.
        seen: Seen,
    },
    /// End a watch.
    Cancel {
        /// Its id.
        watch_id: i64,
    },
    /// Tell how far the stream is.
    Progress,
}

/// A request of a client, on the stream it came on. Its sender holds a credit of the stream's
/// [`Credits`], which bounds how many there are.
#[derive(Debug)]
pub struct FromStream {
    /// The stream.
    pub stream: StreamId,
    /// What is asked.
    pub request: StreamRequest,
}

/// The stream's queue, found full before, has been drained. At most one per stream is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkReady {
    /// The stream.
    pub stream: StreamId,
}

/// Streams that have something to send now; bounded by the number of streams.
#[derive(Debug)]
pub struct WakeStreams {
    /// Whom to wake.
    pub wakers: Vec<Waker>,
}

/// Where the streams run: what the hub has for several of them at once it has woken there, since waking
/// them one by one from its own thread costs more and scatters them.
#[derive(Debug)]
pub struct WakeThrough {
    /// Wakes them on their own runtime.
    pub port: crate::Port<WakeStreams>,
}

/// The stream is gone, and its watches with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseStream {
    /// The stream.
    pub stream: StreamId,
}
