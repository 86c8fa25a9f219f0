//! The engine on its virtual disk: batches are visible at once, and durable through the last completed persist.

use crate::random::Random;
use bytes::Bytes;
use rusd_storage::engine::{
    Capabilities, Direction, Engine, EngineError, EngineStats, Memory, Op, Tree, Visit, WriteBatch,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct Durable {
    records: BTreeMap<Bytes, Bytes>,
    /// Batches that a crash may take away.
    unpersisted: VecDeque<WriteBatch>,
    /// Batches persisted since this engine was opened.
    persisted: u64,
}

impl Durable {
    fn persist(&mut self, batches: u64) {
        while self.persisted < batches
            && let Some(batch) = self.unpersisted.pop_front()
        {
            apply(&mut self.records, &batch);
            self.persisted += 1;
        }
    }
}

fn apply(records: &mut BTreeMap<Bytes, Bytes>, batch: &WriteBatch) {
    for op in batch.ops() {
        match op {
            Op::Put { key, value } => records.insert(key.clone(), value.clone()),
            Op::Delete { key } => records.remove(key),
        };
    }
}

/// What a planted bug leaves out of what survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// Nothing: no bug.
    Nothing,
    /// How far the log is applied, of the last batch.
    LastApplied,
    /// What is compacted.
    Compaction,
}

/// See the module.
pub struct VirtualEngine {
    memory: Memory,
    durable: Mutex<Durable>,
}

impl VirtualEngine {
    /// An engine without records.
    pub fn empty() -> Self {
        Self::over(BTreeMap::new())
    }

    fn over(records: BTreeMap<Bytes, Bytes>) -> Self {
        let memory = Memory::new();
        let loaded = memory.bulk_load(&mut records.clone().into_iter());
        assert!(loaded.is_ok(), "memory takes everything");
        Self {
            memory,
            durable: Mutex::new(Durable {
                records,
                ..Durable::default()
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Durable> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Batches written since it was opened: what a persist that begins now will cover.
    pub fn written(&self) -> u64 {
        let durable = self.lock();
        durable.persisted + durable.unpersisted.len() as u64
    }

    /// A persist is done that covers so many batches.
    pub fn persisted(&self, batches: u64) {
        self.lock().persist(batches);
    }

    /// The last entry of the log that no crash can take out of it.
    pub fn durable_applied(&self) -> u64 {
        let durable = self.lock();
        let applied = durable.records.get(&Tree::Meta.key(b"applied")[..]);
        let index = applied.and_then(|value| value.first_chunk());
        index.map_or(0, |index| u64::from_be_bytes(*index))
    }

    /// A copy of what is durable.
    pub fn copy(&self) -> Self {
        Self::over(self.lock().records.clone())
    }

    /// What a power loss leaves: everything through the last persist, and some of the batches after it, in order.
    pub fn crash(&self, left_out: LeftOut, random: &mut Random) -> Self {
        let mut durable = self.lock();
        let survivors = random.size(0..durable.unpersisted.len() + 1);
        let mut records = std::mem::take(&mut durable.records);
        let applied = Bytes::from(Tree::Meta.key(b"applied").to_vec());
        let mut applied_before = None;
        for batch in durable.unpersisted.iter().take(survivors) {
            applied_before = Some(records.get(&applied).cloned());
            apply(&mut records, batch);
        }
        match (left_out, applied_before) {
            (LeftOut::LastApplied, Some(Some(before))) => drop(records.insert(applied, before)),
            (LeftOut::LastApplied, Some(None)) => drop(records.remove(&applied)),
            (LeftOut::Compaction, _) => {
                drop(records.remove(&Tree::Meta.key(b"compact_scheduled")[..]))
            }
            _ => {}
        }
        drop(durable);
        Self::over(records)
    }
}

impl Engine for VirtualEngine {
    fn name(&self) -> &'static str {
        self.memory.name()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.memory.get(key)
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        self.memory.scan(start, end, direction, visit)
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        self.memory.write(batch)?;
        self.lock().unpersisted.push_back(batch.clone());
        Ok(())
    }

    fn persist(&self) -> Result<(), EngineError> {
        self.lock().persist(u64::MAX);
        self.memory.persist()
    }

    fn bulk_load(
        &self,
        sorted: &mut dyn Iterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), EngineError> {
        let mut batch = WriteBatch::new();
        for (key, value) in sorted {
            batch.put(key, value);
        }
        self.write(&batch)
    }

    fn stats(&self) -> Result<EngineStats, EngineError> {
        self.memory.stats()
    }

    fn capabilities(&self) -> Capabilities {
        self.memory.capabilities()
    }

    fn close(&self) -> Result<(), EngineError> {
        self.memory.close()
    }
}
