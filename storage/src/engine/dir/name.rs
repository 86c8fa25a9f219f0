//! The names of directories: `engine-000002-sled`, `checkpoint-000005-sled`, `damaged-000001-sled`.

use std::path::Path;

use super::io_error;
use crate::engine::{EngineError, EngineKind};

/// What a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The live engine, or one that was to become it.
    Engine,
    /// A checkpoint, or what was to become one.
    Checkpoint,
    /// An engine that was moved aside.
    Damaged,
}

impl Role {
    const ALL: [Self; 3] = [Self::Engine, Self::Checkpoint, Self::Damaged];

    fn prefix(self) -> &'static str {
        match self {
            Self::Engine => "engine-",
            Self::Checkpoint => "checkpoint-",
            Self::Damaged => "damaged-",
        }
    }
}

/// The name of a directory. No number is used twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) role: Role,
    pub(super) number: u64,
    pub(super) kind: EngineKind,
}

impl Name {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let strip = |role: Role| Some((role, text.strip_prefix(role.prefix())?));
        let (role, rest) = Role::ALL.into_iter().find_map(strip)?;
        let (number, kind) = rest.split_once('-')?;
        Some(Self {
            role,
            number: number.parse().ok()?,
            kind: kind.parse().ok()?,
        })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let prefix = self.role.prefix();
        write!(f, "{prefix}{:06}-{}", self.number, self.kind)
    }
}

/// A directory below the base, as it is written there: numbers may be padded in other ways than ours.
pub(super) struct Listed {
    pub(super) name: Name,
    pub(super) text: String,
}

/// All directories of `base` that have such a name.
pub(super) fn list(base: &Path) -> Result<Vec<Listed>, EngineError> {
    let failed = |error: std::io::Error| io_error(base, "list", &error);
    let mut listed = Vec::new();
    for entry in std::fs::read_dir(base).map_err(failed)? {
        let Ok(text) = entry.map_err(failed)?.file_name().into_string() else {
            continue;
        };
        listed.extend(Name::parse(&text).map(|name| Listed { name, text }));
    }
    Ok(listed)
}

/// The number of the next directory. Only a name made by hand is so high that there is none.
pub(super) fn number_after(base: &Path, number: u64) -> Result<u64, EngineError> {
    number.checked_add(1).ok_or_else(|| {
        let reason = format!("no engine can follow one of the number {number}");
        EngineError::fatal("engine directory", base, reason)
    })
}
