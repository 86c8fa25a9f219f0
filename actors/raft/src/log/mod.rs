//! The log on disk: opening it, setting it up, and the parts that read and write it.
//!
//! Entries live in raft-engine, region 1, together with the small state of [`state`]. A record of the log is one
//! append batch: entries, vote, configuration and truncation in one piece, synced once.
//!
//! # Opening
//!
//! 1. Take the lock, so that nobody writes meanwhile.
//! 2. Verify every byte of every segment ([`segment`]): a torn tail of the newest one is an unacknowledged
//!    batch and is cut off; anything else is damage and refused, naming the file and the remedy.
//! 3. Let raft-engine read it, and check that what it found fits together: no gap between the truncation
//!    point and the first entry, nothing committed beyond the last one, a known format version. If the newest segment
//!    of the rewrite queue is torn, each entry is read as well: what was torn off has to be in the log still.
//!
//! A damaged *last* record looks like a torn one. If it held acknowledged entries, the engine's applied index or the
//! logged commit index is beyond the end of the log, and the start is refused for that.
//!
//! # Truncation
//!
//! Entries are removed once the engine has made durable what they did (`EnginePersisted`), and a sole voter's
//! checkpoint has it too: the truncation is part of the record of the next append, and whole segments are then removed
//! by a thread of their own.
#![allow(clippy::disallowed_methods)]

pub mod error;
mod files;
pub mod segment;
pub mod state;
pub mod tail;
pub mod writer;

pub use error::LogError;
pub use state::{Conf, Identity, Truncated, Vote};
pub use tail::{LogTail, StableEntries};
pub use writer::{Append, LogWriter, ReadyNumber};

use crate::limits;
use raft::eraftpb::{Entry, EntryType};
use raft_engine::{Config, MessageExt, ReadableSize, RecoveryMode};
use rusd_proto::conf_change;
use rusd_proto::etcdserverpb::Member;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of entries read at a time to see whether they can be.
const CHECK_BYTES: u64 = 4 << 20;

/// The one region that the log uses.
pub(crate) const REGION: u64 = 1;

/// raft-engine over files whose failures end the process as ours do.
pub(crate) type Engine = raft_engine::Engine<files::LogFiles>;

/// Tells raft-engine how to read the index of an entry.
#[derive(Debug)]
pub(crate) struct RaftEntry;

impl MessageExt for RaftEntry {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

/// Where and how the log is kept.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Its directory; made if missing (its parent must exist).
    pub dir: PathBuf,
    /// Whether acknowledged entries are synced. Off only for `--unsafe-no-fsync`: a power loss then loses
    /// acknowledged writes, and may leave a log that is refused.
    pub fsync: bool,
    /// Size of a segment.
    pub segment_bytes: u64,
    /// Total size from which truncated segments are removed.
    pub purge_threshold_bytes: u64,
}

impl LogConfig {
    /// A synced log in `dir`, with the usual sizes.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            fsync: true,
            segment_bytes: limits::SEGMENT_BYTES,
            purge_threshold_bytes: limits::PURGE_THRESHOLD_BYTES,
        }
    }
}

/// How a new cluster begins.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// Whose log it becomes.
    pub identity: Identity,
    /// All founders, this one among them.
    pub members: Vec<Member>,
}

/// An open log, before it is split into the parts that the core and the writer use.
pub struct Log {
    engine: Arc<Engine>,
    config: LogConfig,
    identity: Option<Identity>,
    vote: Vote,
    conf: Conf,
    truncated: Truncated,
    last_index: u64,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.config.dir)
            .field("identity", &self.identity)
            .field("vote", &self.vote)
            .field("truncated", &self.truncated)
            .field("last_index", &self.last_index)
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log, or makes an empty one.
    pub fn open(config: LogConfig) -> Result<Self, LogError> {
        let dir = config.dir.clone();
        make_dir(&dir)?;
        let lock = lock(&dir)?;
        let torn_rewrite = verify_segments(&dir)?;
        drop(lock);
        let engine = open_engine(&config)?;
        sync_dir(&dir)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
        let mut log = Self {
            engine: Arc::new(engine),
            config,
            identity: None,
            vote: Vote::default(),
            conf: Conf::default(),
            truncated: Truncated::default(),
            last_index: 0,
        };
        log.load()?;
        if let Some(path) = torn_rewrite {
            log.check_entries(&path)?;
        }
        Ok(log)
    }

    /// Whose log this is; None if it has not been set up yet.
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// The index of the last entry; that of the truncation point if there is none.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// The last entry that it does not have any more; zero while it has all.
    pub fn truncated(&self) -> Truncated {
        self.truncated
    }

    /// The term of an entry, if it has that or did until the last truncation.
    pub fn term(&self, index: u64) -> Result<Option<u64>, LogError> {
        if index == self.truncated.index {
            return Ok(Some(self.truncated.term));
        }
        self.entries().term(index)
    }

    /// Bytes of its files, without what stays there after a truncation until removing it pays.
    pub fn kept_bytes(&self) -> u64 {
        let removable = purge_threshold(&self.config);
        (self.engine.get_used_size() as u64).saturating_sub(removable)
    }

    /// Begins the log of a new cluster: one committed conf change of term 1 for each founder, in order of
    /// their ids, as etcd does it. So every founder has the same log without having talked to the others.
    pub fn bootstrap(&mut self, bootstrap: &Bootstrap) -> Result<(), LogError> {
        if self.identity.is_some() {
            return Err(LogError::AlreadyBootstrapped {
                path: self.config.dir.clone(),
            });
        }
        let mut members: Vec<&Member> = bootstrap.members.iter().collect();
        members.sort_by_key(|member| member.id);
        let entries: Vec<Entry> = members
            .iter()
            .zip(1..)
            .map(|(member, index)| {
                let mut entry = Entry::default();
                entry.set_entry_type(EntryType::EntryConfChange);
                entry.term = 1;
                entry.index = index;
                entry.data = conf_change::founder(Member::clone(member));
                entry
            })
            .collect();
        let last = entries.len() as u64;
        let mut conf = Conf::default();
        conf.state.voters = members.iter().map(|member| member.id).collect();
        let vote = Vote {
            term: 1,
            vote: 0,
            commit: last,
            last_conf_change: last,
        };
        let append = Append {
            entries,
            vote: Some(vote),
            conf: Some(Box::new(conf)),
            must_sync: true,
            ..Append::default()
        };
        self.writer()
            .write_with_identity(&append, Some(bootstrap.identity))?;
        self.load()
    }

    /// The part that writes.
    pub fn writer(&self) -> LogWriter {
        LogWriter::new(self.engine.clone(), &self.config)
    }

    /// The part that Raft reads. The writers must be dropped too before the log is closed.
    pub fn into_tail(self) -> LogTail {
        LogTail::new(
            Box::new(self.entries()),
            self.vote,
            self.conf,
            self.truncated,
            self.last_index,
        )
    }

    fn load(&mut self) -> Result<(), LogError> {
        let dir = &self.config.dir;
        let get = |key: &[u8]| self.engine.get(REGION, key);
        let first = self.engine.first_index(REGION);
        let last = self.engine.last_index(REGION);
        let Some(identity) = get(state::IDENTITY_KEY) else {
            if first.is_some() || get(state::VOTE_KEY).is_some() {
                return Err(LogError::damaged(
                    dir,
                    "it has entries but does not say whose it is",
                ));
            }
            return Ok(());
        };
        let (found, identity) = Identity::decode(&identity)
            .ok_or_else(|| LogError::damaged(dir, "its identity cannot be read"))?;
        let Some(identity) = identity else {
            let known = state::FORMAT_VERSION;
            return Err(LogError::Version {
                path: dir.clone(),
                found,
                known,
            });
        };
        let missing =
            |what| LogError::damaged(dir, format!("its {what} is missing or cannot be read"));
        let vote = get(state::VOTE_KEY)
            .and_then(|bytes| Vote::decode(&bytes))
            .ok_or_else(|| missing("term and vote"))?;
        let conf = get(state::CONF_KEY)
            .and_then(|bytes| Conf::decode(&bytes))
            .ok_or_else(|| missing("configuration"))?;
        let truncated = match get(state::TRUNCATED_KEY) {
            None => Truncated::default(),
            Some(bytes) => Truncated::decode(&bytes).ok_or_else(|| missing("truncation point"))?,
        };
        let expected = truncated
            .index
            .checked_add(1)
            .ok_or_else(|| missing("truncation point"))?;
        if let Some(first) = first.filter(|first| *first != expected) {
            let reason = format!(
                "entries {expected} to {} are missing",
                first.saturating_sub(1)
            );
            return Err(LogError::damaged(dir, reason));
        }
        let last_index = last.unwrap_or(truncated.index);
        if vote.commit > last_index {
            let reason = format!(
                "entries through {} are known to be committed, and it ends at {last_index}",
                vote.commit
            );
            return Err(LogError::damaged(dir, reason));
        }
        if conf.index > last_index {
            let reason = format!(
                "its configuration is that of entry {}, and it ends at {last_index}",
                conf.index
            );
            return Err(LogError::damaged(dir, reason));
        }
        self.identity = Some(identity);
        self.vote = vote;
        self.conf = conf;
        self.truncated = truncated;
        self.last_index = last_index;
        Ok(())
    }

    fn entries(&self) -> EngineEntries {
        EngineEntries {
            engine: self.engine.clone(),
            dir: self.config.dir.clone(),
        }
    }

    /// Reads every entry once. `path` is the file that gave reason to.
    fn check_entries(&self, path: &Path) -> Result<(), LogError> {
        let entries = self.entries();
        let mut from = self.truncated.index + 1;
        while from <= self.last_index {
            let read = entries
                .entries(from, self.last_index + 1, Some(CHECK_BYTES))
                .map_err(|error| LogError::damaged(path, error))?;
            let Some(last) = read.last().filter(|last| last.index >= from) else {
                return Err(LogError::damaged(path, format!("entry {from} is missing")));
            };
            from = last.index + 1;
        }
        Ok(())
    }
}

/// Reads entries that are no longer in memory.
struct EngineEntries {
    engine: Arc<Engine>,
    dir: PathBuf,
}

impl StableEntries for EngineEntries {
    fn entries(&self, low: u64, high: u64, max_bytes: Option<u64>) -> Result<Vec<Entry>, LogError> {
        let mut entries = Vec::new();
        let max = max_bytes.map(|max| usize::try_from(max).unwrap_or(usize::MAX));
        self.engine
            .fetch_entries_to::<RaftEntry>(REGION, low, high, max, &mut entries)
            .map_err(|error| LogError::engine("read entries of", &self.dir, error))?;
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<Option<u64>, LogError> {
        let entry = self
            .engine
            .get_entry::<RaftEntry>(REGION, index)
            .map_err(|error| LogError::engine("read an entry of", &self.dir, error))?;
        Ok(entry.map(|entry| entry.term))
    }
}

/// raft-engine wants room for more than the segment being written.
fn purge_threshold(config: &LogConfig) -> u64 {
    config.purge_threshold_bytes.max(2 * config.segment_bytes)
}

fn open_engine(config: &LogConfig) -> Result<Engine, LogError> {
    let io = |source| LogError::Io {
        action: "use as a directory name",
        path: config.dir.clone(),
        source,
    };
    let dir = config
        .dir
        .to_str()
        .ok_or_else(|| io(std::io::Error::other("it is not valid UTF-8")))?;
    let engine_config = Config {
        dir: dir.to_owned(),
        recovery_mode: RecoveryMode::TolerateTailCorruption,
        // Entries are written once, read back rarely and gone soon: compressing them costs more than it gives.
        batch_compression_threshold: ReadableSize(0),
        target_file_size: ReadableSize(config.segment_bytes),
        purge_threshold: ReadableSize(purge_threshold(config)),
        // Recycled files may leave holes in the numbering after a crash, which would hide a missing segment.
        enable_log_recycle: false,
        ..Config::default()
    };
    Engine::open_with_file_system(engine_config, Arc::new(files::LogFiles)).map_err(|error| {
        match error {
            raft_engine::Error::Corruption(reason) => LogError::damaged(&config.dir, reason),
            error => LogError::engine("open", &config.dir, error),
        }
    })
}

fn make_dir(dir: &Path) -> Result<(), LogError> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .mode(0o700)
        .create(dir)
        .map_err(|source| LogError::Io {
            action: "create the directory",
            path: dir.to_owned(),
            source,
        })
}

fn sync_dir(dir: &Path) -> Result<(), LogError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|source| LogError::Io {
            action: "sync the directory",
            path: dir.to_owned(),
            source,
        })
}

/// The lock that raft-engine takes too: held while the segments are verified.
fn lock(dir: &Path) -> Result<File, LogError> {
    let path = dir.join("LOCK");
    let failed = |source| LogError::Io {
        action: "create the lock file",
        path: path.clone(),
        source,
    };
    let file = File::create(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::InUse {
            path: dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Verifies all segments. In the rewrite queue (small state and entries that outlive their segment) the newest file
/// may hold several unsynced records, whose originals are still in the log: any tail of it is torn. Returns its path
/// if so: that the originals are still there remains to be seen.
fn verify_segments(dir: &Path) -> Result<Option<PathBuf>, LogError> {
    let mut torn_rewrite = None;
    for (suffix, is_log) in [(".raftlog", true), (".rewrite", false)] {
        let mut before = if is_log {
            segment::Before::log()
        } else {
            segment::Before::rewritten()
        };
        let segments = segments(dir, suffix)?;
        for pair in segments.windows(2) {
            let [(before, _), (after, path)] = pair else {
                continue;
            };
            if before + 1 != *after {
                return Err(LogError::damaged(
                    path,
                    format!("the {} before it are missing", after - before - 1),
                ));
            }
        }
        let newest = segments.last().map(|(number, _)| *number);
        for (number, path) in segments {
            let io = |source| LogError::Io {
                action: "read",
                path: path.clone(),
                source,
            };
            let size = fs::metadata(&path).map_err(io)?.len();
            if size > limits::SEGMENT_BYTES_SANE {
                return Err(LogError::damaged(&path, format!("it is {size} bytes long")));
            }
            let bytes = fs::read(&path).map_err(io)?;
            let is_newest = newest == Some(number);
            match segment::verify_after(&mut before, &bytes, number, is_newest) {
                Ok(found) if found.torn_bytes > 0 => {
                    torn_rewrite = (!is_log).then(|| path.clone());
                    tracing::warn!(
                        path = %path.display(),
                        offset = found.valid_bytes,
                        bytes = found.torn_bytes,
                        "cutting off a write that a crash interrupted"
                    );
                }
                Ok(_) => {}
                Err(segment::Damage::Record { .. }) if is_newest && !is_log => {
                    torn_rewrite = Some(path);
                }
                Err(damage) => return Err(LogError::damaged(&path, damage)),
            }
        }
    }
    Ok(torn_rewrite)
}

/// The files with this suffix, by their numbers.
fn segments(dir: &Path, suffix: &str) -> Result<Vec<(u64, PathBuf)>, LogError> {
    let io = |source| LogError::Io {
        action: "list",
        path: dir.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for file in fs::read_dir(dir).map_err(io)? {
        let path = file.map_err(io)?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(suffix))
            .and_then(|number| number.parse().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}
