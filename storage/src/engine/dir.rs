//! The directory of the live engine, and how another takes its place.
//!
//! ```text
//!   <base>/CURRENT                  "engine-000002-sled\n"
//!   <base>/engine-000002-sled/      the live engine
//!   <base>/engine-000003-redb/      being rewritten, not switched to yet
//!   <base>/damaged-000001-sled/     moved aside, for a human to look at
//! ```
//!
//! An engine's directory is complete before `CURRENT` names it: created,
//! filled, persisted, then `CURRENT` is replaced atomically. Directories that
//! it does not name are leftovers of a crash and are removed at the next open;
//! what was moved aside is never deleted.
//!
//! Defragmentation, installing a snapshot and changing to another engine are
//! all the same: [`EngineDir::begin_rewrite`], fill, [`EngineDir::switch`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Engine, EngineError, EngineKind, EngineOptions, files};

const CURRENT: &str = "CURRENT";
const ENGINE_PREFIX: &str = "engine-";
const DAMAGED_PREFIX: &str = "damaged-";

/// What a rewrite leaves free on its file system: room for what engines still
/// have in their buffers, and for what the log and the live engine write before
/// somebody has freed space.
pub const REWRITE_RESERVE_BYTES: u64 = 32 << 20;

/// The name of an engine's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    number: u64,
    kind: EngineKind,
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        let (number, kind) = text.strip_prefix(ENGINE_PREFIX)?.split_once('-')?;
        Some(Self {
            number: number.parse().ok()?,
            kind: kind.parse().ok()?,
        })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{ENGINE_PREFIX}{:06}-{}", self.number, self.kind)
    }
}

struct Live {
    name: Name,
    engine: Arc<dyn Engine>,
}

/// A data directory with one live engine in it.
pub struct EngineDir {
    base: PathBuf,
    options: EngineOptions,
    live: Mutex<Live>,
    /// The highest number of a directory so far.
    last_number: Mutex<u64>,
}

/// An engine that is being filled to take the place of the live one.
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
    let name = Name::parse(text.trim_end());
    let reason = || {
        format!(
            "it does not name an engine directory: {:?}",
            text.trim_end()
        )
    };
    name.map(Some)
        .ok_or_else(|| EngineError::rebuild("engine directory", &path, reason()))
}

/// Removes the directories of engines that are not live. Returns the highest
/// number in use, by damaged ones too.
fn clean(base: &Path, current: Option<&Name>) -> Result<u64, EngineError> {
    let mut highest = current.map_or(0, |name| name.number);
    let failed = |error: io::Error| io_error(base, "list", &error);
    for entry in fs::read_dir(base).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let file_name = entry.file_name();
        let Some(text) = file_name.to_str() else {
            continue;
        };
        if let Some(rest) = text.strip_prefix(DAMAGED_PREFIX) {
            let name = Name::parse(&format!("{ENGINE_PREFIX}{rest}"));
            highest = highest.max(name.map_or(0, |name| name.number));
            continue;
        }
        match Name::parse(text) {
            Some(name) if Some(&name) != current => {
                tracing::info!(directory = text, "removing an engine that is not in use");
                super::destroy(&entry.path())?;
            }
            _ => {}
        }
    }
    Ok(highest)
}

/// The number of the next directory. Only a name made by hand is so high that there is none.
fn number_after(base: &Path, number: u64) -> Result<u64, EngineError> {
    number.checked_add(1).ok_or_else(|| {
        let reason = format!("no engine can follow one of the number {number}");
        EngineError::fatal("engine directory", base, reason)
    })
}

impl EngineDir {
    /// Opens the live engine of `base`, creating the first one if there is
    /// none.
    ///
    /// Fails if it is of another kind than `options` ask for. If it is damaged
    /// the error says [`EngineError::Rebuild`] and nothing is changed; see
    /// [`EngineDir::set_aside`].
    pub fn open(base: &Path, options: &EngineOptions) -> Result<Self, EngineError> {
        fs::create_dir_all(base).map_err(|error| io_error(base, "create", &error))?;
        let current = read_current(base)?;
        let mut number = clean(base, current.as_ref())?;
        let (name, engine) = match current {
            Some(name) => {
                check_kind(base, name.kind, options.kind)?;
                let dir = base.join(name.to_string());
                if !dir.is_dir() {
                    let reason = format!("{CURRENT} names it but it does not exist");
                    return Err(EngineError::rebuild(name.kind.name(), &dir, reason));
                }
                (name, super::open_existing(&dir, options)?)
            }
            None => {
                number = number_after(base, number)?;
                let kind = options.kind;
                let name = Name { number, kind };
                let engine = super::open(&base.join(name.to_string()), options)?;
                engine.persist()?;
                write_current(base, &name)?;
                (name, engine)
            }
        };
        Ok(Self {
            base: base.to_owned(),
            options: options.clone(),
            live: Mutex::new(Live { name, engine }),
            last_number: Mutex::new(number),
        })
    }

    /// The kind of the live engine of `base`; `None` if there is none yet.
    pub fn kind(base: &Path) -> Result<Option<EngineKind>, EngineError> {
        Ok(read_current(base)?.map(|name| name.kind))
    }

    /// Moves a damaged live engine aside, so that the next [`EngineDir::open`]
    /// starts with an empty one. Returns where it went; `None` if there was
    /// nothing to move.
    pub fn set_aside(base: &Path) -> Result<Option<PathBuf>, EngineError> {
        let current_path = base.join(CURRENT);
        let text = files::read_text(&current_path)
            .map_err(|error| io_error(&current_path, "read", &error))?;
        let Some(text) = text else {
            return Ok(None);
        };
        let live = text.trim_end();
        let failed = |error: io::Error| io_error(base, "move the damaged engine aside", &error);
        let mut moved = None;
        if let Some(name) = Name::parse(live)
            && base.join(live).is_dir()
        {
            let aside = format!("{DAMAGED_PREFIX}{:06}-{}", name.number, name.kind);
            let aside = base.join(aside);
            fs::rename(base.join(live), &aside).map_err(failed)?;
            moved = Some(aside);
        }
        fs::remove_file(&current_path).map_err(failed)?;
        files::sync_dir(base).map_err(failed)?;
        Ok(moved)
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
        let name = {
            let mut last = self.last_number.lock();
            *last = number_after(&self.base, *last)?;
            let number = *last;
            let kind = self.options.kind;
            Name { number, kind }
        };
        let dir = self.base.join(name.to_string());
        match super::open(&dir, &self.options) {
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
