//! A proposal: `etcdserverpb.InternalRaftRequest`, the header id that finds its caller again, and the id's scheme.

use crate::etcdserverpb::{InternalRaftRequest, RequestHeader};
use crate::ids::{MemberId, RequestId};
use bytes::Bytes;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use std::sync::atomic::{AtomicU64, Ordering};

/// Fields of `InternalRaftRequest` that are no requests.
const OLD_ID: u32 = 1;
const HEADER: u32 = 100;

/// The field of `RequestHeader` that holds the id.
const HEADER_ID: u32 = 1;

/// Makes header ids as etcd does: two bytes of the member id, five bytes of the start time in milliseconds,
/// and a one-byte counter that overflows into the time. So ids differ between members and between two
/// incarnations of one member, as long as fewer than 256 ids a millisecond are used on average.
#[derive(Debug)]
pub struct RequestIds {
    prefix: u64,
    suffix: AtomicU64,
}

impl RequestIds {
    /// `now_ms` is the wall clock in milliseconds since the epoch, at the start of this incarnation.
    pub fn new(member: MemberId, now_ms: u64) -> Self {
        Self {
            prefix: (member.0 & 0xffff) << 48,
            suffix: AtomicU64::new((now_ms & 0xff_ffff_ffff) << 8),
        }
    }

    /// The next id; never 0.
    pub fn next(&self) -> RequestId {
        let suffix = self.suffix.fetch_add(1, Ordering::Relaxed) + 1;
        RequestId(self.prefix | (suffix & 0xffff_ffff_ffff))
    }
}

/// Encodes `request` under `id`, with no user. The result owns its memory: it shares nothing with a
/// network buffer.
pub fn encode(id: RequestId, mut request: InternalRaftRequest) -> Bytes {
    request.header = Some(RequestHeader {
        id: id.0,
        ..RequestHeader::default()
    });
    Bytes::from(request.encode_to_vec())
}

/// The header id of an encoded proposal, without decoding the rest; None if there is none or the
/// bytes are not a proposal.
pub fn request_id(data: &[u8]) -> Option<RequestId> {
    let header = Fields(data).find(|field| field.is(HEADER, WireType::LengthDelimited))?;
    let id = Fields(header.value).find(|field| field.is(HEADER_ID, WireType::Varint))?;
    decode_varint(&mut &*id.value).ok().map(RequestId)
}

/// The number of the first field of an encoded proposal that is a request: not the header, nor the old place of the id.
/// None if there is none, or the bytes before it are not a proposal.
pub fn first_request_field(data: &[u8]) -> Option<u32> {
    Fields(data)
        .map(|field| field.number)
        .find(|number| ![OLD_ID, HEADER].contains(number))
}

/// A field of an encoded message.
struct Field<'a> {
    number: u32,
    wire_type: WireType,
    /// Of a message or a string without its length.
    value: &'a [u8],
}

impl Field<'_> {
    fn is(&self, number: u32, wire_type: WireType) -> bool {
        self.number == number && self.wire_type == wire_type
    }
}

/// The fields of an encoded message, up to the first one that cannot be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let rest = &mut self.0;
        let (number, wire_type) = decode_key(rest).ok()?;
        let value = if wire_type == WireType::LengthDelimited {
            let len = usize::try_from(decode_varint(rest).ok()?).ok()?;
            rest.split_off(..len)?
        } else {
            let from = *rest;
            skip_field(wire_type, number, rest, DecodeContext::default()).ok()?;
            from.get(..from.len() - rest.len())?
        };
        Some(Field {
            number,
            wire_type,
            value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcdserverpb::PutRequest;

    #[test]
    fn the_id_is_found_without_decoding_the_request() {
        let ids = RequestIds::new(MemberId(0xabcd_1234), 1_700_000_000_000);
        let id = ids.next();
        let request = InternalRaftRequest {
            put: Some(PutRequest {
                key: Bytes::from_static(b"k"),
                value: Bytes::from(vec![7; 1000]),
                ..PutRequest::default()
            }),
            ..InternalRaftRequest::default()
        };
        let data = encode(id, request);
        assert_eq!(request_id(&data), Some(id));
        assert_eq!(id.0 >> 48, 0x1234);
        for cut in 0..data.len() {
            let found = request_id(&data[..cut]);
            assert!(
                found.is_none() || found == Some(id),
                "cut at {cut}: {found:?}"
            );
        }
    }

    #[test]
    fn ids_of_two_incarnations_differ() {
        let first = RequestIds::new(MemberId(1), 1_000).next();
        let second = RequestIds::new(MemberId(1), 2_000).next();
        assert_ne!(first, second);
    }
}
