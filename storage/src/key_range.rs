//! Ranges of keys, by etcd's rules.

use std::ops::Bound;

use bytes::Bytes;

/// A set of neighbouring keys: what `key` and `range_end` mean together in every request of etcd.
///
/// | key | range_end | meaning |
/// |---|---|---|
/// | `k` | empty | the one key `k` |
/// | `k` | `"\0"` | every key from `k` on |
/// | `"\0"` | `"\0"` | every key |
/// | `k` | `e` | the keys in `[k, e)`; none if `e <= k` |
///
/// ```
/// use rusd_storage::KeyRange;
///
/// let range = KeyRange::from_wire("a".into(), "c".into());
/// assert!(range.contains(b"a") && range.contains(b"b\xff") && !range.contains(b"c"));
/// assert_eq!(KeyRange::prefix("a"), KeyRange::from_wire("a".into(), "b".into()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyRange {
    /// One key.
    One(Bytes),
    /// Every key from this one on.
    From(Bytes),
    /// The half-open interval between two keys; empty unless the first is smaller.
    Between(Bytes, Bytes),
}

impl KeyRange {
    /// The range that `key` and `range_end` of a request stand for.
    pub fn from_wire(key: Bytes, range_end: Bytes) -> Self {
        match range_end.as_ref() {
            b"" => Self::One(key),
            b"\0" => Self::From(key),
            _ => Self::Between(key, range_end),
        }
    }

    /// Every key there is.
    pub fn all() -> Self {
        Self::From(Bytes::new())
    }

    /// Every key that begins with `prefix`; all keys for an empty one.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let prefix = prefix.into();
        let end = Self::prefix_end(&prefix);
        if end == b"\0" {
            Self::From(prefix)
        } else {
            Self::Between(prefix, end.into())
        }
    }

    /// The `range_end` that makes a range of all keys beginning with `prefix`: its last byte below 0xff
    /// incremented and the rest cut off; `"\0"` if there is none.
    pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
        match prefix.iter().rposition(|&byte| byte < 0xff) {
            Some(last) => {
                let mut end = prefix[..=last].to_vec();
                end[last] += 1;
                end
            }
            None => vec![0],
        }
    }

    /// The smallest key the range could hold.
    pub fn start(&self) -> &[u8] {
        match self {
            Self::One(key) | Self::From(key) | Self::Between(key, _) => key,
        }
    }

    /// Where the range ends.
    pub fn end(&self) -> Bound<&[u8]> {
        match self {
            Self::One(key) => Bound::Included(key),
            Self::From(_) => Bound::Unbounded,
            Self::Between(_, end) => Bound::Excluded(end),
        }
    }

    /// Whether `key` lies at or beyond the end.
    pub fn is_past(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => key > one.as_ref(),
            Self::From(_) => false,
            Self::Between(_, end) => key >= end.as_ref(),
        }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start() && !self.is_past(key)
    }

    /// Whether no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Between(start, end) if end <= start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_end_follows_etcds_rules() {
        let one = KeyRange::from_wire("a".into(), "".into());
        assert!(one.contains(b"a") && !one.contains(b"a\0") && !one.contains(b""));
        let from = KeyRange::from_wire("b".into(), "\0".into());
        assert!(from.contains(b"b") && from.contains(b"\xff\xff") && !from.contains(b"a"));
        let between = KeyRange::from_wire("a".into(), "b".into());
        assert!(between.contains(b"a\xff") && !between.contains(b"b"));
        assert!(KeyRange::from_wire("b".into(), "b".into()).is_empty());
        assert!(KeyRange::from_wire("b".into(), "a".into()).is_empty());
        assert!(!KeyRange::from_wire("b".into(), "a".into()).contains(b"b"));
    }

    #[test]
    fn prefix_end_carries_over_ff() {
        assert_eq!(KeyRange::prefix_end(b"ab"), b"ac");
        assert_eq!(KeyRange::prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(KeyRange::prefix_end(b"\xff"), b"\0");
        assert_eq!(KeyRange::prefix_end(b""), b"\0");
        assert!(KeyRange::prefix(&b"\xff"[..]).contains(b"\xff\x01"));
        assert!(!KeyRange::prefix(&b"\xff"[..]).contains(b"\xfe"));
    }
}
