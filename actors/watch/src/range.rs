//! The keys of a watch.

use bytes::Bytes;

/// A set of neighbouring keys, as a watch names it (W-04).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Range {
    /// Exactly this key.
    One(Bytes),
    /// A start, and the first key beyond; None if there is none.
    Interval(Bytes, Option<Bytes>),
}

impl Range {
    /// What `key` and `range_end` of a request mean; None if no key can be in it. The bytes are copied: a
    /// watch outlives the network buffer that its request came in.
    pub fn from_wire(key: &[u8], range_end: &[u8]) -> Option<Self> {
        let start = if key.is_empty() { b"\0" } else { key };
        let start = Bytes::copy_from_slice(start);
        match range_end {
            b"" => Some(Self::One(start)),
            b"\0" => Some(Self::Interval(start, None)),
            end if start < end => Some(Self::Interval(start, Some(Bytes::copy_from_slice(end)))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w_04_range_end_follows_etcds_rules() {
        assert_eq!(Range::from_wire(b"a", b""), Some(Range::One("a".into())));
        assert_eq!(
            Range::from_wire(b"a", b"\0"),
            Some(Range::Interval("a".into(), None))
        );
        assert_eq!(
            Range::from_wire(b"a", b"c"),
            Some(Range::Interval("a".into(), Some("c".into())))
        );
        assert_eq!(Range::from_wire(b"b", b"b"), None);
        assert_eq!(Range::from_wire(b"b", b"a"), None);
        assert_eq!(Range::from_wire(b"", b""), Some(Range::One("\0".into())));
        assert_eq!(
            Range::from_wire(b"", b"\0"),
            Some(Range::Interval("\0".into(), None))
        );
    }
}
