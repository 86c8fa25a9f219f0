//! An engine in a directory of its own: the lower half of the library's face.
//!
//! A [`Backend`] is to a program that embeds the store what the engine and its directory are to the server: batches
//! over the logical trees, scans, a copy of everything in one stream, and defragmentation. It is an [`Engine`] itself,
//! so [`MvccStore::new`](crate::MvccStore::new) sits on top of it.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::engine::{
    Capabilities, Direction, Engine, EngineDir, EngineError, EngineKind, EngineOptions,
    EngineStats, Tree, Visit, WriteBatch,
};
use crate::error::{StorageError, StorageResult};

/// The first bytes of a snapshot; the last one is the version of its format.
const SNAPSHOT_MAGIC: &[u8; 8] = b"rusdkv\x00\x01";
/// Bytes copied per page by a defragmentation or a restore.
const PAGE_BYTES: usize = 1 << 20;
/// No record of a snapshot may claim to be longer: what is damaged must not make us allocate.
const SNAPSHOT_FIELD_BYTES_MAX: usize = 1 << 30;

/// How values are compressed at rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all: the engines here store values as they are.
    #[default]
    None,
}

/// Where and how a [`Backend`] keeps its data.
#[derive(Clone, Debug)]
pub struct BackendConfig {
    /// Its directory; created if absent.
    pub data_dir: PathBuf,
    /// Which engine.
    pub engine: EngineKind,
    /// Memory for the engine's cache, in MiB.
    pub cache_size_mb: u64,
    /// How long a write may wait until it survives power loss. 0: every write does on return.
    pub flush_interval_ms: u64,
    /// How values are compressed.
    pub compression: Compression,
}

impl Default for BackendConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("default.rusd"),
            engine: EngineKind::default(),
            cache_size_mb: 256,
            flush_interval_ms: 100,
            compression: Compression::None,
        }
    }
}

/// A key-value store of logical trees in a directory. Clones share it.
///
/// ```
/// use rusd_storage::backend::{Backend, BackendConfig};
/// use rusd_storage::engine::{Tree, WriteBatch};
///
/// let dir = tempfile::tempdir()?;
/// let config = BackendConfig { data_dir: dir.path().join("data"), ..BackendConfig::default() };
/// let backend = Backend::new(config)?;
/// let mut batch = WriteBatch::new();
/// batch.put(Tree::Lease.key(b"7"), "ttl 60");
/// batch.put(Tree::Auth.key(b"root"), "role");
/// backend.write(&batch)?;
/// assert_eq!(backend.scan_prefix(Tree::Lease, b"7")?, [("7".into(), "ttl 60".into())]);
///
/// let mut copy = Vec::new();
/// backend.snapshot(&mut copy)?;
/// backend.close()?;
/// let config = BackendConfig { data_dir: dir.path().join("restored"), ..BackendConfig::default() };
/// let restored = Backend::restore(config, &mut copy.as_slice())?;
/// assert_eq!(restored.scan(Tree::Auth)?.len(), 1);
/// restored.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Backend {
    inner: Arc<Inner>,
}

struct Inner {
    dir: EngineDir,
    data_dir: PathBuf,
    flush_interval: Duration,
    /// Held to read by everybody, to write while another engine takes the place of this one.
    gate: RwLock<()>,
    /// Held by whoever writes, or wants nobody to write.
    writing: Mutex<()>,
    last_flush: Mutex<Instant>,
}

impl Backend {
    /// Opens the data directory, creating it if absent.
    pub fn new(config: BackendConfig) -> StorageResult<Self> {
        let options = EngineOptions {
            kind: config.engine,
            cache_bytes: config.cache_size_mb << 20,
        };
        let dir = EngineDir::open(&config.data_dir, &options)?;
        let inner = Inner {
            dir,
            data_dir: config.data_dir,
            flush_interval: Duration::from_millis(config.flush_interval_ms),
            gate: RwLock::new(()),
            writing: Mutex::new(()),
            last_flush: Mutex::new(Instant::now()),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Creates a data directory from what [`snapshot`](Self::snapshot) wrote. A directory that already holds records
    /// is refused.
    pub fn restore(config: BackendConfig, from: &mut dyn Read) -> StorageResult<Self> {
        let backend = Self::new(config)?;
        let mut records = 0u64;
        backend.visit_all(&mut |_, _| {
            records += 1;
            ControlFlow::Break(())
        })?;
        if records > 0 {
            return Err(StorageError::Damaged(format!(
                "{} already holds data: restore into an empty directory",
                backend.inner.data_dir.display()
            )));
        }
        let engine = backend.inner.dir.engine();
        let mut reader = SnapshotReader {
            from,
            path: &backend.inner.data_dir,
            crc: 0,
        };
        reader.header()?;
        let mut more = true;
        while more {
            let (mut page, mut bytes) = (Vec::new(), 0);
            while more && bytes < PAGE_BYTES {
                let record = reader.record()?;
                more = record.is_some();
                bytes += record
                    .as_ref()
                    .map_or(0, |(key, value)| key.len() + value.len());
                page.extend(record);
            }
            engine.bulk_load(&mut page.into_iter())?;
        }
        backend.flush()?;
        Ok(backend)
    }

    /// Applies a batch: all of it or nothing, over all trees.
    pub fn write(&self, batch: &WriteBatch) -> StorageResult<()> {
        Ok(Engine::write(self, batch)?)
    }

    /// Every record of a tree, in order, with the keys as the tree knows them.
    pub fn scan(&self, tree: Tree) -> StorageResult<Vec<(Bytes, Bytes)>> {
        self.scan_prefix(tree, b"")
    }

    /// The records of a tree whose keys begin with `prefix`.
    pub fn scan_prefix(&self, tree: Tree, prefix: &[u8]) -> StorageResult<Vec<(Bytes, Bytes)>> {
        let (start, end) = (tree.key(prefix), tree.range().1);
        let mut found = Vec::new();
        Engine::scan(self, &start, &end, Direction::Forward, &mut |key, value| {
            if !key.starts_with(&start) {
                return ControlFlow::Break(());
            }
            found.push((
                Bytes::copy_from_slice(&key[1..]),
                Bytes::copy_from_slice(value),
            ));
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Writes everything to a stream: one point in time, so writes wait for it. Ends with a checksum.
    pub fn snapshot(&self, to: &mut dyn Write) -> StorageResult<()> {
        let _nobody_writes = self.inner.writing.lock();
        let mut crc = 0;
        let mut put = |bytes: &[u8]| {
            crc = crc32c::crc32c_append(crc, bytes);
            to.write_all(bytes)
        };
        let mut result = put(SNAPSHOT_MAGIC);
        if result.is_ok() {
            self.visit_all(&mut |key, value| {
                let sizes = [key.len() as u32, value.len() as u32]
                    .map(u32::to_be_bytes)
                    .concat();
                result = [&sizes, key, value].into_iter().try_for_each(&mut put);
                if result.is_ok() {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
        }
        result
            .and_then(|()| put(&[0; 8]))
            .and_then(|()| to.write_all(&crc.to_be_bytes()))
            .map_err(|error| self.io_error("write a snapshot", &error))
    }

    /// Rewrites the data into a fresh engine, which takes only the space it needs. Reads go on meanwhile, writes wait.
    pub fn defragment(&self) -> StorageResult<()> {
        let _nobody_writes = self.inner.writing.lock();
        let dir = &self.inner.dir;
        let (live, rewrite) = (dir.engine(), dir.begin_rewrite()?);
        let mut cursor = Vec::new();
        loop {
            let page = next_page(live.as_ref(), &cursor)?;
            let Some((last, _)) = page.last() else { break };
            cursor = [last, &b"\0"[..]].concat();
            rewrite.engine().bulk_load(&mut page.into_iter())?;
        }
        let _nobody_reads = self.inner.gate.write();
        drop(live);
        Ok(dir.switch(rewrite)?.destroy()?)
    }

    /// Defragments if more than half of the disk space is not data. Says whether it did.
    pub fn compact(&self) -> StorageResult<bool> {
        let mut logical_bytes = 0;
        self.visit_all(&mut |key, value| {
            logical_bytes += (key.len() + value.len()) as u64;
            ControlFlow::Continue(())
        })?;
        let pays = self.size()?.disk_bytes > (2 * logical_bytes).max(PAGE_BYTES as u64);
        if pays {
            self.defragment()?;
        }
        Ok(pays)
    }

    /// Bytes on disk and in the cache.
    pub fn size(&self) -> StorageResult<EngineStats> {
        Ok(self.stats()?)
    }

    /// Everything written so far survives power loss on return.
    pub fn flush(&self) -> StorageResult<()> {
        Ok(self.persist()?)
    }

    /// Flushes and lets go of the files. Later calls fail.
    pub fn close(&self) -> StorageResult<()> {
        Ok(Engine::close(self)?)
    }

    fn visit_all(&self, visit: &mut Visit<'_>) -> StorageResult<()> {
        Ok(Engine::scan(self, &[], &[0xff], Direction::Forward, visit)?)
    }

    fn io_error(&self, action: &str, error: &std::io::Error) -> StorageError {
        EngineError::io("backend", &self.inner.data_dir, action, error).into()
    }
}

/// Records from `cursor` on, about a page of them.
fn next_page(engine: &dyn Engine, cursor: &[u8]) -> Result<Vec<(Bytes, Bytes)>, EngineError> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    engine.scan(cursor, &[0xff], Direction::Forward, &mut |key, value| {
        bytes += key.len() + value.len();
        page.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        if bytes < PAGE_BYTES {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    Ok(page)
}

/// Reads a snapshot back: magic, (sizes, key, value)*, an empty record, CRC-32C of all that.
struct SnapshotReader<'a> {
    from: &'a mut dyn Read,
    path: &'a Path,
    crc: u32,
}

impl SnapshotReader<'_> {
    fn bytes(&mut self, length: usize) -> StorageResult<Vec<u8>> {
        // Grows as bytes arrive: the length may be a lie.
        let mut bytes = Vec::new();
        let read = Read::take(&mut *self.from, length as u64).read_to_end(&mut bytes);
        read.map_err(|error| EngineError::io("backend", self.path, "read a snapshot", &error))?;
        if bytes.len() < length {
            return Err(StorageError::Damaged("the snapshot ends too early".into()));
        }
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        Ok(bytes)
    }

    fn number(&mut self) -> StorageResult<u32> {
        let bytes = self.bytes(4)?;
        Ok(bytes
            .iter()
            .fold(0, |number, &byte| number << 8 | u32::from(byte)))
    }

    fn header(&mut self) -> StorageResult<()> {
        if self.bytes(SNAPSHOT_MAGIC.len())? != SNAPSHOT_MAGIC {
            return Err(StorageError::Damaged(
                "this is not a snapshot that this build reads".into(),
            ));
        }
        Ok(())
    }

    /// The next record; `None` at the end, once the checksum has been found right.
    fn record(&mut self) -> StorageResult<Option<(Bytes, Bytes)>> {
        let (key_bytes, value_bytes) = (self.number()? as usize, self.number()? as usize);
        if key_bytes == 0 {
            let expected = self.crc;
            if self.number()? != expected {
                return Err(StorageError::Damaged(
                    "the checksum of the snapshot is wrong".into(),
                ));
            }
            return Ok(None);
        }
        if key_bytes.max(value_bytes) > SNAPSHOT_FIELD_BYTES_MAX {
            return Err(StorageError::Damaged(
                "the snapshot holds an impossible record".into(),
            ));
        }
        let key = self.bytes(key_bytes)?;
        let value = self.bytes(value_bytes)?;
        Ok(Some((key.into(), value.into())))
    }
}

impl Engine for Backend {
    fn name(&self) -> &'static str {
        self.inner.dir.engine().name()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let _gate = self.inner.gate.read_recursive();
        self.inner.dir.engine().get(key)
    }

    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        let _gate = self.inner.gate.read_recursive();
        self.inner.dir.engine().get_many(keys)
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        let _gate = self.inner.gate.read_recursive();
        self.inner.dir.engine().scan(start, end, direction, visit)
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        {
            let _writer = self.inner.writing.lock();
            self.inner.dir.engine().write(batch)?;
        }
        if self.inner.last_flush.lock().elapsed() >= self.inner.flush_interval {
            self.persist()?;
        }
        Ok(())
    }

    fn persist(&self) -> Result<(), EngineError> {
        let _gate = self.inner.gate.read_recursive();
        self.inner.dir.engine().persist()?;
        *self.inner.last_flush.lock() = Instant::now();
        Ok(())
    }

    fn bulk_load(
        &self,
        sorted: &mut dyn Iterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), EngineError> {
        let _writer = self.inner.writing.lock();
        self.inner.dir.engine().bulk_load(sorted)
    }

    fn stats(&self) -> Result<EngineStats, EngineError> {
        let _gate = self.inner.gate.read_recursive();
        self.inner.dir.engine().stats()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.dir.engine().capabilities()
    }

    fn close(&self) -> Result<(), EngineError> {
        let _gate = self.inner.gate.read_recursive();
        self.inner.dir.engine().close()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> Backend {
        let config = BackendConfig {
            data_dir: dir.to_owned(),
            flush_interval_ms: 0,
            ..BackendConfig::default()
        };
        Backend::new(config).unwrap()
    }

    fn fill(backend: &Backend) {
        let mut batch = WriteBatch::new();
        for n in 0..3000u32 {
            batch.put(Tree::KvRev.key(&n.to_be_bytes()), vec![n as u8; 1000]);
        }
        batch.put(Tree::Lease.key(b"7"), "ttl");
        backend.write(&batch).unwrap();
    }

    fn all(backend: &Backend) -> Vec<(Bytes, Bytes)> {
        Tree::ALL
            .iter()
            .flat_map(|&tree| backend.scan(tree).unwrap())
            .collect()
    }

    #[test]
    fn defragmentation_keeps_every_record_and_reads_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let backend = open(dir.path());
        fill(&backend);
        let before = all(&backend);
        assert_eq!(before.len(), 3001);
        backend.defragment().unwrap();
        assert_eq!(all(&backend), before);
        backend.close().unwrap();
        drop(backend);
        assert_eq!(all(&open(dir.path())), before);
    }

    #[test]
    fn a_snapshot_restores_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let backend = open(&dir.path().join("live"));
        fill(&backend);
        let mut snapshot = Vec::new();
        backend.snapshot(&mut snapshot).unwrap();
        let restore = |name: &str, bytes: &[u8]| {
            let config = BackendConfig {
                data_dir: dir.path().join(name),
                ..BackendConfig::default()
            };
            Backend::restore(config, &mut &bytes[..])
        };
        let restored = restore("copy", &snapshot).unwrap();
        assert_eq!(all(&restored), all(&backend));
        drop(restored);
        assert!(restore("copy", &snapshot).is_err(), "restored over data");

        let mut flipped = snapshot.clone();
        flipped[500_000] ^= 1;
        assert!(restore("flipped", &flipped).is_err());
        assert!(restore("short", &snapshot[..snapshot.len() - 1]).is_err());
        assert!(restore("other", b"something else entirely").is_err());
        let mut lying = snapshot[..8].to_vec();
        lying.extend([0xff; 8]);
        assert!(restore("lying", &lying).is_err());
    }

    #[test]
    fn compacting_gives_space_back_only_when_it_pays() {
        let dir = tempfile::tempdir().unwrap();
        let backend = open(dir.path());
        for _ in 0..6 {
            fill(&backend);
        }
        let mut batch = WriteBatch::new();
        for n in 10..3000u32 {
            batch.delete(Tree::KvRev.key(&n.to_be_bytes()));
        }
        backend.write(&batch).unwrap();
        let before = backend.size().unwrap().disk_bytes;
        assert!(backend.compact().unwrap());
        assert!(backend.size().unwrap().disk_bytes < before);
        assert!(!backend.compact().unwrap());
        assert_eq!(all(&backend).len(), 11);
    }
}
