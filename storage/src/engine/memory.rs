//! An engine without a disk, for tests and for the simulated cluster.
//!
//! With [`Faults`] it also behaves like a disk that is about to disappoint:
//! the n-th write or persist fails, and [`Memory::crash`] goes back to what a
//! power loss would have left. For the latter it keeps, per batch since the
//! last persist, what that batch overwrote:
//!
//! ```text
//!   persisted state --b1--> --b2--> --b3--> state now
//!                    undo1   undo2   undo3
//!   crash(keep = 1): apply undo3, undo2; the state is that after b1
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::path::Path;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::{Capabilities, Direction, Engine, EngineError, EngineStats, Op, Visit, WriteBatch};

const NAME: &str = "memory";

/// How many records a scan copies at a time, so that visitors run without the
/// lock and may call the engine themselves.
const SCAN_PAGE_RECORDS: usize = 256;

/// What the disk under a [`Memory`] will do wrong. Counted from when the
/// faults are set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The write that fails: 0 is the next one.
    pub fail_write: Option<u64>,
    /// The persist that fails: 0 is the next one.
    pub fail_persist: Option<u64>,
    /// Failures say that the disk is full instead of being fatal.
    pub disk_full: bool,
}

/// What a batch overwrote, newest change first.
type Undo = Vec<(Bytes, Option<Bytes>)>;

#[derive(Default)]
struct State {
    map: BTreeMap<Bytes, Bytes>,
    bytes: u64,
    /// One per batch since the last persist; kept only when crashes are wanted.
    undo: VecDeque<Undo>,
    closed: bool,
}

/// An engine in memory.
#[derive(Default)]
pub struct Memory {
    state: RwLock<State>,
    /// Whether [`Memory::crash`] may be called; it costs memory per batch.
    crashes: bool,
    faults: Mutex<Faults>,
}

impl Memory {
    /// An empty engine that never fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty engine that can be made to fail and to crash. It keeps the
    /// overwritten values of every batch until the next persist.
    pub fn with_faults(faults: Faults) -> Self {
        Self {
            crashes: true,
            faults: Mutex::new(faults),
            ..Self::default()
        }
    }

    /// How many batches a crash may take away: those since the last persist.
    pub fn unpersisted_batches(&self) -> usize {
        self.state.read().undo.len()
    }

    /// What is left after power was lost, `keep` of the batches since the last
    /// persist having reached the disk. This engine is closed by it; faults do
    /// not carry over.
    ///
    /// Needs an engine made by [`Memory::with_faults`]; on any other every
    /// batch survives.
    pub fn crash(&self, keep: usize) -> Self {
        let mut old = self.state.write();
        let mut state = std::mem::take(&mut *old);
        old.closed = true;
        while state.undo.len() > keep {
            for (key, previous) in state.undo.pop_back().unwrap_or_default() {
                state.set(key, previous);
            }
        }
        state.undo.clear();
        state.closed = false;
        Self {
            state: RwLock::new(state),
            crashes: self.crashes,
            faults: Mutex::default(),
        }
    }

    /// All records, for comparing states.
    pub fn dump(&self) -> BTreeMap<Bytes, Bytes> {
        self.state.read().map.clone()
    }

    fn failure(&self, action: &str, disk_full: bool) -> EngineError {
        let path = Path::new("memory");
        if disk_full {
            let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
            EngineError::io(NAME, path, action, &error)
        } else {
            EngineError::fatal(NAME, path, format!("{action}: injected fault"))
        }
    }
}

impl State {
    /// Sets or removes `key`, returning what it held.
    fn set(&mut self, key: Bytes, value: Option<Bytes>) -> Option<Bytes> {
        let key_bytes = key.len() as u64;
        let previous = match value {
            Some(value) => {
                self.bytes += key_bytes + value.len() as u64;
                self.map.insert(key, value)
            }
            None => self.map.remove(&key),
        };
        if let Some(previous) = &previous {
            self.bytes -= key_bytes + previous.len() as u64;
        }
        previous
    }

    fn open(&self) -> Result<(), EngineError> {
        if self.closed {
            return Err(EngineError::Closed { engine: NAME });
        }
        Ok(())
    }
}

/// Counts a fault down; true when it strikes.
fn strikes(countdown: &mut Option<u64>) -> bool {
    match countdown {
        Some(0) => {
            *countdown = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}

impl Engine for Memory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let state = self.state.read();
        state.open()?;
        Ok(state.map.get(key).cloned())
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        let mut lower = Bound::Included(Bytes::copy_from_slice(start));
        let mut upper = Bound::Excluded(Bytes::copy_from_slice(end));
        if start >= end {
            self.state.read().open()?;
            return Ok(());
        }
        loop {
            let page: Vec<(Bytes, Bytes)> = {
                let state = self.state.read();
                state.open()?;
                let range = state.map.range((lower.clone(), upper.clone()));
                let copy = |(key, value): (&Bytes, &Bytes)| (key.clone(), value.clone());
                match direction {
                    Direction::Forward => range.take(SCAN_PAGE_RECORDS).map(copy).collect(),
                    Direction::Backward => range.rev().take(SCAN_PAGE_RECORDS).map(copy).collect(),
                }
            };
            for (key, value) in &page {
                if visit(key, value).is_break() {
                    return Ok(());
                }
            }
            let Some((last, _)) = page.last().filter(|_| page.len() == SCAN_PAGE_RECORDS) else {
                return Ok(());
            };
            match direction {
                Direction::Forward => lower = Bound::Excluded(last.clone()),
                Direction::Backward => upper = Bound::Excluded(last.clone()),
            }
            // A map panics on a range that excludes one key from both sides.
            if let (Bound::Excluded(low), Bound::Excluded(high)) = (&lower, &upper)
                && low >= high
            {
                return Ok(());
            }
        }
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        let mut state = self.state.write();
        state.open()?;
        {
            let mut faults = self.faults.lock();
            if strikes(&mut faults.fail_write) {
                return Err(self.failure("write", faults.disk_full));
            }
        }
        let mut undo = Undo::new();
        for op in batch.ops() {
            let (key, value) = match op {
                Op::Put { key, value } => (key, Some(value.clone())),
                Op::Delete { key } => (key, None),
            };
            let previous = state.set(key.clone(), value);
            if self.crashes {
                undo.push((key.clone(), previous));
            }
        }
        if self.crashes {
            undo.reverse();
            state.undo.push_back(undo);
        }
        Ok(())
    }

    fn persist(&self) -> Result<(), EngineError> {
        let mut state = self.state.write();
        state.open()?;
        {
            let mut faults = self.faults.lock();
            if strikes(&mut faults.fail_persist) {
                return Err(self.failure("persist", faults.disk_full));
            }
        }
        state.undo.clear();
        Ok(())
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
        let state = self.state.read();
        state.open()?;
        Ok(EngineStats {
            disk_bytes: state.bytes,
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
        self.state.write().closed = true;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn put(key: &'static str, value: &'static str) -> WriteBatch {
        let mut batch = WriteBatch::new();
        batch.put(key, value);
        batch
    }

    fn text(memory: &Memory) -> String {
        let dump = memory.dump();
        let pairs = dump.iter().map(|(k, v)| {
            let text = |b: &Bytes| String::from_utf8_lossy(b).into_owned();
            format!("{}={}", text(k), text(v))
        });
        pairs.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_crash_leaves_a_prefix_no_shorter_than_the_last_persist() {
        for (keep, left) in [(0, "a=1"), (1, "a=2"), (2, "b=3"), (9, "b=3")] {
            let memory = Memory::with_faults(Faults::default());
            memory.write(&put("a", "1")).unwrap();
            memory.persist().unwrap();
            memory.write(&put("a", "2")).unwrap();
            let mut batch = put("b", "2");
            batch.delete("a");
            batch.put("b", "3");
            memory.write(&batch).unwrap();
            assert_eq!(memory.unpersisted_batches(), 2);

            let after = memory.crash(keep);
            assert_eq!(text(&after), left, "keep {keep}");
            assert_eq!(after.stats().unwrap().disk_bytes, 2);
            assert!(matches!(memory.get(b"a"), Err(EngineError::Closed { .. })));
        }
    }

    #[test]
    fn the_nth_write_fails_once_and_changes_nothing() {
        let memory = Memory::with_faults(Faults {
            fail_write: Some(1),
            disk_full: true,
            ..Faults::default()
        });
        memory.write(&put("a", "1")).unwrap();
        let error = memory.write(&put("a", "2")).unwrap_err();
        assert!(matches!(error, EngineError::Full { .. }), "{error}");
        assert_eq!(text(&memory), "a=1");
        memory.write(&put("a", "3")).unwrap();
        assert_eq!(text(&memory), "a=3");
    }

    #[test]
    fn a_failed_persist_covers_nothing() {
        let memory = Memory::with_faults(Faults {
            fail_persist: Some(0),
            ..Faults::default()
        });
        memory.write(&put("a", "1")).unwrap();
        let error = memory.persist().unwrap_err();
        assert!(matches!(error, EngineError::Fatal { .. }), "{error}");
        assert_eq!(text(&memory.crash(0)), "");
    }
}
