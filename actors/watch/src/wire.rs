//! Responses as they go on the wire.

use crate::stream::NO_WATCH;
use prost::Message;
use rusd_messages::watch::{Content, Response};
use rusd_proto::etcdserverpb::{ResponseHeader, WatchResponse};

/// The wire form of a response. `header` has everything but the revision, which is the response's own, 0
/// included (W-07). The flag says that it may be [`split`].
pub fn to_wire(response: Response, header: ResponseHeader) -> (WatchResponse, bool) {
    let mut wire = WatchResponse {
        header: Some(ResponseHeader {
            revision: response.revision,
            ..header
        }),
        watch_id: response.watch_id,
        ..WatchResponse::default()
    };
    let mut may_be_split = false;
    match response.content {
        Content::Created => wire.created = true,
        Content::Refused(refusal) => {
            wire.watch_id = NO_WATCH;
            wire.created = true;
            wire.canceled = true;
            wire.cancel_reason = refusal.to_string();
        }
        Content::Canceled => wire.canceled = true,
        Content::Compacted { compacted_revision } => {
            wire.canceled = true;
            wire.compact_revision = compacted_revision;
        }
        Content::Progress => {}
        Content::ProgressOfAll => wire.watch_id = NO_WATCH,
        Content::Events { events, fragment } => {
            wire.events = events.as_slice().to_vec();
            may_be_split = fragment;
        }
    }
    (wire, may_be_split)
}

/// The pieces of a response that is as large as `limit_bytes` or larger: each but the last says `fragment`, each
/// has at least one event, and is smaller than the limit if it has more (W-14). Others are one piece.
pub fn split(response: WatchResponse, limit_bytes: usize) -> Pieces {
    let whole = response.events.len() < 2 || response.encoded_len() < limit_bytes;
    let limit_bytes = if whole { usize::MAX } else { limit_bytes };
    let mut frame = response;
    let events = std::mem::take(&mut frame.events).into_iter();
    Pieces {
        frame: Some(frame),
        events,
        limit_bytes,
    }
}

/// What [`split`] makes, one piece at a time.
#[derive(Debug)]
pub struct Pieces {
    /// The response without events; None after the last piece.
    frame: Option<WatchResponse>,
    events: std::vec::IntoIter<bytes::Bytes>,
    limit_bytes: usize,
}

impl Iterator for Pieces {
    type Item = WatchResponse;

    fn next(&mut self) -> Option<WatchResponse> {
        let frame = self.frame.as_ref()?;
        if self.limit_bytes == usize::MAX {
            let mut whole = self.frame.take()?;
            whole.events = std::mem::replace(&mut self.events, Vec::new().into_iter()).collect();
            return Some(whole);
        }
        let mut piece = WatchResponse {
            fragment: true,
            ..frame.clone()
        };
        let mut bytes = piece.encoded_len();
        while let Some(event) = self.events.as_slice().first() {
            bytes += event_len(event.len());
            if !piece.events.is_empty() && bytes >= self.limit_bytes {
                break;
            }
            piece.events.extend(self.events.next());
        }
        if self.events.as_slice().is_empty() {
            piece.fragment = false;
            self.frame = None;
        }
        Some(piece)
    }
}

/// An event as a field of a response: one byte of tag, its length, itself.
fn event_len(bytes: usize) -> usize {
    1 + prost::length_delimiter_len(bytes) + bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use rusd_messages::watch::{Events, WatchRefusal};

    const HEADER: ResponseHeader = ResponseHeader {
        cluster_id: 1,
        member_id: 2,
        revision: 0,
        raft_term: 3,
    };

    fn wire(watch_id: i64, revision: i64, content: Content) -> WatchResponse {
        let response = Response {
            watch_id,
            revision,
            content,
        };
        to_wire(response, HEADER).0
    }

    fn large(sizes: &[usize]) -> WatchResponse {
        WatchResponse {
            header: Some(ResponseHeader {
                revision: 9,
                ..HEADER
            }),
            watch_id: 4,
            events: sizes
                .iter()
                .map(|size| Bytes::from(vec![7; *size]))
                .collect(),
            ..WatchResponse::default()
        }
    }

    #[test]
    fn w_02_created_names_the_watch_and_the_revision() {
        let created = wire(5, 8, Content::Created);
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
            let refused = wire(NO_WATCH, 8, Content::Refused(refusal));
            assert!(refused.created && refused.canceled);
            assert_eq!((refused.watch_id, refused.compact_revision), (-1, 0));
            assert_eq!(refused.cancel_reason, reason);
        }
    }

    #[test]
    fn w_07_compaction_has_no_reason_and_no_header_revision() {
        let compacted = wire(
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
            let (wire, may_be_split) = to_wire(response, HEADER);
            assert_eq!(
                (wire.events.len(), wire.fragment, may_be_split),
                (1, false, fragment)
            );
        }
    }

    #[test]
    fn w_14_pieces_stay_below_the_limit_and_the_last_one_says_so() {
        let pieces: Vec<_> = split(large(&[400, 400, 100, 900, 2000, 1]), 1000).collect();
        let shape: Vec<_> = pieces
            .iter()
            .map(|p| (p.events.len(), p.fragment))
            .collect();
        assert_eq!(shape, [(3, true), (1, true), (1, true), (1, false)]);
        for piece in &pieces {
            assert!(piece.events.len() == 1 || piece.encoded_len() < 1000);
            assert_eq!((piece.watch_id, piece.header.unwrap().revision), (4, 9));
        }
    }

    #[test]
    fn w_14_the_limit_itself_is_too_large() {
        let response = large(&[100, 100]);
        let size = response.encoded_len();
        assert_eq!(split(response.clone(), size + 1).count(), 1);
        assert_eq!(split(response.clone(), size).count(), 2);
        // The sum counted piece by piece is the encoder's.
        assert_eq!(
            split(response, size).map(|p| p.encoded_len()).max(),
            Some(size + 2 - 102)
        );
    }

    #[test]
    fn w_14_a_single_event_is_never_split() {
        let pieces: Vec<_> = split(large(&[5000]), 1000).collect();
        assert_eq!(pieces.len(), 1);
        assert!(!pieces.first().unwrap().fragment);
        assert_eq!(split(large(&[]), 1000).count(), 1);
    }
}
