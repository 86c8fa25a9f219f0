//! A disk that remembers what it was told and in which order.
//!
//! The C functions through which files are written and synced are defined here,
//! in the test program, so that both the program and the engines linked into it
//! call these. They do what they are asked and record it. From the record,
//! [`Recording::image`] makes files as power loss at any moment could have left
//! them: everything a completed sync covered, and of the rest any part.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{c_int, c_long, c_void};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::support::Random;

/// What a disk writes at once.
const SECTOR_BYTES: usize = 4096;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

#[cfg(target_arch = "x86_64")]
mod number {
    use std::ffi::c_long;
    pub const PWRITE: c_long = 18;
    pub const FCNTL: c_long = 72;
    pub const FSYNC: c_long = 74;
    pub const FDATASYNC: c_long = 75;
    pub const FTRUNCATE: c_long = 77;
}

#[cfg(target_arch = "aarch64")]
mod number {
    use std::ffi::c_long;
    pub const PWRITE: c_long = 68;
    pub const FCNTL: c_long = 25;
    pub const FSYNC: c_long = 82;
    pub const FDATASYNC: c_long = 83;
    pub const FTRUNCATE: c_long = 46;
}

const F_GETFL: c_int = 3;
/// As `open` takes it and `F_GETFL` gives it.
const O_DSYNC: c_long = 0o10000;

#[derive(Clone, Debug)]
enum Event {
    /// Data at an offset, and whether the write waited for the disk.
    Write(PathBuf, u64, Vec<u8>, bool),
    SetLen(PathBuf, u64),
    /// A sync of this file ended; it covers what was recorded before this.
    Synced(PathBuf, usize),
    /// The test says that it is here.
    Mark(Mark),
}

/// What a test had done at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The batch with this number is about to be written.
    Begun(u64),
    /// `persist` returned, and this was the last batch before.
    Persisted(u64),
}

struct Recorder {
    dir: PathBuf,
    base: BTreeMap<PathBuf, Vec<u8>>,
    events: Vec<Event>,
}

static RECORDER: Mutex<Option<Recorder>> = Mutex::new(None);

/// The file behind a descriptor, if it is being recorded.
fn recorded(recorder: &Recorder, descriptor: c_int) -> Option<PathBuf> {
    let path = std::fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()?;
    path.starts_with(&recorder.dir).then_some(path)
}

fn record(descriptor: c_int, event: impl FnOnce(PathBuf, usize) -> Event) {
    let mut recorder = RECORDER.lock().unwrap();
    if let Some(recorder) = &mut *recorder
        && let Some(path) = recorded(recorder, descriptor)
    {
        let event = event(path, recorder.events.len());
        recorder.events.push(event);
    }
}

fn position() -> usize {
    let recorder = RECORDER.lock().unwrap();
    recorder
        .as_ref()
        .map_or(0, |recorder| recorder.events.len())
}

#[unsafe(no_mangle)]
extern "C" fn pwrite64(fd: c_int, buffer: *const c_void, len: usize, offset: i64) -> isize {
    // SAFETY: the caller passes what pwrite(2) asks for, and so do we.
    let written = unsafe { syscall(number::PWRITE, fd, buffer, len, offset) } as isize;
    if written > 0 {
        // SAFETY: the kernel has just read this many bytes from there.
        let data = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), written as usize) };
        // SAFETY: plain numbers.
        let waited = unsafe { syscall(number::FCNTL, fd, F_GETFL) } & O_DSYNC != 0;
        record(fd, |path, _| {
            Event::Write(path, offset as u64, data.to_vec(), waited)
        });
    }
    written
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate64(fd: c_int, len: i64) -> c_int {
    // SAFETY: plain numbers.
    let result = unsafe { syscall(number::FTRUNCATE, fd, len) } as c_int;
    if result == 0 {
        record(fd, |path, _| Event::SetLen(path, len as u64));
    }
    result
}

fn sync(number: c_long, fd: c_int) -> c_int {
    let covers = position();
    // SAFETY: plain numbers.
    let result = unsafe { syscall(number, fd) } as c_int;
    if result == 0 {
        record(fd, |path, _| Event::Synced(path, covers));
    }
    result
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    sync(number::FSYNC, fd)
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync(number::FDATASYNC, fd)
}

/// Notes what the test has done.
pub fn mark(mark: Mark) {
    if let Some(recorder) = &mut *RECORDER.lock().unwrap() {
        recorder.events.push(Event::Mark(mark));
    }
}

/// Everything that happened to the files of a directory.
pub struct Recording {
    dir: PathBuf,
    base: BTreeMap<PathBuf, Vec<u8>>,
    events: Vec<Event>,
}

/// Records what happens in `dir` while `run` runs. What is there before counts
/// as synced.
pub fn record_dir(dir: &Path, run: impl FnOnce()) -> Recording {
    let dir = dir.canonicalize().unwrap();
    let mut base = BTreeMap::new();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            base.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    *RECORDER.lock().unwrap() = Some(Recorder {
        dir,
        base,
        events: Vec::new(),
    });
    run();
    let Recorder { dir, base, events } = RECORDER.lock().unwrap().take().unwrap();
    Recording { dir, base, events }
}

/// What a crash could have left.
pub struct Image {
    /// The last batch that was begun.
    pub begun: u64,
    /// The last batch that was persisted.
    pub persisted: u64,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Image {
    /// Puts the files into a directory.
    pub fn write_to(&self, dir: &Path) {
        for (name, content) in &self.files {
            std::fs::write(dir.join(name), content).unwrap();
        }
    }
}

fn put(file: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(data);
}

impl Recording {
    /// How many moments there are to lose power at.
    pub fn moments(&self) -> usize {
        self.events.len()
    }

    /// The files after power was lost at a moment.
    pub fn image(&self, moment: usize, random: &mut Random) -> Image {
        let events = &self.events[..moment];
        let (mut begun, mut persisted) = (0, 0);
        let mut covered: BTreeMap<&Path, usize> = BTreeMap::new();
        for event in events {
            match event {
                Event::Mark(Mark::Begun(number)) => begun = *number,
                Event::Mark(Mark::Persisted(number)) => persisted = *number,
                Event::Synced(path, upto) => {
                    let covered = covered.entry(path).or_default();
                    *covered = (*covered).max(*upto);
                }
                Event::Write(..) | Event::SetLen(..) => {}
            }
        }
        // From hardly anything of the rest to all but a little.
        let kept = random.below(11);
        let mut files = self.base.clone();
        for (index, event) in events.iter().enumerate() {
            let synced = |path: &Path| covered.get(path).is_some_and(|upto| index < *upto);
            match event {
                Event::Write(path, offset, data, waited) => {
                    let file = files.entry(path.clone()).or_default();
                    let sectors = data.chunks(SECTOR_BYTES).enumerate();
                    for (sector, data) in sectors {
                        if *waited || synced(path) || random.below(10) < kept {
                            put(file, *offset as usize + sector * SECTOR_BYTES, data);
                        }
                    }
                }
                Event::SetLen(path, len) if synced(path) || random.below(10) < kept => {
                    files
                        .entry(path.clone())
                        .or_default()
                        .resize(*len as usize, 0);
                }
                _ => {}
            }
        }
        let relative = |path: PathBuf| path.strip_prefix(&self.dir).unwrap().to_owned();
        Image {
            begun,
            persisted,
            files: files
                .into_iter()
                .map(|(path, file)| (relative(path), file))
                .collect(),
        }
    }
}
