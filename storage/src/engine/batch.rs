//! What is written at once.

use bytes::Bytes;

/// One change to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets the value of a key.
    Put {
        /// The full key, prefix byte included.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Removes a key, present or not.
    Delete {
        /// The full key, prefix byte included.
        key: Bytes,
    },
}

impl Op {
    /// The key this changes.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
        }
    }
}

/// Changes that become visible, and survive, together or not at all. Where two
/// touch the same key the later one wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    ops: Vec<Op>,
    bytes: usize,
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.push(Op::Put {
            key: key.into(),
            value: value.into(),
        });
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        self.push(Op::Delete { key: key.into() });
    }

    /// How many changes.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The changes, in the order they were made.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Adds the changes of `other` after those already here.
    pub fn append(&mut self, mut other: Self) {
        self.bytes += other.bytes;
        if self.ops.is_empty() {
            self.ops = other.ops;
        } else {
            self.ops.append(&mut other.ops);
        }
    }

    /// Forgets everything but the memory it is kept in.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.bytes = 0;
    }

    fn push(&mut self, op: Op) {
        self.bytes += op.bytes();
        self.ops.push(op);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_keys_and_values() {
        let mut batch = WriteBatch::new();
        batch.put(&b"rk"[..], &b"value"[..]);
        batch.delete(&b"rk"[..]);
        assert_eq!((batch.len(), batch.bytes()), (2, 9));

        let mut more = WriteBatch::new();
        more.put(&b"m"[..], &b""[..]);
        batch.append(more);
        assert_eq!((batch.len(), batch.bytes()), (3, 10));

        batch.clear();
        assert_eq!((batch.len(), batch.bytes()), (0, 0));
        assert!(batch.is_empty());
    }
}
