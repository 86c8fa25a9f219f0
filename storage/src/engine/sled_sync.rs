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
//! caller. [`syncs`] lets the engine check that it took effect.
//!
//! Sled asks for two or three syncs per batch, from as many threads. They are
//! grouped: one thread leads, syncs no more often than every [`GAP`], and
//! answers for all that asked before it began.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_uint};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// The time between two syncs of a file, which leaves the disk to the log. Only
/// `persist` ever waits for these syncs, and it is called rarely.
const GAP: Duration = Duration::from_millis(20);

/// What a round that failed is reported as when the system gave no reason: EIO.
const IO_ERROR: i32 = 5;

/// How often sled asked for a sync.
static SYNCS: AtomicU64 = AtomicU64::new(0);

/// The syncs of a file. Whoever asks joins a round, and a round that started
/// takes nobody in.
#[derive(Default)]
struct Rounds {
    /// The round that is being joined.
    joining: u64,
    /// All rounds below this one are done.
    done: u64,
    /// Somebody leads the round that is joined, or the one before.
    led: bool,
    last_end: Option<Instant>,
    /// The last round that failed, and why.
    failed: Option<(u64, i32)>,
}

/// The files being synced, by descriptor.
static FILES: Mutex<BTreeMap<c_int, Rounds>> = Mutex::new(BTreeMap::new());
static DONE: Condvar = Condvar::new();

/// How often sled asked for a sync, in this process.
pub fn syncs() -> u64 {
    SYNCS.load(Ordering::Relaxed)
}

unsafe extern "C" {
    /// Where this thread's `errno` is; glibc and musl both have it.
    safe fn __errno_location() -> *mut c_int;
}

/// Syncs the whole file, whatever the range. Returns 0, or -1 with `errno` set.
///
/// The descriptor has to stay open during the call, as it has to for the
/// function of this name in the C library.
#[unsafe(no_mangle)]
pub extern "C" fn sync_file_range(fd: c_int, _offset: i64, _len: i64, _flags: c_uint) -> c_int {
    SYNCS.fetch_add(1, Ordering::Relaxed);
    match sync(fd) {
        Ok(()) => 0,
        Err(errno) => {
            // SAFETY: it points to a variable of this thread that may be
            // written at any time.
            unsafe { *__errno_location() = errno };
            -1
        }
    }
}

fn sync(fd: c_int) -> Result<(), i32> {
    let mut files = FILES.lock();
    let round = files.entry(fd).or_default().joining;
    loop {
        let rounds = files.entry(fd).or_default();
        if round < rounds.done {
            return match rounds.failed {
                Some((failed, errno)) if failed == round => Err(errno),
                _ => Ok(()),
            };
        }
        if rounds.led {
            DONE.wait(&mut files);
            continue;
        }
        rounds.led = true;
        let rest = rounds.last_end.map(|end| GAP.saturating_sub(end.elapsed()));
        drop(files);
        std::thread::sleep(rest.unwrap_or_default());
        // Whoever asks from here on may have written after the sync began.
        FILES.lock().entry(fd).or_default().joining = round + 1;
        let result = sync_now(fd);
        files = FILES.lock();
        let rounds = files.entry(fd).or_default();
        rounds.led = false;
        rounds.done = round + 1;
        rounds.last_end = Some(Instant::now());
        if let Err(errno) = result {
            rounds.failed = Some((round, errno));
        }
        DONE.notify_all();
    }
}

fn sync_now(fd: c_int) -> Result<(), i32> {
    // SAFETY: the caller keeps the descriptor open, and it is not closed here
    // since the file is never dropped.
    let file = ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(fd) });
    let result = file.sync_data();
    result.map_err(|error| error.raw_os_error().unwrap_or(IO_ERROR))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn many_who_ask_at_once_are_all_answered() {
        let file = tempfile::tempfile().unwrap();
        let fd = file.as_raw_fd();
        let before = syncs();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..4 {
                        assert_eq!(sync_file_range(fd, 0, 0, 0), 0);
                    }
                });
            }
        });
        assert_eq!(syncs() - before, 32);
    }

    #[test]
    fn a_failed_sync_is_reported_to_whoever_asked() {
        // A pipe cannot be synced.
        let (reader, _writer) = std::io::pipe().unwrap();
        let fd = reader.as_raw_fd();
        assert_eq!(sync_file_range(fd, 0, 0, 0), -1);
        let error = std::io::Error::last_os_error();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}
