//! Opens the store, and rebuilds it if it is damaged.
//!
//! A sole voter has nobody to fetch its data from. What it has is a checkpoint and the log from there on, or the log
//! from its very beginning; either is the data once more. Any state that the log reaches from will do: replay brings
//! it up to date, entry by entry, as it does after every crash.
//!
//! ```text
//!   the engine opens, its records make sense, the log goes on from it  ->  as it is
//!   else   a copy of the checkpoint opens and makes sense              ->  the copy, and the log from there
//!   else   the log has its first entry                                 ->  an empty engine, and all of the log
//!   else                                                               ->  refuse, and say how to restore
//! ```
//!
//! What takes the place of the damaged engine is looked through as a whole before the damaged one is moved aside, so
//! that a start which cannot succeed changes nothing, however often it is repeated. Nothing is deleted.

use rusd_state::{StateError, StateMachine};
use rusd_storage::engine::{
    Checkpoint, Engine, EngineDir, EngineError, EngineOptions, Replacement, caught,
};
use rusd_storage::{MvccOptions, MvccStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tracing::warn;

/// Why there is no store to serve.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The engine failed, though not because its data is damaged.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Reading the state failed likewise.
    #[error(transparent)]
    State(#[from] StateError),
    /// It is damaged, and nothing takes its place.
    #[error(
        "the storage in {} is damaged ({damage}), and it cannot be rebuilt: {reason}. Restore a snapshot into an empty data \
         directory (`rusdutl snapshot restore`), or put back a copy of the whole data directory. Nothing was changed or \
         deleted",
        path.display()
    )]
    Lost {
        /// The directory.
        path: PathBuf,
        /// What is wrong with the live engine.
        damage: String,
        /// Why there is nothing else.
        reason: String,
    },
}

/// What the log has.
pub struct LogSpan<'a> {
    /// The last entry that it does not have any more; 0 if it has all.
    pub begins_after: u64,
    /// The last one.
    pub ends_at: u64,
    /// The term of an entry, if it is there or the last that is not.
    pub term: &'a dyn Fn(u64) -> Option<u64>,
}

/// The store, open.
pub struct Opened {
    /// The directory of its engine.
    pub engines: EngineDir,
    /// What is in it.
    pub machine: StateMachine,
}

/// Opens the store in `base`, from whatever has its data.
pub fn open(base: &Path, options: &EngineOptions, log: &LogSpan<'_>) -> Result<Opened, StoreError> {
    let (damage, old) = match open_live(base, options)? {
        Ok(opened) => {
            let (applied, _) = opened.machine.applied();
            if applied.0 >= log.begins_after {
                return Ok(opened);
            }
            let damage = format!(
                "it has applied entry {applied} of the log, which begins only after entry {}",
                log.begins_after
            );
            (damage, Some(opened))
        }
        Err(damage) => (damage, None),
    };
    let mut reasons = Vec::new();
    let checkpoint = match EngineDir::checkpoint_of(base) {
        Ok(Some(checkpoint)) => match unusable(&checkpoint, log) {
            None => Some(checkpoint),
            Some(reason) => {
                reasons.push(reason);
                None
            }
        },
        Ok(None) => {
            reasons.push("there is no checkpoint".to_owned());
            None
        }
        Err(error) if error.is_rebuild() => {
            reasons.push(error.to_string());
            None
        }
        Err(error) => return Err(error.into()),
    };
    let from_beginning = (log.begins_after == 0).then_some(None);
    if checkpoint.is_some() || from_beginning.is_some() {
        warn!(
            path = %base.display(),
            damage,
            "the storage is damaged: rebuilding it from the log and what the log goes on from"
        );
    }
    for from in checkpoint.map(Some).into_iter().chain(from_beginning) {
        match rebuild(base, options, from.as_ref(), log)? {
            Ok(rebuilt) => {
                close(old);
                return Ok(rebuilt);
            }
            Err(reason) => reasons.push(reason),
        }
    }
    if let Some(old) = old {
        // Not damaged in itself: that it does not belong to the log is for the log to say.
        let reason = reasons.join("; ");
        warn!(path = %base.display(), damage, reason, "the storage is older than the log, and nothing takes its place");
        return Ok(old);
    }
    if log.begins_after > 0 {
        reasons.push(format!(
            "the log begins only after entry {}",
            log.begins_after
        ));
    }
    Err(StoreError::Lost {
        path: base.to_owned(),
        damage,
        reason: reasons.join("; "),
    })
}

/// Why the log does not go on from a checkpoint.
fn unusable(checkpoint: &Checkpoint, log: &LogSpan<'_>) -> Option<String> {
    let Checkpoint { index, term, .. } = *checkpoint;
    let name = checkpoint.name();
    if index < log.begins_after {
        return Some(format!(
            "{name} has applied entry {index} of the log, which begins only after entry {}",
            log.begins_after
        ));
    }
    if index > log.ends_at {
        return Some(format!(
            "{name} has applied entry {index} of the log, which ends at entry {}: acknowledged writes are lost",
            log.ends_at
        ));
    }
    if (log.term)(index) != Some(term) {
        return Some(format!(
            "{name} ends with an entry {index} of term {term}, which the log does not have: they do not belong together"
        ));
    }
    None
}

/// Opens what is live; what is wrong with it is the inner error.
fn open_live(base: &Path, options: &EngineOptions) -> Result<Result<Opened, String>, StoreError> {
    let engines = match EngineDir::open(base, options) {
        Err(error) if error.is_rebuild() => return Ok(Err(error.to_string())),
        engines => engines?,
    };
    let engine = engines.engine();
    Ok(match read(&engine)? {
        Ok(machine) => Ok(Opened { engines, machine }),
        Err(damage) => {
            // Whatever closing a damaged engine comes to, it is not used any more.
            let _closed = caught(move || (engine.close(), drop(engines)));
            Err(damage)
        }
    })
}

/// Reads all that an engine holds. Damage may show as a panic of the engine.
fn read(engine: &Arc<dyn Engine>) -> Result<Result<StateMachine, String>, StoreError> {
    let read = caught(|| {
        let store = MvccStore::open(engine.clone(), MvccOptions::default())?;
        StateMachine::open(store)
    });
    match read {
        Ok(Err(error)) if error.is_damage() => Ok(Err(error.to_string())),
        Ok(machine) => Ok(Ok(machine?)),
        Err(panic) => Ok(Err(panic)),
    }
}

/// Puts another engine in the place of the damaged one: a copy of the checkpoint, or an empty one. Why that cannot be
/// is the inner error.
fn rebuild(
    base: &Path,
    options: &EngineOptions,
    from: Option<&Checkpoint>,
    log: &LogSpan<'_>,
) -> Result<Result<Opened, String>, StoreError> {
    let replacement = match Replacement::begin(base, options, from) {
        Err(error) if error.is_rebuild() => return Ok(Err(error.to_string())),
        replacement => replacement?,
    };
    let machine = match read(replacement.engine())? {
        Ok(machine) => machine,
        Err(damage) => {
            let _removed_later = caught(move || replacement.abandon());
            let what = from.map_or("an empty engine".to_owned(), Checkpoint::name);
            return Ok(Err(format!("{what} is damaged: {damage}")));
        }
    };
    let (engines, moved) = replacement.switch()?;
    let (applied, _) = machine.applied();
    for path in moved {
        warn!(path = %path.display(), "moved the damaged storage aside; it is not used any more, and yours to remove");
    }
    warn!(
        storage = %engines.engine_dir().display(),
        checkpoint = from.map_or("none: the log has its beginning".to_owned(), Checkpoint::name),
        replaying_from = applied.0 + 1,
        through = log.ends_at,
        "rebuilt the storage; replaying the log"
    );
    Ok(Ok(Opened { engines, machine }))
}

fn close(old: Option<Opened>) {
    if let Some(Opened { engines, machine }) = old {
        let _closed = caught(move || (engines.engine().close(), drop(machine)));
    }
}
