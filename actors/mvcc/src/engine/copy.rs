//! An online copy of the engine into a fresh one: for defragmentation, and for a checkpoint.
//!
//! The engine writer copies the live engine in key order, a page at a time, and writes the batches that come
//! meanwhile between two pages. Every batch goes to the live engine as always; of its operations, those on keys
//! that the copy has passed go to the new engine too, and the copy finds the others when it gets there. So when
//! the copy has reached the end the two hold the same, without a snapshot and without holding anything back:
//!
//! ```text
//!   keys   |---------- copied ----------| cursor |------- to be copied -------|
//!   batch    both engines                          live engine only
//! ```
//!
//! The cost while it runs: one page in memory, and on disk the new engine beside the old one.

use bytes::Bytes;
use rusd_storage::engine::{Direction, Engine, EngineError, Op, WriteBatch};
use rusd_storage::{StorageError, check_entry};
use std::ops::ControlFlow;
use std::sync::Arc;
use thiserror::Error;

/// Bytes copied before waiting batches get their turn: a few milliseconds' work.
const PAGE_BYTES: usize = 1 << 20;
/// Pages after which the copy is made durable, so that little is left to wait for at its end.
const PERSIST_PAGES: u64 = 32;
/// Beyond every key: their first byte is the prefix of a tree, an ASCII letter.
const END: &[u8] = &[0xff];

/// Which of the two engines failed.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The one that is copied.
    #[error("cannot read what is to be copied: {0}")]
    Live(EngineError),
    /// What it holds makes no sense.
    #[error("what is to be copied is damaged: {0}")]
    Damaged(StorageError),
    /// The copy: the live engine is as it was.
    #[error("cannot write the copy: {0}")]
    Copy(EngineError),
}

/// What becomes of records that make no sense though their checksums, which end any copy if they are wrong, are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// They are copied with the rest.
    Copied,
    /// They end the copy: a checkpoint takes the place of one that may still be whole.
    Refused,
}

/// A copy under way.
pub struct Copy {
    live: Arc<dyn Engine>,
    target: Arc<dyn Engine>,
    damage: Damage,
    page_bytes: usize,
    /// Everything below is in the new engine.
    cursor: Vec<u8>,
    pages: u64,
}

impl Copy {
    /// Begins to copy the live engine into an empty one beside it.
    pub fn begin(live: Arc<dyn Engine>, target: Arc<dyn Engine>, damage: Damage) -> Self {
        Self {
            live,
            target,
            damage,
            page_bytes: PAGE_BYTES,
            cursor: Vec::new(),
            pages: 0,
        }
    }

    /// Copies so many bytes at a time, and the rest of the record that they end in.
    pub fn in_pages_of(mut self, page_bytes: usize) -> Self {
        self.page_bytes = page_bytes;
        self
    }

    /// Copies a page; true when there is nothing left to copy, and what is copied is durable.
    pub fn step(&mut self) -> Result<bool, CopyError> {
        let mut page = Vec::new();
        let mut bytes = 0;
        let mut checked = Ok(());
        self.live
            .scan(&self.cursor, END, Direction::Forward, &mut |key, value| {
                if self.damage == Damage::Refused {
                    checked = check_entry(key, value);
                    if checked.is_err() {
                        return ControlFlow::Break(());
                    }
                }
                bytes += key.len() + value.len();
                page.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                if bytes < self.page_bytes {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })
            .map_err(CopyError::Live)?;
        checked.map_err(CopyError::Damaged)?;
        let finished = bytes < self.page_bytes;
        if let Some((last, _)) = page.last() {
            self.cursor = last.to_vec();
            self.cursor.push(0);
        }
        let engine = &*self.target;
        engine
            .bulk_load(&mut page.into_iter())
            .map_err(CopyError::Copy)?;
        self.pages += 1;
        if self.pages.is_multiple_of(PERSIST_PAGES) {
            engine.persist().map_err(CopyError::Copy)?;
        }
        if finished {
            self.cursor = END.to_vec();
            // Here and not in the switch: up to here it is possible to give up.
            engine.persist().map_err(CopyError::Copy)?;
        }
        Ok(finished)
    }

    /// Repeats on the new engine what a batch did to keys that are copied already.
    pub fn tee(&self, batch: &WriteBatch) -> Result<(), CopyError> {
        let mut passed = WriteBatch::new();
        for op in batch.ops() {
            match op {
                Op::Put { key, value } if key[..] < self.cursor[..] => {
                    passed.put(key.clone(), value.clone())
                }
                Op::Delete { key } if key[..] < self.cursor[..] => passed.delete(key.clone()),
                Op::Put { .. } | Op::Delete { .. } => {}
            }
        }
        if passed.is_empty() {
            return Ok(());
        }
        let written = self.target.write(&passed);
        written.map_err(CopyError::Copy)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rusd_storage::engine::{EngineDir, EngineKind, EngineOptions, Tree};

    fn key(n: u32) -> Vec<u8> {
        Tree::KvRev.key(&n.to_be_bytes())
    }

    fn content(engine: &dyn Engine) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all = Vec::new();
        let visit = &mut |key: &[u8], value: &[u8]| {
            all.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        };
        engine.scan(&[], END, Direction::Forward, visit).unwrap();
        all
    }

    /// Writes go on during the copy, before and behind the cursor; the new engine ends up with the same.
    fn rewrite_under_writes(kind: EngineKind) {
        let base = tempfile::tempdir().unwrap();
        let engines = EngineDir::open(base.path(), &EngineOptions::new(kind)).unwrap();
        let live = engines.engine();
        let value = vec![7_u8; 3000];
        let mut batch = WriteBatch::new();
        for n in 0..2000 {
            batch.put(key(n), value.clone());
        }
        live.write(&batch).unwrap();
        let target = engines.begin_rewrite().unwrap();
        let mut copy = Copy::begin(live.clone(), target.engine().clone(), Damage::Copied);
        let mut steps = 0;
        loop {
            let finished = copy.step().unwrap();
            steps += 1;
            let mut batch = WriteBatch::new();
            batch.put(key(steps), b"changed early".to_vec());
            batch.delete(key(10 + steps));
            batch.delete(key(1990 - steps));
            batch.put(key(5000 + steps), b"appended".to_vec());
            live.write(&batch).unwrap();
            copy.tee(&batch).unwrap();
            if finished {
                break;
            }
        }
        assert!(steps > 3, "the copy took {steps} steps only");
        let expected = content(&*live);
        drop((live, copy));
        let retired = engines.switch(target).unwrap();
        assert_eq!(content(&*engines.engine()), expected);
        retired.destroy().unwrap();
        drop(engines);
        let again = EngineDir::open(base.path(), &EngineOptions::new(kind)).unwrap();
        assert_eq!(content(&*again.engine()), expected);
    }

    #[test]
    fn p7_a_checkpoint_is_not_made_of_what_no_store_opens_with() {
        let base = tempfile::tempdir().unwrap();
        let engines = EngineDir::open(base.path(), &EngineOptions::new(EngineKind::Redb)).unwrap();
        let mut batch = WriteBatch::new();
        batch.put(Tree::Meta.key(b"any"), vec![7]);
        batch.put(key(1), vec![7; 30]);
        engines.engine().write(&batch).unwrap();
        for (damage, refused) in [(Damage::Copied, false), (Damage::Refused, true)] {
            let target = engines.begin_checkpoint().unwrap();
            let mut copy = Copy::begin(engines.engine(), target.engine().clone(), damage);
            let step = copy.step();
            assert_eq!(
                matches!(step, Err(CopyError::Damaged(_))),
                refused,
                "{step:?}"
            );
            target.abandon().unwrap();
        }
    }

    #[test]
    fn m_03_sled_is_rewritten_while_it_is_written() {
        rewrite_under_writes(EngineKind::Sled);
    }

    #[test]
    fn m_03_redb_is_rewritten_while_it_is_written() {
        rewrite_under_writes(EngineKind::Redb);
    }
}
