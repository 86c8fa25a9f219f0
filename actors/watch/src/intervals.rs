//! Which of many intervals hold a key: a treap ordered by (start, end), each node of which knows the
//! largest end below it.
//!
//! ```text
//!                 [d, h)  max z              who holds "e"?
//!                /            \               - left: max f > e, so look: [a, c) no, [b, f) yes
//!      [b, f) max f          [k, z) max z     - the root: yes
//!       /                                     - right: starts at k > e, so nothing there
//!  [a, c) max c
//! ```
//!
//! Insertion and removal are O(log n); a query is O(log n) for each interval it finds. The priorities are
//! pseudo-random from a seed, so that no client can choose an order of requests that makes the tree a list.

use crate::slab::Slab;
use bytes::Bytes;
use std::cmp::Ordering;

/// The index of a node; [`NONE`] where there is none.
type Link = u32;
const NONE: Link = u32::MAX;

#[derive(Debug)]
struct Node {
    start: Bytes,
    /// None: every key from `start` on.
    end: Option<Bytes>,
    value: u32,
    priority: u64,
    left: Link,
    right: Link,
    /// The node below (or this one) with the largest end.
    reaches: Link,
}

/// A map from intervals to small values.
#[derive(Debug)]
pub struct Intervals {
    nodes: Slab<Node>,
    root: Link,
    random: u64,
}

fn end_cmp(a: Option<&Bytes>, b: Option<&Bytes>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.cmp(b),
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
    }
}

impl Intervals {
    /// An empty map; `seed` decides the shape of the tree.
    pub fn new(seed: u64) -> Self {
        Self {
            nodes: Slab::default(),
            root: NONE,
            random: seed,
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The value of an interval.
    pub fn get(&self, start: &Bytes, end: Option<&Bytes>) -> Option<u32> {
        let mut at = self.root;
        while at != NONE {
            let node = &self.nodes[at];
            at = match self.order(start, end, at) {
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
                Ordering::Equal => return Some(node.value),
            };
        }
        None
    }

    /// Adds an interval that is not there yet.
    pub fn insert(&mut self, start: Bytes, end: Option<Bytes>, value: u32) {
        let node = Node {
            start: start.clone(),
            end: end.clone(),
            value,
            priority: self.next_random(),
            left: NONE,
            right: NONE,
            reaches: NONE,
        };
        let new = self.nodes.insert(node);
        self.refresh(new);
        self.root = self.insert_below(self.root, new, &start, end.as_ref());
    }

    /// Removes an interval, if it is there.
    pub fn remove(&mut self, start: &Bytes, end: Option<&Bytes>) {
        self.root = self.remove_below(self.root, start, end);
    }

    /// Calls `found` with the value of every interval that holds `key`.
    pub fn holding(&self, key: &[u8], found: &mut impl FnMut(u32)) {
        self.holding_below(self.root, key, found);
    }

    fn holding_below(&self, at: Link, key: &[u8], found: &mut impl FnMut(u32)) {
        if at == NONE {
            return;
        }
        let node = &self.nodes[at];
        let beyond = |end: &Option<Bytes>| end.as_ref().is_none_or(|end| key < end);
        if !beyond(&self.nodes[node.reaches].end) {
            return;
        }
        self.holding_below(node.left, key, found);
        if node.start <= key {
            if beyond(&node.end) {
                found(node.value);
            }
            self.holding_below(node.right, key, found);
        }
    }

    fn order(&self, start: &Bytes, end: Option<&Bytes>, at: Link) -> Ordering {
        let node = &self.nodes[at];
        start
            .cmp(&node.start)
            .then_with(|| end_cmp(end, node.end.as_ref()))
    }

    fn insert_below(&mut self, at: Link, new: Link, start: &Bytes, end: Option<&Bytes>) -> Link {
        if at == NONE {
            return new;
        }
        if self.order(start, end, at) == Ordering::Less {
            let left = self.insert_below(self.nodes[at].left, new, start, end);
            self.nodes[at].left = left;
            if self.nodes[left].priority > self.nodes[at].priority {
                return self.rotate_right(at);
            }
        } else {
            let right = self.insert_below(self.nodes[at].right, new, start, end);
            self.nodes[at].right = right;
            if self.nodes[right].priority > self.nodes[at].priority {
                return self.rotate_left(at);
            }
        }
        self.refresh(at);
        at
    }

    fn remove_below(&mut self, at: Link, start: &Bytes, end: Option<&Bytes>) -> Link {
        if at == NONE {
            return NONE;
        }
        match self.order(start, end, at) {
            Ordering::Less => {
                let left = self.remove_below(self.nodes[at].left, start, end);
                self.nodes[at].left = left;
            }
            Ordering::Greater => {
                let right = self.remove_below(self.nodes[at].right, start, end);
                self.nodes[at].right = right;
            }
            Ordering::Equal => {
                let merged = self.merge(self.nodes[at].left, self.nodes[at].right);
                self.nodes.remove(at);
                return merged;
            }
        }
        self.refresh(at);
        at
    }

    /// One tree of two, all of whose intervals in `left` come before those in `right`.
    fn merge(&mut self, left: Link, right: Link) -> Link {
        if left == NONE || right == NONE {
            return if left == NONE { right } else { left };
        }
        if self.nodes[left].priority > self.nodes[right].priority {
            let merged = self.merge(self.nodes[left].right, right);
            self.nodes[left].right = merged;
            self.refresh(left);
            left
        } else {
            let merged = self.merge(left, self.nodes[right].left);
            self.nodes[right].left = merged;
            self.refresh(right);
            right
        }
    }

    fn rotate_right(&mut self, at: Link) -> Link {
        let up = self.nodes[at].left;
        self.nodes[at].left = self.nodes[up].right;
        self.nodes[up].right = at;
        self.refresh(at);
        self.refresh(up);
        up
    }

    fn rotate_left(&mut self, at: Link) -> Link {
        let up = self.nodes[at].right;
        self.nodes[at].right = self.nodes[up].left;
        self.nodes[up].left = at;
        self.refresh(at);
        self.refresh(up);
        up
    }

    /// Recomputes how far a node reaches from its children.
    fn refresh(&mut self, at: Link) {
        let mut reaches = at;
        for child in [self.nodes[at].left, self.nodes[at].right] {
            if child == NONE {
                continue;
            }
            let candidate = self.nodes[child].reaches;
            let (a, b) = (&self.nodes[candidate].end, &self.nodes[reaches].end);
            if end_cmp(a.as_ref(), b.as_ref()) == Ordering::Greater {
                reaches = candidate;
            }
        }
        self.nodes[at].reaches = reaches;
    }

    /// The next pseudo-random number (splitmix64).
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn depth(map: &Intervals, at: Link) -> usize {
        if at == NONE {
            return 0;
        }
        let node = &map.nodes[at];
        1 + depth(map, node.left).max(depth(map, node.right))
    }

    #[test]
    fn ten_thousand_prefixes_in_order_make_no_list() {
        let mut map = Intervals::new(1);
        for n in 0..10_000_u32 {
            let prefix = format!("/registry/{n:08}/");
            let end = format!("/registry/{n:08}0");
            map.insert(prefix.into(), Some(end.into()), n);
        }
        assert!(
            depth(&map, map.root) < 50,
            "depth {}",
            depth(&map, map.root)
        );
        let mut found = Vec::new();
        map.holding(b"/registry/00004711/pod", &mut |n| found.push(n));
        assert_eq!(found, [4711]);
    }

    type Model = Vec<(Vec<u8>, Option<Vec<u8>>, u32)>;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0..4_u8, 0..4)
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(
            steps in prop::collection::vec((any::<bool>(), key(), prop::option::of(key())), 0..60),
            probes in prop::collection::vec(key(), 1..20),
        ) {
            let mut map = Intervals::new(7);
            let mut model = Model::new();
            for (n, (remove, start, end)) in steps.into_iter().enumerate() {
                let (from, to) = (Bytes::from(start.clone()), end.clone().map(Bytes::from));
                let at = model.iter().position(|(s, e, _)| *s == start && *e == end);
                match at {
                    Some(at) if remove => {
                        model.remove(at);
                        map.remove(&from, to.as_ref());
                    }
                    Some(at) => prop_assert_eq!(map.get(&from, to.as_ref()), Some(model[at].2)),
                    None => {
                        prop_assert_eq!(map.get(&from, to.as_ref()), None);
                        model.push((start, end, n as u32));
                        map.insert(from, to, n as u32);
                    }
                }
                prop_assert_eq!(map.len(), model.len());
            }
            for probe in probes {
                let mut found = Vec::new();
                map.holding(&probe, &mut |n| found.push(n));
                found.sort_unstable();
                let mut expected: Vec<u32> = model
                    .iter()
                    .filter(|(s, e, _)| *s <= probe && e.as_ref().is_none_or(|e| probe < *e))
                    .map(|(_, _, n)| *n)
                    .collect();
                expected.sort_unstable();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
