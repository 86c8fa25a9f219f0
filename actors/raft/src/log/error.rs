//! Why a log cannot be opened or written, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A failure of the log. None of them leaves anything changed on disk.
#[derive(Debug, Error)]
pub enum LogError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}; {}", path.display(), remedy(source))]
    Io {
        /// What was tried: a verb that goes before the path.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Somebody else has it open.
    #[error(
        "the log in {} is in use by another process. Stop that one, or choose another data directory",
        path.display()
    )]
    InUse {
        /// The directory of the log.
        path: PathBuf,
    },
    /// A file does not hold what was written to it.
    #[error(
        "the log file {} is damaged: {reason}. Acknowledged writes may be lost, so this member refuses to start. \
         The file is left as it is: keep a copy of it, and put a backup of the whole data directory in its place",
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
        /// The directory of the log.
        path: PathBuf,
        /// The version that is written in it.
        found: u32,
        /// The version that this program writes and reads.
        known: u32,
    },
    /// raft-engine failed for a reason that is no I/O error.
    #[error("cannot {action} the log in {}: {source}", path.display())]
    Engine {
        /// What was tried: a verb that goes before "the log in".
        action: &'static str,
        /// The directory of the log.
        path: PathBuf,
        /// What raft-engine says.
        source: raft_engine::Error,
    },
    /// Bootstrapping a log that has entries already.
    #[error("the log in {} has been set up before", path.display())]
    AlreadyBootstrapped {
        /// The directory of the log.
        path: PathBuf,
    },
}

impl LogError {
    /// What a failure of raft-engine means; `action` goes before "the log in".
    pub(crate) fn engine(action: &'static str, dir: &Path, error: raft_engine::Error) -> Self {
        let path = dir.to_owned();
        let source = match error {
            // It has words of its own for a full disk; and it asks to try again when it found no space, began another
            // file and found none there either.
            raft_engine::Error::Io(source) if source.kind() != io::ErrorKind::StorageFull => source,
            raft_engine::Error::Io(_) | raft_engine::Error::TryAgain(_) => {
                io::Error::new(io::ErrorKind::StorageFull, "no space left")
            }
            source => {
                return Self::Engine {
                    action,
                    path,
                    source,
                };
            }
        };
        Self::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::Damaged {
            path: path.into(),
            reason: reason.to_string(),
        }
    }
}

/// What to do about an I/O error.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free space on this file system or raise its quota, then start again"
        }
        io::ErrorKind::PermissionDenied => {
            "the user this process runs as needs to own the directory of the log and everything in it"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "remount the file system read-write, or look into the kernel log: a file system that met an error turns \
             read-only"
        }
        _ => "check the permissions, the free space and the health of the disk",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_names_the_place_and_the_remedy_however_it_shows() {
        const ENOSPC: i32 = 28;
        for error in [
            raft_engine::Error::Io(io::Error::from_raw_os_error(ENOSPC)),
            raft_engine::Error::TryAgain("twice".to_owned()),
        ] {
            let text = LogError::engine("write to", Path::new("/data/log"), error).to_string();
            let text = text.to_lowercase();
            for part in ["/data/log", "no space", "free space"] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    }
}
