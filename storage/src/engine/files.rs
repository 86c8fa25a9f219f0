//! Files and directories whose existence survives power loss.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use super::crash;

/// Bytes of a file that are copied between two reports.
const COPY_CHUNK_BYTES: u64 = 64 << 20;

/// Syncs a directory: the names in it survive power loss.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    crash::point()?;
    File::open(dir)?.sync_all()
}

/// Syncs the files of a directory, those of its directories, and the
/// directories themselves.
pub fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => sync_tree(&path)?,
            Ok(_) => File::open(&path)?.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    sync_dir(dir)
}

/// Replaces `dir/name` such that after power loss it has the old content or
/// the new one.
pub fn replace(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    crash::point()?;
    let mut file = File::create(&temporary)?;
    crash::point()?;
    file.write_all(content)?;
    file.sync_all()?;
    rename(&temporary, &dir.join(name))?;
    sync_dir(dir)
}

/// Moves a file or a directory. Lasting once the directory it is in is synced.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    crash::point()?;
    fs::rename(from, to)
}

/// Removes a file such that it stays removed after power loss. That there is
/// none is fine.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    crash::point()?;
    match fs::remove_file(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_dir),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes a directory with all that is in it. That there is none is fine.
pub fn remove_tree(dir: &Path) -> io::Result<()> {
    crash::point()?;
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Copies a directory with all that is in it to one that does not exist yet,
/// and syncs the copy. `copied` is told of every part, in bytes.
pub fn copy_tree(from: &Path, to: &Path, copied: &mut dyn FnMut(u64)) -> io::Result<()> {
    crash::point()?;
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target, copied)?;
        } else {
            copy_file(&entry.path(), &target, copied)?;
        }
    }
    sync_dir(to)
}

fn copy_file(from: &Path, to: &Path, copied: &mut dyn FnMut(u64)) -> io::Result<()> {
    crash::point()?;
    let mut source = File::open(from)?;
    let mut target = File::create_new(to)?;
    loop {
        let bytes = io::copy(
            &mut Read::by_ref(&mut source).take(COPY_CHUNK_BYTES),
            &mut target,
        )?;
        copied(bytes);
        if bytes < COPY_CHUNK_BYTES {
            break;
        }
        crash::point()?;
    }
    target.sync_all()
}

/// What a file takes on the disk. Engines make files longer than what is in
/// them; the rest is a hole.
#[cfg(unix)]
fn disk_bytes(metadata: &fs::Metadata) -> u64 {
    const BLOCK_BYTES: u64 = 512;
    std::os::unix::fs::MetadataExt::blocks(metadata) * BLOCK_BYTES
}

#[cfg(not(unix))]
fn disk_bytes(metadata: &fs::Metadata) -> u64 {
    metadata.len()
}

/// What all files below a directory take on the disk; what vanishes meanwhile
/// counts as nothing.
pub fn bytes_below(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += bytes_below(&entry.path())?,
            Ok(metadata) => bytes += disk_bytes(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// What may still be written to the file system that a directory is on.
pub fn available_bytes(dir: &Path) -> io::Result<u64> {
    fs2::available_space(dir)
}

/// The content of a small text file; `None` if it does not exist. What is no
/// text in a damaged one shows as such.
pub fn read_text(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
