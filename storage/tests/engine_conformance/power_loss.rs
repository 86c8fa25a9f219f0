//! Power loss, simulated on the files.
//!
//! A copy of the directory is taken when `persist` has returned: that is what
//! the disk holds for certain. A second copy is taken after more writes. Of the
//! pages in which they differ any subset may have reached the disk, in any
//! order, and a file may be as long as before or as it is now.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::crash::{applied, numbered_batch, state_after};
use crate::support::{Fixture, Random, Under, assert_same, dump};

const PAGE_BYTES: usize = 4096;

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn read_files(dir: &Path, below: &Path, files: &mut Files) {
    for entry in fs::read_dir(dir.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => read_files(dir, &path, files),
            false => drop(files.insert(path.clone(), fs::read(dir.join(path)).unwrap_or_default())),
        }
    }
}

fn copy_of(dir: &Path) -> Files {
    let mut files = Files::new();
    read_files(dir, Path::new(""), &mut files);
    files
}

/// What might be on the disk between two copies.
fn torn(before: &Files, after: &Files, random: &mut Random) -> Files {
    let mut torn = before.clone();
    for (path, new) in after {
        let old = before.get(path);
        if old.is_none() && random.below(2) == 0 {
            continue;
        }
        let mut file = old.cloned().unwrap_or_default();
        if random.below(4) > 0 {
            file.resize(new.len(), 0);
        }
        // From hardly any page to hardly one missing.
        let kept = random.below(11);
        let pages = file.len().min(new.len()).div_ceil(PAGE_BYTES);
        for page in 0..pages {
            let end = file.len().min(new.len()).min((page + 1) * PAGE_BYTES);
            let range = page * PAGE_BYTES..end;
            if random.below(10) < kept {
                file[range.clone()].copy_from_slice(&new[range]);
            }
        }
        torn.insert(path.clone(), file);
    }
    torn
}

fn write_files(dir: &Path, files: &Files) {
    for (path, content) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn survives(under: Under) {
    let fixture = Fixture::new(under);
    let mut random = Random::new(5);
    let mut number = 0;
    let mut write = |count: u64| {
        for _ in 0..count {
            number += 1;
            fixture.engine.write(&numbered_batch(number)).unwrap();
        }
        number
    };
    for round in 0..5 {
        let persisted = write(20 + random.below(300));
        fixture.engine.persist().unwrap();
        let before = copy_of(fixture.dir.path());
        let written = write(20 + random.below(700));
        let after = copy_of(fixture.dir.path());
        for image in 0..4 {
            let context = format!("{under:?} round {round} image {image}");
            let dir = tempfile::tempdir().unwrap();
            write_files(dir.path(), &torn(&before, &after, &mut random));
            let engine = under.open(dir.path());
            let applied = applied(&*engine);
            assert!(
                (persisted..=written).contains(&applied),
                "{context}: {applied} of {written}, {persisted} persisted"
            );
            assert_same(&dump(&*engine), &state_after(applied), &context);
        }
    }
}

#[test]
fn sled_survives_power_loss() {
    survives(Under::Sled);
}

#[test]
fn redb_survives_power_loss() {
    survives(Under::Redb);
}
