//! Large values, in pieces.

use std::collections::HashMap;

use bytes::Bytes;
use sled::{Batch, Db};

use super::super::Op;

/// Values are cut into pieces of this size. A leaf is split beyond 16 entries
/// and may before that take a few from a neighbour: 30 fit in a quarter segment.
pub const CHUNK_BYTES: usize = 8 << 10;

/// What the keys of all but the first chunk start with.
pub const CHUNK_PREFIX: u8 = 0xff;

/// Chunk keys end in the number of the chunk.
const CHUNK_NUMBER_BYTES: usize = 4;

/// Keys with more than one chunk, and how many more.
pub type Chunked = HashMap<Bytes, u32>;

/// Where a further chunk of a value is.
pub fn chunk_key(key: &[u8], number: u32) -> Vec<u8> {
    let mut chunk = Vec::with_capacity(1 + key.len() + CHUNK_NUMBER_BYTES);
    chunk.push(CHUNK_PREFIX);
    chunk.extend_from_slice(key);
    chunk.extend_from_slice(&number.to_be_bytes());
    chunk
}

/// The opposite of [`chunk_key`].
fn parse_chunk_key(chunk: &[u8]) -> Option<(&[u8], u32)> {
    let (key, number) = chunk.split_last_chunk::<CHUNK_NUMBER_BYTES>()?;
    let key = key.strip_prefix(&[CHUNK_PREFIX])?;
    Some((key, u32::from_be_bytes(*number)))
}

/// How many chunks follow the first one.
fn further_chunks(value_len: usize) -> u32 {
    (value_len.saturating_sub(1) / CHUNK_BYTES) as u32
}

/// Finds the values that have further chunks.
pub fn load(db: &Db) -> sled::Result<Chunked> {
    let mut chunked = Chunked::new();
    for entry in db.range([CHUNK_PREFIX]..) {
        let (chunk, _) = entry?;
        if let Some((key, number)) = parse_chunk_key(&chunk) {
            let last = chunked.entry(Bytes::copy_from_slice(key)).or_default();
            *last = (*last).max(number);
        }
    }
    Ok(chunked)
}

/// Adds an operation to a batch, keeping track of chunks.
pub fn add(batch: &mut Batch, chunked: &mut Option<&mut Chunked>, op: &Op) {
    let (key, further) = match op {
        Op::Put { key, value } => {
            batch.insert(&key[..], &value[..value.len().min(CHUNK_BYTES)]);
            let further = value.chunks(CHUNK_BYTES).skip(1);
            for (number, chunk) in (1u32..).zip(further) {
                batch.insert(chunk_key(key, number), chunk);
            }
            (key, further_chunks(value.len()))
        }
        Op::Delete { key } => {
            batch.remove(&key[..]);
            (key, 0)
        }
    };
    let Some(chunked) = chunked else {
        return;
    };
    let before = match further {
        0 => chunked.remove(key),
        _ => chunked.insert(key.clone(), further),
    };
    for number in further + 1..=before.unwrap_or(0) {
        batch.remove(chunk_key(key, number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_keys_name_their_key_and_number() {
        for key in [&b""[..], b"r", b"r\0\0\0\x01", b"\xff\xff\xff\xff\xff"] {
            assert_eq!(parse_chunk_key(&chunk_key(key, 7)), Some((key, 7)));
        }
        assert_eq!(parse_chunk_key(b"\xff\0\0"), None);
    }

    #[test]
    fn a_value_has_as_many_chunks_as_it_needs() {
        let one = CHUNK_BYTES;
        let cases = [
            (0, 0),
            (1, 0),
            (one, 0),
            (one + 1, 1),
            (2 * one, 1),
            (2 * one + 1, 2),
        ];
        for (len, further) in cases {
            assert_eq!(further_chunks(len), further, "{len}");
        }
    }
}
