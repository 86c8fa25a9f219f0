//! What the hub says on a stream: small, typed, and with its events shared.

use bytes::Bytes;
use rusd_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use std::sync::Arc;
use thiserror::Error;

/// A response before it is a message. The server adds cluster, member and term to its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The watch it belongs to.
    pub watch_id: i64,
    /// For the header: everything of the watch through it has been sent with or before this response. Events of the
    /// past have the revision of now instead (W-13), and a compaction has 0.
    pub revision: i64,
    /// What the client is told.
    pub content: Content,
}

impl Response {
    /// The message that clients get. `header` has everything but the revision, which is the response's own, 0
    /// included (W-07). The flag says that it may be sent in pieces (W-14).
    pub fn into_message(self, header: ResponseHeader) -> (WatchResponse, bool) {
        let mut message = WatchResponse {
            header: Some(ResponseHeader {
                revision: self.revision,
                ..header
            }),
            watch_id: self.watch_id,
            ..WatchResponse::default()
        };
        let mut may_be_split = false;
        match self.content {
            Content::Created => message.created = true,
            Content::Refused(refusal) => {
                message.created = true;
                message.canceled = true;
                message.cancel_reason = refusal.to_string();
            }
            Content::Canceled => message.canceled = true,
            Content::Compacted { compacted_revision } => {
                message.canceled = true;
                message.compact_revision = compacted_revision;
            }
            Content::Progress | Content::ProgressOfAll => {}
            Content::Events { events, fragment } => {
                message.events = events.as_slice().to_vec();
                may_be_split = fragment;
            }
        }
        (message, may_be_split)
    }
}

/// What a response says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The watch exists; comes before everything else of it.
    Created,
    /// The watch was turned down.
    Refused(WatchRefusal),
    /// The watch ended because its client said so.
    Canceled,
    /// The watch ended because what it needs is compacted away.
    Compacted {
        /// Revisions below it cannot be read any more.
        compacted_revision: i64,
    },
    /// Periodic: everything of this watch through the header's revision has been sent.
    Progress,
    /// On request: everything of every watch of the stream through the header's revision has been sent.
    ProgressOfAll,
    /// What happened in the range of the watch.
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

    /// Each as a marshalled `mvccpb.Event`.
    pub fn as_slice(&self) -> &[Bytes] {
        self.all
            .get(self.first as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        (self.end - self.first) as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first == self.end
    }

    /// Bytes of all marshalled events together.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The id in responses that are not about one watch.
    const NO_WATCH: i64 = -1;

    const HEADER: ResponseHeader = ResponseHeader {
        cluster_id: 1,
        member_id: 2,
        revision: 0,
        raft_term: 3,
    };

    fn said(watch_id: i64, revision: i64, content: Content) -> WatchResponse {
        let response = Response {
            watch_id,
            revision,
            content,
        };
        response.into_message(HEADER).0
    }

    #[test]
    fn w_02_created_names_the_watch_and_the_revision() {
        let created = said(5, 8, Content::Created);
        assert!(created.created && !created.canceled);
        assert_eq!((created.watch_id, created.header.unwrap().revision), (5, 8));
        assert_eq!(created.header.unwrap().raft_term, 3);
    }

    #[test]
    fn w_03_w_04_w_06_refusals_are_created_and_canceled_at_once() {
        for (refusal, reason) in [
            (
                WatchRefusal::DuplicateId,
                "mvcc: duplicate watch ID provided on the WatchStream",
            ),
            (WatchRefusal::EmptyRange, "mvcc: watcher range is empty"),
            (
                WatchRefusal::NegativeRevision,
                "etcdserver: mvcc: required revision has been compacted",
            ),
        ] {
            let refused = said(NO_WATCH, 8, Content::Refused(refusal));
            assert!(refused.created && refused.canceled);
            assert_eq!((refused.watch_id, refused.compact_revision), (-1, 0));
            assert_eq!(refused.cancel_reason, reason);
        }
    }

    #[test]
    fn w_07_compaction_has_no_reason_and_no_header_revision() {
        let compacted = said(
            5,
            0,
            Content::Compacted {
                compacted_revision: 30,
            },
        );
        assert!(compacted.canceled && !compacted.created);
        assert_eq!((compacted.watch_id, compacted.compact_revision), (5, 30));
        assert_eq!(compacted.cancel_reason, "");
        assert_eq!(compacted.header.unwrap(), HEADER);
    }

    #[test]
    fn w_14_only_watches_that_take_pieces_get_them() {
        for fragment in [false, true] {
            let all: std::sync::Arc<[Bytes]> = vec![Bytes::from_static(b"event")].into();
            let response = Response {
                watch_id: 0,
                revision: 2,
                content: Content::Events {
                    events: Events::from(all, 0, 5),
                    fragment,
                },
            };
            let (message, may_be_split) = response.into_message(HEADER);
            assert_eq!(
                (message.events.len(), message.fragment, may_be_split),
                (1, false, fragment)
            );
        }
    }
}
