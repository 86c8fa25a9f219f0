//! The logical trees and the prefix byte that keeps them apart.

/// A logical tree. All trees share one key space: each key starts with the
/// prefix byte of its tree.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tree {
    /// Applied index and term, revision, compaction point, sizes, format.
    Meta = b'm',
    /// Every retained revision with its record, ordered by revision.
    KvRev = b'r',
    /// Leases.
    Lease = b'l',
    /// Users, roles and whether authentication is on.
    Auth = b'a',
    /// Members of the cluster.
    Member = b'c',
    /// Raised alarms.
    Alarm = b'n',
}

impl Tree {
    /// All trees, in the order of their prefix bytes.
    pub const ALL: [Self; 6] = [
        Self::Auth,
        Self::Member,
        Self::Lease,
        Self::Meta,
        Self::Alarm,
        Self::KvRev,
    ];

    /// The byte every key of this tree starts with.
    pub const fn prefix(self) -> u8 {
        self as u8
    }

    /// The engine's key for `key` of this tree.
    pub fn key(self, key: &[u8]) -> Vec<u8> {
        let mut full = Vec::with_capacity(1 + key.len());
        full.push(self.prefix());
        full.extend_from_slice(key);
        full
    }

    /// The engine's key range `[start, end)` that holds this whole tree.
    pub fn range(self) -> (Vec<u8>, Vec<u8>) {
        (vec![self.prefix()], vec![self.prefix() + 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_do_not_overlap() {
        for pair in Tree::ALL.windows(2) {
            assert!(pair[0].range().1 <= pair[1].range().0, "{pair:?}");
        }
    }

    #[test]
    fn keys_fall_into_the_range_of_their_tree() {
        for tree in Tree::ALL {
            let (start, end) = tree.range();
            for key in [&b""[..], b"\0", b"\xff\xff\xff"] {
                let full = tree.key(key);
                assert!(start <= full && full < end);
            }
        }
    }
}
