//! Verifying segments before raft-engine reads them.
//!
//! At open raft-engine checks the index part of every record, but the entries themselves only in the last one,
//! and it cuts the newest segment off at the first thing it does not understand, whatever follows. So damage in
//! the middle would either lose acknowledged entries in silence or surface as a crash much later. This module reads
//! every byte first and tells a torn tail from damage.
//!
//! ```text
//! segment  = magic | version u64 | alignment u64 | record*          (integers big endian unless noted)
//! record   = length u56 | compression u8 | items offset u64
//!          | entries | crc32 of entries u32 le                      (absent when there are no entries)
//!          | items   | crc32 of items, xor the segment's number, u32 le
//! items    = count varint | (region varint | kind u8 | item)*
//! ```
//!
//! *A torn tail* is the record that was being written when the power went, or the process: at most one record is
//! unsynced at any time (truncations ride in the record of the next append), so nothing valid can follow it. *Damage* is a
//! record that does not verify and is followed by one that does, or that is in a segment other than the newest:
//! a segment is synced to its end before the next one is begun.

use thiserror::Error;

const MAGIC: &[u8] = b"RAFT-LOG-FILE-HEADER-9986AB3E47F320B394C8E84916EB0ED5";
const VERSION: u64 = 2;
/// Magic, version, alignment.
pub const SEGMENT_HEADER_BYTES: usize = MAGIC.len() + 16;
const RECORD_HEADER_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;
const UNCOMPRESSED: u8 = 0;

const KIND_ENTRIES: u8 = 1;
const KIND_COMMAND: u8 = 2;
const KIND_KEY_VALUE: u8 = 3;
const COMMAND_CLEAN: u8 = 1;
const COMMAND_COMPACT: u8 = 2;
const OPERATION_PUT: u8 = 1;
const OPERATION_DELETE: u8 = 2;

/// What a segment turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Records that verify.
    pub records: usize,
    /// Where the last of them ends.
    pub valid_bytes: usize,
    /// Bytes of a torn record behind it; 0 if only preallocated zeros follow.
    pub torn_bytes: usize,
}

/// Why a segment is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    /// It does not begin like a segment.
    #[error("it does not begin with the header of a log segment")]
    Header,
    /// Written by another version of the format.
    #[error("its format is version {0}, and this program knows version 2")]
    Version(u64),
    /// A record that does not verify, with intact data behind it.
    #[error(
        "the record at byte {offset} does not verify ({fault}), although intact data follows it"
    )]
    Record {
        /// Where the record starts.
        offset: usize,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Its length or layout is impossible.
    #[error("impossible length")]
    Length,
    /// It is compressed, which this program never does.
    #[error("unknown compression")]
    Compression,
    /// The entries do not match their checksum.
    #[error("checksum of the entries")]
    Entries,
    /// The items do not match their checksum.
    #[error("checksum of the index")]
    Items,
    /// The items are not what their layout says.
    #[error("layout of the index")]
    Layout,
}

/// Verifies a whole segment. `number` is the one in its file name; `newest` says whether no
/// other segment follows, so that a torn tail is acceptable.
pub fn verify(bytes: &[u8], number: u64, newest: bool) -> Result<Verified, Damage> {
    if let Err(damage) = verify_header(bytes) {
        // A crash between creating the first segment and syncing its header leaves zeros, or a part of it.
        let torn = bytes.len() < SEGMENT_HEADER_BYTES
            && MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]);
        return if newest && (torn || is_zero(bytes)) {
            Ok(Verified {
                records: 0,
                valid_bytes: 0,
                torn_bytes: 0,
            })
        } else {
            Err(damage)
        };
    }
    let signature = number as u32;
    let mut offset = SEGMENT_HEADER_BYTES;
    let mut records = 0;
    while offset < bytes.len() {
        match verify_record(&bytes[offset..], signature) {
            Ok(len) => {
                offset += len;
                records += 1;
            }
            Err(fault) => {
                let rest = &bytes[offset..];
                let torn_bytes = if is_zero(rest) { 0 } else { rest.len() };
                if !newest || (torn_bytes > 0 && any_record_in(&rest[1..], signature)) {
                    return Err(Damage::Record { offset, fault });
                }
                return Ok(Verified {
                    records,
                    valid_bytes: offset,
                    torn_bytes,
                });
            }
        }
    }
    Ok(Verified {
        records,
        valid_bytes: offset,
        torn_bytes: 0,
    })
}

fn verify_header(bytes: &[u8]) -> Result<(), Damage> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(Damage::Header)?;
    let version = read_u64(rest).ok_or(Damage::Header)?;
    let alignment = rest.get(8..).and_then(read_u64).ok_or(Damage::Header)?;
    match (version, alignment) {
        (VERSION, 0) => Ok(()),
        (VERSION, _) => Err(Damage::Header),
        _ => Err(Damage::Version(version)),
    }
}

/// Verifies the record at the start of `bytes` and returns its length.
fn verify_record(bytes: &[u8], signature: u32) -> Result<usize, Fault> {
    let length_and_compression = read_u64(bytes).ok_or(Fault::Length)?;
    let items_at = bytes.get(8..).and_then(read_u64).ok_or(Fault::Length)?;
    let len = usize::try_from(length_and_compression >> 8).map_err(|_| Fault::Length)?;
    let items_at = usize::try_from(items_at).map_err(|_| Fault::Length)?;
    if items_at < RECORD_HEADER_BYTES || len > bytes.len() || len < items_at + CHECKSUM_BYTES + 1 {
        return Err(Fault::Length);
    }
    if length_and_compression as u8 != UNCOMPRESSED {
        return Err(Fault::Compression);
    }
    let items = checked(&bytes[items_at..len], signature).ok_or(Fault::Items)?;
    let entries = &bytes[RECORD_HEADER_BYTES..items_at];
    let entries_bytes = if entries.is_empty() {
        0
    } else {
        checked(entries, 0).ok_or(Fault::Entries)?.len()
    };
    verify_items(items, entries_bytes).ok_or(Fault::Layout)?;
    Ok(len)
}

/// The bytes before a trailing checksum, if it matches.
fn checked(bytes: &[u8], signature: u32) -> Option<&[u8]> {
    let (content, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
    let expected = u32::from_le_bytes(checksum.try_into().ok()?) ^ signature;
    (!content.is_empty() && crc32fast::hash(content) == expected).then_some(content)
}

/// Walks the items, so that raft-engine never meets a layout that it would trip over.
fn verify_items(mut items: &[u8], entries_bytes: usize) -> Option<()> {
    let items = &mut items;
    let count = read_varint(items)?;
    let mut end = 0;
    for _ in 0..count {
        let _region = read_varint(items)?;
        match read_u8(items)? {
            KIND_ENTRIES => {
                let count = read_varint(items)?;
                if count > 0 {
                    read_varint(items)?.checked_add(count)?;
                }
                for _ in 0..count {
                    let next_end = read_varint(items)?;
                    if next_end < end || next_end > entries_bytes as u64 {
                        return None;
                    }
                    end = next_end;
                }
            }
            KIND_COMMAND => match read_u8(items)? {
                COMMAND_CLEAN => {}
                COMMAND_COMPACT => {
                    read_varint(items)?;
                }
                _ => return None,
            },
            KIND_KEY_VALUE => {
                let operation = read_u8(items)?;
                skip_string(items)?;
                match operation {
                    OPERATION_PUT => skip_string(items)?,
                    OPERATION_DELETE => {}
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
    items.is_empty().then_some(())
}

/// Whether an intact record starts anywhere in `bytes`.
fn any_record_in(bytes: &[u8], signature: u32) -> bool {
    (0..bytes.len()).any(|at| bytes[at] == 0 && verify_record(&bytes[at..], signature).is_ok())
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn read_u64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}

fn read_u8(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = read_u8(bytes)?;
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn skip_string(bytes: &mut &[u8]) -> Option<()> {
    let len = usize::try_from(read_varint(bytes)?).ok()?;
    *bytes = bytes.get(len..)?;
    Some(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    const NUMBER: u64 = 7;

    fn header() -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(0u64.to_be_bytes());
        bytes
    }

    fn record(entries: &[u8]) -> Vec<u8> {
        let mut items = vec![1, 1, KIND_ENTRIES, 1, 9];
        items.push(u8::try_from(entries.len()).unwrap());
        let mut body = entries.to_vec();
        body.extend(crc32fast::hash(entries).to_le_bytes());
        let items_at = RECORD_HEADER_BYTES + body.len();
        body.extend(&items);
        body.extend((crc32fast::hash(&items) ^ NUMBER as u32).to_le_bytes());
        let len = (RECORD_HEADER_BYTES + body.len()) as u64;
        let mut out = (len << 8).to_be_bytes().to_vec();
        out.extend((items_at as u64).to_be_bytes());
        out.extend(body);
        out
    }

    fn segment(records: usize) -> Vec<u8> {
        let mut bytes = header();
        for i in 0..records {
            bytes.extend(record(&[i as u8; 40]));
        }
        bytes
    }

    #[test]
    fn intact_records_and_preallocated_zeros_verify() {
        let mut bytes = segment(3);
        let valid_bytes = bytes.len();
        let clean = Verified {
            records: 3,
            valid_bytes,
            torn_bytes: 0,
        };
        assert_eq!(verify(&bytes, NUMBER, false), Ok(clean));
        bytes.extend([0; 4096]);
        assert_eq!(verify(&bytes, NUMBER, true), Ok(clean));
        assert!(verify(&bytes, NUMBER, false).is_err());
    }

    #[test]
    fn a_cut_anywhere_in_the_newest_segment_is_a_torn_tail() {
        let bytes = segment(3);
        let one = record(&[0; 40]).len();
        for cut in 0..bytes.len() {
            let found = verify(&bytes[..cut], NUMBER, true).unwrap();
            assert_eq!(
                found.records,
                cut.saturating_sub(SEGMENT_HEADER_BYTES) / one,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn any_flipped_bit_before_the_last_record_is_refused() {
        let bytes = segment(3);
        let last = bytes.len() - record(&[0; 40]).len();
        for at in 0..last {
            for bit in [0x01, 0x80] {
                let mut damaged = bytes.clone();
                damaged[at] ^= bit;
                assert!(
                    verify(&damaged, NUMBER, true).is_err(),
                    "byte {at}, bit {bit:#x}"
                );
            }
        }
    }

    #[test]
    fn records_of_another_segment_do_not_count() {
        let mut bytes = segment(2);
        let valid_bytes = bytes.len();
        bytes.push(1);
        let mut foreign = record(&[5; 40]);
        let end = foreign.len();
        foreign[end - 4] ^= 1;
        bytes.extend(&foreign);
        let found = verify(&bytes, NUMBER, true).unwrap();
        assert_eq!((found.records, found.valid_bytes), (2, valid_bytes));
        assert!(found.torn_bytes > 0);
    }

    #[test]
    fn a_layout_that_contradicts_itself_is_a_fault_despite_its_checksum() {
        for items in [
            &[1, 1, KIND_KEY_VALUE, OPERATION_PUT, 200, 1][..],
            &[1, 1, KIND_ENTRIES, 1, 9, 90],
            &[9],
        ] {
            let mut body = items.to_vec();
            body.extend((crc32fast::hash(items) ^ NUMBER as u32).to_le_bytes());
            let mut out = (((RECORD_HEADER_BYTES + body.len()) as u64) << 8)
                .to_be_bytes()
                .to_vec();
            out.extend((RECORD_HEADER_BYTES as u64).to_be_bytes());
            out.extend(body);
            assert_eq!(verify_record(&out, NUMBER as u32), Err(Fault::Layout));
        }
    }
}
