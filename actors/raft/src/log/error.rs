//! Why a log cannot be opened or written, in words that say what to do.

use std::path::PathBuf;
use thiserror::Error;

/// A failure of the log. None of them leaves anything changed on disk.
#[derive(Debug, Error)]
pub enum LogError {
    /// The operating system refused.
    #[error(
        "cannot {action} {}: {source}. Check the permissions, the free space and the health of the disk; \
         nothing has been changed",
        path.display()
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Its answer.
        source: std::io::Error,
    },
    /// Somebody else has it open.
    #[error(
        "the log in {} is in use by another process. Stop that one, or choose another data directory",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A file does not hold what was written to it.
    #[error(
        "the log file {} is damaged: {reason}. Acknowledged writes may be lost, so this member refuses to start. \
         The file is left as it is: keep a copy of the data directory, then start again from a snapshot \
         (`rusdutl snapshot restore`) in an empty data directory",
        path.display()
    )]
    Damaged {
        /// The file, or the directory when files do not fit together.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Written by another version of this program.
    #[error(
        "the log in {} has format version {found}, and this program reads version {known}. Start the version of the \
         program that wrote it",
        path.display()
    )]
    Version {
        /// The directory.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// raft-engine failed.
    #[error("cannot {action} the log in {}: {source}", path.display())]
    Engine {
        /// What was tried.
        action: &'static str,
        /// The directory.
        path: PathBuf,
        /// Its words.
        source: raft_engine::Error,
    },
    /// Bootstrapping a log that has entries already.
    #[error("the log in {} has been set up before", path.display())]
    AlreadyBootstrapped {
        /// The directory.
        path: PathBuf,
    },
}

impl LogError {
    pub(crate) fn damaged(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::Damaged {
            path: path.into(),
            reason: reason.to_string(),
        }
    }
}
