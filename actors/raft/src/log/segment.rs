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
//! *A torn tail* is the record that was being written when the power or the process failed: at most one record is
//! unsynced at any time (a truncation is part of the record of the next append), so nothing valid can follow it.
//! *Damage* is a record that does not verify and is followed by one that does, or that is in a segment other than the
//! newest: a segment is synced to its end before the next one is begun. Damage is also a record whose checksums match
//! but which says what this program never writes, wherever it is: raft-engine trusts such a record, and panics over a
//! length beyond its end or over entries that do not follow the ones before them.

use super::REGION;
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

const WIRE_VARINT: u64 = 0;
const WIRE_BYTES: u64 = 2;
const ENTRY_INDEX_FIELD: u64 = 3;

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
    /// A record that nothing has happened to, and that was never written like this.
    #[error("the record at byte {offset} is whole, but not one that this program writes ({fault})")]
    Foreign {
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
    /// The items, or the entries that they place, are not what their layout says.
    #[error("layout of the index or of an entry")]
    Layout,
    /// Its entries do not follow those of the records before it.
    #[error("entries are missing before it")]
    Hole,
}

impl Fault {
    /// Whether an interrupted write may look like this. The others come after matching checksums.
    fn may_be_torn(self) -> bool {
        matches!(self, Self::Length | Self::Entries | Self::Items)
    }
}

/// What the records before a record allow it to say.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    /// The last entry so far, if there is one.
    last: Option<u64>,
    /// In the rewrite queue entries are left out that were truncated meanwhile, and raft-engine keeps notes of its own
    /// in other regions.
    rewritten: bool,
}

impl Before {
    /// The beginning of the log queue, whose older segments may have been removed.
    pub fn log() -> Self {
        Self {
            last: None,
            rewritten: false,
        }
    }

    /// The beginning of the rewrite queue.
    pub fn rewritten() -> Self {
        Self {
            last: None,
            rewritten: true,
        }
    }

    fn append(&mut self, first: u64, count: u64) -> Result<(), Fault> {
        if !self.rewritten && self.last.is_some_and(|last| first > last + 1) {
            return Err(Fault::Hole);
        }
        // The end is known not to overflow.
        self.last = Some(first + (count - 1));
        Ok(())
    }

    fn compact(&mut self, index: u64) {
        self.last = self.last.filter(|last| *last >= index);
    }
}

/// Verifies a whole segment of the log queue by itself. `number` is the one in its file name; `newest` says whether
/// no other segment follows, so that a torn tail is acceptable.
pub fn verify(bytes: &[u8], number: u64, newest: bool) -> Result<Verified, Damage> {
    verify_after(&mut Before::log(), bytes, number, newest)
}

/// As [`verify`], for a segment that follows others.
pub fn verify_after(
    before: &mut Before,
    bytes: &[u8],
    number: u64,
    newest: bool,
) -> Result<Verified, Damage> {
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
        match verify_record(before, &bytes[offset..], signature) {
            Ok(len) => {
                offset += len;
                records += 1;
            }
            Err(fault) if !fault.may_be_torn() => {
                return Err(Damage::Foreign { offset, fault });
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
fn verify_record(before: &mut Before, bytes: &[u8], signature: u32) -> Result<usize, Fault> {
    let length_and_compression = read_u64(bytes).ok_or(Fault::Length)?;
    let items_at = bytes.get(8..).and_then(read_u64).ok_or(Fault::Length)?;
    let len = usize::try_from(length_and_compression >> 8).map_err(|_| Fault::Length)?;
    let items_at = usize::try_from(items_at).map_err(|_| Fault::Length)?;
    let items_at_max = len.saturating_sub(CHECKSUM_BYTES + 1);
    if items_at < RECORD_HEADER_BYTES || len > bytes.len() || items_at > items_at_max {
        return Err(Fault::Length);
    }
    let items = checked(&bytes[items_at..len], signature).ok_or(Fault::Items)?;
    let entries = match &bytes[RECORD_HEADER_BYTES..items_at] {
        [] => &[],
        entries => checked(entries, 0).ok_or(Fault::Entries)?,
    };
    if length_and_compression as u8 != UNCOMPRESSED {
        return Err(Fault::Compression);
    }
    // Only a record that verifies counts as one before the next.
    let mut after = *before;
    verify_items(&mut after, items, entries)?;
    *before = after;
    Ok(len)
}

/// The bytes before a trailing checksum, if it matches.
fn checked(bytes: &[u8], signature: u32) -> Option<&[u8]> {
    let (content, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
    let expected = u32::from_le_bytes(checksum.try_into().ok()?) ^ signature;
    (!content.is_empty() && crc32fast::hash(content) == expected).then_some(content)
}

/// Walks the items, so that raft-engine never meets a layout that it would trip over.
fn verify_items(before: &mut Before, mut items: &[u8], entries: &[u8]) -> Result<(), Fault> {
    let items = &mut items;
    let mut rest = Entries {
        bytes: entries,
        at: 0,
    };
    for _ in 0..read_varint(items).ok_or(Fault::Layout)? {
        let placed = verify_item(before, items, &mut rest);
        if let Some((first, count)) = placed.ok_or(Fault::Layout)? {
            before.append(first, count)?;
        }
    }
    items.is_empty().then_some(()).ok_or(Fault::Layout)
}

/// The entries of a record, and how far the items have accounted for them.
struct Entries<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Entries<'a> {
    /// The next one, which ends at `end`.
    fn take_to(&mut self, end: u64) -> Option<&'a [u8]> {
        let entry = self.bytes.get(self.at..usize::try_from(end).ok()?)?;
        self.at += entry.len();
        Some(entry)
    }
}

/// Walks one item; the first index and the number of the entries that it places, if it does.
fn verify_item(
    before: &mut Before,
    items: &mut &[u8],
    entries: &mut Entries<'_>,
) -> Option<Option<(u64, u64)>> {
    if read_varint(items)? != REGION && !before.rewritten {
        return None;
    }
    match read_u8(items)? {
        KIND_ENTRIES => {
            let count = read_varint(items)?;
            if count == 0 {
                return Some(None);
            }
            let first = read_varint(items)?;
            for index in first..first.checked_add(count)? {
                let entry = entries.take_to(read_varint(items)?)?;
                if entry_index(entry)? != index {
                    return None;
                }
            }
            return Some(Some((first, count)));
        }
        KIND_COMMAND => match read_u8(items)? {
            COMMAND_CLEAN => before.last = None,
            COMMAND_COMPACT => before.compact(read_varint(items)?),
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
    Some(None)
}

/// Whether a record starts anywhere in `bytes` whose items are intact. Its entries need not be: raft-engine goes by
/// the items, and looks at the entries of the last record only.
fn any_record_in(bytes: &[u8], signature: u32) -> bool {
    (0..bytes.len()).any(|at| {
        let found = || verify_record(&mut Before::rewritten(), &bytes[at..], signature);
        bytes[at] == 0 && !matches!(found(), Err(Fault::Length | Fault::Items))
    })
}

/// The index that an entry (`eraftpb.Entry`) names itself.
fn entry_index(mut entry: &[u8]) -> Option<u64> {
    let bytes = &mut entry;
    let mut index = 0;
    while !bytes.is_empty() {
        let tag = read_varint(bytes)?;
        match tag & 7 {
            WIRE_VARINT => {
                let value = read_varint(bytes)?;
                if tag >> 3 == ENTRY_INDEX_FIELD {
                    index = value;
                }
            }
            WIRE_BYTES => skip_string(bytes)?,
            // An entry has numbers and byte strings only.
            _ => return None,
        }
    }
    Some(index)
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

    /// An `eraftpb.Entry`.
    fn entry(index: u8, data: &[u8]) -> Vec<u8> {
        let len = u8::try_from(data.len()).unwrap();
        [&[0x10, 2, 0x18, index, 0x22, len][..], data].concat()
    }

    fn record(data: &[u8]) -> Vec<u8> {
        let entries = &entry(9, data);
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
            let found = verify_record(&mut Before::log(), &out, NUMBER as u32);
            assert_eq!(found, Err(Fault::Layout));
            // It is no torn tail either: a torn record does not match its checksum.
            let mut bytes = segment(1);
            let offset = bytes.len();
            bytes.extend(out);
            let fault = Fault::Layout;
            assert_eq!(
                verify(&bytes, NUMBER, true),
                Err(Damage::Foreign { offset, fault })
            );
        }
    }

    /// A record with these items, and with the entry `index`, which is eight bytes long.
    fn record_of(index: u8, items: &[u8]) -> Vec<u8> {
        let entries = entry(index, &[5; 2]);
        let mut body = entries.clone();
        body.extend(crc32fast::hash(&entries).to_le_bytes());
        let items_at = RECORD_HEADER_BYTES + body.len();
        body.extend(items);
        body.extend((crc32fast::hash(items) ^ NUMBER as u32).to_le_bytes());
        let mut out = (((RECORD_HEADER_BYTES + body.len()) as u64) << 8)
            .to_be_bytes()
            .to_vec();
        out.extend((items_at as u64).to_be_bytes());
        out.extend(body);
        out
    }

    #[test]
    fn entries_that_do_not_follow_are_refused_also_across_segments() {
        let entry = |index| record_of(index, &[1, 1, KIND_ENTRIES, 1, index, 8]);
        let truncation = |index| record_of(index, &[1, 1, KIND_COMMAND, COMMAND_COMPACT, index]);
        let fault = |records: &[Vec<u8>]| {
            let bytes = [header(), records.concat()].concat();
            verify(&bytes, NUMBER, true).map(|found| found.records)
        };
        assert_eq!(fault(&[entry(5), entry(6), entry(6), entry(3)]), Ok(4));
        assert_eq!(fault(&[entry(5), truncation(6), entry(9)]), Ok(3));
        let hole = |offset| {
            let fault = Fault::Hole;
            Err(Damage::Foreign { offset, fault })
        };
        let second = SEGMENT_HEADER_BYTES + entry(5).len();
        assert_eq!(fault(&[entry(5), entry(7)]), hole(second));
        let third = second + truncation(5).len();
        assert_eq!(fault(&[entry(5), truncation(5), entry(7)]), hole(third));

        let mut before = Before::log();
        let segment = |index| [header(), entry(index)].concat();
        assert!(verify_after(&mut before, &segment(5), NUMBER, false).is_ok());
        let next = verify_after(&mut before, &segment(8), NUMBER, true);
        assert_eq!(next.map(|found| found.records), hole(SEGMENT_HEADER_BYTES));
        let mut rewritten = Before::rewritten();
        assert!(verify_after(&mut rewritten, &segment(5), NUMBER, false).is_ok());
        assert!(verify_after(&mut rewritten, &segment(8), NUMBER, true).is_ok());
    }

    #[test]
    fn what_this_program_never_writes_is_refused() {
        let other_region = record_of(5, &[1, 2, KIND_ENTRIES, 1, 5, 8]);
        let other_index = record_of(6, &[1, 1, KIND_ENTRIES, 1, 5, 8]);
        let cut_entry = record_of(5, &[1, 1, KIND_ENTRIES, 1, 5, 7]);
        let mut compressed = record_of(5, &[1, 1, KIND_ENTRIES, 1, 5, 8]);
        compressed[7] = 1;
        for (record, fault) in [
            (other_region, Fault::Layout),
            (other_index, Fault::Layout),
            (cut_entry, Fault::Layout),
            (compressed, Fault::Compression),
        ] {
            let bytes = [header(), record].concat();
            let offset = SEGMENT_HEADER_BYTES;
            assert_eq!(
                verify(&bytes, NUMBER, true),
                Err(Damage::Foreign { offset, fault })
            );
        }
    }

    #[test]
    fn lengths_beyond_any_bound_are_impossible() {
        for items_at in [u64::MAX, u64::MAX - 4, i64::MAX as u64, 0] {
            let mut record = record(&[1; 40]);
            record[8..16].copy_from_slice(&items_at.to_be_bytes());
            let found = verify_record(&mut Before::log(), &record, NUMBER as u32);
            assert_eq!(found, Err(Fault::Length));
        }
    }

    #[test]
    fn two_records_with_damaged_entries_are_no_torn_tail() {
        let mut bytes = segment(3);
        let one = record(&[0; 40]).len();
        let offset = SEGMENT_HEADER_BYTES + one;
        for record in [1, 2] {
            bytes[SEGMENT_HEADER_BYTES + record * one + RECORD_HEADER_BYTES + 20] ^= 1;
        }
        let fault = Fault::Entries;
        assert_eq!(
            verify(&bytes, NUMBER, true),
            Err(Damage::Record { offset, fault })
        );
    }
}
