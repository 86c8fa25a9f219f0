//! An input as one string of bytes: each part behind its length, u32 little endian.

use super::Case;

/// Parts beyond this are ignored.
const PARTS_MAX: usize = 64;

/// Joins the parts.
pub fn join(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend((part.len() as u32).to_le_bytes());
        bytes.extend(part);
    }
    bytes
}

/// Splits any bytes: a length beyond the end means the rest.
pub fn split(mut bytes: &[u8]) -> Case {
    let mut parts = Case::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = rest.len().min(u32::from_le_bytes(*length) as usize);
        let (part, rest) = rest.split_at(length);
        parts.push(part.to_vec());
        bytes = rest;
        if parts.len() == PARTS_MAX {
            break;
        }
    }
    parts
}
