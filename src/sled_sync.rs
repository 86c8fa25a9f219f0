//! `sync_file_range` of this program: a real sync, for sled.
//!
//! sled calls it where it needs one (see `storage/src/engine/sled/sync.rs`). A definition in the program takes
//! precedence over that of the C library, for everybody in the process; nobody but sled calls it. The library has no
//! such definition, since a program that embeds it must not get its C functions replaced.

use std::ffi::{c_int, c_uint};
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;

/// Syncs the whole file, whatever the range. Returns 0, or -1 with `errno` set.
///
/// The descriptor has to stay open during the call, as it has to for the function of this name in the C library.
#[unsafe(no_mangle)]
pub extern "C" fn sync_file_range(fd: c_int, _offset: i64, _len: i64, _flags: c_uint) -> c_int {
    // SAFETY: the caller keeps the descriptor open, and it is not closed here since the file is never dropped.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    match rusd::storage::engine::sync_log(&file) {
        Ok(()) => 0,
        // The system has set errno, and nothing has run since that changes it.
        Err(_) => -1,
    }
}
