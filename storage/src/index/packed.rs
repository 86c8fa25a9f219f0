//! Sorted keys in one piece of memory.
//!
//! A node of the tree copies its keys whenever it is copied on write. Kept as separate allocations they would
//! cost a reference count each; packed, a copy is one `memcpy`. What all keys of the node have in common is
//! stored once, which for `/registry/pods/...` is most of them.
//!
//! ```text
//!   bytes  | common prefix | suffix 0 | suffix 1 | ... |
//!   ends                              ^0         ^1
//! ```

/// Sorted, distinct byte strings, packed.
#[derive(Debug, Default)]
pub(super) struct PackedKeys {
    /// Length of the common prefix.
    prefix: u32,
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

/// Room left when keys are copied, so that the insertion a copy is usually made for does not copy them again.
const SPARE_BYTES: usize = 32;
/// The same, in keys.
const SPARE_KEYS: usize = 2;

impl Clone for PackedKeys {
    fn clone(&self) -> Self {
        let mut bytes = Vec::with_capacity(self.bytes.len() + SPARE_BYTES);
        bytes.extend_from_slice(&self.bytes);
        let mut ends = Vec::with_capacity(self.ends.len() + SPARE_KEYS);
        ends.extend_from_slice(&self.ends);
        Self {
            prefix: self.prefix,
            bytes,
            ends,
        }
    }
}

impl PackedKeys {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all keys as packed.
    pub(super) fn packed_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn prefix(&self) -> &[u8] {
        &self.bytes[..self.prefix as usize]
    }

    fn suffix(&self, at: usize) -> &[u8] {
        let start = if at == 0 {
            self.prefix
        } else {
            self.ends[at - 1]
        };
        &self.bytes[start as usize..self.ends[at] as usize]
    }

    /// Writes the key at `at` into `key`.
    pub(super) fn read(&self, at: usize, key: &mut Vec<u8>) {
        key.clear();
        key.extend_from_slice(self.prefix());
        key.extend_from_slice(self.suffix(at));
    }

    /// Where `key` is, or where it would be inserted.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let prefix = self.prefix();
        let shared = prefix.len().min(key.len());
        match key[..shared].cmp(&prefix[..shared]) {
            std::cmp::Ordering::Less => return Err(0),
            std::cmp::Ordering::Greater => return Err(self.len()),
            // A key that is a proper prefix of the common prefix sorts before every key.
            std::cmp::Ordering::Equal if shared < prefix.len() => return Err(0),
            std::cmp::Ordering::Equal => {}
        }
        let suffix = &key[shared..];
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.suffix(middle).cmp(suffix) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Inserts `key` at the place that `search` gave for it.
    pub(super) fn insert(&mut self, at: usize, key: &[u8]) {
        if self.is_empty() {
            self.prefix = key.len() as u32;
            self.bytes.clear();
            self.bytes.extend_from_slice(key);
            self.ends.push(key.len() as u32);
            return;
        }
        let shared = common_length(self.prefix(), key);
        if shared < self.prefix as usize {
            self.set_prefix(shared);
        }
        let suffix = &key[shared..];
        let start = if at == 0 {
            self.prefix
        } else {
            self.ends[at - 1]
        } as usize;
        let old_length = self.bytes.len();
        if self.bytes.capacity() - old_length < suffix.len() {
            self.bytes.reserve_exact(suffix.len() + SPARE_BYTES);
        }
        self.bytes.resize(old_length + suffix.len(), 0);
        self.bytes
            .copy_within(start..old_length, start + suffix.len());
        self.bytes[start..start + suffix.len()].copy_from_slice(suffix);
        if self.ends.len() == self.ends.capacity() {
            self.ends.reserve_exact(2 * SPARE_KEYS);
        }
        self.ends.insert(at, start as u32);
        for end in &mut self.ends[at..] {
            *end += suffix.len() as u32;
        }
    }

    /// Removes the key at `at`.
    pub(super) fn remove(&mut self, at: usize) {
        let start = if at == 0 {
            self.prefix
        } else {
            self.ends[at - 1]
        };
        let end = self.ends[at];
        self.bytes.drain(start as usize..end as usize);
        self.ends.remove(at);
        for later in &mut self.ends[at..] {
            *later -= end - start;
        }
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Cuts off the keys from `at` on and returns them.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let right = self.copy(at, self.len());
        *self = self.copy(0, at);
        right
    }

    /// Appends keys that are all greater than these.
    pub(super) fn append(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = other.copy(0, other.len());
            return;
        }
        let (mut first, mut last) = (Vec::new(), Vec::new());
        self.read(0, &mut first);
        other.read(other.len() - 1, &mut last);
        let mut joined = Self::with_prefix(
            &first[..common_length(&first, &last)],
            self.len() + other.len(),
        );
        let mut key = last;
        for keys in [&*self, other] {
            for at in 0..keys.len() {
                keys.read(at, &mut key);
                joined.push(&key);
            }
        }
        *self = joined;
    }

    fn with_prefix(prefix: &[u8], keys: usize) -> Self {
        Self {
            prefix: prefix.len() as u32,
            bytes: prefix.to_vec(),
            ends: Vec::with_capacity(keys),
        }
    }

    /// Appends one key that begins with the prefix.
    fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(&key[self.prefix as usize..]);
        self.ends.push(self.bytes.len() as u32);
    }

    /// The keys `from..to`, packed with the longest prefix they share.
    fn copy(&self, from: usize, to: usize) -> Self {
        if from == to {
            return Self::default();
        }
        let more = common_length(self.suffix(from), self.suffix(to - 1));
        let suffixes: usize = (from..to).map(|at| self.suffix(at).len() - more).sum();
        let mut bytes = Vec::with_capacity(self.prefix as usize + more + suffixes + SPARE_BYTES);
        bytes.extend_from_slice(self.prefix());
        bytes.extend_from_slice(&self.suffix(from)[..more]);
        let prefix = bytes.len() as u32;
        let mut ends = Vec::with_capacity(to - from + SPARE_KEYS);
        for at in from..to {
            bytes.extend_from_slice(&self.suffix(at)[more..]);
            ends.push(bytes.len() as u32);
        }
        Self {
            prefix,
            bytes,
            ends,
        }
    }

    /// Shortens the common prefix.
    fn set_prefix(&mut self, prefix: usize) {
        let moved = self.prefix as usize - prefix;
        let mut bytes =
            Vec::with_capacity(self.bytes.len() + (self.len() + 1) * moved + SPARE_BYTES);
        bytes.extend_from_slice(&self.bytes[..prefix]);
        let mut ends = Vec::with_capacity(self.ends.len() + SPARE_KEYS);
        for at in 0..self.len() {
            bytes.extend_from_slice(&self.bytes[prefix..prefix + moved]);
            bytes.extend_from_slice(self.suffix(at));
            ends.push(bytes.len() as u32);
        }
        *self = Self {
            prefix: prefix as u32,
            bytes,
            ends,
        };
    }

    /// Memory behind these keys.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }
}

/// How many leading bytes two strings share.
fn common_length(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The shortest key that is greater than `left` and not greater than `right`.
pub(super) fn separator(left: &[u8], right: &[u8]) -> Vec<u8> {
    right[..(common_length(left, right) + 1).min(right.len())].to_vec()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn contents(keys: &PackedKeys) -> Vec<Vec<u8>> {
        let mut key = Vec::new();
        (0..keys.len())
            .map(|at| {
                keys.read(at, &mut key);
                key.clone()
            })
            .collect()
    }

    fn some_key() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(
                prop_oneof![Just(b'a'), Just(b'b'), Just(0u8), Just(255u8)],
                0..6
            ),
            proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b')], 0..4).prop_map(|tail| [
                b"/registry/".to_vec(),
                tail
            ]
            .concat()),
        ]
    }

    proptest! {
        #[test]
        fn packed_keys_are_a_sorted_set(inserts in proptest::collection::vec(some_key(), 1..40), removes in proptest::collection::vec(some_key(), 0..20), cut in any::<proptest::sample::Index>(), probe in some_key()) {
            let mut model = BTreeSet::new();
            let mut keys = PackedKeys::default();
            for key in inserts {
                match keys.search(&key) {
                    Ok(_) => prop_assert!(model.contains(&key)),
                    Err(at) => keys.insert(at, &key),
                }
                model.insert(key);
            }
            for key in removes {
                match keys.search(&key) {
                    Ok(at) => {
                        keys.remove(at);
                        prop_assert!(model.remove(&key));
                    }
                    Err(_) => prop_assert!(!model.contains(&key)),
                }
            }
            let sorted: Vec<Vec<u8>> = model.into_iter().collect();
            prop_assert_eq!(&contents(&keys), &sorted);
            prop_assert_eq!(keys.search(&probe), sorted.binary_search(&probe));

            let cut = cut.index(sorted.len() + 1);
            let right = keys.split_off(cut);
            prop_assert_eq!(contents(&keys), &sorted[..cut]);
            prop_assert_eq!(contents(&right), &sorted[cut..]);
            keys.append(&right);
            prop_assert_eq!(contents(&keys), &sorted[..]);
            prop_assert_eq!(keys.search(&probe), sorted.binary_search(&probe));
        }

        #[test]
        fn separators_separate(mut a in some_key(), mut b in some_key()) {
            prop_assume!(a != b);
            if b < a {
                std::mem::swap(&mut a, &mut b);
            }
            let separator = separator(&a, &b);
            prop_assert!(a < separator && separator <= b);
        }
    }

    #[test]
    fn a_common_prefix_is_stored_once() {
        let mut keys = PackedKeys::default();
        for n in 0..9 {
            keys.insert(n, format!("/registry/pods/default/pod-{n}").as_bytes());
        }
        assert_eq!(keys.packed_bytes(), "/registry/pods/default/pod-".len() + 9);
    }
}
