//! What an engine found out about itself while it ran, kept for the next start.
//!
//! Damage that shows at a read or a write ends the process. Opening the directory again may go well, only to end the
//! next process at the same record. So the engine notes it in its directory, and from then on does not open.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::{Capabilities, Direction, Engine, EngineError, EngineStats, Visit, WriteBatch, files};

const FILE: &str = "DAMAGED";

/// Refuses a directory that is marked as damaged.
pub(super) fn check(dir: &Path, engine: &'static str) -> Result<(), EngineError> {
    let path = dir.join(FILE);
    match files::read_text(&path) {
        Ok(None) => Ok(()),
        Ok(Some(found)) => {
            let found = found.trim_end();
            let reason = format!(
                "damage showed while it ran, as its file {FILE} says (remove that to try all the same): {found}"
            );
            Err(EngineError::rebuild(engine, dir, reason))
        }
        Err(error) => Err(EngineError::io(engine, &path, "read", &error)),
    }
}

/// Takes back the mark of an engine whose damage showed while it was first read: that it shows again at the next start,
/// and as what it is, needs no mark.
pub fn forget(dir: &Path) -> Result<(), EngineError> {
    let path = dir.join(FILE);
    files::remove_if_there(&path)
        .map_err(|error| EngineError::io("engine directory", &path, "remove", &error))
}

/// An engine that marks its directory when it turns out damaged.
pub(super) struct Marking<E> {
    inner: E,
    dir: PathBuf,
    marked: AtomicBool,
}

impl<E: Engine> Marking<E> {
    pub(super) fn new(inner: E, dir: &Path) -> Self {
        Self {
            inner,
            dir: dir.to_owned(),
            marked: AtomicBool::new(false),
        }
    }

    fn noted<T>(&self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        if let Err(error) = &result
            && error.is_rebuild()
            && !self.marked.swap(true, Ordering::Relaxed)
            && let Err(failed) = files::replace(&self.dir, FILE, format!("{error}\n").as_bytes())
        {
            tracing::warn!(%failed, %error, "cannot note in its directory that the engine is damaged");
        }
        result
    }
}

impl<E: Engine> Engine for Marking<E> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.noted(self.inner.get(key))
    }

    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        self.noted(self.inner.get_many(keys))
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        self.noted(self.inner.scan(start, end, direction, visit))
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        self.noted(self.inner.write(batch))
    }

    fn persist(&self) -> Result<(), EngineError> {
        self.noted(self.inner.persist())
    }

    fn bulk_load(
        &self,
        sorted: &mut dyn Iterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), EngineError> {
        self.noted(self.inner.bulk_load(sorted))
    }

    fn stats(&self) -> Result<EngineStats, EngineError> {
        self.noted(self.inner.stats())
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn close(&self) -> Result<(), EngineError> {
        self.noted(self.inner.close())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::Memory;

    /// Fails every read once it is broken.
    struct Breaking {
        memory: Memory,
        broken: AtomicBool,
        dir: PathBuf,
    }

    impl Engine for Breaking {
        fn name(&self) -> &'static str {
            "breaking"
        }

        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
            if self.broken.load(Ordering::Relaxed) {
                return Err(EngineError::rebuild(
                    self.name(),
                    &self.dir,
                    "page 7 is torn",
                ));
            }
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
            self.memory.write(batch)
        }

        fn persist(&self) -> Result<(), EngineError> {
            self.memory.persist()
        }

        fn bulk_load(
            &self,
            sorted: &mut dyn Iterator<Item = (Bytes, Bytes)>,
        ) -> Result<(), EngineError> {
            self.memory.bulk_load(sorted)
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

    #[test]
    fn damage_that_shows_at_a_read_is_known_at_the_next_open() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Marking::new(
            Breaking {
                memory: Memory::new(),
                broken: AtomicBool::new(false),
                dir: dir.path().to_owned(),
            },
            dir.path(),
        );
        engine.get(b"k").unwrap();
        check(dir.path(), "breaking").unwrap();

        engine.inner.broken.store(true, Ordering::Relaxed);
        assert!(engine.get(b"k").unwrap_err().is_rebuild());
        assert!(engine.get(b"k").unwrap_err().is_rebuild());
        let error = check(dir.path(), "breaking").unwrap_err();
        assert!(error.is_rebuild());
        for part in ["page 7 is torn", FILE, &dir.path().display().to_string()] {
            assert!(error.to_string().contains(part), "{error}");
        }

        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        check(dir.path(), "breaking").unwrap();
    }
}
