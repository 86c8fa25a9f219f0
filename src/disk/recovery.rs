//! Opens the storage, and rebuilds it if it is damaged.
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
    Checkpoint, Engine, EngineDir, EngineError, EngineOptions, Replacement, caught, forget_damage,
};
use rusd_storage::{MvccOptions, MvccStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tracing::warn;

/// Why there is no storage to serve.
#[derive(Debug, Error)]
pub enum RecoveryError {
    /// The engine failed, though not because its data is damaged.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Reading the state failed likewise.
    #[error(transparent)]
    State(#[from] StateError),
    /// It is damaged, and nothing takes its place.
    #[error(
        "the storage in {} is damaged ({damage}), and it cannot be rebuilt: {reason}. Put a backup of the whole data \
         directory in its place. Nothing was changed or deleted",
        path.display()
    )]
    Lost {
        path: PathBuf,
        /// What is wrong with the engine in use.
        damage: String,
        /// Why there is nothing else.
        reason: String,
    },
}

/// What the log has.
pub(super) struct LogSpan<'a> {
    /// The last entry that it does not have any more; 0 if it has all.
    pub(super) begins_after: u64,
    /// The last entry that it has.
    pub(super) ends_at: u64,
    /// The term of an entry, if it is there or the last that is not.
    pub(super) term: &'a dyn Fn(u64) -> Option<u64>,
}

/// The storage, open.
pub(super) struct Opened {
    /// The directory of its engine.
    pub(super) engines: EngineDir,
    /// What is in it.
    pub(super) machine: StateMachine,
}

/// Opens the storage in `base`, from whatever has its data.
pub(super) fn open(
    base: &Path,
    options: &EngineOptions,
    log: &LogSpan<'_>,
) -> Result<Opened, RecoveryError> {
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
    let lost = |reason: String| {
        Err(RecoveryError::Lost {
            path: base.to_owned(),
            damage: damage.clone(),
            reason,
        })
    };
    let mut reasons = Vec::new();
    let checkpoint = match checkpoint(base, log)? {
        Found::Usable(checkpoint) => Some(checkpoint),
        Found::Nothing(reason) => {
            reasons.push(reason);
            None
        }
        Found::Contradiction(reason) => return lost(reason),
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
    lost(reasons.join("; "))
}

/// What there is besides the live engine.
enum Found {
    /// A checkpoint that the log goes on from.
    Usable(Checkpoint),
    /// No such thing, and why.
    Nothing(String),
    /// A checkpoint which shows that the log does not have all that was acknowledged: nothing must be rebuilt from it.
    Contradiction(String),
}

fn checkpoint(base: &Path, log: &LogSpan<'_>) -> Result<Found, EngineError> {
    let checkpoint = match EngineDir::checkpoint_of(base) {
        Ok(Some(checkpoint)) => checkpoint,
        Ok(None) => return Ok(Found::Nothing("there is no checkpoint".to_owned())),
        Err(error) if error.is_rebuild() => return Ok(Found::Nothing(error.to_string())),
        Err(error) => return Err(error),
    };
    let name = checkpoint.name();
    let Checkpoint { index, term, .. } = checkpoint;
    Ok(if index > log.ends_at {
        Found::Contradiction(format!(
            "{name} has applied entry {index} of the log, which ends at entry {}: acknowledged writes are lost",
            log.ends_at
        ))
    } else if index < log.begins_after {
        Found::Nothing(format!("{name} has applied only entry {index} of the log"))
    } else if (log.term)(index) != Some(term) {
        Found::Contradiction(format!(
            "{name} ends with an entry {index} of term {term}, which the log does not have: they do not belong together"
        ))
    } else {
        Found::Usable(checkpoint)
    })
}

/// Opens what is live; what is wrong with it is the inner error.
fn open_live(
    base: &Path,
    options: &EngineOptions,
) -> Result<Result<Opened, String>, RecoveryError> {
    let engines = match EngineDir::open(base, options) {
        Err(error) if error.is_rebuild() => return Ok(Err(error.to_string())),
        engines => engines?,
    };
    let engine = engines.engine();
    Ok(match read(&engine)? {
        Ok(machine) => Ok(Opened { engines, machine }),
        Err(damage) => {
            let dir = engines.engine_dir();
            // Whatever closing a damaged engine comes to, it is not used any more.
            let _closed = caught(move || (engine.close(), drop(engines)));
            if let Err(error) = forget_damage(&dir) {
                warn!(%error, "cannot take back the mark of damage");
            }
            Err(damage)
        }
    })
}

/// Reads all that an engine holds. Damage may show as a panic of the engine.
fn read(engine: &Arc<dyn Engine>) -> Result<Result<StateMachine, String>, RecoveryError> {
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
) -> Result<Result<Opened, String>, RecoveryError> {
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
    let (applied, _) = machine.applied();
    if let Some(checkpoint) = from.filter(|checkpoint| checkpoint.index != applied.0) {
        replacement.abandon()?;
        return Ok(Err(format!(
            "{} is said to end with entry {} and ends with entry {applied}",
            checkpoint.name(),
            checkpoint.index
        )));
    }
    let (engines, moved) = replacement.switch()?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rusd_storage::LogPosition;
    use rusd_storage::engine::EngineKind;
    use std::fs;

    const TERM: u64 = 7;

    /// An empty store that has applied the log through an index.
    fn fill(engine: &Arc<dyn Engine>, index: u64) {
        let mut store = MvccStore::open(engine.clone(), MvccOptions::default()).unwrap();
        store.seal(LogPosition { index, term: TERM });
        engine.write(&store.take_sealed().unwrap().batch).unwrap();
    }

    fn options() -> EngineOptions {
        EngineOptions {
            kind: EngineKind::Redb,
            cache_bytes: 16 << 20,
        }
    }

    /// The live engine has applied 12 entries and is damaged; the checkpoint, if there is one, has 9.
    fn damaged(with_checkpoint: bool) -> tempfile::TempDir {
        let base = tempfile::tempdir().unwrap();
        let engines = EngineDir::open(base.path(), &options()).unwrap();
        fill(&engines.engine(), 12);
        if with_checkpoint {
            let filling = engines.begin_checkpoint().unwrap();
            fill(filling.engine(), 9);
            engines.complete_checkpoint(filling, 9, TERM).unwrap();
        }
        engines.engine().close().unwrap();
        let file = engines.engine_dir().join("data.redb");
        fs::write(file, "garbage".repeat(100)).unwrap();
        base
    }

    /// Where replay begins, or why it does not.
    fn opened(base: &Path, begins_after: u64, ends_at: u64, term: u64) -> Result<u64, String> {
        let log = LogSpan {
            begins_after,
            ends_at,
            term: &|_| Some(term),
        };
        match open(base, &options(), &log) {
            Ok(Opened { engines, machine }) => {
                engines.engine().close().unwrap();
                Ok(machine.applied().0.0)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn damage_is_rebuilt_from_what_the_log_goes_on_from() {
        for (with_checkpoint, begins_after, applied) in
            [(true, 9, 9), (true, 3, 9), (true, 0, 9), (false, 0, 0)]
        {
            let base = damaged(with_checkpoint);
            assert_eq!(opened(base.path(), begins_after, 20, TERM), Ok(applied));
            assert!(base.path().join("damaged-000001-redb").is_dir());
            // The next start has nothing to do.
            assert_eq!(opened(base.path(), begins_after, 20, TERM), Ok(applied));
        }
    }

    #[test]
    fn damage_is_refused_when_the_log_does_not_have_the_rest() {
        for (with_checkpoint, begins_after, ends_at, term, reason) in [
            (true, 10, 20, TERM, "has applied only entry 9"),
            (true, 3, 8, TERM, "acknowledged writes are lost"),
            (true, 0, 8, TERM, "acknowledged writes are lost"),
            (true, 3, 20, 6, "do not belong together"),
            (false, 3, 20, TERM, "there is no checkpoint"),
        ] {
            let base = damaged(with_checkpoint);
            for _ in 0..2 {
                let refusal = opened(base.path(), begins_after, ends_at, term).unwrap_err();
                for part in [
                    reason,
                    "engine-000001-redb",
                    "backup of the whole data directory",
                ] {
                    assert!(refusal.contains(part), "{part}: {refusal}");
                }
            }
            assert!(base.path().join("engine-000001-redb").is_dir());
        }
    }

    #[test]
    fn a_store_older_than_the_log_is_replaced_or_left_to_the_log_to_refuse() {
        for (with_checkpoint, applied) in [(true, 9), (false, 2)] {
            let base = damaged(with_checkpoint);
            let engine = base.path().join("engine-000001-redb");
            fs::remove_dir_all(&engine).unwrap();
            let fresh = rusd_storage::engine::open(&engine, &options()).unwrap();
            fill(&fresh, 2);
            fresh.close().unwrap();
            assert_eq!(opened(base.path(), 5, 20, TERM), Ok(applied));
        }
    }
}
