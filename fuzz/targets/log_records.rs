//! Records of the Raft log that say anything at all, under good checksums.
//!
//! A disk does not make such records, but a bug, an attacker or a newer version may. Each part is a record's content;
//! the target puts lengths and checksums around it, so that accidents reach what lies behind the checks: the index of a
//! record, entries, and the small state beside them.

use super::log_directory::{
    MEMBER, append, bootstrap, config, core_config, in_a_new_thread, records_of, refused,
};
use super::{Case, Outcome, Target};
use raft::{GetEntriesContext, Storage};
use rusd_messages::{Index, RaftStatus};
use rusd_raft::log::{Append, Truncated, Vote, segment};
use rusd_raft::{Core, Log};
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// See the module.
pub const TARGET: Target = Target {
    name: "log_records",
    corpus,
    run,
    cases: 600,
};

const SEGMENT: &str = "0000000000000001.raftlog";
const SEGMENT_NUMBER: u32 = 1;
const HEADER_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;
/// The engine's applied index is a number of its own: the first part.
const APPLIED_BYTES: usize = 8;

/// The header of a segment, and valid logs as records without lengths and checksums.
static LOGS: LazyLock<(Vec<u8>, Vec<Case>)> = LazyLock::new(|| {
    let mut header = Vec::new();
    let cases = [0, 1, 5]
        .into_iter()
        .map(|appends| {
            let dir = tempfile::tempdir().unwrap();
            write_log(dir.path(), appends);
            let bytes = fs::read(dir.path().join(SEGMENT)).unwrap();
            header = bytes[..segment::SEGMENT_HEADER_BYTES].to_vec();
            let mut case: Case = vec![1u64.to_be_bytes().to_vec()];
            case.extend(records_of(&bytes).map(|(start, end)| open_record(&bytes[start..end])));
            case
        })
        .collect();
    (header, cases)
});

fn write_log(dir: &Path, appends: u64) {
    let mut log = Log::open(config(dir)).unwrap();
    log.bootstrap(&bootstrap()).unwrap();
    let mut writer = log.writer();
    for step in 0..appends {
        writer.write(&append(2 + 2 * step, 2, 2)).unwrap();
    }
    if appends > 2 {
        let truncation = Append {
            truncate: Some(Truncated { index: 1, term: 1 }),
            conf: Some(log_conf().into()),
            vote: Some(Vote {
                term: 3,
                vote: MEMBER.0,
                commit: 3,
                last_conf_change: 1,
            }),
            must_sync: true,
            ..Append::default()
        };
        writer.write(&truncation).unwrap();
    }
}

fn log_conf() -> rusd_raft::log::Conf {
    let mut conf = rusd_raft::log::Conf {
        index: 1,
        ..Default::default()
    };
    conf.state.voters = vec![MEMBER.0];
    conf
}

/// A record without lengths and checksums: u32 LE length of the entries, entries, items.
fn open_record(record: &[u8]) -> Vec<u8> {
    let items_at = u64::from_be_bytes(*record[8..].first_chunk().unwrap()) as usize;
    let entries = &record[HEADER_BYTES..items_at];
    let entries = &entries[..entries.len().saturating_sub(CHECKSUM_BYTES)];
    let items = &record[items_at..record.len() - CHECKSUM_BYTES];
    let mut open = (entries.len() as u32).to_le_bytes().to_vec();
    open.extend(entries);
    open.extend(items);
    open
}

/// The reverse of [`open_record`], for any bytes.
fn close_record(open: &[u8]) -> Vec<u8> {
    let (length, rest) = open.split_first_chunk().unwrap_or((&[0; 4], open));
    let length = (u32::from_le_bytes(*length) as usize).min(rest.len());
    let (entries, items) = rest.split_at(length);
    let mut body = entries.to_vec();
    if !entries.is_empty() {
        body.extend(crc32fast::hash(entries).to_le_bytes());
    }
    let items_at = HEADER_BYTES + body.len();
    body.extend(items);
    body.extend((crc32fast::hash(items) ^ SEGMENT_NUMBER).to_le_bytes());
    let mut record = ((HEADER_BYTES + body.len()) as u64)
        .wrapping_shl(8)
        .to_be_bytes()
        .to_vec();
    record.extend((items_at as u64).to_be_bytes());
    record.extend(body);
    record
}

fn corpus() -> Vec<Case> {
    LOGS.1.clone()
}

fn run(parts: &[Vec<u8>]) -> Outcome {
    in_a_new_thread(|| run_here(parts))
}

fn run_here(parts: &[Vec<u8>]) -> Outcome {
    let (applied, records) = parts
        .split_first()
        .map_or((&[][..], parts), |(applied, rest)| (applied, rest));
    let applied = applied
        .first_chunk::<APPLIED_BYTES>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let mut bytes = LOGS.0.clone();
    for record in records {
        bytes.extend(close_record(record));
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(SEGMENT), bytes).unwrap();
    let log = match Log::open(config(dir.path())) {
        Ok(log) => log,
        Err(error) => return refused(&error),
    };
    if log.identity().is_none() {
        return Outcome::Refused;
    }
    let tail = log.into_tail();
    let (first, last) = (tail.truncated().index + 1, tail.last());
    if first <= last {
        // Entries that are not protobuf surface here; the process ends on them, saying so.
        let read = tail.entries(first, last + 1, None, GetEntriesContext::empty(false));
        if read.is_err() {
            return Outcome::Refused;
        }
    }
    let status = Arc::new(RaftStatus::default());
    match Core::new(core_config(Index(applied)), tail, status) {
        Ok(core) => {
            core.check();
            Outcome::Accepted
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Outcome::Refused
        }
    }
}
