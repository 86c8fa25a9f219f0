//! What can go wrong in an engine, sorted by what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of an engine. Each variant is a different thing to do; none of
/// them is a reply to a client.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The data will not open or is damaged: rebuild it from elsewhere (a
    /// snapshot of another member, a checkpoint).
    #[error("{engine}: {} is damaged: {reason}", path.display())]
    Rebuild {
        /// The engine that refused.
        engine: &'static str,
        /// Its directory.
        path: PathBuf,
        /// What it found.
        reason: String,
    },

    /// No room: the disk or the quota of its owner is full.
    #[error(
        "{engine}: no space left to write to {}: {reason}; free space on this file system or \
         raise its quota, then start again",
        path.display()
    )]
    Full {
        /// The engine that wrote.
        engine: &'static str,
        /// The directory that is full.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },

    /// Stop: going on could lose data or tell lies.
    #[error("{engine}: {}: {reason}", path.display())]
    Fatal {
        /// The engine that failed.
        engine: &'static str,
        /// Its directory.
        path: PathBuf,
        /// What happened, and where it helps what to do about it.
        reason: String,
    },

    /// The engine was closed before the call.
    #[error("{engine}: the engine is closed")]
    Closed {
        /// The engine that was asked.
        engine: &'static str,
    },
}

impl EngineError {
    /// The data has to be rebuilt.
    pub fn rebuild(engine: &'static str, path: &Path, reason: impl ToString) -> Self {
        Self::Rebuild {
            engine,
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// The process has to stop.
    pub fn fatal(engine: &'static str, path: &Path, reason: impl ToString) -> Self {
        Self::Fatal {
            engine,
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// What an I/O error means; `action` says what was attempted.
    pub fn io(engine: &'static str, path: &Path, action: &str, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full {
                engine,
                path,
                reason: format!("{action}: {error}"),
            },
            io::ErrorKind::PermissionDenied => Self::Fatal {
                engine,
                reason: format!(
                    "{action}: {error}; the user this process runs as needs to own the data \
                     directory and everything in it"
                ),
                path,
            },
            io::ErrorKind::ReadOnlyFilesystem => Self::Fatal {
                engine,
                reason: format!(
                    "{action}: {error}; remount the file system read-write, or look into the \
                     kernel log: a file system that met an error turns read-only"
                ),
                path,
            },
            io::ErrorKind::NotADirectory => Self::Fatal {
                engine,
                reason: format!("{action}: {error}; a directory is expected here"),
                path,
            },
            _ => Self::Fatal {
                engine,
                path,
                reason: format!("{action}: {error}"),
            },
        }
    }

    /// Whether the data should be rebuilt from elsewhere.
    pub fn is_rebuild(&self) -> bool {
        matches!(self, Self::Rebuild { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: io::ErrorKind) -> EngineError {
        EngineError::io("redb", Path::new("/data"), "write", &io::Error::from(kind))
    }

    #[test]
    fn a_full_disk_names_the_place_and_the_remedy() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let error = of(kind);
            assert!(matches!(error, EngineError::Full { .. }));
            let text = error.to_string();
            assert!(
                text.contains("/data") && text.contains("free space"),
                "{text}"
            );
        }
    }

    #[test]
    fn errors_of_the_directory_say_what_to_do() {
        let text = of(io::ErrorKind::PermissionDenied).to_string();
        assert!(text.contains("own the data directory"), "{text}");
        let text = of(io::ErrorKind::ReadOnlyFilesystem).to_string();
        assert!(text.contains("remount"), "{text}");
    }
}
