//! What a tree promises of itself.

use super::{Node, Tree};
use crate::index::node::Inner;

impl Tree {
    /// Panics unless keys ascend within their separators, all leaves are equally deep, and every count above a
    /// node is what the node holds.
    pub(in crate::index) fn check(&self) {
        let below = self.root.summary();
        assert_eq!(below.live, self.summary.live, "live keys of the tree");
        assert_eq!(
            below.live_bytes, self.summary.live_bytes,
            "live bytes of the tree"
        );
        assert!(
            self.summary.garbage_since <= below.garbage_since,
            "the garbage of the tree is bounded too high"
        );
        let mut last = None;
        check_node(&self.root, None, None, true, &mut last);
    }
}

/// Checks a subtree whose keys lie in `low..high` and above `last`; returns its depth.
fn check_node(
    node: &Node,
    low: Option<&[u8]>,
    high: Option<&[u8]>,
    is_root: bool,
    last: &mut Option<Vec<u8>>,
) -> usize {
    match node {
        Node::Leaf(leaf) => {
            assert!(is_root || !leaf.keys.is_empty(), "an empty leaf");
            assert!(!leaf.is_overfull(), "an overfull leaf");
            let mut key = Vec::new();
            for at in 0..leaf.keys.len() {
                leaf.keys.read(at, &mut key);
                assert!(
                    low.is_none_or(|low| low <= key.as_slice()),
                    "a key below its separator"
                );
                assert!(
                    high.is_none_or(|high| key.as_slice() < high),
                    "a key not below its separator"
                );
                assert!(
                    last.as_ref().is_none_or(|last| last < &key),
                    "keys out of order"
                );
                *last = Some(key.clone());
            }
            1
        }
        Node::Inner(inner) => 1 + check_children(inner, low, high, is_root, last),
    }
}

fn check_children(
    inner: &Inner,
    low: Option<&[u8]>,
    high: Option<&[u8]>,
    is_root: bool,
    last: &mut Option<Vec<u8>>,
) -> usize {
    assert_eq!(inner.children.len(), inner.separators.len() + 1);
    assert!(!inner.is_overfull(), "an overfull node");
    assert!(
        !is_root || inner.children.len() > 1,
        "a root with one child"
    );
    let separator = |at: usize| {
        let mut key = Vec::new();
        inner.separators.read(at, &mut key);
        key
    };
    let mut depth = None;
    for (at, child) in inner.children.iter().enumerate() {
        assert_eq!(child.node.summary(), child.summary, "a stale summary");
        let below = at.checked_sub(1).map(separator);
        let above = (at + 1 < inner.children.len()).then(|| separator(at));
        let child_depth = check_node(
            &child.node,
            below.as_deref().or(low),
            above.as_deref().or(high),
            false,
            last,
        );
        assert!(
            depth.is_none_or(|depth| depth == child_depth),
            "leaves at different depths"
        );
        depth = Some(child_depth);
    }
    depth.unwrap_or(0)
}
