//! Why what is on disk cannot be served.

use super::recovery::RecoveryError;
use crate::config::ConfigError;
use rusd_raft::LogError;
use rusd_storage::engine::EngineError;
use std::path::PathBuf;
use thiserror::Error;

/// Why what is on disk cannot be served. Each text says what to do.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The log cannot be opened or set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// There is storage, but no log.
    #[error(
        "the storage in {} holds data, but the log in {} is empty: acknowledged writes are lost, so this member \
         refuses to start. Does --wal-dir name the right directory? Put the log that belongs to the storage back, or a \
         backup of the whole data directory",
        store.display(), log.display()
    )]
    LostLog { store: PathBuf, log: PathBuf },
    /// The storage engine failed, though not because its data is damaged.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The storage is damaged and cannot be rebuilt, or reading it failed.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The configuration does not describe a cluster that this member could found.
    #[error(transparent)]
    Founding(#[from] ConfigError),
}
