//! The data directory: made with mode 0700, locked by one process, marked with its format.
//!
//! ```text
//! <data-dir>/
//!   LOCK       held with flock(2) while a process serves the directory; holds its pid
//!   FORMAT     "rusd data format 1"
//!   log/       the Raft log (or --wal-dir)
//!   store/     the storage engine, behind a CURRENT file, and its checkpoint, behind a CHECKPOINT file
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;
use tracing::warn;

const FORMAT: &str = "rusd data format 1\n";
const MODE: u32 = 0o700;

/// Why a data directory cannot be served. Each says what to do.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// etcd has made it.
    #[error(
        "the data directory {path} was made by Go etcd, whose files rusd does not read: choose another --data-dir, and \
         move the data over with a client while both servers run (for example `etcdctl make-mirror`)"
    )]
    GoEtcd { path: PathBuf },
    /// Another process has it.
    #[error(
        "the data directory {path} is in use by another process (pid {pid}): stop that process or choose another \
         --data-dir"
    )]
    InUse {
        path: PathBuf,
        /// What the lock file says: the pid of the other process.
        pid: String,
    },
    /// Written by another version.
    #[error(
        "the data directory {path} has the format {found:?}, and this version of rusd reads {expected:?}: use the \
         version that wrote it, or another --data-dir"
    )]
    Format {
        path: PathBuf,
        found: String,
        expected: String,
    },
    /// Neither ours nor empty.
    #[error(
        "the directory {path} is not empty and holds no rusd data (there is no FORMAT file): choose another --data-dir"
    )]
    Foreign { path: PathBuf },
    /// The operating system refused.
    #[error("cannot {doing} {path}: {source}{remedy}")]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
        /// What to do, after a semicolon; empty if that is not known.
        remedy: &'static str,
    },
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> DataDirError {
    let remedy = match source.kind() {
        io::ErrorKind::PermissionDenied => "; give the user that runs rusd access to it",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; it is on a read-only file system: mount it writable or choose another --data-dir"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space on its file system"
        }
        _ => "",
    };
    DataDirError::Io {
        doing,
        path: path.to_owned(),
        source,
        remedy,
    }
}

/// A data directory that this process holds.
#[derive(Debug)]
pub struct DataDir {
    /// Where the Raft log goes.
    pub log: PathBuf,
    /// Where the storage engine goes.
    pub store: PathBuf,
    /// Whether it holds nothing yet.
    pub is_new: bool,
    _lock: File,
}

impl DataDir {
    /// Makes or opens `path`; the log goes to `log_dir` if that is given.
    pub fn open(path: &Path, log_dir: Option<&Path>) -> Result<Self, DataDirError> {
        if path.join("member").join("wal").is_dir() || path.join("member").join("snap").is_dir() {
            return Err(DataDirError::GoEtcd {
                path: path.to_owned(),
            });
        }
        make_dir(path)?;
        let lock = lock(path)?;
        let is_new = check_format(path)?;
        let log = log_dir.map_or_else(|| path.join("log"), Path::to_owned);
        let store = path.join("store");
        make_dir(&log)?;
        make_dir(&store)?;
        Ok(Self {
            log,
            store,
            is_new,
            _lock: lock,
        })
    }
}

fn make_dir(path: &Path) -> Result<(), DataDirError> {
    if let Ok(metadata) = fs::metadata(path) {
        let mode = metadata.permissions().mode() & 0o777;
        if mode != MODE {
            warn!(path = %path.display(), mode = format!("{mode:o}"), expected = "700", "directory is open to others");
        }
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(MODE)
        .create(path)
        .map_err(|source| io_error("create the directory", path, source))
}

fn lock(dir: &Path) -> Result<File, DataDirError> {
    let path = dir.join("LOCK");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| io_error("open", &path, source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only for the message; the lock itself is what counts.
            let _unreadable = Read::by_ref(&mut file).take(20).read_to_string(&mut pid);
            return Err(DataDirError::InUse {
                path: dir.to_owned(),
                pid: pid.trim().to_owned(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(io_error("lock", &path, source)),
    }
    file.set_len(0)
        .and_then(|()| write!(file, "{}", std::process::id()))
        .map_err(|source| io_error("write", &path, source))?;
    Ok(file)
}

/// Whether the directory was empty; marks it then.
fn check_format(dir: &Path) -> Result<bool, DataDirError> {
    let path = dir.join("FORMAT");
    match fs::read_to_string(&path) {
        Ok(found) if found == FORMAT => Ok(false),
        Ok(found) => Err(DataDirError::Format {
            path: dir.to_owned(),
            found: found.trim().chars().take(80).collect(),
            expected: FORMAT.trim().to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let entries = fs::read_dir(dir).map_err(|source| io_error("read", dir, source))?;
            // `lost+found` lies at the root of a freshly made file system.
            let foreign = entries.filter_map(Result::ok).any(|entry| {
                !matches!(
                    entry.file_name().to_str(),
                    Some("LOCK" | "FORMAT.tmp" | "lost+found" | "log" | "store")
                )
            });
            if foreign {
                return Err(DataDirError::Foreign {
                    path: dir.to_owned(),
                });
            }
            write_format(dir, &path)?;
            Ok(true)
        }
        Err(source) => Err(io_error("read", &path, source)),
    }
}

fn write_format(dir: &Path, path: &Path) -> Result<(), DataDirError> {
    let temporary = dir.join("FORMAT.tmp");
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(FORMAT.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|source| io_error("write", path, source))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pr_11_the_directory_is_private_and_held_by_one_process() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("data");
        let first = DataDir::open(&path, None).unwrap();
        assert!(first.is_new);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let error = DataDir::open(&path, None).unwrap_err();
        assert!(matches!(error, DataDirError::InUse { .. }), "{error}");
        assert!(
            error.to_string().contains(&std::process::id().to_string()),
            "{error}"
        );
        drop(first);
        assert!(!DataDir::open(&path, None).unwrap().is_new);
    }

    #[test]
    fn a_directory_of_go_etcd_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir_all(base.path().join("member/snap")).unwrap();
        let error = DataDir::open(base.path(), None).unwrap_err();
        assert!(error.to_string().contains("Go etcd"), "{error}");
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("notes.txt"), "mine").unwrap();
        let error = DataDir::open(base.path(), None).unwrap_err();
        assert!(matches!(error, DataDirError::Foreign { .. }), "{error}");
        fs::write(base.path().join("FORMAT"), "rusd data format 9\n").unwrap();
        let error = DataDir::open(base.path(), None).unwrap_err();
        assert!(error.to_string().contains("format 9"), "{error}");
    }
}
