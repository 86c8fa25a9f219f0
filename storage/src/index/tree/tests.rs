//! The tree against a map, and against what it promises of itself.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

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
            tree.check();
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
    tree.check();
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
    tree.check();
    assert_eq!(tree.measure(&KeyRange::all()), (40, 400));
}

#[test]
#[should_panic(expected = "a stale summary")]
fn a_count_that_is_off_is_seen() {
    let mut tree = Tree::new();
    for n in 0..200 {
        put(&mut tree, &key(n), slot(1, true));
    }
    tree.check();
    if let Node::Inner(inner) = &mut tree.root {
        let children = &mut Arc::make_mut(inner).children;
        // The sum stays: only the look at each child can tell.
        children[0].summary.live += 1;
        children[1].summary.live -= 1;
    }
    tree.check();
}
