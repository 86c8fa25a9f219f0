//! The same loss of power in a program that defines `sync_file_range` for
//! sled, as the server does.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#![allow(unsafe_code, clippy::expect_used)]

#[path = "../engine_power_loss/main.rs"]
mod power_loss;

use std::ffi::{c_int, c_uint};
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rusd_storage::engine::{self, EngineKind, EngineOptions};

static CALLED: AtomicBool = AtomicBool::new(false);

#[unsafe(no_mangle)]
extern "C" fn sync_file_range(fd: c_int, _offset: i64, _len: i64, _flags: c_uint) -> c_int {
    CALLED.store(true, Ordering::Relaxed);
    // SAFETY: the caller keeps the descriptor open, and it is not closed here.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    engine::sync_log(&file).map_or(-1, |()| 0)
}

#[test]
fn sled_opens_with_the_syncs_of_this_program() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = engine::open(dir.path(), &EngineOptions::new(EngineKind::Sled)).expect("opens");
    assert!(CALLED.load(Ordering::Relaxed));
    let writes_through = descriptors_that_write_through(&dir.path().join("db"));
    assert_eq!(writes_through, 0, "each write would be synced twice");
    engine.close().expect("closes");
}

fn descriptors_that_write_through(path: &std::path::Path) -> usize {
    const O_DSYNC: u32 = 0o10000;
    let path = path.canonicalize().expect("a path");
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("descriptors");
    descriptors
        .filter_map(|entry| {
            let entry = entry.ok()?;
            (std::fs::read_link(entry.path()).ok()? == path).then_some(())?;
            let info = format!("/proc/self/fdinfo/{}", entry.file_name().to_str()?);
            let info = std::fs::read_to_string(info).ok()?;
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
            let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
            (flags & O_DSYNC != 0).then_some(())
        })
        .count()
}
