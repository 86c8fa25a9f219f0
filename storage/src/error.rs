//! What can go wrong in storage, sorted by what the caller has to do about it.

use rusd_proto::EtcdError;
use thiserror::Error;

use crate::engine::EngineError;

/// The result of every storage call that can fail.
pub type StorageResult<T> = Result<T, StorageError>;

/// What can go wrong in storage.
///
/// [`Compacted`](StorageError::Compacted) and [`FutureRevision`](StorageError::FutureRevision) are answers:
/// every member gives the same one to the same request. [`Superseded`](StorageError::Superseded) asks for a
/// retry on a newer view. Everything else is local to this member and ends the process.
///
/// ```
/// use rusd_storage::StorageError;
///
/// assert!(StorageError::Compacted.reply().is_some());
/// assert!(StorageError::Superseded.reply().is_none());
/// ```
#[derive(Debug, Error)]
pub enum StorageError {
    /// The revision asked for lies below the compacted one.
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    /// The revision asked for has not happened yet.
    #[error("mvcc: required revision is a future revision")]
    FutureRevision,
    /// The view that was read is older than what physical compaction has removed since: load a newer view and
    /// read again. Happens only to reads that did not register their revision.
    #[error("mvcc: the read view has been superseded")]
    Superseded,
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What the engine holds is not what this code wrote: another format, a torn record, a missing record.
    #[error("mvcc: damaged store: {0}")]
    Damaged(String),
}

impl StorageError {
    /// Whether the data on disk is damaged, so that it has to be rebuilt from elsewhere.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Engine(error) => error.is_rebuild(),
            Self::Damaged(_) => true,
            Self::Compacted | Self::FutureRevision | Self::Superseded => false,
        }
    }

    /// The reply a client gets, for the errors that are replies.
    pub fn reply(&self) -> Option<EtcdError> {
        match self {
            Self::Compacted => Some(EtcdError::Compacted),
            Self::FutureRevision => Some(EtcdError::FutureRevision),
            _ => None,
        }
    }
}
