//! Who goes first where processors are short: those who wait for a small answer, before large reads and hashes.

#[cfg(target_os = "linux")]
use std::io;

/// Gives the calling thread a lower priority.
#[cfg(target_os = "linux")]
pub(super) fn lower_priority() {
    /// A third of the processor time that a thread of usual priority gets beside it.
    const NICENESS: libc::c_int = 5;
    // SAFETY: the call involves no memory of this process. Linux takes 0 for the calling thread.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) } != 0 {
        let error = io::Error::last_os_error();
        tracing::debug!(%error, "a thread keeps its usual priority");
    }
}

/// Elsewhere a niceness is that of the whole process.
#[cfg(not(target_os = "linux"))]
pub(super) fn lower_priority() {}
