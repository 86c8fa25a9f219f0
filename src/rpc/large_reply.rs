//! Large replies to Range, encoded as they are sent.
//!
//! tonic encodes a whole message into one buffer before it sends the first byte. For a reply of many megabytes that
//! occupies a thread, which other calls wait for, and doubles the memory. Here such a reply, once the request is
//! answered, travels past tonic in the extensions of the response, and becomes a body that encodes one piece at a time:
//!
//! ```text
//!   0  length   header   kvs ...  kvs ...  kvs ...   more count    trailers
//!   \----- first piece -----/     \ pieces /         \ last /
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use rusd_proto::etcdserverpb::RangeResponse;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::{Response, Status};

/// Replies with more than this are sent in pieces: what fits the buffer of a connection a few times.
const LARGE_BYTES: usize = 64 * 1024;
/// What is encoded at a time: enough for a few frames, too little for anybody to wait for.
const PIECE_BYTES: usize = 32 * 1024;
/// The field number of `RangeResponse.kvs`.
const KVS: u32 = 2;
/// What a reply may have at most (G-10).
const REPLY_BYTES_MAX: usize = i32::MAX as usize;

/// A reply on its way past tonic.
#[derive(Clone, Debug)]
struct Large(RangeResponse);

/// Makes the response to a Range. [`in_pieces`] has to see it before it is sent.
pub fn response(mut reply: RangeResponse) -> Result<Response<RangeResponse>, Status> {
    let bytes: usize = reply.kvs.iter().map(Bytes::len).sum();
    if bytes <= LARGE_BYTES {
        return Ok(Response::new(reply));
    }
    let length = reply.encoded_len();
    if length > REPLY_BYTES_MAX {
        return Err(Status::resource_exhausted(format!(
            "trying to send message larger than max ({length} vs. {REPLY_BYTES_MAX})"
        )));
    }
    let mut response = Response::new(RangeResponse::default());
    reply.kvs.shrink_to_fit();
    response.extensions_mut().insert(Large(reply));
    Ok(response)
}

/// Gives a response its large reply for a body, if it has one.
pub fn in_pieces(mut response: http::Response<Body>) -> http::Response<Body> {
    match response.extensions_mut().remove::<Large>() {
        Some(Large(reply)) => response.map(|_| Body::new(Pieces::new(reply))),
        None => response,
    }
}

/// The body of a large reply.
struct Pieces {
    /// Encoded and not sent yet.
    piece: BytesMut,
    kvs: std::vec::IntoIter<Bytes>,
    /// A record too large to be copied into a piece, whose key and length are in the last one.
    whole: Option<Bytes>,
    /// What comes after the records; None once it is part of a piece.
    end: Option<RangeResponse>,
    trailers: bool,
}

impl Pieces {
    fn new(mut reply: RangeResponse) -> Self {
        let length = reply.encoded_len();
        let kvs = std::mem::take(&mut reply.kvs).into_iter();
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        // gRPC's prefix: not compressed, and the length.
        piece.put_u8(0);
        // It was compared with the maximum.
        piece.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        let start = RangeResponse {
            header: reply.header.take(),
            ..RangeResponse::default()
        };
        // A BytesMut grows as needed.
        let _always = start.encode(&mut piece);
        Self {
            piece,
            kvs,
            whole: None,
            end: Some(reply),
            trailers: true,
        }
    }

    /// The next piece of the message; None when there is no more of it.
    fn next_piece(&mut self) -> Option<Bytes> {
        if let Some(whole) = self.whole.take() {
            return Some(whole);
        }
        while self.piece.len() < PIECE_BYTES
            && let Some(kv) = self.kvs.next()
        {
            let head_bytes = key_len(KVS) + encoded_len_varint(kv.len() as u64);
            self.piece.reserve(head_bytes);
            encode_key(KVS, WireType::LengthDelimited, &mut self.piece);
            encode_varint(kv.len() as u64, &mut self.piece);
            if kv.len() >= PIECE_BYTES {
                self.whole = Some(kv);
                return Some(self.take_piece());
            }
            self.piece.put(kv);
        }
        if self.kvs.as_slice().is_empty()
            && let Some(end) = self.end.take()
        {
            let _always = end.encode(&mut self.piece);
        }
        (!self.piece.is_empty()).then(|| self.take_piece())
    }

    fn take_piece(&mut self) -> Bytes {
        let next = match self.kvs.as_slice().is_empty() {
            true => BytesMut::new(),
            false => BytesMut::with_capacity(PIECE_BYTES),
        };
        std::mem::replace(&mut self.piece, next).freeze()
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Some(piece) = this.next_piece() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        Poll::Ready(std::mem::take(&mut this.trailers).then(|| {
            let mut trailers = HeaderMap::with_capacity(1);
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            Ok(Frame::trailers(trailers))
        }))
    }

    fn is_end_stream(&self) -> bool {
        !self.trailers
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use rusd_proto::etcdserverpb::ResponseHeader;
    use rusd_proto::mvccpb::KeyValue;

    const PREFIX_BYTES: usize = 5;

    fn reply(value_bytes: &[usize]) -> RangeResponse {
        let record = |(number, bytes): (usize, &usize)| {
            let kv = KeyValue {
                key: format!("key {number}").into(),
                mod_revision: number as i64 + 2,
                value: vec![number as u8; *bytes].into(),
                ..KeyValue::default()
            };
            Bytes::from(kv.encode_to_vec())
        };
        RangeResponse {
            header: Some(ResponseHeader {
                revision: 77,
                ..ResponseHeader::default()
            }),
            kvs: value_bytes.iter().enumerate().map(record).collect(),
            more: true,
            count: 12_345,
        }
    }

    /// The data of a response, piece by piece, and its status.
    async fn sent(response: Response<RangeResponse>) -> (Vec<Bytes>, String) {
        let (_, _, extensions) = response.into_parts();
        let mut response = http::Response::new(Body::empty());
        *response.extensions_mut() = extensions;
        let mut body = in_pieces(response).into_body();
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame.unwrap().into_data() {
                Ok(piece) => pieces.push(piece),
                Err(frame) => {
                    let status = frame.trailers_ref().unwrap()["grpc-status"].clone();
                    assert!(body.frame().await.is_none());
                    return (pieces, status.to_str().unwrap().to_owned());
                }
            }
        }
        panic!("a body without trailers");
    }

    #[tokio::test]
    async fn the_pieces_of_a_large_reply_are_its_encoding() {
        for values in [
            vec![300; 400],
            vec![LARGE_BYTES],
            vec![1, PIECE_BYTES - 20, PIECE_BYTES, 2 * PIECE_BYTES, 0, 0, 7],
            vec![PIECE_BYTES; 5],
            vec![1_500_000, 1, 1_500_000],
        ] {
            let reply = reply(&values);
            let (pieces, status) = sent(response(reply.clone()).unwrap()).await;
            assert_eq!(status, "0");
            let largest = values.iter().max().copied().unwrap_or(0);
            for piece in &pieces {
                assert!(!piece.is_empty() && piece.len() <= 2 * PIECE_BYTES.max(largest) + 100);
            }
            let whole = pieces.concat();
            let (prefix, message) = whole.split_at(PREFIX_BYTES);
            assert_eq!(prefix[0], 0);
            let length = u32::from_be_bytes(prefix[1..].try_into().unwrap());
            assert_eq!(length as usize, message.len());
            assert_eq!(message, reply.encode_to_vec(), "{values:?}");
        }
    }

    #[test]
    fn small_replies_are_left_to_tonic() {
        let reply = reply(&[1000; 60]);
        let response = response(reply.clone()).unwrap();
        assert_eq!(response.get_ref(), &reply);
        assert!(response.extensions().get::<Large>().is_none());
    }
}
