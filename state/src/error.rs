//! Replies and failures, kept apart by type.

use rusd_proto::EtcdError;
use rusd_storage::StorageError;
use rusd_storage::engine::EngineError;
use thiserror::Error;

/// Why a request on keys did not succeed.
#[derive(Debug, Error)]
pub enum KvError {
    /// The answer: every member gives the same one.
    #[error(transparent)]
    Reply(#[from] EtcdError),
    /// No answer: the storage of this member failed, or the view that was read is too old.
    #[error(transparent)]
    Storage(StorageError),
}

impl From<StorageError> for KvError {
    fn from(error: StorageError) -> Self {
        match error.reply() {
            Some(reply) => Self::Reply(reply),
            None => Self::Storage(error),
        }
    }
}

impl KvError {
    /// Whether the same read on a newer view may succeed.
    pub fn is_superseded(&self) -> bool {
        matches!(self, Self::Storage(StorageError::Superseded))
    }

    /// The reply that a reader of a published view gives; an error is a local failure, after which nothing this process
    /// answers can be trusted: a failed disk or a broken invariant.
    ///
    /// A superseded view means that compaction has passed the revision that was asked for, and an engine that is closed
    /// that the server is stopping.
    pub fn into_reply(self) -> Result<EtcdError, StorageError> {
        match self {
            Self::Reply(reply) => Ok(reply),
            Self::Storage(StorageError::Superseded) => Ok(EtcdError::Compacted),
            Self::Storage(StorageError::Engine(EngineError::Closed { .. })) => {
                Ok(EtcdError::Stopped)
            }
            Self::Storage(failure) => Err(failure),
        }
    }
}

/// Why this member cannot go on applying the log. Always fatal.
#[derive(Debug, Error)]
pub enum StateError {
    /// The storage failed.
    #[error("storage failed while applying entry {index}: {error}")]
    Storage {
        /// The entry that was being applied; 0 outside of one.
        index: u64,
        /// What happened.
        error: StorageError,
    },
    /// The entry is not in the encoding this log is written in.
    #[error("log entry {index} cannot be decoded: {reason}")]
    Undecodable {
        /// The entry.
        index: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The entry asks for something this version does not know, so that skipping it would part this member
    /// from the others.
    #[error(
        "log entry {index} holds a request that this version of rusd does not know: {kind}; \
         the log comes from a newer or a different server"
    )]
    UnknownRequest {
        /// The entry.
        index: u64,
        /// The name of the request, or its field number.
        kind: String,
    },
    /// The log skips entries.
    #[error("log entry {index} follows entry {applied}: entries in between are missing")]
    Gap {
        /// The entry that came.
        index: u64,
        /// The last one applied.
        applied: u64,
    },
    /// A stored record outside the keys is not what this code wrote.
    #[error("damaged record in the {tree} tree: {reason}")]
    Damaged {
        /// The tree it lies in.
        tree: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl StateError {
    /// Whether the data on disk is damaged, so that it has to be rebuilt from elsewhere.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Storage { error, .. } => error.is_damage(),
            Self::Damaged { .. } => true,
            Self::Undecodable { .. } | Self::UnknownRequest { .. } | Self::Gap { .. } => false,
        }
    }
}

impl From<EngineError> for StateError {
    fn from(error: EngineError) -> Self {
        StateError::from(StorageError::from(error))
    }
}

impl From<StorageError> for StateError {
    fn from(error: StorageError) -> Self {
        StateError::Storage { index: 0, error }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_a_stop_overtakes_is_answered() {
        let error = StorageError::from(EngineError::Closed { engine: "any" });
        let reply = KvError::from(error).into_reply().unwrap();
        assert_eq!(reply, EtcdError::Stopped);
    }
}
