//! The checkpoint: a complete state as of some entry of the log, closed and never written again.
//!
//! ```text
//!   <base>/CHECKPOINT               "checkpoint-000005-sled index 81234 term 7\n"
//!   <base>/checkpoint-000005-sled/  an engine with every entry through 81234, and none beyond
//! ```
//!
//! With the log from there on it is as good as the live engine, and takes its place if that is damaged
//! ([`Replacement`](super::Replacement)). The file says the index, so that nothing has to be opened to know how much
//! of the log is needed. It is replaced atomically, once the new directory is persisted and closed, and only then is
//! the old directory removed: after a crash at any moment one of the two is named and whole.

use std::path::Path;
use std::time::SystemTime;

use super::name::{Name, Role};
use super::{EngineDir, Rewrite, io_error};
use crate::engine::{EngineError, EngineOptions, files};

const CHECKPOINT: &str = "CHECKPOINT";

/// A checkpoint is filled in order and closed, so a cache would only take memory from the live engine.
const CACHE_BYTES: u64 = 16 << 20;

/// The checkpoint of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub(super) name: Name,
    /// The last entry of the log that is part of it.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// When it was completed.
    pub made: SystemTime,
}

impl Checkpoint {
    fn parse(text: &str, made: SystemTime) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let ["index", index, "term", term] = words.get(1..)? else {
            return None;
        };
        Some(Self {
            name: Name::parse(words.first()?).filter(|name| name.role == Role::Checkpoint)?,
            index: index.parse().ok()?,
            term: term.parse().ok()?,
            made,
        })
    }

    /// The name of its directory.
    pub fn name(&self) -> String {
        self.name.to_string()
    }
}

/// The checkpoint of `base`. One that is named and cannot be used is an error that says so.
pub(super) fn read(base: &Path) -> Result<Option<Checkpoint>, EngineError> {
    let path = base.join(CHECKPOINT);
    let text = files::read_text(&path).map_err(|error| io_error(&path, "read", &error))?;
    let Some(text) = text else {
        return Ok(None);
    };
    let made = path
        .metadata()
        .and_then(|metadata| metadata.modified())
        .map_err(|error| io_error(&path, "read the date of", &error))?;
    let unusable = |reason| Err(EngineError::rebuild("checkpoint", &path, reason));
    match Checkpoint::parse(&text, made) {
        None => unusable(format!("it does not name a checkpoint: {text:?}")),
        Some(checkpoint) if !base.join(checkpoint.name()).is_dir() => {
            unusable(format!("{} does not exist", checkpoint.name))
        }
        checkpoint => Ok(checkpoint),
    }
}

/// Whether there is, or was to be, a checkpoint.
pub(super) fn is_named(base: &Path) -> bool {
    base.join(CHECKPOINT).exists()
}

impl EngineDir {
    /// The checkpoint of `base`, without opening anything. An error that says
    /// [`EngineError::Rebuild`] means that there is one which cannot be used.
    pub fn checkpoint_of(base: &Path) -> Result<Option<Checkpoint>, EngineError> {
        read(base)
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.checkpoint.lock().clone()
    }

    /// A fresh, empty engine to become the next checkpoint.
    pub fn begin_checkpoint(&self) -> Result<Rewrite, EngineError> {
        let options = EngineOptions {
            cache_bytes: self.options.cache_bytes.min(CACHE_BYTES),
            ..self.options.clone()
        };
        self.begin(Role::Checkpoint, &options)
    }

    /// Makes what was filled, with every entry of the log through `index` and
    /// none beyond, the checkpoint in place of the one before.
    pub fn complete_checkpoint(
        &self,
        filled: Rewrite,
        index: u64,
        term: u64,
    ) -> Result<Checkpoint, EngineError> {
        let closed = filled.engine.persist().and_then(|()| filled.engine.close());
        let synced = closed.and_then(|()| {
            files::sync_tree(&filled.dir)
                .and_then(|()| files::sync_dir(&self.base))
                .map_err(|error| io_error(&filled.dir, "sync", &error))
        });
        if let Err(error) = synced {
            if let Err(error) = filled.abandon() {
                tracing::warn!(%error, "cannot remove an unfinished checkpoint; the next start removes it");
            }
            return Err(error);
        }
        let checkpoint = Checkpoint {
            name: filled.name,
            index,
            term,
            made: SystemTime::now(),
        };
        let text = format!("{} index {index} term {term}\n", checkpoint.name);
        if let Err(error) = files::replace(&self.base, CHECKPOINT, text.as_bytes()) {
            // If the new one is named nevertheless, a power loss may bring the name of the old one back: both stay.
            let is_named = |named: Checkpoint| named.name == checkpoint.name;
            if read(&self.base).is_ok_and(|named| !named.is_some_and(is_named)) {
                self.remove_unnamed(&checkpoint);
            }
            return Err(io_error(&self.base.join(CHECKPOINT), "write", &error));
        }
        let before = self.checkpoint.lock().replace(checkpoint.clone());
        if let Some(before) = before {
            self.remove_unnamed(&before);
        }
        Ok(checkpoint)
    }

    /// Gives the checkpoint up. Returns the one there was.
    pub fn remove_checkpoint(&self) -> Result<Option<Checkpoint>, EngineError> {
        let path = self.base.join(CHECKPOINT);
        files::remove_if_there(&path).map_err(|error| io_error(&path, "remove", &error))?;
        let before = self.checkpoint.lock().take();
        if let Some(before) = &before {
            self.remove_unnamed(before);
        }
        Ok(before)
    }

    fn remove_unnamed(&self, checkpoint: &Checkpoint) {
        let dir = self.base.join(checkpoint.name());
        if let Err(error) = files::remove_tree(&dir) {
            let directory = dir.display();
            tracing::warn!(%error, %directory, "cannot remove an old checkpoint; the next start removes it");
        }
    }
}
