//! What the writer and all readers of one store share.

use std::ops::ControlFlow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::RwLock;
use rusd_proto::ids::Revision;

use super::kept_hashes::CompactionHashes;
use super::pins::Pins;
use super::ring::{Ring, StoredRecord};
use crate::engine::{Direction, Engine, EngineError};
use crate::error::{StorageError, StorageResult};
use crate::record::{Record, tombstone_event};
use crate::revision::{REVISION_KEY_BYTES, RecordRevision};

/// How many records are looked up in the ring at a time, so that the writer does not wait long for it.
const RING_LOOKUPS: usize = 128;

/// The engine in use; a type of its own because what is swapped atomically must be sized.
struct Current(Arc<dyn Engine>);

pub(super) struct Shared {
    engine: ArcSwap<Current>,
    pub ring: RwLock<Ring>,
    pub pins: Arc<Pins>,
    pub hashes: CompactionHashes,
}

impl Shared {
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        revision: Revision,
        compacted: Revision,
        ring_bytes: usize,
    ) -> Self {
        let pins = Pins::default();
        pins.raise(compacted);
        Self {
            engine: ArcSwap::from_pointee(Current(engine)),
            ring: RwLock::new(Ring::new(revision, ring_bytes)),
            pins: Arc::new(pins),
            hashes: CompactionHashes::default(),
        }
    }

    pub(super) fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine.load().0)
    }

    pub(super) fn replace_engine(&self, engine: Arc<dyn Engine>) {
        self.engine.store(Arc::new(Current(engine)));
    }

    /// Reads from the engine, once more if it was replaced meanwhile: the old one may be closed by then.
    fn with_engine<T>(
        &self,
        read: impl Fn(&dyn Engine) -> Result<T, EngineError>,
    ) -> StorageResult<T> {
        let engine = self.engine.load();
        match read(engine.0.as_ref()) {
            Ok(value) => Ok(value),
            Err(error) => {
                let now = self.engine.load();
                if Arc::ptr_eq(&now.0, &engine.0) {
                    return Err(error.into());
                }
                Ok(read(now.0.as_ref())?)
            }
        }
    }

    /// The record of a put, that a read at `at` found alive.
    pub(super) fn record(&self, revision: RecordRevision, at: Revision) -> StorageResult<Record> {
        if let Some(record) = self.ring.read().get(revision) {
            return Ok(Record {
                bytes: record.event.clone(),
            });
        }
        let (key, length) = revision.engine_key(false);
        let found = self.with_engine(|engine| engine.get(&key[..length]))?;
        let bytes = found.ok_or_else(|| self.missing(revision, at))?;
        Ok(Record { bytes })
    }

    /// The records of different puts that a read at `at` found alive, in the order of `revisions`. What is stored
    /// together is read together, whatever the order. `known` has those that are nowhere else yet.
    pub(super) fn records(
        &self,
        revisions: &[RecordRevision],
        at: Revision,
        known: impl Fn(RecordRevision) -> Option<Record>,
    ) -> StorageResult<Vec<Record>> {
        let mut records = vec![Record::default(); revisions.len()];
        let mut rest: Vec<([u8; REVISION_KEY_BYTES + 1], usize)> = Vec::new();
        for (number, part) in revisions.chunks(RING_LOOKUPS).enumerate() {
            let ring = self.ring.read();
            for (place, &revision) in (number * RING_LOOKUPS..).zip(part) {
                if let Some(record) = known(revision) {
                    records[place] = record;
                } else if let Some(record) = ring.get(revision) {
                    records[place].bytes = record.event.clone();
                } else {
                    rest.push((revision.engine_key(false).0, place));
                }
            }
        }
        if rest.is_empty() {
            return Ok(records);
        }
        rest.sort_unstable();
        let keys: Vec<&[u8]> = rest
            .iter()
            .map(|(key, _)| &key[..REVISION_KEY_BYTES])
            .collect();
        let values = self.with_engine(|engine| engine.get_many(&keys))?;
        for ((_, place), value) in rest.iter().zip(values) {
            records[*place].bytes = value.ok_or_else(|| self.missing(revisions[*place], at))?;
        }
        Ok(records)
    }

    /// What it means that the engine lacks a record.
    fn missing(&self, revision: RecordRevision, at: Revision) -> StorageError {
        if at < self.pins.floor() {
            return StorageError::Superseded;
        }
        StorageError::Damaged(format!("the record of revision {revision} is missing"))
    }

    /// The records of the revisions `from..=through`, whole revisions, until about `bytes_max`; and where the next
    /// page begins.
    pub(super) fn page(
        &self,
        from: Revision,
        through: Revision,
        bytes_max: usize,
    ) -> StorageResult<(Vec<StoredRecord>, Revision)> {
        let first_in_ring = {
            let ring = self.ring.read();
            if let Some(page) = ring.page(from, through, bytes_max) {
                return Ok(page);
            }
            ring.first_main()
        };
        // Whatever is older than the ring has been written, now and later.
        let through = through.min(first_in_ring.previous());
        self.with_engine(|engine| scan_page(engine, from, through, bytes_max))?
    }
}

/// One page straight from an engine. The outer result is the engine's, the inner one is about what it holds.
fn scan_page(
    engine: &dyn Engine,
    from: Revision,
    through: Revision,
    bytes_max: usize,
) -> Result<StorageResult<(Vec<StoredRecord>, Revision)>, EngineError> {
    let (start, end) = (
        RecordRevision::engine_floor(from),
        RecordRevision::engine_floor(through.next()),
    );
    let mut page = Vec::new();
    let mut bytes = 0;
    let mut next = through.next();
    let mut last_main = from;
    let mut damage = None;
    engine.scan(&start, &end, Direction::Forward, &mut |key, value| {
        let Some((revision, tombstone)) = RecordRevision::from_engine_key(key) else {
            damage = Some(damaged_key(key));
            return ControlFlow::Break(());
        };
        if revision.main != last_main && bytes > bytes_max {
            next = revision.main;
            return ControlFlow::Break(());
        }
        last_main = revision.main;
        bytes += value.len();
        let event = if tombstone {
            tombstone_event(value, revision.main.0)
        } else {
            Bytes::copy_from_slice(value)
        };
        page.push(StoredRecord {
            revision,
            tombstone,
            event,
        });
        ControlFlow::Continue(())
    })?;
    Ok(damage.map_or(Ok((page, next)), Err))
}

pub(super) fn damaged_key(key: &[u8]) -> StorageError {
    StorageError::Damaged(format!("{key:02x?} is not the key of a record"))
}
