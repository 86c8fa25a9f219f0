//! The key tree: a B+tree whose nodes are shared between the writer and every view.
//!
//! A view holds the root it was made with. The writer changes a node in place while nobody else holds it, and
//! copies it (and the path to it) otherwise, so that a batch copies each node at most once and a view never
//! changes. Every inner node knows how many live keys each child holds, how many bytes their records take, and
//! from which compacted revision on there is anything to remove below it.

mod check;

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use rusd_proto::ids::Revision;

use super::node::{Child, Delta, Inner, Leaf, NEVER, Node, Slot, Summary};
use super::packed::separator;
use crate::key_range::KeyRange;

/// What an edit makes of a key.
#[derive(Clone, Copy)]
pub(super) struct Edit {
    /// The slot to store.
    pub slot: Slot,
    /// The compacted revision from which on the edit leaves something to remove.
    pub garbage_since: Revision,
}

/// What a sweep makes of a slot that may hold garbage.
pub(super) enum Fate {
    /// The slot stays; nothing can be removed from it below this compacted revision.
    Keep(Revision),
    /// The key goes.
    Remove,
    /// The slot stays as it is now, and the sweep ends here.
    Stop,
}

/// The tree. A clone is a snapshot and costs one reference count.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: Node,
    summary: Summary,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self {
            root: Node::Leaf(Arc::new(Leaf::empty())),
            summary: Summary::EMPTY,
        }
    }

    /// What is known of the whole tree.
    pub(super) fn summary(&self) -> &Summary {
        &self.summary
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Slot> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children[inner.child_of(key)].node,
                Node::Leaf(leaf) => return leaf.keys.search(key).ok().map(|at| &leaf.slots()[at]),
            }
        }
    }

    /// Visits keys and slots of the range in key order, tombstones included, until the visitor breaks.
    pub(super) fn walk(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(&[u8], &Slot) -> ControlFlow<()>,
    ) {
        if let KeyRange::One(key) = range {
            if let Some(slot) = self.get(key) {
                let _ = visit(key, slot);
            }
        } else if !range.is_empty() {
            let mut key = Vec::new();
            let _ = walk_node(&self.root, Some(range.start()), range, &mut key, visit);
        }
    }

    /// Live keys of the range and the bytes of their records.
    pub(super) fn measure(&self, range: &KeyRange) -> (u64, u64) {
        if range.is_empty() {
            return (0, 0);
        }
        let upper = match range.end() {
            Bound::Unbounded => (self.summary.live, self.summary.live_bytes),
            Bound::Excluded(end) => self.below(end),
            Bound::Included(key) => {
                return match self.get(key) {
                    Some(slot) if slot.is_alive() => (1, u64::from(slot.record_bytes)),
                    _ => (0, 0),
                };
            }
        };
        let lower = self.below(range.start());
        (upper.0 - lower.0, upper.1 - lower.1)
    }

    /// Live keys below `key` and the bytes of their records.
    fn below(&self, key: &[u8]) -> (u64, u64) {
        let (mut keys, mut bytes) = (0, 0);
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = inner.child_of(key);
                    for child in &inner.children[..at] {
                        keys += child.summary.live;
                        bytes += child.summary.live_bytes;
                    }
                    node = &inner.children[at].node;
                }
                Node::Leaf(leaf) => {
                    let at = leaf.keys.search(key).unwrap_or_else(|at| at);
                    for slot in leaf.slots()[..at].iter().filter(|slot| slot.is_alive()) {
                        keys += 1;
                        bytes += u64::from(slot.record_bytes);
                    }
                    return (keys, bytes);
                }
            }
        }
    }

    /// Finds the slot of `key`, calls `edit` with it once, and stores what that returns.
    pub(super) fn upsert(&mut self, key: &[u8], edit: &mut dyn FnMut(Option<&Slot>) -> Edit) {
        let (delta, split) = upsert_node(&mut self.root, key, edit);
        self.summary.apply(&delta);
        if let Some(split) = split {
            let left = Child {
                node: self.root.clone(),
                summary: split.left,
            };
            let mut inner = Inner::default();
            inner.separators.insert(0, &split.between);
            inner.children.extend([left, split.right]);
            self.root = Node::Inner(Arc::new(inner));
        }
    }

    /// Removes a key.
    pub(super) fn remove(&mut self, key: &[u8]) {
        if self.get(key).is_some() {
            remove_from_node(&mut self.root, key);
            self.after_removal();
        }
    }

    /// Visits the slots that may hold something a compaction at `limit` removes, skipping every subtree in which
    /// none does, until the visitor stops it or `leaves_max` leaves are done.
    pub(super) fn sweep(
        &mut self,
        limit: Revision,
        leaves_max: usize,
        visit: &mut dyn FnMut(&[u8], &mut Slot) -> Fate,
    ) {
        if self.summary.garbage_since <= limit {
            let mut sweep = Sweep {
                limit,
                leaves_left: leaves_max,
                key: Vec::new(),
                visit,
            };
            let _ = sweep.node(&mut self.root);
            self.after_removal();
        }
    }

    fn after_removal(&mut self) {
        self.summary = self.root.summary();
        if self.root.is_empty() {
            *self = Self::new();
        }
        while let Node::Inner(inner) = &self.root
            && let [only] = inner.children.as_slice()
        {
            self.root = only.node.clone();
        }
    }

    /// Visits every leaf's keys with their slots, and the bound that the leaf has on garbage.
    pub(super) fn for_each(&self, visit: &mut dyn FnMut(&[u8], &Slot, Revision)) {
        let mut key = Vec::new();
        for_each_below(&self.root, &mut key, visit);
    }

    /// Memory of this tree: nodes, keys and slots.
    pub(super) fn heap_bytes(&self) -> usize {
        node_heap_bytes(&self.root)
    }
}

/// A node that became two: it kept the left half.
struct Split {
    left: Summary,
    between: Vec<u8>,
    right: Child,
}

fn upsert_node(
    node: &mut Node,
    key: &[u8],
    edit: &mut dyn FnMut(Option<&Slot>) -> Edit,
) -> (Delta, Option<Split>) {
    match node {
        Node::Leaf(leaf) => upsert_leaf(Arc::make_mut(leaf), key, edit),
        Node::Inner(inner) => {
            let inner = Arc::make_mut(inner);
            let at = inner.child_of(key);
            let child = &mut inner.children[at];
            let (delta, split) = upsert_node(&mut child.node, key, edit);
            child.summary.apply(&delta);
            let Some(split) = split else {
                return (delta, None);
            };
            child.summary = split.left;
            inner.separators.insert(at, &split.between);
            inner.children.insert(at + 1, split.right);
            if !inner.is_overfull() {
                return (delta, None);
            }
            // A split at the right edge comes from ascending keys: leave the left node full.
            let cut = if at + 2 == inner.children.len() {
                at + 1
            } else {
                inner.children.len() / 2
            };
            let (between, right) = inner.split_off(cut);
            let left = inner.summary();
            let right = Child {
                summary: right.summary(),
                node: Node::Inner(Arc::new(right)),
            };
            (
                delta,
                Some(Split {
                    left,
                    between,
                    right,
                }),
            )
        }
    }
}

fn upsert_leaf(
    leaf: &mut Leaf,
    key: &[u8],
    edit: &mut dyn FnMut(Option<&Slot>) -> Edit,
) -> (Delta, Option<Split>) {
    let (at, before) = match leaf.keys.search(key) {
        Ok(at) => (at, Some(leaf.slots()[at])),
        Err(at) => (at, None),
    };
    let Edit {
        slot,
        garbage_since,
    } = edit(before.as_ref());
    let delta = Delta::between(before.as_ref(), &slot, garbage_since);
    leaf.garbage_since = leaf.garbage_since.min(garbage_since);
    if before.is_some() {
        leaf.slots_mut()[at] = slot;
        return (delta, None);
    }
    leaf.insert(at, key, slot);
    if !leaf.is_overfull() {
        return (delta, None);
    }
    let cut = if at + 1 == leaf.keys.len() {
        at
    } else {
        leaf.keys.len() / 2
    };
    let right = leaf.split_off(cut);
    let (mut last, mut first) = (Vec::new(), Vec::new());
    leaf.keys.read(leaf.keys.len() - 1, &mut last);
    right.keys.read(0, &mut first);
    let split = Split {
        left: leaf.summary(),
        between: separator(&last, &first),
        right: Child {
            summary: right.summary(),
            node: Node::Leaf(Arc::new(right)),
        },
    };
    (delta, Some(split))
}

fn remove_from_node(node: &mut Node, key: &[u8]) {
    match node {
        Node::Leaf(leaf) => {
            let leaf = Arc::make_mut(leaf);
            if let Ok(at) = leaf.keys.search(key) {
                leaf.remove(at);
            }
        }
        Node::Inner(inner) => {
            let inner = Arc::make_mut(inner);
            let at = inner.child_of(key);
            let child = &mut inner.children[at];
            remove_from_node(&mut child.node, key);
            child.summary = child.node.summary();
            inner.tidy();
        }
    }
}

fn walk_node(
    node: &Node,
    from: Option<&[u8]>,
    range: &KeyRange,
    key: &mut Vec<u8>,
    visit: &mut dyn FnMut(&[u8], &Slot) -> ControlFlow<()>,
) -> ControlFlow<()> {
    match node {
        Node::Leaf(leaf) => {
            let first = from.map_or(0, |from| leaf.keys.search(from).unwrap_or_else(|at| at));
            for at in first..leaf.keys.len() {
                leaf.keys.read(at, key);
                if range.is_past(key) {
                    return ControlFlow::Break(());
                }
                visit(key, &leaf.slots()[at])?;
            }
        }
        Node::Inner(inner) => {
            let first = from.map_or(0, |from| inner.child_of(from));
            for (at, child) in inner.children.iter().enumerate().skip(first) {
                walk_node(&child.node, from.filter(|_| at == first), range, key, visit)?;
            }
        }
    }
    ControlFlow::Continue(())
}

/// A sweep under way.
struct Sweep<'a> {
    limit: Revision,
    leaves_left: usize,
    key: Vec<u8>,
    visit: &'a mut dyn FnMut(&[u8], &mut Slot) -> Fate,
}

impl Sweep<'_> {
    fn node(&mut self, node: &mut Node) -> ControlFlow<()> {
        match node {
            Node::Leaf(leaf) => self.leaf(Arc::make_mut(leaf)),
            Node::Inner(inner) => {
                let inner = Arc::make_mut(inner);
                let mut flow = ControlFlow::Continue(());
                for child in &mut inner.children {
                    if child.summary.garbage_since > self.limit {
                        continue;
                    }
                    flow = self.node(&mut child.node);
                    child.summary = child.node.summary();
                    if flow.is_break() {
                        break;
                    }
                }
                inner.tidy();
                flow
            }
        }
    }

    fn leaf(&mut self, leaf: &mut Leaf) -> ControlFlow<()> {
        let mut garbage_since = NEVER;
        let mut at = 0;
        while at < leaf.keys.len() {
            if !leaf.slots()[at].may_hold_garbage() {
                at += 1;
                continue;
            }
            leaf.keys.read(at, &mut self.key);
            match (self.visit)(&self.key, &mut leaf.slots_mut()[at]) {
                Fate::Keep(since) => {
                    garbage_since = garbage_since.min(since);
                    at += 1;
                }
                Fate::Remove => leaf.remove(at),
                // The rest of the leaf was not looked at: its bound stays as it was.
                Fate::Stop => return ControlFlow::Break(()),
            }
        }
        // A leaf that was done has its exact bound, so that every sweep gets further than the one before.
        leaf.garbage_since = garbage_since;
        self.leaves_left = self.leaves_left.saturating_sub(1);
        if self.leaves_left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

fn for_each_below(node: &Node, key: &mut Vec<u8>, visit: &mut dyn FnMut(&[u8], &Slot, Revision)) {
    match node {
        Node::Leaf(leaf) => {
            for (at, slot) in leaf.slots().iter().enumerate() {
                leaf.keys.read(at, key);
                visit(key, slot, leaf.garbage_since);
            }
        }
        Node::Inner(inner) => {
            for child in &inner.children {
                for_each_below(&child.node, key, visit);
            }
        }
    }
}

fn node_heap_bytes(node: &Node) -> usize {
    let arc_counts = 2 * size_of::<usize>();
    match node {
        Node::Leaf(leaf) => arc_counts + size_of::<Leaf>() + leaf.keys.heap_bytes(),
        Node::Inner(inner) => {
            let below: usize = inner
                .children
                .iter()
                .map(|child| node_heap_bytes(&child.node))
                .sum();
            let children = inner.children.capacity() * size_of::<Child>();
            arc_counts + size_of::<Inner>() + inner.separators.heap_bytes() + children + below
        }
    }
}

#[cfg(test)]
mod tests;
