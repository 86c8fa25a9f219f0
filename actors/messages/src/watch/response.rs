//! What the hub says on a stream: small, typed, and with its events shared.

use bytes::Bytes;
use std::sync::Arc;
use thiserror::Error;

/// A response before it is put on the wire. The server adds cluster, member and term to its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The watch it belongs to.
    pub watch_id: i64,
    /// The header's revision.
    pub revision: i64,
    /// What it says.
    pub content: Content,
}

/// What a response says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The watch exists.
    Created,
    /// The watch was turned down.
    Refused(WatchRefusal),
    /// The watch ended because its client said so.
    Canceled,
    /// The watch ended because what it needs is compacted away.
    Compacted {
        /// The compacted revision.
        compacted_revision: i64,
    },
    /// Periodic: everything of this watch through the header's revision has been sent.
    Progress,
    /// On request: everything of every watch of the stream through the header's revision has been sent.
    ProgressOfAll,
    /// Events.
    Events {
        /// In order, whole revisions.
        events: Events,
        /// Whether the client takes them in pieces.
        fragment: bool,
    },
}

impl Content {
    /// Whether this answers a request of the client, and so gives back its credit.
    pub fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::Created | Self::Refused(_) | Self::Canceled | Self::ProgressOfAll
        )
    }
}

/// Why a watch was turned down; displayed, it is the `cancel_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WatchRefusal {
    /// A negative start revision, which etcd calls compacted.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    NegativeRevision,
    /// The range ends at or before its start.
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
    /// The id is taken on this stream.
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
}

/// Marshalled events: a slice of a vector that all watchers who get the same events share.
#[derive(Clone)]
pub struct Events {
    all: Arc<[Bytes]>,
    first: u32,
    end: u32,
    bytes: usize,
}

impl Events {
    /// The events of `all` from `first` on, which together have `bytes` bytes.
    pub fn from(all: Arc<[Bytes]>, first: usize, bytes: usize) -> Self {
        // A batch holds far fewer events than 2^32: it is capped in bytes.
        let end = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let first = u32::try_from(first).unwrap_or(u32::MAX).min(end);
        Self {
            all,
            first,
            end,
            bytes,
        }
    }

    /// The marshalled events.
    pub fn as_slice(&self) -> &[Bytes] {
        self.all
            .get(self.first as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// How many.
    pub fn len(&self) -> usize {
        (self.end - self.first) as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first == self.end
    }

    /// Their bytes together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

impl PartialEq for Events {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Events {}
