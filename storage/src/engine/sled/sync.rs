//! Makes what sled believes to be on the disk be on the disk.
//!
//! Once it has written a segment, sled notes in later segments that it is
//! stable, and overwrites older segments that it replaces. Before it believes
//! so it syncs the file; but on Linux it calls `sync_file_range`, which awaits
//! the writing of pages and neither writes the metadata of a file that grew nor
//! empties the disk's own cache. After power loss the note may be there and the
//! segment not, and then sled recovers nothing at all.
//!
//! So that function is defined here, as a real sync. A definition in the
//! program takes precedence over that of the C library, and sled is the only
//! caller. [`count`] lets the engine check that it took effect. Sled calls it
//! about once per segment, from threads of its own.

use std::ffi::{c_int, c_uint};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// How often sled asked for a sync, in this process.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// Syncs the whole file, whatever the range. Returns 0, or -1 with `errno` set.
///
/// The descriptor has to stay open during the call, as it has to for the
/// function of this name in the C library.
#[unsafe(no_mangle)]
pub extern "C" fn sync_file_range(fd: c_int, _offset: i64, _len: i64, _flags: c_uint) -> c_int {
    COUNT.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the caller keeps the descriptor open, and it is not closed here
    // since the file is never dropped.
    let file = ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(fd) });
    match file.sync_data() {
        Ok(()) => 0,
        // The system has set errno, and nothing has run since that changes it.
        Err(_) => -1,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_sync_is_counted_and_leaves_the_file_open() {
        let file = tempfile::tempfile().unwrap();
        let before = count();
        assert_eq!(sync_file_range(file.as_raw_fd(), 0, 0, 0), 0);
        assert!(count() > before);
        file.sync_all().unwrap();
    }

    #[test]
    fn a_failed_sync_is_reported() {
        // A pipe cannot be synced.
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(sync_file_range(reader.as_raw_fd(), 0, 0, 0), -1);
        let error = std::io::Error::last_os_error();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}
