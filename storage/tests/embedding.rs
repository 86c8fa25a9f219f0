//! A program that embeds the library keeps its C library as it is.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, clippy::unwrap_used)]

use std::ffi::{c_int, c_uint};

use rusd_storage::engine::{self, EngineKind, EngineOptions};

unsafe extern "C" {
    fn sync_file_range(fd: c_int, offset: i64, len: i64, flags: c_uint) -> c_int;
}

/// The file that an address of this process is mapped from.
fn file_at(address: usize) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| {
        let range = line.split(' ').next().unwrap_or_default();
        let (start, end) = range.split_once('-').unwrap();
        let number = |hex| usize::from_str_radix(hex, 16).unwrap();
        (number(start)..number(end)).contains(&address)
    });
    line.unwrap().split_whitespace().last().unwrap().to_owned()
}

#[test]
fn the_function_that_sled_syncs_with_is_the_c_librarys() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine::open(dir.path(), &EngineOptions::new(EngineKind::Sled)).unwrap();
    let file = file_at(sync_file_range as *const () as usize);
    assert!(file.contains("libc"), "it is that of {file}");
    engine.close().unwrap();
}
