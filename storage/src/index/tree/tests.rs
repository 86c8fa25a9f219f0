//! The tree against a map, and against what it promises of itself.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Panics unless the tree is what it promises to be.
fn check(tree: &Tree) {
    assert_eq!(tree.root.summary().live, tree.summary.live);
    assert_eq!(tree.root.summary().live_bytes, tree.summary.live_bytes);
    let mut last = None;
    check_node(&tree.root, None, None, true, &mut last);
}

fn check_node(
    node: &Node,
    low: Option<&[u8]>,
    high: Option<&[u8]>,
    is_root: bool,
    last: &mut Option<Vec<u8>>,
) -> usize {
    let mut key = Vec::new();
    match node {
        Node::Leaf(leaf) => {
            assert!(is_root || !leaf.keys.is_empty(), "an empty leaf");
            assert!(!leaf.is_overfull());
            for at in 0..leaf.keys.len() {
                leaf.keys.read(at, &mut key);
                assert!(
                    low.is_none_or(|low| low <= key.as_slice()),
                    "below its separator"
                );
                assert!(
                    high.is_none_or(|high| key.as_slice() < high),
                    "not below its separator"
                );
                assert!(last.as_ref().is_none_or(|last| last < &key), "out of order");
                *last = Some(key.clone());
            }
            1
        }
        Node::Inner(inner) => {
            assert_eq!(inner.children.len(), inner.separators.len() + 1);
            assert!(!inner.is_overfull());
            assert!(
                !is_root || inner.children.len() > 1,
                "a root with one child"
            );
            let mut depth = None;
            for (at, child) in inner.children.iter().enumerate() {
                assert_eq!(child.node.summary(), child.summary, "a stale summary");
                let separator = |at: usize| {
                    let mut key = Vec::new();
                    inner.separators.read(at, &mut key);
                    key
                };
                let low = if at == 0 {
                    low.map(<[u8]>::to_vec)
                } else {
                    Some(separator(at - 1))
                };
                let high = if at + 1 == inner.children.len() {
                    high.map(<[u8]>::to_vec)
                } else {
                    Some(separator(at))
                };
                let below = check_node(&child.node, low.as_deref(), high.as_deref(), false, last);
                assert!(
                    depth.is_none_or(|depth| depth == below),
                    "leaves at different depths"
                );
                depth = Some(below);
            }
            depth.unwrap_or(0) + 1
        }
    }
}

fn slot(main: i64, alive: bool) -> Slot {
    Slot {
        main: Revision(main),
        create: Revision(1),
        version: i64::from(alive),
        sub: 0,
        record_bytes: 10,
        older: 0,
    }
}

fn put(tree: &mut Tree, key: &[u8], slot: Slot) {
    tree.upsert(key, &mut |_| Edit {
        slot,
        garbage_since: if slot.is_alive() { NEVER } else { slot.main },
    });
}

fn contents(tree: &Tree, range: &KeyRange) -> Vec<(Vec<u8>, Slot)> {
    let mut all = Vec::new();
    tree.walk(range, &mut |key, slot| {
        all.push((key.to_vec(), *slot));
        ControlFlow::Continue(())
    });
    all
}

#[derive(Clone, Debug)]
enum Step {
    Put(u16, bool),
    Remove(u16),
    Sweep(i64, usize),
    Freeze,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u16..700, any::<bool>()).prop_map(|(key, alive)| Step::Put(key, alive)),
        3 => (0u16..700).prop_map(Step::Remove),
        1 => (0i64..900, 1usize..200).prop_map(|(limit, budget)| Step::Sweep(limit, budget)),
        1 => Just(Step::Freeze),
    ]
}

fn key(n: u16) -> Vec<u8> {
    format!("/registry/{}/{n:05}", n % 7).into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_tree_is_a_map_and_its_snapshots_stand_still(
        steps in proptest::collection::vec(step(), 1..900),
        low in 0u16..700,
        high in 0u16..700,
    ) {
        let mut tree = Tree::new();
        let mut model: BTreeMap<Vec<u8>, Slot> = BTreeMap::new();
        let mut frozen = Vec::new();
        for (now, step) in steps.into_iter().enumerate() {
            let now = now as i64;
            match step {
                Step::Put(n, alive) => {
                    put(&mut tree, &key(n), slot(now, alive));
                    model.insert(key(n), slot(now, alive));
                }
                Step::Remove(n) => {
                    tree.remove(&key(n));
                    model.remove(&key(n));
                }
                Step::Sweep(limit, mut budget) => {
                    // Removes tombstones up to the limit, as many as the budget allows.
                    let limit = Revision(limit);
                    tree.sweep(limit, usize::MAX, &mut |key, slot| {
                        if slot.main > limit {
                            return Fate::Keep(slot.main);
                        }
                        if budget == 0 {
                            return Fate::Stop;
                        }
                        budget -= 1;
                        assert_eq!(model.remove(key), Some(*slot));
                        Fate::Remove
                    });
                    if tree.summary().garbage_since > limit {
                        prop_assert!(model.values().all(|slot| slot.is_alive() || slot.main > limit));
                    } else {
                        prop_assert_eq!(budget, 0);
                    }
                }
                Step::Freeze => frozen.push((tree.clone(), model.clone())),
            }
        }
        frozen.push((tree, model));
        let range = KeyRange::Between(key(low).into(), key(high).into());
        for (tree, model) in frozen {
            check(&tree);
            let expected: Vec<_> = model.iter().map(|(key, slot)| (key.clone(), *slot)).collect();
            prop_assert_eq!(contents(&tree, &KeyRange::all()), expected);
            for (key, slot) in &model {
                prop_assert_eq!(tree.get(key), Some(slot));
            }
            let part = model.iter().filter(|(key, _)| range.contains(key));
            let part: Vec<_> = part.map(|(key, slot)| (key.clone(), *slot)).collect();
            let live = part.iter().filter(|(_, slot)| slot.is_alive()).count() as u64;
            prop_assert_eq!(contents(&tree, &range), part);
            prop_assert_eq!(tree.measure(&range), (live, live * 10));
        }
    }
}

#[test]
fn ascending_keys_fill_their_leaves() {
    let mut tree = Tree::new();
    for n in 0..20_000u32 {
        put(&mut tree, format!("key-{n:016}").as_bytes(), slot(1, true));
    }
    check(&tree);
    assert!(
        tree.heap_bytes() / 20_000 < 64,
        "{} bytes per key",
        tree.heap_bytes() / 20_000
    );
}

#[test]
fn huge_keys_split_leaves_early() {
    let mut tree = Tree::new();
    for n in 0..40u32 {
        let mut key = n.to_string().into_bytes();
        key.resize(9_000, b'x');
        put(&mut tree, &key, slot(1, true));
    }
    check(&tree);
    assert_eq!(tree.measure(&KeyRange::all()), (40, 400));
}
