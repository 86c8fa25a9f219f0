//! Packs the records of `kv_rev` into blocks, over any engine.
//!
//! Revisions are appended in order and read one at a time, and an engine asks
//! its price per *entry*, hardly per byte. So a few kilobytes of neighbouring
//! records make one entry (a [`block`]); the other trees go through untouched.
//!
//! ```text
//!   kv_rev     4   5   7   8   9   11   12   ...
//!              \_______/   \___________/
//!   engine     block 4     block 8            stored under their first key
//!
//!   get(9)     the last block at or below 9, then a search inside it
//!   put(13)    joins the last block while it has room, else starts block 13
//!   delete(7)  rewrites block 4; a block that got small joins the one before
//! ```
//!
//! A block's key is a lower bound of the keys in it and the next block's key is
//! an upper bound, so the last block at or below a key is the only one that can
//! hold it. No block is empty.
//!
//! A write may *move* records to another block. A scan that is not a snapshot
//! could pass the place a record moves to before it arrives, and reach the
//! place it left after. Scans therefore read a few blocks at a time under a
//! lock that such writes take too, and continue by record, not by block.
//!
//! What it gives, for 200,000 records appended in batches of 64 (benches/packed.rs; one run on a busy machine with two
//! processors, so the rates only indicate):
//!
//! | engine, value | MB on disk, packed / not | MB written | records/s | read all, ms |
//! |---|---|---|---|---|
//! | sled, 64 bytes | 34 / 55 | 144 / 144 | 492 k / 173 k | 5 / 79 |
//! | sled, 300 bytes | 131 / 146 | 461 / 419 | 286 k / 110 k | 27 / 109 |
//! | redb, 64 bytes | 15 / 36 | 15 / 36 | 999 k / 342 k | 12 / 88 |
//! | redb, 300 bytes | 63 / 119 | 64 / 119 | 342 k / 198 k | 16 / 229 |
//!
//! Single gets cost the same or, of large values on redb, three times as much (4 against 1.4 microseconds). Small
//! appends to a tree of 64,000 records are five times as fast on sled with small values; the other cases differ by
//! less than the measurement does, or by a third against packing (sled, 300 bytes).

mod block;
mod rewrite;

use std::borrow::Cow;
use std::cmp::{max, min};
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use self::block::Block;
use self::rewrite::Rewrite;
use super::{
    Capabilities, Direction, Engine, EngineError, EngineStats, Op, Tree, Visit, WriteBatch,
};

/// Blocks are not filled beyond this. With its key and the engine's overhead a
/// full block fits two pages of 4 KiB, and the entries that sled puts in a leaf
/// stay together below what it moves to a file of its own.
pub const BLOCK_BYTES: usize = 8100;

/// A block that lost records and is smaller than this joins the one before it,
/// if both fit into one.
const SMALL_BLOCK_BYTES: usize = BLOCK_BYTES / 2;

/// How many bytes of blocks a scan copies at a time.
const SCAN_PAGE_BYTES: usize = 128 << 10;

/// How much of a bulk load becomes one write where the tree is not empty.
const LOAD_BATCH_BYTES: usize = 1 << 20;

/// Start and end of the tree that is packed.
const START: &[u8] = &[Tree::KvRev.prefix()];
const END: &[u8] = &[Tree::KvRev.prefix() + 1];

/// The key and the data of a block.
type KeyAndData = (Bytes, Bytes);

/// An engine that packs the records of `kv_rev` into blocks of another engine.
pub struct Packed<E> {
    inner: E,
    /// Where the engine is, for messages.
    path: PathBuf,
    /// There is one writer at a time. It remembers the last block, which is
    /// where appends go; `None` if it does not know it.
    tail: Mutex<Option<KeyAndData>>,
    /// Held by writes that move records between blocks, by gets and by each step
    /// of a scan.
    moving: RwLock<()>,
}

/// The smallest key above `key`.
fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

fn is_packed(key: &[u8]) -> bool {
    key.starts_with(START)
}

impl<E: Engine> Packed<E> {
    /// Packs what is stored in `inner`, which lives at `path`.
    pub fn new(inner: E, path: impl Into<PathBuf>) -> Self {
        Self {
            inner,
            path: path.into(),
            tail: Mutex::new(None),
            moving: RwLock::new(()),
        }
    }

    /// The engine that holds the blocks.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    fn damaged(&self) -> EngineError {
        let name = self.inner.name();
        EngineError::rebuild(
            name,
            &self.path,
            "a block of records is damaged: its checksum or its layout is wrong",
        )
    }

    /// The first block of `[start, end)` in this direction.
    fn first_block(
        &self,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Result<Option<KeyAndData>, EngineError> {
        let mut found = None;
        self.inner.scan(start, end, direction, &mut |key, data| {
            found = Some((Bytes::copy_from_slice(key), Bytes::copy_from_slice(data)));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// The only block that can hold `key`.
    fn floor(&self, key: &[u8]) -> Result<Option<KeyAndData>, EngineError> {
        self.first_block(START, &successor(key), Direction::Backward)
    }

    /// The key of the first block at or above `start`.
    fn next_key(&self, start: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let mut found = None;
        self.inner
            .scan(start, END, Direction::Forward, &mut |key, _| {
                found = Some(Bytes::copy_from_slice(key));
                ControlFlow::Break(())
            })?;
        Ok(found)
    }

    /// Copies the blocks that hold the records of `[start, end)`, in order,
    /// until it has [`SCAN_PAGE_BYTES`] of them. Says whether there are more.
    fn read_page(
        &self,
        start: &[u8],
        end: &[u8],
        direction: Direction,
    ) -> Result<(Vec<KeyAndData>, bool), EngineError> {
        let _moving = self.moving.read();
        let mut page = Vec::new();
        let mut bytes = 0;
        let mut more = false;
        let mut from = Cow::Borrowed(start);
        if direction == Direction::Forward
            && let Some(floor) = self.floor(start)?
        {
            // Not counted: a page has to get beyond the block it starts in.
            page.push(floor);
            from = Cow::Owned(successor(start));
        }
        let lowest = match direction {
            Direction::Forward => &from,
            Direction::Backward => START,
        };
        self.inner.scan(lowest, end, direction, &mut |key, data| {
            page.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(data)));
            bytes += data.len();
            if direction == Direction::Backward && key <= start {
                return ControlFlow::Break(());
            }
            more = bytes >= SCAN_PAGE_BYTES;
            match more {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        Ok((page, more))
    }

    /// Scans part of the packed tree; says whether the visitor had enough.
    fn scan_packed(
        &self,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<ControlFlow<()>, EngineError> {
        let (mut start, mut end) = (start.to_vec(), end.to_vec());
        let mut key = Vec::new();
        while start < end {
            let (page, more) = self.read_page(&start, &end, direction)?;
            for (base, data) in &page {
                let block = Block::verify(base, data).ok_or_else(|| self.damaged())?;
                let bound = |key: &[u8]| block.lower_bound(key).ok_or_else(|| self.damaged());
                let (from, to) = (bound(&start)?.0, bound(&end)?.0);
                for step in from..to {
                    let index = match direction {
                        Direction::Forward => step,
                        Direction::Backward => from + to - 1 - step,
                    };
                    let value = block.read(index, &mut key).ok_or_else(|| self.damaged())?;
                    if visit(&key, value).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            let Some((base, _)) = page.last().filter(|_| more) else {
                break;
            };
            match direction {
                // All records up to the last one were seen, and the last block
                // begins above the start: it brings the scan forward unless
                // its records are beyond the end.
                Direction::Forward if key < start => break,
                Direction::Forward => start = successor(&key),
                Direction::Backward => end = base.to_vec(),
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Applies changes of the packed tree, in strictly ascending order of their
    /// keys, in one batch with what `out` holds already.
    fn write_packed(
        &self,
        tail: &mut Option<KeyAndData>,
        changes: &[(&Bytes, Option<&Bytes>)],
        out: WriteBatch,
    ) -> Result<(), EngineError> {
        let mut rewrite = Rewrite::new(self, tail.take(), out);
        for (key, value) in changes {
            rewrite.apply(key, *value)?;
        }
        let done = rewrite.finish()?;
        let moving = done.moves.then(|| self.moving.write());
        self.inner.write(&done.batch)?;
        drop(moving);
        *tail = done.tail;
        Ok(())
    }
}

/// Sorts changes by key and keeps the last one of each.
fn in_order(changes: &mut Vec<(&Bytes, Option<&Bytes>)>) {
    if changes.windows(2).all(|pair| pair[0].0 < pair[1].0) {
        return;
    }
    changes.sort_by_key(|(key, _)| *key);
    // Equal keys keep their order: the last one is the one that counts.
    changes.reverse();
    changes.dedup_by_key(|(key, _)| *key);
    changes.reverse();
}

/// Looks up the first of `keys` and as many after it as a block is known to
/// have or not to have. `None` if the block is damaged.
fn read_block(
    base: &[u8],
    data: &[u8],
    keys: &[&[u8]],
    values: &mut Vec<Option<Bytes>>,
) -> Option<()> {
    let block = Block::parse(base, data)?;
    let mut found: Vec<Option<Range<usize>>> = Vec::new();
    let mut found_bytes = 0;
    let mut low = 0;
    for key in keys {
        let (index, equal) = block.lower_bound_from(low, key)?;
        if index == block.len() && !found.is_empty() {
            // Beyond the last entry: another block may have it.
            break;
        }
        let value = match equal {
            true => Some(block.value_range(index)?),
            false => None,
        };
        found_bytes += value.as_ref().map_or(0, Range::len);
        found.push(value);
        low = index + usize::from(equal);
    }
    // One copy of everything costs less than many small ones, but keeps all of
    // it in memory for as long as any of it.
    if found.len() > 1 && found_bytes >= data.len() / 2 {
        let data = Bytes::copy_from_slice(data);
        values.extend(found.into_iter().map(|value| Some(data.slice(value?))));
    } else {
        let copy = |value: Range<usize>| Bytes::copy_from_slice(&data[value]);
        values.extend(found.into_iter().map(|value| value.map(copy)));
    }
    Some(())
}

/// Turns sorted records into sorted blocks; others pass unchanged.
struct Packing<'a> {
    source: &'a mut dyn Iterator<Item = (Bytes, Bytes)>,
    entries: Vec<(Bytes, Bytes)>,
    bytes: usize,
    /// The record that did not fit, or follows the packed tree.
    next: Option<(Bytes, Bytes)>,
}

impl Iterator for Packing<'_> {
    type Item = KeyAndData;

    fn next(&mut self) -> Option<KeyAndData> {
        self.bytes = block::EMPTY_BYTES;
        let mut block_key: Option<Bytes> = None;
        while let Some((key, value)) = self.next.take().or_else(|| self.source.next()) {
            if !is_packed(&key) && block_key.is_none() {
                return Some((key, value));
            }
            let base = block_key.get_or_insert_with(|| key.clone());
            let bytes = block::entry_bytes(base, &key, value.len());
            let full = !self.entries.is_empty() && self.bytes + bytes > BLOCK_BYTES;
            if full || !is_packed(&key) {
                self.next = Some((key, value));
                break;
            }
            self.bytes += bytes;
            self.entries.push((key, value));
        }
        let base = block_key?;
        let data = block::encode(&base, &self.entries, self.bytes);
        self.entries.clear();
        Some((base, data))
    }
}

impl<E: Engine> Engine for Packed<E> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if !is_packed(key) {
            return self.inner.get(key);
        }
        let mut found = Some(None);
        let search = |base: &[u8], data: &[u8]| {
            let block = Block::parse(base, data)?;
            match block.lower_bound(key)? {
                (index, true) => Some(Some(Bytes::copy_from_slice(block.value(index)?))),
                (_, false) => Some(None),
            }
        };
        let end = successor(key);
        let _moving = self.moving.read();
        self.inner
            .scan(START, &end, Direction::Backward, &mut |base, data| {
                found = search(base, data);
                ControlFlow::Break(())
            })?;
        found.ok_or_else(|| self.damaged())
    }

    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        debug_assert!(keys.is_sorted_by(|a, b| a < b));
        let mut values = Vec::with_capacity(keys.len());
        while let Some(rest) = keys.get(values.len()..)
            && let Some(first) = rest.first()
        {
            if !is_packed(first) {
                values.push(self.inner.get(first)?);
                continue;
            }
            let before = values.len();
            let mut read = Some(());
            let end = successor(first);
            let moving = self.moving.read();
            self.inner
                .scan(START, &end, Direction::Backward, &mut |base, data| {
                    read = read_block(base, data, rest, &mut values);
                    ControlFlow::Break(())
                })?;
            drop(moving);
            read.ok_or_else(|| self.damaged())?;
            if values.len() == before {
                // No block begins at or below it.
                values.push(None);
            }
        }
        Ok(values)
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        enum Part {
            Below,
            Packed,
            Above,
        }
        let order = match direction {
            Direction::Forward => [Part::Below, Part::Packed, Part::Above],
            Direction::Backward => [Part::Above, Part::Packed, Part::Below],
        };
        let mut flow = ControlFlow::Continue(());
        for part in order {
            let (start, end) = match part {
                Part::Below => (start, min(end, START)),
                Part::Packed => (max(start, START), min(end, END)),
                Part::Above => (max(start, END), end),
            };
            if start >= end {
                continue;
            }
            match part {
                Part::Packed => flow = self.scan_packed(start, end, direction, visit)?,
                Part::Below | Part::Above => {
                    self.inner.scan(start, end, direction, &mut |key, value| {
                        flow = visit(key, value);
                        flow
                    })?
                }
            }
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        let mut out = WriteBatch::new();
        let mut packed = Vec::new();
        for op in batch.ops() {
            match op {
                Op::Put { key, value } if is_packed(key) => packed.push((key, Some(value))),
                Op::Delete { key } if is_packed(key) => packed.push((key, None)),
                Op::Put { key, value } => out.put(key.clone(), value.clone()),
                Op::Delete { key } => out.delete(key.clone()),
            }
        }
        in_order(&mut packed);
        let mut tail = self.tail.lock();
        self.write_packed(&mut tail, &packed, out)
    }

    fn persist(&self) -> Result<(), EngineError> {
        self.inner.persist()
    }

    fn bulk_load(
        &self,
        sorted: &mut dyn Iterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), EngineError> {
        let mut tail = self.tail.lock();
        *tail = None;
        if self.next_key(START)?.is_none() {
            return self.inner.bulk_load(&mut Packing {
                source: sorted,
                entries: Vec::new(),
                bytes: 0,
                next: None,
            });
        }
        drop(tail);
        let mut batch = WriteBatch::new();
        for (key, value) in sorted {
            batch.put(key, value);
            if batch.bytes() >= LOAD_BATCH_BYTES {
                self.write(&batch)?;
                batch.clear();
            }
        }
        self.write(&batch)
    }

    fn stats(&self) -> Result<EngineStats, EngineError> {
        self.inner.stats()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            snapshots: false,
            ..self.inner.capabilities()
        }
    }

    fn close(&self) -> Result<(), EngineError> {
        self.inner.close()
    }
}
