//! A log file that is replaced when it has grown too large.
//!
//! The file always has its own name; what it held before is in `name-<time>.ext` beside it. Old files beyond the
//! configured number or age are removed after each rotation. A rotation that fails is tried again at the next write and
//! costs no line: the file simply grows on.
//!
//! This is how lumberjack does it, the log writer that etcd uses, and what operators' tools look for (`rusd-*.log`). No
//! crate does the same: file-rotate puts the time behind the extension (`rusd.log.20261121T071605`) and has none finer
//! than a second, rolling-file counts (`rusd.log.1`) and renames every old file at each rotation, and the appender of
//! `tracing` rotates by the clock alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::timestamp::{FILE_NAME_LEN, for_file_name};
use crate::config::LogRotation;

/// A log file with its rotation.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    rotation: LogRotation,
    file: File,
    size_bytes: u64,
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let size_bytes = file.metadata()?.len();
    Ok((file, size_bytes))
}

impl RotatingFile {
    /// Opens the file, making it and its directory if they are not there.
    pub(super) fn open(path: &Path, rotation: LogRotation) -> io::Result<Self> {
        if let Some(directory) = path
            .parent()
            .filter(|directory| !directory.as_os_str().is_empty())
        {
            fs::create_dir_all(directory)?;
        }
        let (file, size_bytes) = open(path)?;
        Ok(RotatingFile {
            path: path.to_owned(),
            rotation,
            file,
            size_bytes,
        })
    }

    /// Appends whole lines, to a new file if the old one would grow too large.
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let added = bytes.len() as u64;
        let mut rotated = Ok(());
        if self.size_bytes > 0 && self.size_bytes + added > self.rotation.max_size_bytes {
            rotated = self.rotate(SystemTime::now());
        }
        self.file.write_all(bytes)?;
        self.size_bytes += added;
        rotated
    }

    fn rotate(&mut self, now: SystemTime) -> io::Result<()> {
        let mut old = self.old_path(now);
        // Two rotations within a millisecond must not overwrite each other.
        let mut later = now;
        while old.exists() {
            later += Duration::from_millis(1);
            old = self.old_path(later);
        }
        fs::rename(&self.path, &old)?;
        let (file, size_bytes) = open(&self.path)?;
        self.file = file;
        self.size_bytes = size_bytes;
        self.remove_old(now)
    }

    /// The name's part before the time, and the extension with its dot.
    fn name_parts(&self) -> (String, String) {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let extension = self
            .path
            .extension()
            .map(|e| format!(".{}", e.to_string_lossy()));
        (format!("{stem}-"), extension.unwrap_or_default())
    }

    fn old_path(&self, time: SystemTime) -> PathBuf {
        let (prefix, extension) = self.name_parts();
        self.path
            .with_file_name(format!("{prefix}{}{extension}", for_file_name(time)))
    }

    /// Old files, newest first, with the time in their names.
    fn old_files(&self) -> io::Result<Vec<(String, PathBuf)>> {
        let (prefix, extension) = self.name_parts();
        let directory = self
            .path
            .parent()
            .filter(|directory| !directory.as_os_str().is_empty());
        let mut found = Vec::new();
        for entry in fs::read_dir(directory.unwrap_or(Path::new(".")))? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let stamp = name
                .strip_prefix(prefix.as_str())
                .and_then(|rest| rest.strip_suffix(extension.as_str()));
            let is_stamp = |stamp: &&str| {
                stamp.len() == FILE_NAME_LEN
                    && stamp
                        .bytes()
                        .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'T' | b'.'))
            };
            if let Some(stamp) = stamp.filter(is_stamp) {
                found.push((stamp.to_owned(), entry.path()));
            }
        }
        found.sort_by(|left, right| right.0.cmp(&left.0));
        Ok(found)
    }

    fn remove_old(&self, now: SystemTime) -> io::Result<()> {
        let keep = self
            .rotation
            .max_backups
            .map_or(usize::MAX, |count| count as usize);
        let oldest = self.rotation.max_age_days.and_then(|days| {
            now.checked_sub(Duration::from_secs(u64::from(days) * 86_400))
                .map(for_file_name)
        });
        for (position, (stamp, path)) in self.old_files()?.into_iter().enumerate() {
            if position >= keep || oldest.as_ref().is_some_and(|oldest| stamp < *oldest) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn rotation(max_size_bytes: u64) -> LogRotation {
        LogRotation {
            max_size_bytes,
            max_age_days: None,
            max_backups: None,
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn o17_a_full_file_is_kept_under_another_name_and_no_line_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/rusd.log");
        let mut file = RotatingFile::open(&path, rotation(10)).unwrap();
        for line in [
            "one\n",
            "two\n",
            "three\n",
            "a line longer than a file may be\n",
            "four\n",
        ] {
            file.write_all(line.as_bytes()).unwrap();
        }
        let deep = path.parent().unwrap();
        let names = names(deep);
        assert_eq!(names.len(), 4, "{names:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
        let old: String = names[..3]
            .iter()
            .map(|name| fs::read_to_string(deep.join(name)).unwrap())
            .collect();
        assert_eq!(old, "one\ntwo\nthree\na line longer than a file may be\n");
    }

    #[test]
    fn o17_a_file_that_exists_is_appended_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rusd.log");
        fs::write(&path, "old\n").unwrap();
        let mut file = RotatingFile::open(&path, rotation(8)).unwrap();
        file.write_all(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old\nnew\n");
        file.write_all(b"x\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "x\n");
    }

    #[test]
    fn o17_old_files_beyond_number_and_age_are_removed_and_others_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rusd.log");
        let ancient = directory.path().join("rusd-2001-01-01T00-00-00.000.log");
        let foreign = directory.path().join("rusd-notes.log");
        fs::write(&ancient, "").unwrap();
        fs::write(&foreign, "").unwrap();
        let aged = LogRotation {
            max_size_bytes: 1,
            max_age_days: Some(1),
            max_backups: Some(2),
        };
        let mut file = RotatingFile::open(&path, aged).unwrap();
        for _ in 0..5 {
            file.write_all(b"x\n").unwrap();
        }
        assert!(!ancient.exists() && foreign.exists());
        assert_eq!(names(directory.path()).len(), 4);
    }
}
