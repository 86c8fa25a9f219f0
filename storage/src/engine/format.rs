//! The mark that says which engine wrote a directory, and in which layout.
//!
//! It is written last when a directory is created. A directory that has it is
//! complete; one that lacks a file of its engine is then damaged, not new.

use std::path::Path;

use super::{EngineError, EngineKind, files};

const FILE: &str = "FORMAT";

/// The layout this code reads and writes: one key space with a prefix byte per
/// tree, `kv_rev` packed into blocks that end with a checksum.
const VERSION: u32 = 2;

fn text(kind: EngineKind) -> String {
    format!("rusd engine {kind} format {VERSION}\n")
}

/// Checks the mark of a directory; false if it has none.
pub fn check(dir: &Path, kind: EngineKind) -> Result<bool, EngineError> {
    let name = kind.name();
    let path = dir.join(FILE);
    let found =
        files::read_text(&path).map_err(|error| EngineError::io(name, &path, "read", &error))?;
    let Some(found) = found else {
        return Ok(false);
    };
    if found == text(kind) {
        return Ok(true);
    }
    let words: Vec<&str> = found.split_whitespace().collect();
    Err(match words[..] {
        ["rusd", "engine", other, "format", version] if version.parse::<u32>().is_ok() => {
            let reason = format!(
                "it holds data of the engine {other:?} in format {version}; this program was \
                 asked to read engine \"{name}\" in format {VERSION}. Serve it with what wrote it, and move the \
                 data to a new member with `etcdctl make-mirror`"
            );
            EngineError::fatal(name, dir, reason)
        }
        _ => EngineError::rebuild(name, &path, format!("it is not a format mark: {found:?}")),
    })
}

/// Marks a directory.
pub fn mark(dir: &Path, kind: EngineKind) -> Result<(), EngineError> {
    files::replace(dir, FILE, text(kind).as_bytes())
        .map_err(|error| EngineError::io(kind.name(), dir, "write", &error))
}
