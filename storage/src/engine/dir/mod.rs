//! The directory of the live engine, its checkpoint, and how another takes its place.
//!
//! ```text
//!   <base>/CURRENT                  "engine-000002-sled\n"
//!   <base>/engine-000002-sled/      the live engine
//!   <base>/engine-000003-redb/      being rewritten, not switched to yet
//!   <base>/CHECKPOINT               "checkpoint-000005-sled index 81234 term 7\n"
//!   <base>/checkpoint-000005-sled/  a complete state, closed; see [`Checkpoint`]
//!   <base>/damaged-000001-sled/     moved aside, for a human to look at
//! ```
//!
//! A directory is complete before `CURRENT` or `CHECKPOINT` names it: created,
//! filled, persisted, then the file is replaced atomically. Directories that
//! neither names are leftovers of a crash and are removed by the next open that
//! succeeds, unless it cannot tell which of them would be named; what was moved
//! aside is never deleted.
//!
//! Defragmentation, installing a snapshot and changing to another engine are
//! all the same: [`EngineDir::begin_rewrite`], fill, [`EngineDir::switch`]. A
//! checkpoint is [`EngineDir::begin_checkpoint`], fill,
//! [`EngineDir::complete_checkpoint`]. An engine that does not open is replaced
//! by a [`Replacement`].

mod checkpoint;
mod name;
mod replacement;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use self::name::{Listed, Name, Role, list, number_after};
use super::{Direction, Engine, EngineError, EngineKind, EngineOptions, Tree, files, format};

pub use self::checkpoint::Checkpoint;
pub use self::replacement::Replacement;

const CURRENT: &str = "CURRENT";

/// What a rewrite leaves free on its file system: room for what engines still
/// have in their buffers, and for what the log and the live engine write before
/// somebody has freed space.
pub const REWRITE_RESERVE_BYTES: u64 = 32 << 20;

struct Live {
    name: Name,
    engine: Arc<dyn Engine>,
}

/// A data directory with one live engine in it.
pub struct EngineDir {
    base: PathBuf,
    options: EngineOptions,
    live: Mutex<Live>,
    checkpoint: Mutex<Option<Checkpoint>>,
    /// The highest number of a directory so far.
    last_number: Mutex<u64>,
}

/// An engine that is being filled, to take the place of the live one or of the
/// checkpoint.
pub struct Rewrite {
    name: Name,
    dir: PathBuf,
    engine: Arc<dyn Engine>,
}

impl Rewrite {
    /// The engine to fill.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether more may be written to it. It fails while there still is some
    /// space: a full disk would end the live engine and the log as well.
    pub fn check_room(&self) -> Result<(), EngineError> {
        let failed = |error: io::Error| io_error(&self.dir, "measure the free space", &error);
        let available = files::available_bytes(&self.dir).map_err(failed)?;
        if available >= REWRITE_RESERVE_BYTES {
            return Ok(());
        }
        Err(EngineError::Full {
            engine: "engine directory",
            path: self.dir.clone(),
            reason: format!(
                "a second copy of the data leaves {available} bytes free, and it has to leave \
                 {REWRITE_RESERVE_BYTES}"
            ),
        })
    }

    /// Gives up: closes the engine and removes its directory.
    pub fn abandon(self) -> Result<(), EngineError> {
        remove(&self.dir, &*self.engine)
    }
}

/// An engine that was replaced. Readers may still be at it.
pub struct Retired {
    dir: PathBuf,
    engine: Arc<dyn Engine>,
}

impl Retired {
    /// Closes the engine, which makes calls of whoever still reads from it
    /// fail, and removes its directory. If this is never called the next open
    /// removes it.
    pub fn destroy(self) -> Result<(), EngineError> {
        remove(&self.dir, &*self.engine)
    }
}

fn remove(dir: &Path, engine: &dyn Engine) -> Result<(), EngineError> {
    // Closing fails where the disk is full: nobody wants what it could not write,
    // and its space is wanted back.
    let closed = engine.close();
    super::destroy(dir)?;
    closed
}

fn io_error(path: &Path, action: &str, error: &io::Error) -> EngineError {
    EngineError::io("engine directory", path, action, error)
}

/// What `CURRENT` says; `None` if there is none.
fn read_current(base: &Path) -> Result<Option<Name>, EngineError> {
    let path = base.join(CURRENT);
    let text = files::read_text(&path).map_err(|error| io_error(&path, "read", &error))?;
    let Some(text) = text else {
        return Ok(None);
    };
    let name = Name::parse(text.trim_end()).filter(|name| name.role == Role::Engine);
    let reason = || {
        format!(
            "it does not name an engine directory: {:?}",
            text.trim_end()
        )
    };
    name.map(Some)
        .ok_or_else(|| EngineError::rebuild("engine directory", &path, reason()))
}

/// Whether any engine has something in it. One that was about to be named for the first time has not.
fn holds_data(
    base: &Path,
    listed: &[Listed],
    options: &EngineOptions,
) -> Result<bool, EngineError> {
    for found in listed
        .iter()
        .filter(|found| found.name.role == Role::Engine)
    {
        let dir = base.join(&found.text);
        let options = EngineOptions {
            kind: found.name.kind,
            ..options.clone()
        };
        if !format::check(&dir, options.kind)? {
            continue;
        }
        let engine = match super::open_existing(&dir, &options) {
            Err(error) if error.is_rebuild() => return Ok(true),
            engine => engine?,
        };
        let mut empty = true;
        for tree in Tree::ALL {
            let (start, end) = tree.range();
            engine.scan(&start, &end, Direction::Forward, &mut |_, _| {
                empty = false;
                ControlFlow::Break(())
            })?;
        }
        engine.close()?;
        if !empty {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes the directories that are not in use.
fn clean(
    base: &Path,
    listed: &[Listed],
    in_use: &dyn Fn(&Name) -> bool,
) -> Result<(), EngineError> {
    for found in listed {
        if !in_use(&found.name) {
            tracing::info!(
                directory = found.text,
                "removing an engine that is not in use"
            );
            super::destroy(&base.join(&found.text))?;
        }
    }
    Ok(())
}

impl EngineDir {
    /// Opens the live engine of `base`, creating the first one if there is
    /// none.
    ///
    /// Fails if it is of another kind than `options` ask for. If it is damaged
    /// the error says [`EngineError::Rebuild`] and nothing is changed; see
    /// [`Replacement`].
    pub fn open(base: &Path, options: &EngineOptions) -> Result<Self, EngineError> {
        fs::create_dir_all(base).map_err(|error| io_error(base, "create", &error))?;
        let current = read_current(base)?;
        let listed = list(base)?;
        let highest = listed.iter().map(|listed| listed.name.number).max();
        let mut number = highest.unwrap_or(0);
        let (name, engine) = match current {
            Some(name) => {
                check_kind(base, name.kind, options.kind)?;
                let dir = base.join(name.to_string());
                if !dir.is_dir() {
                    let reason = format!("{CURRENT} names it but it does not exist");
                    return Err(EngineError::rebuild(name.kind.name(), &dir, reason));
                }
                number = number.max(name.number);
                (name, super::open_existing(&dir, options)?)
            }
            None if checkpoint::is_named(base) => {
                let reason = format!("{CURRENT} is missing though there is a checkpoint");
                return Err(EngineError::rebuild(options.kind.name(), base, reason));
            }
            None if holds_data(base, &listed, options)? => {
                let reason = format!("{CURRENT} is missing though there is an engine with data");
                return Err(EngineError::rebuild(options.kind.name(), base, reason));
            }
            None => {
                number = number_after(base, number)?;
                let name = Name {
                    role: Role::Engine,
                    number,
                    kind: options.kind,
                };
                let engine = super::open(&base.join(name.to_string()), options)?;
                engine.persist()?;
                write_current(base, &name)?;
                (name, engine)
            }
        };
        let (checkpoint, unusable) = match checkpoint::read(base) {
            Err(error) if error.is_rebuild() => {
                tracing::warn!(%error, "the checkpoint cannot be used; another one is made when it is due");
                (None, true)
            }
            checkpoint => (checkpoint?, false),
        };
        let in_use = |found: &Name| match found.role {
            Role::Engine => *found == name,
            // As long as nobody can tell which it is, it may be any of them.
            Role::Checkpoint => {
                unusable || checkpoint.as_ref().is_some_and(|kept| kept.name == *found)
            }
            Role::Damaged => true,
        };
        clean(base, &listed, &in_use)?;
        Ok(Self {
            base: base.to_owned(),
            options: options.clone(),
            live: Mutex::new(Live { name, engine }),
            checkpoint: Mutex::new(checkpoint),
            last_number: Mutex::new(number),
        })
    }

    /// Whether there is, or was, anything in `base`: an engine, a checkpoint, or
    /// a file that names one. What was moved aside does not count.
    pub fn holds_anything(base: &Path) -> Result<bool, EngineError> {
        if !base.is_dir() {
            return Ok(false);
        }
        let named = base.join(CURRENT).exists() || checkpoint::is_named(base);
        let is_live = |found: &Listed| found.name.role != Role::Damaged;
        Ok(named || list(base)?.iter().any(is_live))
    }

    /// The live engine.
    pub fn engine(&self) -> Arc<dyn Engine> {
        self.live.lock().engine.clone()
    }

    /// The directory of the live engine.
    pub fn engine_dir(&self) -> PathBuf {
        self.base.join(self.live.lock().name.to_string())
    }

    /// What engines are opened with.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// A fresh, empty engine beside the live one.
    pub fn begin_rewrite(&self) -> Result<Rewrite, EngineError> {
        self.begin(Role::Engine, &self.options)
    }

    fn begin(&self, role: Role, options: &EngineOptions) -> Result<Rewrite, EngineError> {
        let name = {
            let mut last = self.last_number.lock();
            *last = number_after(&self.base, *last)?;
            Name {
                role,
                number: *last,
                kind: options.kind,
            }
        };
        let dir = self.base.join(name.to_string());
        match super::open(&dir, options) {
            Ok(engine) => Ok(Rewrite { name, dir, engine }),
            Err(error) => {
                // Half an engine may be what fills the disk. If it stays, the next open removes it.
                let _left = super::destroy(&dir);
                Err(error)
            }
        }
    }

    /// Makes a rewritten engine the live one: persists it, then replaces
    /// `CURRENT`. After power loss one of the two is live, whole.
    pub fn switch(&self, rewrite: Rewrite) -> Result<Retired, EngineError> {
        rewrite.engine.persist()?;
        let mut live = self.live.lock();
        write_current(&self.base, &rewrite.name)?;
        let old = std::mem::replace(
            &mut *live,
            Live {
                name: rewrite.name,
                engine: rewrite.engine,
            },
        );
        Ok(Retired {
            dir: self.base.join(old.name.to_string()),
            engine: old.engine,
        })
    }
}

fn check_kind(base: &Path, found: EngineKind, wanted: EngineKind) -> Result<(), EngineError> {
    if found == wanted {
        return Ok(());
    }
    let reason = format!(
        "the data was written by the engine \"{found}\" but --storage-engine asks for \
         \"{wanted}\"; start with --storage-engine={found}, or move the data over first"
    );
    Err(EngineError::fatal("engine directory", base, reason))
}

fn write_current(base: &Path, name: &Name) -> Result<(), EngineError> {
    // The directory CURRENT is about to name has to be there after power loss.
    files::sync_dir(base)
        .and_then(|()| files::replace(base, CURRENT, format!("{name}\n").as_bytes()))
        .map_err(|error| io_error(&base.join(CURRENT), "write", &error))
}
