//! Another engine in the place of one that is damaged.
//!
//! ```text
//!   1. fill engine-000007-sled     from the checkpoint's files, synced; or empty
//!   2. open it                     whoever asked looks whether it is whole
//!   3. engine-000002 -> damaged-000002
//!   4. CURRENT = engine-000007
//! ```
//!
//! After a crash before 3 nothing has changed: the next open finds the damage again, and what was filled is removed by
//! the next attempt. Between 3 and 4 `CURRENT` names a directory that does not exist, which is damage again. The
//! checkpoint itself is only read, and stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::checkpoint::{self, Checkpoint};
use super::name::{Name, Role, list, number_after};
use super::{EngineDir, Live, io_error, read_current, remove, write_current};
use crate::engine::{self, Engine, EngineError, EngineOptions, files};

/// How often a long copy says how far it is.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// An engine that is to take the place of a damaged one.
pub struct Replacement {
    base: PathBuf,
    options: EngineOptions,
    name: Name,
    engine: Arc<dyn Engine>,
    last_number: u64,
}

impl Replacement {
    /// Makes one beside the damaged engine of `base`, as a copy of the
    /// checkpoint or empty. An error that says [`EngineError::Rebuild`] means
    /// that the checkpoint is damaged too.
    pub fn begin(
        base: &Path,
        options: &EngineOptions,
        from: Option<&Checkpoint>,
    ) -> Result<Self, EngineError> {
        let listed = list(base)?;
        // What an earlier attempt left. Without knowing which one was live, nothing is removed.
        if let Ok(Some(live)) = read_current(base) {
            for leftover in &listed {
                if leftover.name.role == Role::Engine && leftover.name != live {
                    engine::destroy(&base.join(&leftover.text))?;
                }
            }
        }
        let highest = listed.iter().map(|listed| listed.name.number).max();
        let name = Name {
            role: Role::Engine,
            number: number_after(base, highest.unwrap_or(0))?,
            kind: from.map_or(options.kind, |checkpoint| checkpoint.name.kind),
        };
        super::check_kind(base, name.kind, options.kind)?;
        let dir = base.join(name.to_string());
        let engine = match from {
            None => engine::open(&dir, options)?,
            Some(checkpoint) => open_copy(base, checkpoint, &dir, options)?,
        };
        Ok(Self {
            base: base.to_owned(),
            options: options.clone(),
            last_number: name.number,
            name,
            engine,
        })
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// Gives up: closes the engine and removes its directory. The damaged one
    /// stays as it is.
    pub fn abandon(self) -> Result<(), EngineError> {
        remove(&self.base.join(self.name.to_string()), &*self.engine)
    }

    /// Moves the damaged engine aside and makes this one the live one. Returns
    /// where the damaged one went.
    pub fn switch(self) -> Result<(EngineDir, Vec<PathBuf>), EngineError> {
        self.engine.persist()?;
        let mut moved = Vec::new();
        for found in list(&self.base)? {
            if found.name.role != Role::Engine || found.name == self.name {
                continue;
            }
            let aside = Name {
                role: Role::Damaged,
                ..found.name
            };
            let aside = self.base.join(aside.to_string());
            files::rename(&self.base.join(&found.text), &aside)
                .map_err(|error| io_error(&aside, "move the damaged engine to", &error))?;
            moved.push(aside);
        }
        write_current(&self.base, &self.name)?;
        let dir = EngineDir {
            checkpoint: Mutex::new(checkpoint::read(&self.base).unwrap_or(None)),
            base: self.base,
            options: self.options,
            live: Mutex::new(Live {
                name: self.name,
                engine: self.engine,
            }),
            last_number: Mutex::new(self.last_number),
        };
        Ok((dir, moved))
    }
}

/// Copies a checkpoint to `dir` and opens the copy.
fn open_copy(
    base: &Path,
    checkpoint: &Checkpoint,
    dir: &Path,
    options: &EngineOptions,
) -> Result<Arc<dyn Engine>, EngineError> {
    let from = base.join(checkpoint.name());
    let (started, mut reported, mut bytes) = (Instant::now(), Instant::now(), 0);
    let copied = files::copy_tree(&from, dir, &mut |part| {
        bytes += part;
        if reported.elapsed() >= REPORT_INTERVAL {
            reported = Instant::now();
            tracing::info!(checkpoint = %checkpoint.name, bytes, "copying the checkpoint");
        }
    });
    let opened = copied
        .map_err(|error| io_error(dir, &format!("copy {} to it", from.display()), &error))
        .and_then(|()| engine::open_existing(dir, options));
    match opened {
        Ok(engine) => {
            let took_ms = started.elapsed().as_millis() as u64;
            tracing::info!(checkpoint = %checkpoint.name, bytes, took_ms, "copied the checkpoint");
            Ok(engine)
        }
        Err(error) => {
            // If this fails too, the next attempt does it.
            let _left_behind = files::remove_tree(dir);
            Err(match error {
                EngineError::Rebuild { engine, reason, .. } => {
                    EngineError::rebuild(engine, &from, format!("a copy does not open: {reason}"))
                }
                error => error,
            })
        }
    }
}
