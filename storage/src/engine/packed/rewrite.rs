//! One batch of changes turned into a batch of changed blocks.
//!
//! Changes come in key order, so at most two blocks are in memory at a time:
//!
//! ```text
//!        closed            open
//!     [ block 4 ]       [ block 8 ]     block 11 ...
//!      complete, but     takes the       not read yet
//!      a small block 8   changes below
//!      may still join    its upper bound
//! ```
//!
//! A block is *opened* by the first change that falls into it, *closed* when a
//! change falls beyond it, and *emitted* into the batch when the next one is
//! closed and did not join it.

use bytes::Bytes;

use super::super::{Direction, Engine, EngineError, WriteBatch};
use super::{BLOCK_BYTES, KeyAndData, Packed, SMALL_BLOCK_BYTES, START, block, successor};

/// A block in memory.
struct OpenBlock {
    key: Bytes,
    /// The key of the next block; `None` if this is the last one.
    upper: Option<Bytes>,
    entries: Vec<(Bytes, Bytes)>,
    /// Size when encoded.
    bytes: usize,
    /// What the engine holds under the key; `None` if it holds nothing.
    stored: Option<Bytes>,
    /// How many of the entries the engine holds in this block, as long as
    /// nothing but appends happened.
    stored_entries: usize,
    /// The entries differ from what is stored.
    dirty: bool,
    /// Something was removed.
    shrunk: bool,
    /// Something was put elsewhere than at the end.
    mixed: bool,
}

impl OpenBlock {
    fn new(key: Bytes, upper: Option<Bytes>) -> Self {
        Self {
            key,
            upper,
            entries: Vec::new(),
            bytes: block::EMPTY_BYTES,
            stored: None,
            stored_entries: 0,
            dirty: false,
            shrunk: false,
            mixed: false,
        }
    }

    fn decode(key: Bytes, data: Bytes, upper: Option<Bytes>) -> Option<Self> {
        let entries = block::decode(&key, &data)?;
        Some(Self {
            bytes: data.len(),
            stored_entries: entries.len(),
            entries,
            stored: Some(data),
            ..Self::new(key, upper)
        })
    }

    fn covers(&self, key: &[u8]) -> bool {
        *self.key <= *key && self.upper.as_ref().is_none_or(|upper| *key < **upper)
    }

    fn entry_bytes(&self, key: &[u8], value: &[u8]) -> usize {
        block::entry_bytes(&self.key, key, value.len())
    }

    fn apply(&mut self, key: &Bytes, value: Option<&Bytes>) {
        let at_end = self.entries.last().is_none_or(|(last, _)| last < key);
        let found = match at_end {
            true => Err(self.entries.len()),
            false => self.entries.binary_search_by(|(entry, _)| entry.cmp(key)),
        };
        match (found, value) {
            (Ok(index), Some(value)) => {
                let old = self.entry_bytes(key, &self.entries[index].1);
                self.bytes = self.bytes + self.entry_bytes(key, value) - old;
                self.entries[index].1 = value.clone();
                self.mixed = true;
            }
            (Ok(index), None) => {
                let (_, old) = self.entries.remove(index);
                self.bytes -= self.entry_bytes(key, &old);
                self.shrunk = true;
                self.mixed = true;
            }
            (Err(index), Some(value)) => {
                self.bytes += self.entry_bytes(key, value);
                self.entries.insert(index, (key.clone(), value.clone()));
                self.mixed |= !at_end;
            }
            (Err(_), None) => return,
        }
        self.dirty = true;
    }

    /// What this would weigh under another key.
    fn bytes_under(&self, base: &[u8]) -> usize {
        let entry = |(key, value): &(Bytes, Bytes)| block::entry_bytes(base, key, value.len());
        block::EMPTY_BYTES + self.entries.iter().map(entry).sum::<usize>()
    }

    /// Cuts blocks that are full off the front until the rest fits into one.
    /// The first keeps the key.
    fn split(mut self) -> Vec<Self> {
        let upper = self.upper.take();
        let entries = std::mem::take(&mut self.entries);
        let mut current = Self {
            bytes: block::EMPTY_BYTES,
            ..self
        };
        let mut pieces = Vec::new();
        for (key, value) in entries {
            let mut bytes = current.entry_bytes(&key, &value);
            if !current.entries.is_empty() && current.bytes + bytes > BLOCK_BYTES {
                let next = Self::new(key.clone(), None);
                let mut full = std::mem::replace(&mut current, next);
                full.upper = Some(key.clone());
                full.dirty = true;
                pieces.push(full);
                current.dirty = true;
                bytes = current.entry_bytes(&key, &value);
            }
            current.bytes += bytes;
            current.entries.push((key, value));
        }
        current.upper = upper;
        pieces.push(current);
        pieces
    }
}

/// What came out of a [`Rewrite`].
pub struct Rewritten {
    /// What to write to the engine.
    pub batch: WriteBatch,
    /// Whether records move from one block to another.
    pub moves: bool,
    /// The last block as it is after the write, if known.
    pub tail: Option<KeyAndData>,
}

/// A batch being rewritten.
pub struct Rewrite<'a, E> {
    packed: &'a Packed<E>,
    /// The last block, as long as it was not opened.
    tail: Option<KeyAndData>,
    open: Option<OpenBlock>,
    closed: Option<OpenBlock>,
    /// The run of blocks removed last, from its first key to the block after
    /// it. The engine still shows them.
    removed: Option<(Bytes, Option<Bytes>)>,
    out: WriteBatch,
    moves: bool,
}

impl<'a, E: Engine> Rewrite<'a, E> {
    /// Starts with what the writer knows of the last block, and with changes
    /// that go along.
    pub fn new(packed: &'a Packed<E>, tail: Option<KeyAndData>, out: WriteBatch) -> Self {
        Self {
            packed,
            tail,
            open: None,
            closed: None,
            removed: None,
            out,
            moves: false,
        }
    }

    /// Takes the next change; keys ascend.
    pub fn apply(&mut self, key: &Bytes, value: Option<&Bytes>) -> Result<(), EngineError> {
        if !self.open.as_ref().is_some_and(|open| open.covers(key)) {
            self.close_open()?;
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => self.load(key)?,
        };
        self.open.insert(open).apply(key, value);
        Ok(())
    }

    /// Everything there is to write.
    pub fn finish(mut self) -> Result<Rewritten, EngineError> {
        self.close_open()?;
        if let Some(closed) = self.closed.take() {
            self.emit(closed);
        }
        Ok(Rewritten {
            batch: self.out,
            moves: self.moves,
            tail: self.tail,
        })
    }

    /// The block that covers `key`, or a new one.
    ///
    /// The engine does not know yet what this batch did to lower blocks, but a
    /// key beyond the upper bound of the last one falls into one it knows.
    fn load(&mut self, key: &Bytes) -> Result<OpenBlock, EngineError> {
        let damaged = || self.packed.damaged();
        if let Some((block_key, data)) = self.tail.take_if(|(block_key, _)| *block_key <= *key) {
            return OpenBlock::decode(block_key, data, None).ok_or_else(damaged);
        }
        let Some((block_key, data)) = self.packed.floor(key)? else {
            let upper = self.packed.next_key(START)?;
            return Ok(OpenBlock::new(key.clone(), upper));
        };
        let upper = self.packed.next_key(&successor(&block_key))?;
        OpenBlock::decode(block_key, data, upper).ok_or_else(damaged)
    }

    fn close_open(&mut self) -> Result<(), EngineError> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        if open.entries.is_empty() {
            self.remove(open);
            return Ok(());
        }
        if open.bytes > BLOCK_BYTES && open.entries.len() > 1 {
            let (appended, stored) = (!open.mixed, open.stored_entries);
            for (index, piece) in open.split().into_iter().enumerate() {
                let stays = appended && (index > 0 || piece.entries.len() >= stored);
                self.moves |= !stays;
                self.keep(piece);
            }
            return Ok(());
        }
        if open.shrunk && open.bytes < SMALL_BLOCK_BYTES {
            return self.join_left(open);
        }
        self.keep(open);
        Ok(())
    }

    /// Makes `block` the closed one.
    fn keep(&mut self, block: OpenBlock) {
        if let Some(closed) = self.closed.replace(block) {
            self.emit(closed);
        }
    }

    /// Removes a block from the engine. What follows it then follows the block
    /// before it.
    fn remove(&mut self, block: OpenBlock) {
        if block.stored.is_some() {
            self.out.delete(block.key.clone());
        }
        let follows = |upper: &Option<Bytes>| upper.as_ref() == Some(&block.key);
        if let Some(left) = self.closed.as_mut().filter(|left| follows(&left.upper)) {
            left.upper = block.upper;
        } else if let Some((_, upper)) = self.removed.as_mut().filter(|run| follows(&run.1)) {
            *upper = block.upper;
        } else {
            self.removed = Some((block.key, block.upper));
        }
    }

    /// Lets a small block join the one before it, if there is room.
    fn join_left(&mut self, block: OpenBlock) -> Result<(), EngineError> {
        let adjacent = |left: &OpenBlock| left.upper.as_ref() == Some(&block.key);
        if !self.closed.as_ref().is_some_and(adjacent) {
            let below = match &self.removed {
                Some((first, upper)) if upper.as_ref() == Some(&block.key) => first,
                _ => &block.key,
            };
            let left = self.packed.first_block(START, below, Direction::Backward)?;
            let Some((key, data)) = left else {
                self.keep(block);
                return Ok(());
            };
            // Not worth decoding if it is too full anyway.
            if data.len() + block.bytes > BLOCK_BYTES {
                self.keep(block);
                return Ok(());
            }
            let left = OpenBlock::decode(key, data, Some(block.key.clone()));
            self.keep(left.ok_or_else(|| self.packed.damaged())?);
        }
        let Some(left) = &mut self.closed else {
            self.keep(block);
            return Ok(());
        };
        let bytes = left.bytes + block.bytes_under(&left.key) - block::EMPTY_BYTES;
        if bytes > BLOCK_BYTES {
            self.keep(block);
            return Ok(());
        }
        left.entries.extend_from_slice(&block.entries);
        left.bytes = bytes;
        left.dirty = true;
        self.moves = true;
        self.remove(block);
        Ok(())
    }

    fn emit(&mut self, block: OpenBlock) {
        let data = match block.stored {
            Some(stored) if !block.dirty => stored,
            _ => {
                let data = block::encode(&block.key, &block.entries, block.bytes);
                self.out.put(block.key.clone(), data.clone());
                data
            }
        };
        if block.upper.is_none() {
            self.tail = Some((block.key, data));
        }
    }
}
