//! What the store notes about itself in the tree `meta`.
//!
//! ```text
//!   m format               u32 big-endian: the version of this layout
//!   m applied              index u64, term u64, revision i64, all big-endian; rides in every batch
//!   m compact_scheduled    i64: the compacted revision
//!   m compact_finished     i64: the one whose superseded records have all been removed
//! ```

use rusd_proto::ids::Revision;

use super::LogPosition;
use crate::engine::{Engine, Tree, WriteBatch};
use crate::error::{StorageError, StorageResult};

/// The layout this code reads and writes.
pub(super) const FORMAT: u32 = 1;

/// The notes as read at open.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meta {
    pub format: Option<u32>,
    pub applied: LogPosition,
    pub revision: Revision,
    pub compact_scheduled: Option<Revision>,
    pub compact_finished: Option<Revision>,
}

impl Meta {
    pub(super) fn read(engine: &dyn Engine) -> StorageResult<Self> {
        let mut meta = Self {
            format: read(engine, b"format", u32::from_be_bytes)?,
            compact_scheduled: read(engine, b"compact_scheduled", revision)?,
            compact_finished: read(engine, b"compact_finished", revision)?,
            ..Self::default()
        };
        if let Some((index, term, revision)) = read(engine, b"applied", |bytes: [u8; 24]| {
            let number = |at: usize| {
                let mut number = [0; 8];
                number.copy_from_slice(&bytes[at..at + 8]);
                u64::from_be_bytes(number)
            };
            (number(0), number(8), Revision(number(16) as i64))
        })? {
            meta.applied = LogPosition { index, term };
            meta.revision = revision;
        }
        Ok(meta)
    }
}

fn revision(bytes: [u8; 8]) -> Revision {
    Revision(i64::from_be_bytes(bytes))
}

fn read<const N: usize, T>(
    engine: &dyn Engine,
    name: &[u8],
    decode: impl Fn([u8; N]) -> T,
) -> StorageResult<Option<T>> {
    let Some(value) = engine.get(&Tree::Meta.key(name))? else {
        return Ok(None);
    };
    let bytes = <[u8; N]>::try_from(value.as_ref()).map_err(|_| {
        StorageError::Damaged(format!(
            "meta {} is {} bytes long",
            String::from_utf8_lossy(name),
            value.len()
        ))
    })?;
    Ok(Some(decode(bytes)))
}

pub(super) fn put_format(batch: &mut WriteBatch) {
    batch.put(Tree::Meta.key(b"format"), FORMAT.to_be_bytes().to_vec());
}

pub(super) fn put_applied(batch: &mut WriteBatch, applied: LogPosition, revision: Revision) {
    let mut value = Vec::with_capacity(24);
    value.extend_from_slice(&applied.index.to_be_bytes());
    value.extend_from_slice(&applied.term.to_be_bytes());
    value.extend_from_slice(&revision.0.to_be_bytes());
    batch.put(Tree::Meta.key(b"applied"), value);
}

pub(super) fn put_compact_scheduled(batch: &mut WriteBatch, revision: Revision) {
    batch.put(
        Tree::Meta.key(b"compact_scheduled"),
        revision.0.to_be_bytes().to_vec(),
    );
}

pub(super) fn put_compact_finished(batch: &mut WriteBatch, revision: Revision) {
    batch.put(
        Tree::Meta.key(b"compact_finished"),
        revision.0.to_be_bytes().to_vec(),
    );
}
