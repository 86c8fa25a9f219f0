//! A Raft log whose files met with accidents.
//!
//! The log that is damaged is known: which records it has, in which order, and what the log is after each. So more
//! can be said than that nothing panics. If the damaged log opens, it is what it was after some record, and that record
//! is not before any that is whole with everything before it: what was synced is there, or the log is refused.

use super::{Case, Outcome, Target};
use raft::{GetEntriesContext, Storage};
use rusd_messages::{ClusterId, Index, MemberId, RaftStatus};
use rusd_proto::etcdserverpb::Member;
use rusd_raft::log::{Append, LogTail, Truncated, Vote, segment};
use rusd_raft::{Bootstrap, Core, CoreConfig, Identity, Log, LogConfig, LogError};
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// See the module.
pub const TARGET: Target = Target {
    name: "log_directory",
    corpus,
    run,
    cases: 400,
};

/// The member that the logs belong to.
pub const MEMBER: MemberId = MemberId(0xa1);
const SEGMENT_BYTES: u64 = 3 << 10;
/// The write after which removed segments go: some are left from before, and some follow.
const PURGE_AFTER: u64 = 19;
/// Marks a part as a file that exists; anything else at its front means that the file is gone.
const EXISTS: u8 = b'+';

/// What the log is after a record.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    /// The term of each entry from index 1 on, truncated ones included.
    terms: Vec<u64>,
    truncated: Truncated,
    vote: Vote,
}

/// Where a record lies.
struct Record {
    file: usize,
    start: usize,
    end: usize,
}

/// The log that accidents happen to.
struct Whole {
    /// Names and contents.
    files: Vec<(String, Vec<u8>)>,
    /// The records that are left after truncation, oldest first.
    records: Vec<Record>,
    /// What the log is after each record, those that truncation has removed included.
    states: Vec<State>,
}

static WHOLE: LazyLock<Whole> = LazyLock::new(Whole::make);

/// How logs are opened here.
pub fn config(dir: &Path) -> LogConfig {
    LogConfig {
        segment_bytes: SEGMENT_BYTES,
        purge_threshold_bytes: 2 * SEGMENT_BYTES,
        ..LogConfig::new(dir)
    }
}

/// How the log of a single member begins.
pub fn bootstrap() -> Bootstrap {
    Bootstrap {
        identity: Identity {
            cluster: ClusterId(0xc1),
            member: MEMBER,
        },
        members: vec![Member {
            id: MEMBER.0,
            name: "a".to_owned(),
            peer_ur_ls: vec!["http://127.0.0.1:2380".to_owned()],
            ..Member::default()
        }],
    }
}

/// An append batch of `count` entries from `from` on.
pub fn append(from: u64, count: u64, term: u64) -> Append {
    let mut append = Append {
        must_sync: true,
        vote: Some(Vote {
            term,
            vote: MEMBER.0,
            commit: from - 1,
            last_conf_change: 1,
        }),
        ..Append::default()
    };
    for index in from..from + count {
        append.entries.push(Default::default());
        let entry = append.entries.last_mut().unwrap();
        entry.index = index;
        entry.term = term;
        entry.data = content(index, term).into();
    }
    append
}

/// The data of an entry; its length differs from entry to entry.
fn content(index: u64, term: u64) -> Vec<u8> {
    let mut x = (index << 8 | term).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let bytes = (index * 37 % 300) as usize;
    (0..bytes)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect()
}

impl Whole {
    /// Writes it: several segments, a conflict that replaces the end, a truncation that removes segments.
    fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(config(dir.path())).unwrap();
        log.bootstrap(&bootstrap()).unwrap();
        let mut state = State {
            terms: vec![1],
            truncated: Truncated::default(),
            vote: Vote {
                term: 1,
                vote: 0,
                commit: 1,
                last_conf_change: 1,
            },
        };
        let mut states = vec![state.clone()];
        let mut writer = log.writer();
        for step in 0..40 {
            let term = 2 + step / 10;
            // Once a new leader replaces two entries.
            let from = state.terms.len() as u64 + 1 - if step == 10 { 2 } else { 0 };
            let mut append = append(from, 1 + step % 4, term);
            if step % 20 == 11 {
                let index = from - 4;
                let term = state.terms[index as usize - 1];
                append.truncate = Some(Truncated { index, term });
            }
            writer.write(&append).unwrap();
            state.terms.truncate(from as usize - 1);
            state
                .terms
                .extend(append.entries.iter().map(|entry| entry.term));
            state.truncated = append.truncate.unwrap_or(state.truncated);
            state.vote = append.vote.unwrap_or(state.vote);
            states.push(state.clone());
            if step == PURGE_AFTER {
                writer.purge().unwrap();
            }
        }
        drop((log, writer));
        Self::read(dir.path(), states)
    }

    fn read(dir: &Path, states: Vec<State>) -> Self {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".raftlog") || name.ends_with(".rewrite"))
            .collect();
        names.sort();
        let mut files = Vec::new();
        let mut records = Vec::new();
        for (file, name) in names.into_iter().enumerate() {
            let mut bytes = fs::read(dir.join(&name)).unwrap();
            let (number, kind) = name.split_once('.').unwrap();
            let valid = segment::verify(&bytes, number.parse().unwrap(), true).unwrap();
            // As much of the preallocated zeros as tells them from an end.
            bytes.truncate(valid.valid_bytes + 100);
            if kind == "raftlog" {
                records.extend(
                    records_of(&bytes[..valid.valid_bytes]).map(|(start, end)| Record {
                        file,
                        start,
                        end,
                    }),
                );
            }
            files.push((name, bytes));
        }
        assert!(
            files.len() > 3 && records.len() < states.len(),
            "{} files, {} of {} records",
            files.len(),
            records.len(),
            states.len()
        );
        Self {
            files,
            records,
            states,
        }
    }

    /// How many of the records at the front are whole in these files.
    fn whole_records(&self, files: &[Option<&[u8]>]) -> usize {
        let is_whole = |record: &&Record| {
            let now = files.get(record.file).copied().flatten();
            let was = &self.files[record.file].1;
            let same = |from: usize, to: usize| {
                now.and_then(|now| now.get(from..to)) == Some(&was[from..to])
            };
            same(0, segment::SEGMENT_HEADER_BYTES) && same(record.start, record.end)
        };
        self.records.iter().take_while(is_whole).count()
    }
}

/// Where the records of a segment begin and end, by the lengths that they state.
pub fn records_of(bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut start = segment::SEGMENT_HEADER_BYTES;
    std::iter::from_fn(move || {
        let header = bytes.get(start..)?.first_chunk::<8>()?;
        let length = usize::try_from(u64::from_be_bytes(*header) >> 8).ok()?;
        let end = start
            .checked_add(length)
            .filter(|end| *end <= bytes.len())?;
        if length == 0 {
            return None;
        }
        let record = (start, end);
        start = end;
        Some(record)
    })
}

fn corpus() -> Vec<Case> {
    let parts = WHOLE
        .files
        .iter()
        .map(|(_, bytes)| [&[EXISTS], bytes.as_slice()].concat());
    vec![parts.collect()]
}

fn run(parts: &[Vec<u8>]) -> Outcome {
    in_a_new_thread(|| run_here(parts))
}

fn run_here(parts: &[Vec<u8>]) -> Outcome {
    let files: Vec<Option<&[u8]>> = parts
        .iter()
        .map(|part| part.strip_prefix(&[EXISTS]))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    for ((name, _), bytes) in WHOLE.files.iter().zip(&files) {
        if let Some(bytes) = bytes {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
    }
    let log = match Log::open(config(dir.path())) {
        Ok(log) => log,
        Err(error) => return refused(&error),
    };
    let Some(identity) = log.identity() else {
        // Nothing is left that says a log was here.
        assert_eq!(WHOLE.whole_records(&files), 0);
        return Outcome::Refused;
    };
    assert_eq!(identity, bootstrap().identity);
    let tail = log.into_tail();
    check_state(&tail, WHOLE.whole_records(&files));
    let applied = Index(tail.truncated().index.max(tail.vote().commit));
    let core = Core::new(core_config(applied), tail, Arc::new(RaftStatus::default())).unwrap();
    core.check();
    Outcome::Accepted
}

/// raft-engine keeps the last entries read in a thread-local cache, by their place and whatever the directory.
pub fn in_a_new_thread(run: impl FnOnce() -> Outcome + Send) -> Outcome {
    std::thread::scope(|scope| match scope.spawn(run).join() {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// A refusal says where and why.
pub fn refused(error: &LogError) -> Outcome {
    let text = error.to_string();
    assert!(
        matches!(error, LogError::Damaged { .. } | LogError::Version { .. }),
        "{text}"
    );
    assert!(text.to_lowercase().contains("start"), "no remedy: {text}");
    Outcome::Refused
}

/// The state is one that the log once had, with every record in it that is whole.
fn check_state(tail: &LogTail, whole: usize) {
    let opened = |state: &&State| {
        state.terms.len() as u64 == tail.last()
            && state.truncated == tail.truncated()
            && state.vote == tail.vote()
    };
    let removed = WHOLE.states.len() - WHOLE.records.len();
    if whole == 0 {
        // What was moved out of removed segments is older than the oldest record.
        return;
    }
    let state = WHOLE.states[removed + whole - 1..].iter().find(opened);
    let state = state.unwrap_or_else(|| {
        panic!(
            "{whole} records are whole, and the log opened as {tail:?} with {:?}",
            tail.vote()
        )
    });
    let first = tail.truncated().index + 1;
    let entries = tail
        .entries(
            first,
            tail.last() + 1,
            None,
            GetEntriesContext::empty(false),
        )
        .unwrap();
    let indexes = entries.iter().map(|entry| entry.index);
    assert!(indexes.eq(first..=tail.last()));
    for entry in entries.iter().filter(|entry| entry.index > 1) {
        assert_eq!(entry.term, state.terms[entry.index as usize - 1]);
        assert_eq!(entry.data, content(entry.index, entry.term));
    }
}

/// A core that goes on from `applied`.
pub fn core_config(applied: Index) -> CoreConfig {
    CoreConfig {
        member: MEMBER,
        applied,
        heartbeat_ms: 100,
        election_ms: 1_000,
        pre_vote: true,
        incarnation: 1,
        priority_requests: false,
    }
}
