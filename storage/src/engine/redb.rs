//! redb 4 as an engine: a copy-on-write B+tree in one file.
//!
//! - `write` is a transaction that commits without durability: its pages stay
//!   in redb's write buffer, or go to the file unsynced where the buffer is
//!   full. A crash leaves the last durable commit, so what survives is always
//!   the prefix of the batches that the last `persist` covered.
//! - `persist` is an empty transaction that commits durably, and with it all
//!   that was committed before. It saves the allocator's state too, so that
//!   opening after a crash does not walk the whole file. There is one write
//!   transaction at a time, so writes wait while the disk syncs.
//! - Readers share one read transaction per write: it is replaced when a write
//!   commits. That is cheaper than one per read, and since it does not outlive
//!   the next write it hardly delays the reuse of pages.
//! - Memory stays within the cache; the file is reused but never shrinks, which
//!   a rewrite into a new directory ([`EngineDir`](super::EngineDir)) mends.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use parking_lot::Mutex;
use redb::{
    Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase, Table, TableDefinition,
    WriteTransaction,
};

use super::opening::caught;
use super::{
    Capabilities, Direction, Engine, EngineError, EngineOptions, EngineStats, Op, Visit,
    WriteBatch, files,
};

const NAME: &str = "redb";

/// The file, in the engine's directory.
const FILE: &str = "data.redb";

/// All logical trees are in this table.
const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("rusd");

/// How much of a bulk load is one transaction.
const LOAD_BATCH_BYTES: usize = 8 << 20;

type ReadTable = ReadOnlyTable<&'static [u8], &'static [u8]>;
type WriteTable<'txn> = Table<'txn, &'static [u8], &'static [u8]>;

/// A redb database in a directory.
pub struct Redb {
    dir: PathBuf,
    /// `None` once closed. Held by the one who writes.
    writer: Mutex<Option<Writer>>,
    /// The table as the last write left it; `None` once closed.
    view: ArcSwapOption<ReadTable>,
}

struct Writer {
    db: Database,
    /// Something was written since the last persist.
    unpersisted: bool,
}

fn error(dir: &Path, action: &str, failed: redb::Error) -> EngineError {
    match failed {
        redb::Error::Io(failed) if is_damage(&failed) => {
            EngineError::rebuild(NAME, dir, format!("{action}: {failed}"))
        }
        redb::Error::Io(failed) => EngineError::io(NAME, dir, action, &failed),
        failed @ redb::Error::Corrupted(_) => {
            EngineError::rebuild(NAME, dir, format!("{action}: {failed}"))
        }
        redb::Error::DatabaseClosed => EngineError::Closed { engine: NAME },
        failed => EngineError::fatal(NAME, dir, format!("{action}: {failed}")),
    }
}

/// Whether the disk has answered, with what redb has not written.
fn is_damage(failed: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    matches!(failed.kind(), InvalidData | UnexpectedEof)
}

/// What a failure to open means.
fn open_error(dir: &Path, failed: DatabaseError) -> EngineError {
    match failed {
        DatabaseError::DatabaseAlreadyOpen => {
            let reason = "another process has it open; stop that one first";
            EngineError::fatal(NAME, dir, reason)
        }
        failed @ DatabaseError::RepairAborted => EngineError::rebuild(NAME, dir, failed),
        failed => error(dir, "open", failed.into()),
    }
}

fn read_table(db: &Database) -> Result<ReadTable, redb::Error> {
    Ok(db.begin_read()?.open_table(TABLE)?)
}

impl Redb {
    /// Opens the database in `dir`; `exists` says that there has to be one.
    pub fn open(dir: &Path, options: &EngineOptions, exists: bool) -> Result<Self, EngineError> {
        let path = dir.join(FILE);
        if exists && !path.metadata().is_ok_and(|file| file.len() > 0) {
            let reason = format!("its file {FILE:?} is missing or empty");
            return Err(EngineError::rebuild(NAME, dir, reason));
        }
        let cache_bytes = usize::try_from(options.cache_bytes).unwrap_or(usize::MAX);
        let opened = caught(|| {
            Database::builder()
                .set_cache_size(cache_bytes)
                .create(&path)
        });
        let db = match opened {
            Ok(Ok(db)) => db,
            Ok(Err(failed)) => return Err(open_error(dir, failed)),
            Err(panic) => return Err(EngineError::rebuild(NAME, dir, panic)),
        };
        let table = create_table(&db)
            .and_then(|()| read_table(&db))
            .map_err(|failed| error(dir, "open", failed))?;
        files::sync_dir(dir)
            .map_err(|failed| EngineError::io(NAME, dir, "sync after open", &failed))?;
        Ok(Self {
            dir: dir.to_owned(),
            writer: Mutex::new(Some(Writer {
                db,
                unpersisted: false,
            })),
            view: ArcSwapOption::from_pointee(table),
        })
    }

    fn error(&self, action: &str, failed: impl Into<redb::Error>) -> EngineError {
        error(&self.dir, action, failed.into())
    }

    fn view(&self) -> Result<Arc<ReadTable>, EngineError> {
        let view = self.view.load_full();
        view.ok_or(EngineError::Closed { engine: NAME })
    }

    /// Runs `fill` in a transaction and makes it visible.
    fn transaction(
        &self,
        fill: impl FnOnce(&mut WriteTable<'_>) -> Result<(), redb::Error>,
    ) -> Result<(), EngineError> {
        let mut writer = self.writer.lock();
        let Some(writer) = &mut *writer else {
            return Err(EngineError::Closed { engine: NAME });
        };
        let db = &writer.db;
        let written = || -> Result<ReadTable, redb::Error> {
            let mut transaction = db.begin_write()?;
            transaction.set_durability(Durability::None)?;
            fill(&mut transaction.open_table(TABLE)?)?;
            transaction.commit()?;
            read_table(db)
        };
        writer.unpersisted = true;
        let table = written().map_err(|failed| self.error("write", failed))?;
        self.view.store(Some(Arc::new(table)));
        Ok(())
    }
}

/// Creates the table if this is a new database.
fn create_table(db: &Database) -> Result<(), redb::Error> {
    match read_table(db) {
        Err(redb::Error::TableDoesNotExist(_)) => {
            let transaction = db.begin_write()?;
            transaction.open_table(TABLE)?;
            Ok(transaction.commit()?)
        }
        other => other.map(drop),
    }
}

/// Makes all earlier commits durable.
fn commit_durably(db: &Database) -> Result<(), redb::Error> {
    let mut transaction: WriteTransaction = db.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    Ok(transaction.commit()?)
}

impl Engine for Redb {
    fn name(&self) -> &'static str {
        NAME
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        // The view outlives what was found in it: redb reuses a page once no transaction needs it any more,
        // whether or not a value in it is still held.
        let view = self.view()?;
        let found = view.get(key).map_err(|failed| self.error("read", failed))?;
        Ok(found.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        let view = self.view()?;
        if start >= end {
            return Ok(());
        }
        let mut range = view
            .range(start..end)
            .map_err(|failed| self.error("scan", failed))?;
        loop {
            let entry = match direction {
                Direction::Forward => range.next(),
                Direction::Backward => range.next_back(),
            };
            let Some(entry) = entry else {
                return Ok(());
            };
            let (key, value) = entry.map_err(|failed| self.error("scan", failed))?;
            if visit(key.value(), value.value()).is_break() {
                return Ok(());
            }
        }
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        if batch.is_empty() {
            return self.view().map(drop);
        }
        self.transaction(|table| {
            for op in batch.ops() {
                match op {
                    Op::Put { key, value } => drop(table.insert(&key[..], &value[..])?),
                    Op::Delete { key } => drop(table.remove(&key[..])?),
                }
            }
            Ok(())
        })
    }

    fn persist(&self) -> Result<(), EngineError> {
        let mut writer = self.writer.lock();
        let Some(writer) = &mut *writer else {
            return Err(EngineError::Closed { engine: NAME });
        };
        if writer.unpersisted {
            commit_durably(&writer.db).map_err(|failed| self.error("persist", failed))?;
            writer.unpersisted = false;
        }
        Ok(())
    }

    fn bulk_load(
        &self,
        sorted: &mut dyn Iterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), EngineError> {
        let mut more = true;
        while more {
            self.transaction(|table| {
                let mut bytes = 0;
                more = false;
                for (key, value) in &mut *sorted {
                    table.insert(&key[..], &value[..])?;
                    bytes += key.len() + value.len();
                    if bytes >= LOAD_BATCH_BYTES {
                        more = true;
                        break;
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn stats(&self) -> Result<EngineStats, EngineError> {
        self.view()?;
        let disk_bytes = files::bytes_below(&self.dir)
            .map_err(|failed| EngineError::io(NAME, &self.dir, "measure", &failed))?;
        Ok(EngineStats {
            disk_bytes,
            cache_bytes: None,
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            snapshots: true,
            bounded_memory: true,
            concurrent_persist: false,
        }
    }

    fn close(&self) -> Result<(), EngineError> {
        let mut writer = self.writer.lock();
        self.view.store(None);
        let Some(writer) = writer.take() else {
            return Ok(());
        };
        if writer.unpersisted {
            commit_durably(&writer.db).map_err(|failed| self.error("persist", failed))?;
        }
        Ok(())
    }
}
