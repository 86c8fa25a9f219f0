//! Makes what sled believes to be on the disk be on the disk.
//!
//! Once it has written a segment, sled notes in later segments that it is
//! stable, and overwrites older segments that it replaces. Before it believes
//! so it syncs the file; but on Linux it calls `sync_file_range`, which awaits
//! the writing of pages and neither writes the metadata of a file that grew nor
//! empties the disk's own cache. After power loss the note may be there and the
//! segment not, and then sled recovers nothing at all. A sync after a flush
//! comes too late: sled writes segments of its own accord in between.
//!
//! There are two ways out:
//!
//! - A program defines `sync_file_range` for itself and calls [`sync_log`] in
//!   it, as the server does: one real sync for each of sled's.
//! - In every other program sled's descriptor becomes one whose every write
//!   waits for the disk ([`write_through`]).
//!
//! A library must not change a C function for the whole program that uses it,
//! so the first way is the program's to choose. Opening a database makes sled
//! sync once and looks which of the two it is.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// sled has called [`sync_log`] in this process.
static ARRIVED: AtomicBool = AtomicBool::new(false);

/// A real sync in place of the one that sled asked for: a program's own
/// `sync_file_range` calls it with the file it was called with. Fails as
/// `fdatasync` does, with `errno` as the system left it.
pub fn sync_log(file: &File) -> io::Result<()> {
    ARRIVED.store(true, Ordering::Relaxed);
    file.sync_data()
}

/// Whether a sync that sled asked for came to [`sync_log`]. There is one
/// `sync_file_range` in a process, so one call answers for all databases.
pub fn arrives() -> bool {
    ARRIVED.load(Ordering::Relaxed)
}

/// The descriptor through which this process has a file open: sled's, right
/// after it opened its log and before anybody else has.
fn descriptor_of(path: &Path) -> io::Result<RawFd> {
    let file = fs::metadata(path)?;
    let mut found = None;
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // Descriptors of other threads may be closed meanwhile.
        let Ok(other) = fs::metadata(entry.path()) else {
            continue;
        };
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if (other.dev(), other.ino()) == (file.dev(), file.ino())
            && let Some(number) = number
            && found.replace(number).is_some()
        {
            return Err(io::Error::other("the log is open twice"));
        }
    }
    found.ok_or_else(|| io::Error::other("/proc/self/fd does not list the log"))
}

/// Makes sled's descriptor of its log at `path` one that writes through: a
/// write returns once its data, and the length of the file if it grew, are on
/// the disk. What was written before is synced, too.
///
/// sled's lock goes away with the old description of the file, so it is taken
/// again; the error kind is `WouldBlock` if another process was faster.
#[allow(unsafe_code)]
pub fn write_through(path: &Path) -> io::Result<()> {
    let descriptor = descriptor_of(path)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_DSYNC);
    let file = options.open(path)?;
    // SAFETY: both are open: `file` is ours, and the caller holds the database
    // that owns the other. It stays open, under its number, on the same file
    // and position-free (sled reads and writes at offsets only); what changes
    // is that its writes wait for the disk.
    let replaced = unsafe { libc::dup3(file.as_raw_fd(), descriptor, libc::O_CLOEXEC) };
    if replaced < 0 {
        return Err(io::Error::last_os_error());
    }
    // Both descriptors share one description now, and so the lock.
    file.try_lock().map_err(io::Error::from)?;
    file.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn writes_through_the_descriptor_of_another_wait_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = File::create(&path).unwrap();
        log.try_lock().unwrap();
        write_through(&path).unwrap();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", log.as_raw_fd())).unwrap();
        let flags = info
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .unwrap();
        let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
        assert_eq!(flags & libc::O_DSYNC, libc::O_DSYNC);
        assert!(
            File::open(&path).unwrap().try_lock().is_err(),
            "the lock is gone"
        );
        log.write_all(b"x").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }

    #[test]
    fn a_file_that_nobody_has_open_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, b"").unwrap();
        assert!(write_through(&path).is_err());
    }
}
