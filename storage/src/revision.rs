//! Revisions, and how they are written as keys.
//!
//! A record of the tree `kv_rev` is stored under its revision, so that the tree is the history of the store in
//! order. The engine key, to the byte (the first byte is the prefix of the tree):
//!
//! ```text
//!   0      1                       9             13
//!   +------+-----------------------+-------------+------+
//!   | 'r'  | main, u64 big-endian  | sub, u32 BE | 't'  |   't' only if the record is a tombstone
//!   +------+-----------------------+-------------+------+
//! ```
//!
//! HashKV, which must come out as etcd's, hashes etcd's own form of the key instead: main as u64 big-endian,
//! `_`, sub as u64 big-endian, and `t` for a tombstone ([`RecordRevision::wire_key`]).

use std::fmt;

use rusd_proto::ids::Revision;

use crate::engine::Tree;

/// The mark that ends the engine key of a tombstone.
const TOMBSTONE_MARK: u8 = b't';
/// Length of the engine key of a record that is not a tombstone.
pub(crate) const REVISION_KEY_BYTES: usize = 13;

/// At which revision to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// At the newest that the reader sees.
    Newest,
    /// At this one.
    Revision(Revision),
}

impl At {
    /// What the revision of a request asks for: 0 or less is the newest (KV-R03).
    ///
    /// ```
    /// use rusd_proto::ids::Revision;
    /// use rusd_storage::At;
    ///
    /// assert_eq!(At::from_wire(0), At::Newest);
    /// assert_eq!(At::from_wire(7), At::Revision(Revision(7)));
    /// ```
    pub fn from_wire(revision: i64) -> Self {
        if revision <= 0 {
            Self::Newest
        } else {
            Self::Revision(Revision(revision))
        }
    }

    /// The revision itself, for a reader whose newest is `newest`.
    pub(crate) fn or_newest(self, newest: Revision) -> Revision {
        match self {
            Self::Newest => newest,
            Self::Revision(revision) => revision,
        }
    }
}

impl From<Revision> for At {
    fn from(revision: Revision) -> Self {
        Self::Revision(revision)
    }
}

/// The position of one change: the revision of its transaction, and its place inside it.
///
/// ```
/// use rusd_proto::ids::Revision;
/// use rusd_storage::RecordRevision;
///
/// let first = RecordRevision { main: Revision(7), sub: 0 };
/// let second = RecordRevision { main: Revision(7), sub: 1 };
/// assert!(first < second && second < RecordRevision { main: Revision(8), sub: 0 });
/// assert_eq!(second.to_string(), "7.1");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordRevision {
    /// The revision clients see: one for all changes of a transaction.
    pub main: Revision,
    /// The place of the change in its transaction, from 0.
    pub sub: i64,
}

impl RecordRevision {
    /// The engine key of the record of this revision.
    pub(crate) fn engine_key(self, tombstone: bool) -> ([u8; REVISION_KEY_BYTES + 1], usize) {
        let mut key = [TOMBSTONE_MARK; REVISION_KEY_BYTES + 1];
        key[0] = Tree::KvRev as u8;
        key[1..9].copy_from_slice(&(self.main.0 as u64).to_be_bytes());
        key[9..13].copy_from_slice(&(self.sub as u32).to_be_bytes());
        (key, REVISION_KEY_BYTES + usize::from(tombstone))
    }

    /// The engine key at which the records of `main` begin.
    pub(crate) fn engine_floor(main: Revision) -> Vec<u8> {
        let (key, length) = RecordRevision {
            main: main.max(Revision(0)),
            sub: 0,
        }
        .engine_key(false);
        key[..length].to_vec()
    }

    /// Reads an engine key back: the revision, and whether it is a tombstone.
    pub(crate) fn from_engine_key(key: &[u8]) -> Option<(RecordRevision, bool)> {
        let tombstone = match key.len() {
            REVISION_KEY_BYTES => false,
            len if len == REVISION_KEY_BYTES + 1 && key.last() == Some(&TOMBSTONE_MARK) => true,
            _ => return None,
        };
        if key.first() != Some(&(Tree::KvRev as u8)) {
            return None;
        }
        let main = u64::from_be_bytes(key.get(1..9)?.try_into().ok()?);
        let sub = u32::from_be_bytes(key.get(9..13)?.try_into().ok()?);
        let main = Revision(i64::try_from(main).ok()?);
        Some((
            RecordRevision {
                main,
                sub: i64::from(sub),
            },
            tombstone,
        ))
    }

    /// The 17 or 18 bytes under which etcd stores the record, which is what HashKV covers.
    pub fn wire_key(self, tombstone: bool) -> ([u8; 18], usize) {
        let mut key = [TOMBSTONE_MARK; 18];
        key[..8].copy_from_slice(&(self.main.0 as u64).to_be_bytes());
        key[8] = b'_';
        key[9..17].copy_from_slice(&(self.sub as u64).to_be_bytes());
        (key, 17 + usize::from(tombstone))
    }
}

impl fmt::Display for RecordRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn engine_keys_sort_as_revisions_and_read_back() {
        let revisions = [
            (1, 0),
            (2, 0),
            (2, 1),
            (2, 256),
            (255, 3),
            (256, 0),
            (i64::MAX, 9),
        ];
        let keys: Vec<Vec<u8>> = revisions
            .iter()
            .enumerate()
            .map(|(n, &(main, sub))| {
                let (key, length) = RecordRevision {
                    main: Revision(main),
                    sub,
                }
                .engine_key(n % 2 == 1);
                key[..length].to_vec()
            })
            .collect();
        assert!(keys.is_sorted());
        for (n, (key, &(main, sub))) in keys.iter().zip(&revisions).enumerate() {
            assert_eq!(
                RecordRevision::from_engine_key(key),
                Some((
                    RecordRevision {
                        main: Revision(main),
                        sub
                    },
                    n % 2 == 1
                ))
            );
        }
    }

    #[test]
    fn damaged_engine_keys_are_not_revisions() {
        let (key, _) = RecordRevision {
            main: Revision(5),
            sub: 1,
        }
        .engine_key(true);
        assert_eq!(RecordRevision::from_engine_key(&key[..12]), None);
        assert_eq!(RecordRevision::from_engine_key(b""), None);
        let mut other_mark = key;
        other_mark[13] = b'u';
        assert_eq!(RecordRevision::from_engine_key(&other_mark), None);
        let mut negative = key;
        negative[1] = 0xff;
        assert_eq!(RecordRevision::from_engine_key(&negative), None);
    }
}
