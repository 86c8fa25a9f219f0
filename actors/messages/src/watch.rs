//! What the watch hub receives, and what it says to the streams.
//!
//! # Beside its messages
//!
//! Three things go another way than a message to the hub:
//!
//! * [`WatchDemand`], numbers that hub and state machine read in place. The hub writes how many streams there are and
//!   how many watchers want previous records, so that the state machine does not wake a hub without streams, nor look
//!   up what nobody wants. The state machine writes which revision is published, so that a hub that was not told of it
//!   knows of it when a stream opens.
//! * [`Seen`], which a handler writes into each create request and the hub reads: the hub may be some messages behind
//!   the read view, and a new watch must start after what its client has read.
//! * [`WakeThrough`], which the gRPC side sends once: streams that get events together are woken on their own runtime
//!   by one message ([`WakeStreams`]) instead of one by one from the hub's thread.

mod response;

pub use crate::cells::sink::{Credits, Sink, SinkLimits, SinkReader, sink};
pub use crate::cells::watch_demand::WatchDemand;
pub use response::{Content, Events, Response, WatchRefusal};

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
pub struct RevisionEvents {
    /// The main revision, one more than that before.
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
    /// In ascending order, without gaps: each revision is one more than that before.
    pub revisions: Vec<RevisionEvents>,
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
    /// Copied from the request that it answers.
    pub token: u64,
    /// The events, or why there are none.
    pub result: Result<HistoryRevisions, HistoryError>,
}

/// The revisions of a page that changed anything.
#[derive(Debug)]
pub struct HistoryRevisions {
    /// In ascending order, without those that changed nothing.
    pub revisions: Vec<RevisionEvents>,
    /// Where the next page starts; beyond the requested end when the page was the last.
    pub next_revision: i64,
}

/// Why a page could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryError {
    /// Some of it is compacted away.
    Compacted {
        /// Revisions below it cannot be read any more.
        compacted_revision: i64,
    },
}

/// A gRPC watch stream has opened.
#[derive(Debug)]
pub struct OpenStream {
    /// What its requests and notices will name it by.
    pub stream: StreamId,
    /// Where its responses go.
    pub sink: Sink,
}

/// What the newest read view said when a request was taken: its client may know that much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Of the newest write that can be read.
    pub revision: i64,
    /// Below it nothing can be read any more; -1 if nothing was compacted.
    pub compacted_revision: i64,
}

/// A request on a stream.
#[derive(Debug)]
pub enum StreamRequest {
    /// Start a watch, or be told why not.
    Create {
        /// What to watch, and how.
        request: pb::WatchCreateRequest,
        /// What the store said meanwhile.
        seen: Seen,
    },
    /// End a watch; an unknown one is not answered.
    Cancel {
        /// As the response to its creation has it.
        watch_id: i64,
    },
    /// Tell how far the stream is.
    Progress,
}

/// A request of a client, on the stream it came on. Its sender holds a credit of the stream's
/// [`Credits`], which bounds how many there are.
#[derive(Debug)]
pub struct FromStream {
    /// On which stream it came; one that is closed already is ignored.
    pub stream: StreamId,
    /// What its client asks for.
    pub request: StreamRequest,
}

/// The stream's queue, found full before, has been drained. At most one per stream is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkReady {
    /// Whose queue has room.
    pub stream: StreamId,
}

/// Streams that have something to send now; bounded by the number of streams.
#[derive(Debug)]
pub struct WakeStreams {
    /// One for each stream that sleeps.
    pub wakers: Vec<Waker>,
}

/// Where the streams run. Told once; until then the hub wakes every stream from its own thread, which costs more, and
/// their frames are then written one by one.
#[derive(Debug)]
pub struct WakeThrough {
    /// Wakes them on their own runtime.
    pub port: crate::Port<WakeStreams>,
}

/// The stream is gone, and its watches with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseStream {
    /// Never named again.
    pub stream: StreamId,
}
