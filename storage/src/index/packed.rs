//! Sorted keys in one piece of memory.
//!
//! A node of the tree copies its keys whenever it is copied on write. Kept as separate allocations they would
//! cost a reference count each; packed, a copy is one `memcpy`. What all keys of the node have in common is
//! stored once, which for `/registry/pods/...` is most of them.
//!
//! ```text
//!   bytes  | common prefix | suffix 0 | suffix 1 | ... |
//!   ends                              ^0         ^1
//!   heads    the first four bytes of each suffix, as a number
//! ```
//!
//! In a tree of a million keys nearly every look at a leaf is a cache miss. The heads lie next to each other in
//! the node itself: a search counts the smaller ones, without a branch, and looks at the bytes of usually one key.

/// Up to `N` sorted, distinct byte strings, packed.
#[derive(Debug)]
pub(super) struct PackedKeys<const N: usize> {
    length: u32,
    /// Length of the common prefix.
    prefix: u32,
    heads: [i32; N],
    ends: [u32; N],
    bytes: Vec<u8>,
}

/// Room left when keys are copied, so that the insertion a copy is usually made for does not copy them again.
const SPARE_BYTES: usize = 32;

impl<const N: usize> Clone for PackedKeys<N> {
    fn clone(&self) -> Self {
        let mut bytes = Vec::with_capacity(self.bytes.len() + SPARE_BYTES);
        bytes.extend_from_slice(&self.bytes);
        Self { bytes, ..*self }
    }
}

impl<const N: usize> Default for PackedKeys<N> {
    fn default() -> Self {
        Self {
            length: 0,
            prefix: 0,
            heads: [0; N],
            ends: [0; N],
            bytes: Vec::new(),
        }
    }
}

/// The first four bytes of a suffix as a number that compares as they do.
fn head(suffix: &[u8]) -> i32 {
    let number = match suffix {
        [a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]),
        _ => {
            let mut padded = [0; 4];
            padded[..suffix.len()].copy_from_slice(suffix);
            u32::from_be_bytes(padded)
        }
    };
    // Vector units compare signed numbers; this maps the order of unsigned ones to theirs.
    (number ^ (1 << 31)) as i32
}

impl<const N: usize> PackedKeys<N> {
    pub(super) fn len(&self) -> usize {
        self.length as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes of all keys as packed.
    pub(super) fn packed_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn prefix(&self) -> &[u8] {
        &self.bytes[..self.prefix as usize]
    }

    fn start(&self, at: usize) -> usize {
        (if at == 0 {
            self.prefix
        } else {
            self.ends[at - 1]
        }) as usize
    }

    fn suffix(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at] as usize]
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
        let head = head(suffix);
        let heads = &self.heads[..self.len()];
        let mut low = heads
            .iter()
            .map(|&other| u32::from(other < head))
            .sum::<u32>() as usize;
        let mut high = low;
        while high < heads.len() && heads[high] == head {
            high += 1;
        }
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

    /// Inserts `key` at the place that `search` gave for it. There must be room.
    pub(super) fn insert(&mut self, at: usize, key: &[u8]) {
        if self.is_empty() {
            self.prefix = key.len() as u32;
            self.bytes.clear();
            self.bytes.extend_from_slice(key);
            self.length = 1;
            self.ends[0] = self.prefix;
            self.heads[0] = head(b"");
            return;
        }
        let shared = common_length(self.prefix(), key);
        if shared < self.prefix as usize {
            self.set_prefix(shared);
        }
        let suffix = &key[shared..];
        let start = self.start(at);
        let old_bytes = self.bytes.len();
        if self.bytes.capacity() - old_bytes < suffix.len() {
            self.bytes.reserve_exact(suffix.len() + SPARE_BYTES);
        }
        self.bytes.resize(old_bytes + suffix.len(), 0);
        self.bytes
            .copy_within(start..old_bytes, start + suffix.len());
        self.bytes[start..start + suffix.len()].copy_from_slice(suffix);

        let old_length = self.len();
        self.length += 1;
        self.heads.copy_within(at..old_length, at + 1);
        self.heads[at] = head(suffix);
        self.ends.copy_within(at..old_length, at + 1);
        self.ends[at] = start as u32;
        for end in &mut self.ends[at..=old_length] {
            *end += suffix.len() as u32;
        }
    }

    /// Removes the key at `at`.
    pub(super) fn remove(&mut self, at: usize) {
        let (start, end) = (self.start(at), self.ends[at] as usize);
        self.bytes.drain(start..end);
        let length = self.len();
        self.heads.copy_within(at + 1..length, at);
        self.ends.copy_within(at + 1..length, at);
        self.length -= 1;
        for later in &mut self.ends[at..length - 1] {
            *later -= (end - start) as u32;
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

    /// Appends keys that are all greater than these. There must be room.
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
        let shared = common_length(&first, &last);
        let bytes = self.bytes.len()
            + other.bytes.len()
            + (self.len() + other.len()) * first.len().min(last.len());
        let mut joined = Self::with_prefix(&first[..shared], bytes);
        let mut key = last;
        for keys in [&*self, other] {
            for at in 0..keys.len() {
                keys.read(at, &mut key);
                joined.push(&[&key[shared..]]);
            }
        }
        joined.bytes.shrink_to_fit();
        *self = joined;
    }

    fn with_prefix(prefix: &[u8], bytes: usize) -> Self {
        let mut keys = Self {
            prefix: prefix.len() as u32,
            ..Self::default()
        };
        keys.bytes.reserve_exact(bytes);
        keys.bytes.extend_from_slice(prefix);
        keys
    }

    /// Appends one key, given its suffix in parts.
    fn push(&mut self, suffix: &[&[u8]]) {
        let (at, start) = (self.len(), self.bytes.len());
        for part in suffix {
            self.bytes.extend_from_slice(part);
        }
        self.heads[at] = head(&self.bytes[start..]);
        self.ends[at] = self.bytes.len() as u32;
        self.length += 1;
    }

    /// The keys `from..to`, packed with the longest prefix they share.
    fn copy(&self, from: usize, to: usize) -> Self {
        if from == to {
            return Self::default();
        }
        let (first, last) = (self.suffix(from), self.suffix(to - 1));
        let more = common_length(first, last);
        let suffixes = self.ends[to - 1] as usize - self.start(from) - (to - from) * more;
        let prefix = [self.prefix(), &first[..more]].concat();
        let mut copy = Self::with_prefix(&prefix, prefix.len() + suffixes + SPARE_BYTES);
        for at in from..to {
            copy.push(&[&self.suffix(at)[more..]]);
        }
        copy
    }

    /// Shortens the common prefix.
    fn set_prefix(&mut self, prefix: usize) {
        let (common, moved) = self.prefix().split_at(prefix);
        let bytes = self.bytes.len() + self.len() * moved.len() + SPARE_BYTES;
        let mut longer = Self::with_prefix(common, bytes);
        for at in 0..self.len() {
            longer.push(&[moved, self.suffix(at)]);
        }
        *self = longer;
    }

    /// Memory behind these keys.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
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

    fn contents(keys: &PackedKeys<40>) -> Vec<Vec<u8>> {
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
        fn packed_keys_are_a_sorted_set(
            inserts in proptest::collection::vec(some_key(), 1..40),
            removes in proptest::collection::vec(some_key(), 0..20),
            cut in any::<proptest::sample::Index>(),
            probe in some_key(),
        ) {
            let mut model = BTreeSet::new();
            let mut keys = PackedKeys::<40>::default();
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
        let mut keys = PackedKeys::<40>::default();
        for n in 0..9 {
            keys.insert(n, format!("/registry/pods/default/pod-{n}").as_bytes());
        }
        assert_eq!(keys.packed_bytes(), "/registry/pods/default/pod-".len() + 9);
    }
}
