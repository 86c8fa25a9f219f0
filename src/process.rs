//! The process: what happens when something breaks, and how it is told to stop.

use std::sync::Once;
use tokio::signal::unix::{SignalKind, signal};

/// A panic anywhere ends the process: half a server is worse than none, and restart recovers from disk.
///
/// The one exception is the storage engine's own open, which may panic on a damaged directory and is
/// caught there (`rusd_storage::engine::opening`).
pub fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if rusd_storage::engine::opening() {
                return;
            }
            let location = info.location().map(ToString::to_string).unwrap_or_default();
            let reason = info
                .payload()
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| info.payload().downcast_ref::<String>().cloned())
                .unwrap_or_default();
            tracing::error!(location, reason, "fatal: the process ends; restart recovers from disk");
            default(info);
            crate::logging::flush();
            std::process::abort();
        }));
    });
}

/// Resolves with the name of the signal that asks the process to stop.
pub async fn stop_signal() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "terminated",
        _ = interrupt.recv() => "interrupt",
    })
}

/// How many files this process may open; None if unlimited or unknown.
pub fn open_files_limit() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit writes one rlimit struct through the pointer, which is valid for that.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0;
    if failed || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    Some(limit.rlim_cur)
}

/// Raises the soft limit of open files to the hard one, as Go programs do at start.
pub fn raise_open_files_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get a pointer to one valid rlimit struct.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
