//! sled 0.34 as an engine; nothing else names it.
//!
//! sled is fast while the data fits in its cache and has sharp edges. Each is
//! blunted here:
//!
//! - Its batches are atomic within one tree only, so there is one tree.
//! - A batch has a fixed price of several small writes and thread switches, a
//!   hundred microseconds, and keeps readers out. A single insert has none of
//!   that and is atomic too. So a batch of up to [`JOURNAL_BYTES`] becomes one
//!   insert, of the whole batch under one key, and then an insert per change.
//!   What survives a crash is a prefix of the inserts; opening repeats the batch
//!   that is found in the journal, and so completes it. Larger batches pay the
//!   price.
//! - What it takes for a sync is none on Linux; `sync` mends that, and every
//!   open checks it. Besides, `persist` flushes and then syncs the log file
//!   through a descriptor of its own. The timer that flushes is off.
//! - Nothing stops it from queueing more writes than the disk takes, so a writer
//!   waits for the disk every [`MAX_UNWRITTEN_BYTES`].
//! - A write that fails may leave who waits for it waiting for ever; [`flush`]
//!   mends that.
//! - Files it creates are not synced, so all of them are, after every open.
//! - A page is rewritten whole every ten changes. Keys that every batch writes
//!   must not share one with large values, so entries that mean nothing, a
//!   fence, stand between them and the revisions.
//! - A page above a quarter of a segment becomes a file that may never go away.
//!   A page may hold some thirty entries, so values are stored in chunks of at
//!   most [`CHUNK_BYTES`].
//! - It may write to what it finds damaged while it opens, so what a human looks
//!   at later is no longer quite what was found.
//! - Damage may show as a panic, on a thread of its own even, so it is opened
//!   where a panic is caught ([`opening`](super::opening)).
//! - Memory beyond `cache_capacity` is not bounded when the working set is
//!   larger, and files only grow; rewriting into a new directory
//!   ([`EngineDir`](super::EngineDir)) gives both back.
//!
//! What is in its tree:
//!
//! ```text
//!   a..p ++ key            small trees: first chunk of the value
//!   q ++ number            fence
//!   r ++ key               revisions: first chunk of the value
//!   0xfd ++ number         fence
//!   0xfe                   journal: the batch written last
//!   0xfe ++ number         fence
//!   0xff ++ key ++ u32 BE  chunk 1, 2, ... of the value of a key
//! ```
//!
//! Which keys have more than one chunk is kept in memory; a batch that changes
//! any of those excludes readers while it runs, so that nobody sees chunks of
//! two different values.

mod chunks;
mod flush;
mod journal;
#[cfg(target_os = "linux")]
mod sync;

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::sled::{Db, IVec};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

pub use self::chunks::CHUNK_BYTES;
use self::chunks::{Chunked, add, chunk_key};
use self::flush::flush;
#[cfg(target_os = "linux")]
pub use self::sync::sync_log;
use super::opening::caught;
use super::{
    Capabilities, Direction, Engine, EngineError, EngineOptions, EngineStats, Op, Visit,
    WriteBatch, files,
};

const NAME: &str = "sled";

/// The unit in which the log grows and is reused. A page is kept inside the log
/// up to a quarter of it.
const SEGMENT_BYTES: usize = 1 << 20;

/// What keys that are not of a logical tree start with.
const INNER_FENCE_PREFIX: u8 = b'q';
const OUTER_FENCE_PREFIX: u8 = 0xfd;
const JOURNAL_PREFIX: u8 = 0xfe;

const JOURNAL_KEY: &[u8] = &[JOURNAL_PREFIX];

/// Larger batches do not go through the journal: they would be written twice,
/// and the journal's page has to stay small.
pub const JOURNAL_BYTES: usize = 64 << 10;

/// A fence is wider than a leaf, so that no leaf reaches across.
const FENCE_ENTRIES: u8 = 40;

/// A scan reads one record, then four, ... up to this many under one lock.
const SCAN_PAGE_RECORDS: usize = 256;

/// A directory that was just closed may stay locked until a thread of sled has
/// finished a write; this is how long an open waits for it.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// How much may wait to be written to the file.
const MAX_UNWRITTEN_BYTES: usize = 16 << 20;

/// What the one who writes knows.
struct Writer {
    /// Bytes handed to sled since it last waited for the disk.
    unwritten_bytes: usize,
    /// The journal may hold a batch.
    journal_in_use: bool,
}

struct State {
    db: Db,
    /// A descriptor of our own of the log file, to sync it.
    log: Arc<File>,
    /// Values whose further chunks are elsewhere.
    chunked: Chunked,
}

/// A sled database in a directory.
pub struct Sled {
    dir: PathBuf,
    /// Knows of writes that failed in the background.
    config: ::sled::Config,
    /// `None` once closed.
    state: RwLock<Option<State>>,
    /// Writers take turns without keeping readers out.
    writer: Mutex<Writer>,
}

fn error(dir: &Path, action: &str, error: &sled::Error) -> EngineError {
    match error {
        sled::Error::Io(error) => EngineError::io(NAME, dir, action, error),
        sled::Error::Corruption { .. } | sled::Error::CollectionNotFound(_) => {
            EngineError::rebuild(NAME, dir, format!("{action}: {error}"))
        }
        other => EngineError::fatal(NAME, dir, format!("{action}: {other}")),
    }
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error)
        if error.kind() == io::ErrorKind::Other && error.to_string().contains("acquire lock"))
}

/// Opens the database, waiting a little if it is still locked.
fn open_db(config: &sled::Config) -> sled::Result<Db> {
    let start = Instant::now();
    loop {
        match config.open() {
            Err(error) if is_locked(&error) && start.elapsed() < LOCK_WAIT => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

/// Writes something that means nothing, so that sled syncs its log. If that
/// sync did not come to [`sync_log`], writes wait for the disk from here on.
///
/// One small write cannot do the harm that [`sync`] tells of: it needs two
/// segments.
#[cfg(target_os = "linux")]
fn ensure_syncs(dir: &Path, db: &Db, config: &sled::Config) -> sled::Result<()> {
    db.insert([JOURNAL_PREFIX, 0], &[])?;
    flush(db, config)?;
    let writes_through = !sync::arrives();
    if writes_through {
        sync::write_through(&dir.join("db")).map_err(|failed| {
            let reason = format!(
                "its writes cannot be made durable in this program ({failed}); \
                 use the storage engine \"redb\""
            );
            io::Error::new(failed.kind(), reason)
        })?;
    }
    tracing::debug!(dir = %dir.display(), writes_through, "the engine's syncs reach the disk");
    Ok(())
}

/// Elsewhere sled syncs as it should.
#[cfg(not(target_os = "linux"))]
fn ensure_syncs(_dir: &Path, db: &Db, config: &sled::Config) -> sled::Result<()> {
    flush(db, config)
}

impl Sled {
    /// Opens the database in `dir`; `exists` says that there has to be one.
    pub fn open(dir: &Path, options: &EngineOptions, exists: bool) -> Result<Self, EngineError> {
        for name in ["conf", "db"] {
            if exists && !dir.join(name).is_file() {
                let reason = format!("its file {name:?} is missing");
                return Err(EngineError::rebuild(NAME, dir, reason));
            }
        }
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(options.cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .mode(sled::Mode::HighThroughput)
            .use_compression(false)
            .flush_every_ms(None);
        let opened = caught(|| {
            let db = open_db(&config)?;
            let complete = is_fenced(&db)?;
            if !exists {
                build_fences(&db)?;
            }
            ensure_syncs(dir, &db, &config)?;
            replay_journal(&db)?;
            let chunked = chunks::load(&db)?;
            Ok((db, chunked, complete || !exists))
        });
        let (db, chunked) = match opened {
            Ok(Ok((db, chunked, true))) => (db, chunked),
            Ok(Ok((_, _, false))) => {
                let reason = "it recovered without what it was created with";
                return Err(EngineError::rebuild(NAME, dir, reason));
            }
            Ok(Err(failed)) if is_locked(&failed) => {
                let reason = "another process has it open; stop that one first";
                return Err(EngineError::fatal(NAME, dir, reason));
            }
            Ok(Err(failed)) => return Err(error(dir, "open", &failed)),
            Err(panic) => return Err(EngineError::rebuild(NAME, dir, panic)),
        };
        let io_error = |action, failed| EngineError::io(NAME, dir, action, &failed);
        files::sync_tree(dir).map_err(|failed| io_error("sync after open", failed))?;
        let log = File::open(dir.join("db")).map_err(|failed| io_error("open log", failed))?;
        Ok(Self {
            dir: dir.to_owned(),
            config,
            state: RwLock::new(Some(State {
                db,
                log: Arc::new(log),
                chunked,
            })),
            writer: Mutex::new(Writer {
                unwritten_bytes: 0,
                journal_in_use: true,
            }),
        })
    }

    fn error(&self, action: &str, failed: &sled::Error) -> EngineError {
        error(&self.dir, action, failed)
    }

    fn with_state<T>(
        &self,
        read: impl FnOnce(&State) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        match &*self.state.read() {
            Some(state) => read(state),
            None => Err(EngineError::Closed { engine: NAME }),
        }
    }

    /// Counts what was written; waits for the disk if it is much.
    fn throttle(&self, writer: &mut Writer, bytes: usize) -> Result<(), EngineError> {
        writer.unwritten_bytes += bytes;
        if writer.unwritten_bytes < MAX_UNWRITTEN_BYTES {
            return Ok(());
        }
        writer.unwritten_bytes = 0;
        let db = self.with_state(|state| Ok(state.db.clone()))?;
        let flushed = flush(&db, &self.config);
        flushed.map_err(|failed| self.error("write", &failed))
    }

    /// The whole value that starts with `first`.
    fn assemble(&self, state: &State, key: &[u8], first: &[u8]) -> Result<Bytes, EngineError> {
        let further = state.chunked.get(key).copied().unwrap_or(0);
        if further == 0 {
            return Ok(Bytes::copy_from_slice(first));
        }
        let mut value = Vec::with_capacity((further as usize + 1) * CHUNK_BYTES);
        value.extend_from_slice(first);
        for number in 1..=further {
            let chunk = state.db.get(chunk_key(key, number));
            let Some(chunk) = chunk.map_err(|failed| self.error("read", &failed))? else {
                let reason = format!("chunk {number} of {further} of a value is missing");
                return Err(EngineError::rebuild(NAME, &self.dir, reason));
            };
            value.extend_from_slice(&chunk);
        }
        Ok(Bytes::from(value))
    }
}

/// Writes a batch with sled's own.
fn write_whole(db: &Db, batch: &WriteBatch, mut chunked: Option<&mut Chunked>) -> sled::Result<()> {
    let mut out = sled::Batch::default();
    for op in batch.ops() {
        add(&mut out, &mut chunked, op);
    }
    // What is in there now is older than this.
    out.remove(JOURNAL_KEY);
    db.apply_batch(out)
}

/// Writes a batch without large values: the whole, then one change at a time.
fn write_journaled(db: &Db, batch: &WriteBatch) -> sled::Result<()> {
    db.insert(JOURNAL_KEY, journal::encode(batch))?;
    write_each(db, batch)
}

fn write_each(db: &Db, batch: &WriteBatch) -> sled::Result<()> {
    for op in batch.ops() {
        match op {
            Op::Put { key, value } => drop(db.insert(&key[..], &value[..])?),
            Op::Delete { key } => drop(db.remove(&key[..])?),
        }
    }
    Ok(())
}

/// Completes the batch that was being written when a crash came.
fn replay_journal(db: &Db) -> sled::Result<()> {
    let Some(journal) = db.get(JOURNAL_KEY)? else {
        return Ok(());
    };
    match journal::decode(&journal) {
        Some(batch) => write_each(db, &batch),
        None => Err(sled::Error::Corruption { at: None, bt: () }),
    }
}

fn is_reserved(key: &[u8]) -> bool {
    let first = key.first().copied().unwrap_or(0);
    first == INNER_FENCE_PREFIX || first >= OUTER_FENCE_PREFIX
}

const FENCE_PREFIXES: [u8; 3] = [INNER_FENCE_PREFIX, OUTER_FENCE_PREFIX, JOURNAL_PREFIX];

/// Whether a database has its fences, which every complete one has.
fn is_fenced(db: &Db) -> sled::Result<bool> {
    for prefix in FENCE_PREFIXES {
        if !db.contains_key([prefix, FENCE_ENTRIES - 1])? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn build_fences(db: &Db) -> sled::Result<()> {
    for prefix in FENCE_PREFIXES {
        for number in 0..FENCE_ENTRIES {
            db.insert([prefix, number], &[])?;
        }
    }
    Ok(())
}

impl Engine for Sled {
    fn name(&self) -> &'static str {
        NAME
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.with_state(|state| {
            let found = state.db.get(key);
            match found.map_err(|failed| self.error("read", &failed))? {
                Some(first) => self.assemble(state, key, &first).map(Some),
                None => Ok(None),
            }
        })
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        let (mut start, mut end) = (IVec::from(start), IVec::from(end));
        let mut page: Vec<(IVec, IVec)> = Vec::new();
        let mut page_records = 1;
        loop {
            page.clear();
            self.with_state(|state| {
                if start >= end {
                    return Ok(());
                }
                let range = state.db.range(&start[..]..&end[..]);
                let range = range.filter(|entry| match entry {
                    Ok((key, _)) => !is_reserved(key),
                    Err(_) => true,
                });
                let mut collect = |entry: sled::Result<(IVec, IVec)>| {
                    let (key, mut value) = entry.map_err(|failed| self.error("scan", &failed))?;
                    if !state.chunked.is_empty() && state.chunked.contains_key(&key[..]) {
                        value = IVec::from(&self.assemble(state, &key, &value)?[..]);
                    }
                    page.push((key, value));
                    Ok(())
                };
                match direction {
                    Direction::Forward => range.take(page_records).try_for_each(&mut collect),
                    Direction::Backward => {
                        range.rev().take(page_records).try_for_each(&mut collect)
                    }
                }
            })?;
            for (key, value) in &page {
                if visit(key, value) == ControlFlow::Break(()) {
                    return Ok(());
                }
            }
            let Some((last, _)) = page.last().filter(|_| page.len() == page_records) else {
                return Ok(());
            };
            match direction {
                Direction::Forward => start = IVec::from([&last[..], &[0]].concat()),
                Direction::Backward => end = last.clone(),
            }
            page_records = SCAN_PAGE_RECORDS.min(page_records * 4);
        }
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        if batch.is_empty() {
            return self.with_state(|_| Ok(()));
        }
        let mut writer = self.writer.lock();
        let chunked = self.with_state(|state| {
            Ok(batch.ops().iter().any(|op| match op {
                Op::Put { value, .. } if value.len() > CHUNK_BYTES => true,
                op => !state.chunked.is_empty() && state.chunked.contains_key(op.key()),
            }))
        })?;
        let written = if chunked {
            match &mut *self.state.write() {
                Some(state) => {
                    let State { db, chunked, .. } = state;
                    write_whole(db, batch, Some(chunked))
                }
                None => return Err(EngineError::Closed { engine: NAME }),
            }
        } else if batch.bytes() > JOURNAL_BYTES {
            self.with_state(|state| Ok(write_whole(&state.db, batch, None)))?
        } else {
            self.with_state(|state| Ok(write_journaled(&state.db, batch)))?
        };
        written.map_err(|failed| self.error("write", &failed))?;
        writer.journal_in_use = !chunked && batch.bytes() <= JOURNAL_BYTES;
        self.throttle(&mut writer, batch.bytes())
    }

    fn persist(&self) -> Result<(), EngineError> {
        // No lock is held while the disk works.
        let (db, log) = self.with_state(|state| Ok((state.db.clone(), state.log.clone())))?;
        flush(&db, &self.config).map_err(|failed| self.error("flush", &failed))?;
        log.sync_all()
            .map_err(|failed| EngineError::io(NAME, &self.dir, "sync", &failed))
    }

    fn bulk_load(
        &self,
        sorted: &mut dyn Iterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), EngineError> {
        // Single inserts cost less than batches, and nothing here is atomic.
        {
            // Opening again must not repeat a batch over what is loaded.
            let mut writer = self.writer.lock();
            if std::mem::take(&mut writer.journal_in_use) {
                let removed = self.with_state(|state| Ok(state.db.remove(JOURNAL_KEY)))?;
                removed.map_err(|failed| self.error("write", &failed))?;
            }
        }
        let mut bytes = 0;
        for (key, value) in sorted {
            bytes += key.len() + value.len();
            if bytes >= MAX_UNWRITTEN_BYTES {
                self.throttle(&mut self.writer.lock(), bytes)?;
                bytes = 0;
            }
            if value.len() > CHUNK_BYTES {
                let mut batch = WriteBatch::new();
                batch.put(key, value);
                self.write(&batch)?;
                continue;
            }
            let inserted = self.with_state(|state| Ok(state.db.insert(&key[..], &value[..])))?;
            inserted.map_err(|failed| self.error("write", &failed))?;
        }
        Ok(())
    }

    fn stats(&self) -> Result<EngineStats, EngineError> {
        self.with_state(|_| Ok(()))?;
        let disk_bytes = files::bytes_below(&self.dir)
            .map_err(|failed| EngineError::io(NAME, &self.dir, "measure", &failed))?;
        Ok(EngineStats {
            disk_bytes,
            cache_bytes: None,
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            snapshots: false,
            bounded_memory: false,
            concurrent_persist: true,
        }
    }

    fn close(&self) -> Result<(), EngineError> {
        let _writer = self.writer.lock();
        if self.state.read().is_none() {
            return Ok(());
        }
        let persisted = self.persist();
        *self.state.write() = None;
        persisted
    }
}
