//! Random histories against a `BTreeMap`.

use bytes::Bytes;
use proptest::prelude::*;
use rusd_storage::engine::{Direction, WriteBatch};
use std::collections::BTreeSet;

use crate::support::{Fixture, Model, Under, apply, assert_same, dump, scan};

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(Bytes, Option<Bytes>)>),
    Get(Bytes),
    Scan(Bytes, Bytes, bool, usize),
    Load(Vec<(u16, u16)>),
    Persist,
    Reopen,
}

/// Few keys, of several trees, so that histories meet their own records. Half
/// are revisions, which are packed.
fn key() -> impl Strategy<Value = Bytes> {
    let revision = (0u64..200, 0u32..2).prop_map(|(main, sub)| {
        let mut key = vec![b'r'];
        key.extend_from_slice(&main.to_be_bytes());
        key.extend_from_slice(&sub.to_be_bytes());
        Bytes::from(key)
    });
    let prefix = prop::sample::select(b"armlz".to_vec());
    let other = (prefix, prop::collection::vec(0u8..3, 0..4)).prop_map(|(prefix, rest)| {
        let mut key = vec![prefix];
        key.extend(rest.into_iter().map(|byte| byte * 127));
        Bytes::from(key)
    });
    prop_oneof![revision, other]
}

fn value() -> impl Strategy<Value = Bytes> {
    let filled = |(len, byte): (usize, u8)| {
        let value: Vec<u8> = (0..len).map(|i| byte ^ (i >> 3) as u8).collect();
        Bytes::from(value)
    };
    prop_oneof![
        6 => (0usize..600, any::<u8>()).prop_map(filled),
        2 => (3000usize..9000, any::<u8>()).prop_map(filled),
        1 => (9000usize..100_000, any::<u8>()).prop_map(filled),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let change = (key(), prop::option::weighted(0.7, value()));
    let range = (
        key(),
        key(),
        any::<bool>(),
        prop_oneof![Just(usize::MAX), 0usize..5],
    );
    prop_oneof![
        8 => prop::collection::vec(change, 0..40).prop_map(Step::Write),
        2 => key().prop_map(Step::Get),
        4 => range.prop_map(|(start, end, up, limit)| Step::Scan(start, end, up, limit)),
        1 => prop::collection::vec((any::<u16>(), 0u16..700), 1..60).prop_map(Step::Load),
        1 => Just(Step::Persist),
        1 => Just(Step::Reopen),
    ]
}

fn batch(changes: &[(Bytes, Option<Bytes>)]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for (key, value) in changes {
        match value {
            Some(value) => batch.put(key.clone(), value.clone()),
            None => batch.delete(key.clone()),
        }
    }
    batch
}

fn expected(model: &Model, start: &Bytes, end: &Bytes, up: bool, limit: usize) -> Model {
    let range = if start < end {
        model.range(start.clone()..end.clone())
    } else {
        model.range(Bytes::new()..Bytes::new())
    };
    let pair = |(key, value): (&Bytes, &Bytes)| (key.clone(), value.clone());
    match up {
        true => range.take(limit).map(pair).collect(),
        false => range.rev().take(limit).map(pair).collect(),
    }
}

/// Records above everything else a history writes to revisions.
fn load(model: &Model, lens: &[(u16, u16)]) -> Vec<(Bytes, Bytes)> {
    let last = model.range(Bytes::from("r")..Bytes::from("s")).next_back();
    let mut key = last.map_or(b"r".to_vec(), |(key, _)| key.to_vec());
    let record = |&(gap, len): &(u16, u16)| {
        // A longer key is a larger one, and so is one more in its last byte.
        key.push((gap % 3) as u8 + 1);
        (
            Bytes::from(key.clone()),
            Bytes::from(vec![gap as u8; len as usize]),
        )
    };
    lens.iter().map(record).collect()
}

fn run(under: Under, steps: &[Step]) {
    let mut fixture = Fixture::new(under);
    let mut model = Model::new();
    for (index, step) in steps.iter().enumerate() {
        let engine = &*fixture.engine;
        match step {
            Step::Write(changes) => {
                let batch = batch(changes);
                engine.write(&batch).unwrap();
                apply(&mut model, &batch);
                for (key, _) in changes {
                    assert_eq!(engine.get(key).unwrap().as_ref(), model.get(key), "{key:?}");
                }
            }
            Step::Get(key) => assert_eq!(engine.get(key).unwrap().as_ref(), model.get(key)),
            Step::Scan(start, end, up, limit) => {
                let direction = match up {
                    true => Direction::Forward,
                    false => Direction::Backward,
                };
                let mut found = scan(engine, start, end, direction, *limit);
                if !up {
                    found.reverse();
                }
                let keys = found.windows(2).all(|pair| pair[0].0 < pair[1].0);
                assert!(keys, "step {index}: out of order");
                let expected = expected(&model, start, end, *up, *limit);
                assert_eq!(found.len(), expected.len(), "step {index}");
                assert_same(&found.into_iter().collect(), &expected, "scan");
                // The same keys, and between each two one that is probably absent.
                let between = |key: &Bytes| Bytes::from([key, &b"\0"[..]].concat());
                let keys: Vec<Bytes> = expected
                    .keys()
                    .flat_map(|key| [key.clone(), between(key)])
                    .collect();
                let keys: BTreeSet<&[u8]> = keys.iter().map(|key| &key[..]).collect();
                let keys: Vec<&[u8]> = keys.into_iter().collect();
                let values: Vec<Option<Bytes>> =
                    keys.iter().map(|key| model.get(*key).cloned()).collect();
                assert_eq!(engine.get_many(&keys).unwrap(), values, "step {index}");
            }
            Step::Load(lens) => {
                let records = load(&model, lens);
                engine.bulk_load(&mut records.clone().into_iter()).unwrap();
                model.extend(records);
            }
            Step::Persist => engine.persist().unwrap(),
            Step::Reopen => fixture.reopen(),
        }
    }
    assert_same(&dump(&*fixture.engine), &model, "at the end");
    fixture.reopen();
    assert_same(&dump(&*fixture.engine), &model, "after it was opened again");
}

fn check(under: Under, cases: u32, steps: usize) {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&prop::collection::vec(step(), 1..steps), |steps| {
            run(under, &steps);
            Ok(())
        })
        .unwrap();
}

#[test]
fn memory_is_an_ordered_map() {
    check(Under::Memory, 48, 30);
}

#[test]
fn packed_is_an_ordered_map() {
    check(Under::Packed, 128, 40);
}

#[test]
fn sled_is_an_ordered_map() {
    check(Under::Sled, 16, 30);
}

#[test]
fn redb_is_an_ordered_map() {
    check(Under::Redb, 16, 30);
}
