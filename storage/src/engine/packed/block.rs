//! Many small records in one value.
//!
//! A block holds neighbouring records of one tree, in key order. It is stored
//! under a key that is not above any of theirs, its *base*; keys are stored as
//! what they do not share with it.
//!
//! ```text
//!   block  := entry*  offset*  count  crc
//!   entry  := shared  rest_len  value_len  rest  value
//!             \---- varints (LEB128) ----/
//!   offset := u16 LE, where an entry starts      (one per entry)
//!   count  := u16 LE, how many entries
//!   crc    := u32 LE, CRC-32C of all before it and then of the base
//!
//!   key of an entry = base[..shared] ++ rest
//! ```
//!
//! The offsets make a lookup a binary search that touches a few cache lines of
//! the block and copies nothing but what it returns. A lookup trusts the
//! checksum that it does not look at: it would cost more than the search. What
//! reads a block as a whole looks ([`Block::verify`]), and every start and every
//! rewrite read all blocks as a whole.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;

const OFFSET_BYTES: usize = 2;
const COUNT_BYTES: usize = 2;
const CRC_BYTES: usize = 4;

/// Entries of a block start below this offset and are fewer than this.
pub const MAX_OFFSET: usize = u16::MAX as usize;

/// How many bytes `a` and `b` have in common at the front.
fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn varint_bytes(mut n: usize) -> usize {
    let mut bytes = 1;
    while n >= 0x80 {
        n >>= 7;
        bytes += 1;
    }
    bytes
}

fn put_varint(out: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Reads a varint at `at` and moves past it.
fn take_varint(data: &[u8], at: &mut usize) -> Option<usize> {
    let mut n = 0usize;
    for shift in (0..35).step_by(7) {
        let byte = *data.get(*at)?;
        *at += 1;
        n |= ((byte & 0x7f) as usize) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

/// Bytes that an entry adds to a block stored under `base`, its offset
/// included.
pub fn entry_bytes(base: &[u8], key: &[u8], value_len: usize) -> usize {
    let shared = shared_prefix(base, key);
    let rest = key.len() - shared;
    varint_bytes(shared)
        + varint_bytes(rest)
        + varint_bytes(value_len)
        + rest
        + value_len
        + OFFSET_BYTES
}

/// Bytes of a block without entries.
pub const EMPTY_BYTES: usize = COUNT_BYTES + CRC_BYTES;

/// Of the base too: a block under another key has other records.
fn checksum(base: &[u8], data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(data), base)
}

/// Encodes `entries`, which are in key order, as a block stored under `base`.
///
/// All but the last entry have to end below [`MAX_OFFSET`].
pub fn encode(base: &[u8], entries: &[(Bytes, Bytes)], size_hint: usize) -> Bytes {
    let mut out = Vec::with_capacity(size_hint);
    let mut offsets = Vec::with_capacity(entries.len() * OFFSET_BYTES + COUNT_BYTES);
    for (key, value) in entries {
        debug_assert!(out.len() <= MAX_OFFSET);
        offsets.extend_from_slice(&(out.len() as u16).to_le_bytes());
        let shared = shared_prefix(base, key);
        put_varint(&mut out, shared);
        put_varint(&mut out, key.len() - shared);
        put_varint(&mut out, value.len());
        out.extend_from_slice(&key[shared..]);
        out.extend_from_slice(value);
    }
    debug_assert!(entries.len() <= MAX_OFFSET);
    offsets.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    out.extend_from_slice(&offsets);
    let crc = checksum(base, &out);
    out.extend_from_slice(&crc.to_le_bytes());
    Bytes::from(out)
}

/// An encoded block. Nothing in it is trusted: accessors return `None` where
/// the bytes make no sense.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    base: &'a [u8],
    entries: &'a [u8],
    offsets: &'a [u8],
}

/// Where the parts of an entry are.
struct Entry {
    shared: usize,
    rest: Range<usize>,
    value: Range<usize>,
}

impl<'a> Block<'a> {
    /// Looks at `data`, stored under `base`, but not at its checksum.
    pub fn parse(base: &'a [u8], data: &'a [u8]) -> Option<Self> {
        let (data, _crc) = data.split_last_chunk::<CRC_BYTES>()?;
        let (data, count) = data.split_last_chunk::<COUNT_BYTES>()?;
        let count = u16::from_le_bytes(*count) as usize;
        let split = data.len().checked_sub(count * OFFSET_BYTES)?;
        let (entries, offsets) = data.split_at(split);
        Some(Self {
            base,
            entries,
            offsets,
        })
    }

    /// [`parse`](Self::parse), given that the checksum is right.
    pub fn verify(base: &'a [u8], data: &'a [u8]) -> Option<Self> {
        let (content, crc) = data.split_last_chunk::<CRC_BYTES>()?;
        if checksum(base, content) != u32::from_le_bytes(*crc) {
            return None;
        }
        Self::parse(base, data)
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.offsets.len() / OFFSET_BYTES
    }

    fn entry(&self, index: usize) -> Option<Entry> {
        let at = index * OFFSET_BYTES;
        let offset: [u8; OFFSET_BYTES] =
            self.offsets.get(at..at + OFFSET_BYTES)?.try_into().ok()?;
        let mut at = u16::from_le_bytes(offset) as usize;
        let shared = take_varint(self.entries, &mut at)?;
        let rest_len = take_varint(self.entries, &mut at)?;
        let value_len = take_varint(self.entries, &mut at)?;
        let rest = at..at.checked_add(rest_len)?;
        let value = rest.end..rest.end.checked_add(value_len)?;
        if shared > self.base.len() || value.end > self.entries.len() {
            return None;
        }
        Some(Entry {
            shared,
            rest,
            value,
        })
    }

    fn compare(&self, entry: &Entry, key: &[u8]) -> Ordering {
        let (front, rest) = (
            &self.base[..entry.shared],
            &self.entries[entry.rest.clone()],
        );
        if key.len() < front.len() {
            return front.cmp(key);
        }
        let (key_front, key_rest) = key.split_at(front.len());
        front.cmp(key_front).then_with(|| rest.cmp(key_rest))
    }

    /// The first entry whose key is not below `key`, and whether it is equal.
    /// `None` if the block is damaged.
    pub fn lower_bound(&self, key: &[u8]) -> Option<(usize, bool)> {
        self.lower_bound_from(0, key)
    }

    /// As [`lower_bound`](Self::lower_bound), given that the entries before
    /// `low` are below `key`. Quick if it is the very entry at `low`.
    pub fn lower_bound_from(&self, mut low: usize, key: &[u8]) -> Option<(usize, bool)> {
        let mut high = self.len();
        if low < high && self.compare(&self.entry(low)?, key) == Ordering::Equal {
            return Some((low, true));
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match self.compare(&self.entry(middle)?, key) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Some((middle, true)),
                Ordering::Greater => high = middle,
            }
        }
        Some((low, false))
    }

    /// Writes the key of an entry into `key` and returns its value.
    pub fn read(&self, index: usize, key: &mut Vec<u8>) -> Option<&'a [u8]> {
        let entry = self.entry(index)?;
        key.clear();
        key.extend_from_slice(&self.base[..entry.shared]);
        key.extend_from_slice(&self.entries[entry.rest]);
        Some(&self.entries[entry.value])
    }

    /// The value of an entry.
    pub fn value(&self, index: usize) -> Option<&'a [u8]> {
        Some(&self.entries[self.value_range(index)?])
    }

    /// Where in the block the value of an entry is.
    pub fn value_range(&self, index: usize) -> Option<Range<usize>> {
        Some(self.entry(index)?.value)
    }
}

/// Decodes a whole block and verifies it; values share the memory of `data`.
pub fn decode(base: &[u8], data: &Bytes) -> Option<Vec<(Bytes, Bytes)>> {
    let block = Block::verify(base, data)?;
    let mut key = Vec::new();
    let mut entries = Vec::with_capacity(block.len());
    for index in 0..block.len() {
        let value = block.read(index, &mut key)?;
        entries.push((Bytes::copy_from_slice(&key), data.slice_ref(value)));
    }
    Some(entries)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    fn sorted_entries() -> impl Strategy<Value = Vec<(Bytes, Bytes)>> {
        let key = vec(0u8..4, 0..6);
        let value = vec(any::<u8>(), 0..40);
        btree_map(key, value, 0..30).prop_map(|map| {
            let pair = |(k, v): (Vec<u8>, Vec<u8>)| (Bytes::from(k), Bytes::from(v));
            map.into_iter().map(pair).collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(entries in sorted_entries(), base in vec(0u8..4, 0..6)) {
            let size = EMPTY_BYTES
                + entries.iter().map(|(k, v)| entry_bytes(&base, k, v.len())).sum::<usize>();
            let data = encode(&base, &entries, size);
            prop_assert_eq!(data.len(), size);
            prop_assert_eq!(decode(&base, &data).unwrap(), entries);
        }

        #[test]
        fn lower_bound_is_that_of_a_sorted_list(
            entries in sorted_entries(),
            base in vec(0u8..4, 0..6),
            key in vec(0u8..4, 0..6),
        ) {
            let data = encode(&base, &entries, 0);
            let block = Block::parse(&base, &data).unwrap();
            let expected = match entries.binary_search_by(|(k, _)| k[..].cmp(&key[..])) {
                Ok(index) => (index, true),
                Err(index) => (index, false),
            };
            prop_assert_eq!(block.lower_bound(&key), Some(expected));
        }

        #[test]
        fn a_block_that_changed_or_moved_is_known(
            entries in sorted_entries(),
            base in vec(0u8..4, 0..6),
            other_base in vec(0u8..4, 0..6),
            place in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let data = encode(&base, &entries, 0);
            prop_assert!(Block::verify(&base, &data).is_some());
            if other_base != base {
                prop_assert!(Block::verify(&other_base, &data).is_none());
            }
            let mut flipped = data.to_vec();
            flipped[place.index(data.len())] ^= 1 << bit;
            prop_assert!(Block::verify(&base, &flipped).is_none());
        }

        #[test]
        fn garbage_is_never_trusted(base in vec(any::<u8>(), 0..6), data in vec(any::<u8>(), 0..80)) {
            prop_assert!(decode(&base, &Bytes::from(data.clone())).is_none());
            if let Some(block) = Block::parse(&base, &data) {
                let _ = block.lower_bound(&base);
                let mut key = Vec::new();
                for index in 0..block.len() {
                    let _ = block.read(index, &mut key);
                }
            }
        }
    }
}
