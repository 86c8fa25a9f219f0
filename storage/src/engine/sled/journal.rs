//! A batch as one value.
//!
//! ```text
//!   journal := op*
//!   op      := 1  key_len  value_len  key  value      put
//!            | 0  key_len  key                        delete
//! ```
//!
//! Lengths are u32 LE. It only ever comes back from an engine that checks what
//! it stores, so one that makes no sense is damage.

use bytes::Bytes;

use super::super::{Op, WriteBatch};

const DELETE: u8 = 0;
const PUT: u8 = 1;

/// Writes a batch down.
pub fn encode(batch: &WriteBatch) -> Vec<u8> {
    const OP_BYTES: usize = 9;
    let mut out = Vec::with_capacity(batch.bytes() + batch.len() * OP_BYTES);
    let len = |bytes: &Bytes| (bytes.len() as u32).to_le_bytes();
    for op in batch.ops() {
        match op {
            Op::Put { key, value } => {
                out.push(PUT);
                out.extend_from_slice(&len(key));
                out.extend_from_slice(&len(value));
                out.extend_from_slice(key);
                out.extend_from_slice(value);
            }
            Op::Delete { key } => {
                out.push(DELETE);
                out.extend_from_slice(&len(key));
                out.extend_from_slice(key);
            }
        }
    }
    out
}

/// Reads it again; `None` if it makes no sense.
pub fn decode(mut journal: &[u8]) -> Option<WriteBatch> {
    fn take<'a>(from: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = from.split_at_checked(len)?;
        *from = rest;
        Some(taken)
    }
    fn take_len(from: &mut &[u8]) -> Option<usize> {
        let bytes = take(from, 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes) as usize)
    }
    let mut batch = WriteBatch::new();
    while let Some((&kind, rest)) = journal.split_first() {
        journal = rest;
        let key_len = take_len(&mut journal)?;
        match kind {
            PUT => {
                let value_len = take_len(&mut journal)?;
                let key = take(&mut journal, key_len)?.to_vec();
                batch.put(key, take(&mut journal, value_len)?.to_vec());
            }
            DELETE => batch.delete(take(&mut journal, key_len)?.to_vec()),
            _ => return None,
        }
    }
    Some(batch)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_back_and_a_part_of_it_does_not() {
        let mut batch = WriteBatch::new();
        batch.put(&b"rk"[..], vec![7; 300]);
        batch.delete(&b"m"[..]);
        batch.put(&b""[..], &b""[..]);
        let journal = encode(&batch);
        assert_eq!(decode(&journal).as_ref(), Some(&batch));
        assert_eq!(decode(&[]), Some(WriteBatch::new()));
        let first = 1 + 4 + 4 + 2 + 300;
        for len in (1..journal.len()).filter(|len| ![first, first + 6].contains(len)) {
            assert_eq!(decode(&journal[..len]), None, "{len}");
        }
    }
}
