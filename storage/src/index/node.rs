//! The nodes of the key tree, and what is known about everything below one.

use std::sync::Arc;

use rusd_proto::ids::Revision;

use super::KeyMeta;
use super::packed::PackedKeys;
use crate::revision::RecordRevision;

/// Most keys in a leaf. A put copies one leaf, so this trades the size of that copy against the number of nodes.
pub(super) const LEAF_KEYS_MAX: usize = 48;
/// Most children of an inner node. Copying one touches the reference count of every child, which for a node just
/// above the leaves are as many cache misses; hence the modest number.
pub(super) const INNER_CHILDREN_MAX: usize = 24;
/// A node whose keys take more than this is split early, so that huge keys do not make huge copies.
pub(super) const NODE_KEY_BYTES_MAX: usize = 16 << 10;
/// "Nothing here ever becomes garbage."
pub(super) const NEVER: Revision = Revision(i64::MAX);

/// What is known of one key at its newest revision. 40 bytes, no pointers: a leaf is copied with one `memcpy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Main part of the newest revision.
    pub main: Revision,
    /// The revision that created the key; 0 for a tombstone.
    pub create: Revision,
    /// The version; 0 for a tombstone.
    pub version: i64,
    /// Sub part of the newest revision.
    pub sub: u32,
    /// Size of the marshalled record.
    pub record_bytes: u32,
    /// Where the older revisions are (`OlderRevisions`); 0 if none are retained.
    pub older: u64,
}

impl Slot {
    const NONE: Slot = Slot {
        main: Revision(0),
        create: Revision(0),
        version: 0,
        sub: 0,
        record_bytes: 0,
        older: 0,
    };

    pub(super) fn is_alive(&self) -> bool {
        self.version != 0
    }

    /// What readers are told of the key, if it is alive.
    pub(super) fn meta(&self) -> Option<KeyMeta> {
        self.is_alive().then(|| KeyMeta {
            mod_revision: self.revision(),
            create_revision: self.create,
            version: self.version,
            record_bytes: self.record_bytes,
        })
    }

    pub(super) fn revision(&self) -> RecordRevision {
        RecordRevision {
            main: self.main,
            sub: i64::from(self.sub),
        }
    }

    /// Whether compaction may ever have something to remove here.
    pub(super) fn may_hold_garbage(&self) -> bool {
        self.older != 0 || !self.is_alive()
    }
}

/// What is known of a subtree without visiting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// Keys alive at the newest revision.
    pub live: u64,
    /// Bytes of their records.
    pub live_bytes: u64,
    /// A compaction below this revision finds nothing to remove here. May be too small, never too large.
    pub garbage_since: Revision,
}

impl Summary {
    pub(super) const EMPTY: Summary = Summary {
        live: 0,
        live_bytes: 0,
        garbage_since: NEVER,
    };

    pub(super) fn add(&mut self, other: &Summary) {
        self.live += other.live;
        self.live_bytes += other.live_bytes;
        self.garbage_since = self.garbage_since.min(other.garbage_since);
    }

    /// Takes over the change of one slot.
    pub(super) fn apply(&mut self, delta: &Delta) {
        self.live = self.live.wrapping_add_signed(delta.live);
        self.live_bytes = self.live_bytes.wrapping_add_signed(delta.live_bytes);
        self.garbage_since = self.garbage_since.min(delta.garbage_since);
    }
}

/// How one slot changed the summaries above it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delta {
    pub live: i64,
    pub live_bytes: i64,
    pub garbage_since: Revision,
}

impl Delta {
    pub(super) fn between(before: Option<&Slot>, after: &Slot, garbage_since: Revision) -> Self {
        let weigh = |slot: &Slot| {
            if slot.is_alive() {
                (1, i64::from(slot.record_bytes))
            } else {
                (0, 0)
            }
        };
        let (live_before, bytes_before) = before.map_or((0, 0), weigh);
        let (live_after, bytes_after) = weigh(after);
        Self {
            live: live_after - live_before,
            live_bytes: bytes_after - bytes_before,
            garbage_since,
        }
    }
}

/// A leaf: keys and their slots, in key order. One allocation besides the bytes of the keys.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub garbage_since: Revision,
    pub keys: PackedKeys<LEAF_ROOM>,
    slots: [Slot; LEAF_ROOM],
}

/// A leaf may hold one key too many until it is split.
const LEAF_ROOM: usize = LEAF_KEYS_MAX + 1;

impl Leaf {
    pub(super) fn empty() -> Self {
        Self {
            garbage_since: NEVER,
            keys: PackedKeys::default(),
            slots: [Slot::NONE; LEAF_ROOM],
        }
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots[..self.keys.len()]
    }

    pub(super) fn slots_mut(&mut self) -> &mut [Slot] {
        &mut self.slots[..self.keys.len()]
    }

    pub(super) fn summary(&self) -> Summary {
        let mut summary = Summary {
            garbage_since: self.garbage_since,
            ..Summary::EMPTY
        };
        for slot in self.slots().iter().filter(|slot| slot.is_alive()) {
            summary.live += 1;
            summary.live_bytes += u64::from(slot.record_bytes);
        }
        summary
    }

    pub(super) fn insert(&mut self, at: usize, key: &[u8], slot: Slot) {
        self.slots.copy_within(at..self.keys.len(), at + 1);
        self.slots[at] = slot;
        self.keys.insert(at, key);
    }

    pub(super) fn remove(&mut self, at: usize) {
        self.slots.copy_within(at + 1..self.keys.len(), at);
        self.keys.remove(at);
    }

    pub(super) fn is_overfull(&self) -> bool {
        self.keys.len() > LEAF_KEYS_MAX
            || (self.keys.len() >= 4 && self.keys.packed_bytes() > NODE_KEY_BYTES_MAX)
    }

    /// Cuts off the slots from `at` on.
    pub(super) fn split_off(&mut self, at: usize) -> Leaf {
        let mut right = Leaf {
            garbage_since: self.garbage_since,
            ..Leaf::empty()
        };
        right.slots[..self.keys.len() - at].copy_from_slice(&self.slots[at..self.keys.len()]);
        right.keys = self.keys.split_off(at);
        right
    }

    fn append(&mut self, right: &Leaf) {
        let length = self.keys.len();
        self.slots[length..length + right.keys.len()].copy_from_slice(right.slots());
        self.keys.append(&right.keys);
        self.garbage_since = self.garbage_since.min(right.garbage_since);
    }
}

/// A subtree and its summary.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub node: Node,
    pub summary: Summary,
}

/// An inner node. Separator `n` is greater than every key of child `n` and not greater than any of child `n + 1`.
#[derive(Debug, Default)]
pub(super) struct Inner {
    pub separators: PackedKeys<INNER_CHILDREN_MAX>,
    pub children: Vec<Child>,
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        self.touch_children();
        let mut children = Vec::with_capacity(self.children.len() + 1);
        children.extend_from_slice(&self.children);
        Self {
            separators: self.separators.clone(),
            children,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.touch_children();
    }
}

impl Inner {
    /// Reads the reference counts of all children, before each of them is changed. They are as many cache misses;
    /// plain reads overlap, whereas atomic changes wait for each other.
    fn touch_children(&self) {
        let counts = self.children.iter().map(|child| match &child.node {
            Node::Leaf(leaf) => Arc::strong_count(leaf),
            Node::Inner(inner) => Arc::strong_count(inner),
        });
        std::hint::black_box(counts.fold(0, usize::wrapping_add));
    }

    /// The child that holds `key` if any does.
    pub(super) fn child_of(&self, key: &[u8]) -> usize {
        match self.separators.search(key) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }

    pub(super) fn summary(&self) -> Summary {
        let mut summary = Summary::EMPTY;
        for child in &self.children {
            summary.add(&child.summary);
        }
        summary
    }

    pub(super) fn is_overfull(&self) -> bool {
        self.children.len() > INNER_CHILDREN_MAX
            || (self.children.len() >= 4 && self.separators.packed_bytes() > NODE_KEY_BYTES_MAX)
    }

    /// Cuts off the children from `at` on. The separator between the halves belongs to neither.
    pub(super) fn split_off(&mut self, at: usize) -> (Vec<u8>, Inner) {
        let children = self.children.split_off(at);
        self.children.shrink_to_fit();
        let separators = self.separators.split_off(at);
        let mut between = Vec::new();
        self.separators.read(at - 1, &mut between);
        self.separators.remove(at - 1);
        (
            between,
            Inner {
                separators,
                children,
            },
        )
    }

    fn append(&mut self, between: &[u8], right: &Inner) {
        self.separators.insert(self.separators.len(), between);
        self.separators.append(&right.separators);
        self.children.extend(right.children.iter().cloned());
    }

    /// Drops empty children and merges neighbours that together would be half full, so that a tree that shrank
    /// does not keep the nodes of the one it was.
    pub(super) fn tidy(&mut self) {
        let mut at = 0;
        while at < self.children.len() {
            if self.children[at].node.is_empty() && self.children.len() > 1 {
                self.children.remove(at);
                // The separator on either side may go; at the left edge only the right one exists.
                self.separators.remove(at.saturating_sub(1));
                at = at.saturating_sub(1);
                continue;
            }
            if at + 1 < self.children.len() && self.merge_with_next(at) {
                continue;
            }
            at += 1;
        }
    }

    fn merge_with_next(&mut self, at: usize) -> bool {
        let [left, right] = &mut self.children[at..at + 2] else {
            return false;
        };
        if !left.node.fits_with(&right.node) {
            return false;
        }
        match (&mut left.node, &right.node) {
            (Node::Leaf(left), Node::Leaf(right)) => Arc::make_mut(left).append(right),
            (Node::Inner(left), Node::Inner(right)) => {
                let mut between = Vec::new();
                self.separators.read(at, &mut between);
                Arc::make_mut(left).append(&between, right);
            }
            // All leaves are equally deep.
            _ => return false,
        }
        let right = right.summary;
        left.summary.add(&right);
        self.children.remove(at + 1);
        self.separators.remove(at);
        true
    }
}

/// A node of the tree. A clone shares it.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(Arc<Leaf>),
    Inner(Arc<Inner>),
}

impl Node {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.keys.is_empty(),
            Self::Inner(inner) => inner.children.iter().all(|child| child.node.is_empty()),
        }
    }

    fn fits_with(&self, other: &Node) -> bool {
        match (self, other) {
            (Self::Leaf(left), Self::Leaf(right)) => {
                left.keys.len() + right.keys.len() <= LEAF_KEYS_MAX / 2
                    && left.keys.packed_bytes() + right.keys.packed_bytes()
                        <= NODE_KEY_BYTES_MAX / 2
            }
            (Self::Inner(left), Self::Inner(right)) => {
                left.children.len() + right.children.len() <= INNER_CHILDREN_MAX / 2
                    && left.separators.packed_bytes() + right.separators.packed_bytes()
                        <= NODE_KEY_BYTES_MAX / 2
            }
            _ => false,
        }
    }

    pub(super) fn summary(&self) -> Summary {
        match self {
            Self::Leaf(leaf) => leaf.summary(),
            Self::Inner(inner) => inner.summary(),
        }
    }
}
