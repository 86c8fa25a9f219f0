//! What a member finds on disk, or founds there: its log, and the storage that the log is replayed into.
//!
//! ```text
//!   DataDir    the directory is ours, and nobody else's  (data_dir)
//!   Log        opened, or founded                        (log)
//!   storage    opened, or rebuilt from the log           (recovery)
//! ```
//!
//! Everything here happens before the first actor starts, on the thread that starts the member.

mod data_dir;
mod error;
mod log;
mod recovery;

pub use data_dir::DataDir;
pub(crate) use data_dir::DataDirError;
pub(crate) use error::DiskError;

use crate::config::{Cluster, RaftLog, Storage, StorageEngine};
use recovery::{LogSpan, Opened};
use rusd_mvcc::{CheckpointPolicy, EngineSetup, PersistPolicy, Progress};
use rusd_raft::{Identity, Log};
use rusd_state::StateMachine;
use rusd_storage::LogPosition;
use rusd_storage::engine::{EngineDir, EngineError, EngineKind, EngineOptions};
use std::time::Duration;
use tracing::{info, warn};

/// What is configured about the disk.
pub(crate) struct Settings {
    pub(crate) name: String,
    /// What a member without data founds.
    pub(crate) cluster: Cluster,
    pub(crate) log: RaftLog,
    pub(crate) storage: Storage,
}

impl From<StorageEngine> for EngineKind {
    fn from(engine: StorageEngine) -> Self {
        match engine {
            StorageEngine::Sled => EngineKind::Sled,
            StorageEngine::Redb => EngineKind::Redb,
        }
    }
}

/// All that is on disk, open.
pub(crate) struct Disk {
    pub(crate) log: Log,
    /// Whose log it is.
    pub(crate) identity: Identity,
    /// The state that was found.
    pub(crate) machine: StateMachine,
    /// The storage engine, to be written to.
    pub(crate) setup: EngineSetup,
    /// Whether a rewrite of the engine would give back more than its owner wants to spare.
    pub(crate) has_grown: bool,
}

impl Disk {
    /// Opens what there is.
    pub(crate) fn open(settings: Settings, data_dir: &DataDir) -> Result<Self, DiskError> {
        let Settings {
            name,
            cluster,
            log,
            storage,
        } = settings;
        let Storage {
            engine,
            cache_bytes,
            persist_bytes,
            persist_interval,
            checkpoint_interval,
            bootstrap_defrag_threshold_bytes,
        } = storage;
        let (log, identity) = log::open(log, &name, &cluster, data_dir)?;
        let mut options = EngineOptions::new(engine.into());
        options.cache_bytes = cache_bytes.unwrap_or(options.cache_bytes);
        let span = LogSpan {
            begins_after: log.truncated().index,
            ends_at: log.last_index(),
            term: &|index| log.term(index).ok().flatten(),
        };
        let Opened { engines, machine } = recovery::open(&data_dir.store, &options, &span)?;
        let (applied, applied_term) = machine.applied();
        info!(
            local_member_id = %identity.member,
            cluster_id = %identity.cluster,
            applied_index = applied.0,
            last_index = log.last_index(),
            storage_engine = engines.engine().name(),
            "restored the member"
        );
        let disk_bytes = engines.engine().stats()?.disk_bytes;
        let reclaimable_bytes = disk_bytes.saturating_sub(machine.sizes().logical_bytes);
        Ok(Self {
            identity,
            has_grown: has_grown(bootstrap_defrag_threshold_bytes, reclaimable_bytes),
            setup: EngineSetup {
                checkpoints: checkpoints(checkpoint_interval, &engines, &log)?,
                engines,
                progress: Progress {
                    applied: LogPosition {
                        index: applied.0,
                        term: applied_term.0,
                    },
                    sizes: machine.sizes(),
                },
                persist: PersistPolicy {
                    bytes: usize::try_from(persist_bytes).unwrap_or(usize::MAX),
                    interval: persist_interval,
                },
            },
            machine,
            log,
        })
    }
}

/// Whether the storage should be rewritten at start.
fn has_grown(threshold_bytes: Option<u64>, reclaimable_bytes: u64) -> bool {
    let Some(threshold) = threshold_bytes else {
        return false;
    };
    if reclaimable_bytes <= threshold {
        // etcd's words.
        info!(reclaimable_bytes, threshold, "Skipping defragmentation");
        return false;
    }
    info!(
        reclaimable_bytes,
        threshold, "rewriting the storage, as it has grown"
    );
    true
}

/// How checkpoints are kept. One that is of no use is removed: because none are to be kept, or because the log has been
/// cut behind it.
fn checkpoints(
    interval: Option<Duration>,
    engines: &EngineDir,
    log: &Log,
) -> Result<Option<CheckpointPolicy>, EngineError> {
    let Some(interval) = interval else {
        if let Some(removed) = engines.remove_checkpoint()? {
            info!(
                checkpoint = removed.name(),
                "removed the checkpoint, as --checkpoint-interval is 0"
            );
        }
        return Ok(None);
    };
    if let Some(checkpoint) = engines.checkpoint()
        && checkpoint.index < log.truncated().index
    {
        warn!(
            checkpoint = checkpoint.name(),
            index = checkpoint.index,
            log_begins_after = log.truncated().index,
            "the log does not go on from the checkpoint any more; making another"
        );
        engines.remove_checkpoint()?;
    }
    Ok(Some(CheckpointPolicy {
        interval,
        log_is_whole: log.truncated().index == 0,
        kept_bytes: log.kept_bytes(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_has_the_same_name_on_the_command_line_and_on_disk() {
        for engine in StorageEngine::ALL {
            assert_eq!(engine.as_str(), EngineKind::from(*engine).name());
        }
    }
}
