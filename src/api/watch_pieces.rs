//! Responses of a watch with too many bytes, in pieces: for every transport alike (W-14).

use prost::Message;
use rusd_proto::etcdserverpb::WatchResponse;

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
    use rusd_proto::etcdserverpb::ResponseHeader;

    fn large(sizes: &[usize]) -> WatchResponse {
        WatchResponse {
            header: Some(ResponseHeader {
                revision: 9,
                ..ResponseHeader::default()
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
