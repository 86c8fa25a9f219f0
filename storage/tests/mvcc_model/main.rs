//! The store against a model of etcd's semantics: random transactions, compactions, paced removal, publications,
//! pins, writes to the engine and restarts from it, with everything a reader can ask compared at every revision.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod model;

use std::ops::ControlFlow;
use std::sync::Arc;

use model::{Model, Write};
use proptest::prelude::*;
use rusd_proto::ids::{LeaseId, Revision};
use rusd_storage::engine::{Engine, Memory};
use rusd_storage::{
    At, ChangeKind, CompactionHash, HashKv, KeyMeta, KeyRange, LogPosition, MvccOptions, MvccStore,
    ReadAt, ReadGuard, ReadView, SealedBatch, StorageError,
};

#[derive(Clone, Debug)]
enum Step {
    Txn {
        writes: Vec<Write>,
        ends: bool,
    },
    /// Compacts at this many per mille of the way from the compacted revision to one beyond the current.
    Compact(u16),
    /// Hashes the last compaction, if it has not been yet.
    Hash,
    /// Physical compaction, so many records of it.
    Remove(usize),
    Publish,
    Seal,
    /// Takes what is sealed; it is written by the next `Write`.
    Take,
    Write,
    Restart,
    Pin(u16),
    Unpin,
    Check,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"a".to_vec()),
        Just(b"a\0".to_vec()),
        Just(b"b".to_vec()),
        Just(b"b\xff".to_vec()),
        (0u8..30).prop_map(|n| format!("/registry/pods/{n:02}").into_bytes()),
    ]
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        3 => key().prop_map(|key| KeyRange::One(key.into())),
        2 => (key(), key()).prop_map(|(start, end)| KeyRange::Between(start.into(), end.into())),
        1 => key().prop_map(|key| KeyRange::From(key.into())),
        1 => Just(KeyRange::prefix("/registry/")),
        1 => Just(KeyRange::all()),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        3 => (key(), proptest::collection::vec(any::<u8>(), 0..20), 0i64..3)
            .prop_map(|(key, value, lease)| Write::Put { key, value, lease }),
        1 => range().prop_map(Write::Delete),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let txn = (
        proptest::collection::vec(write(), 0..5),
        proptest::bool::weighted(0.9),
    )
        .prop_map(|(writes, ends)| Step::Txn { writes, ends });
    prop_oneof![
        20 => txn,
        3 => (0u16..1100).prop_map(Step::Compact),
        3 => Just(Step::Hash),
        5 => (1usize..12).prop_map(Step::Remove),
        5 => Just(Step::Publish),
        5 => Just(Step::Seal),
        2 => Just(Step::Take),
        4 => Just(Step::Write),
        1 => Just(Step::Restart),
        1 => (0u16..1000).prop_map(Step::Pin),
        1 => Just(Step::Unpin),
        4 => Just(Step::Check),
    ]
}

/// Store and model side by side.
struct Pair {
    engine: Arc<Memory>,
    options: MvccOptions,
    store: MvccStore,
    model: Model,
    /// The model as of the last publication.
    published: Model,
    /// The model as of each seal; the applied index is the position.
    sealed: Vec<Model>,
    /// Taken and not yet written.
    taken: Vec<SealedBatch>,
    pin: Option<(ReadGuard, Arc<ReadView>, Model)>,
    /// The compaction to be hashed, and what is to come out.
    compaction: Option<(CompactionHash, HashKv)>,
    /// What HashKV answers for compacted revisions.
    hashes: Vec<HashKv>,
}

impl Pair {
    fn new(options: MvccOptions) -> Self {
        let engine = Arc::new(Memory::new());
        let store = MvccStore::open(engine.clone(), options.clone()).unwrap();
        let model = Model::new();
        Self {
            engine,
            options,
            store,
            published: model.clone(),
            sealed: vec![model.clone()],
            model,
            taken: Vec::new(),
            pin: None,
            compaction: None,
            hashes: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Txn { writes, ends } => self.txn(writes, ends),
            Step::Compact(per_mille) => {
                let (compacted, newest) = (self.model.compacted.0, self.model.revision.0);
                let span = newest + 1 - compacted;
                let revision = Revision(compacted + span * i64::from(per_mille) / 1000);
                let complete = self.store.compaction_pending().is_none();
                let result = self.store.compact(revision);
                if revision <= self.model.compacted {
                    assert!(matches!(result, Err(StorageError::Compacted)));
                } else if revision > self.model.revision {
                    assert!(matches!(result, Err(StorageError::FutureRevision)));
                } else {
                    result.unwrap();
                    let hash = HashKv {
                        hash: self.model.compaction_hash(revision),
                        revision,
                        compact_revision: self.model.compacted,
                    };
                    let compaction = self.store.take_compaction_hash();
                    assert_eq!(compaction.is_some(), complete && revision > Revision(0));
                    if let Some(compaction) = compaction {
                        self.compaction = Some((compaction, hash));
                    }
                    self.model.compact(revision);
                }
            }
            Step::Hash => {
                if let Some((compaction, hash)) = self.compaction.take() {
                    assert_eq!(compaction.run().unwrap(), hash);
                    self.hashes.push(hash);
                }
            }
            Step::Remove(max) => {
                let before = self.store.sizes().records;
                let step = self.store.compact_step(max).unwrap();
                assert!(step.removed <= max);
                assert_eq!(self.store.sizes().records, before - step.removed as u64);
                assert!(!step.blocked || self.pin.is_some() || self.compaction.is_some());
                assert_eq!(step.finished, self.store.compaction_pending().is_none());
                self.check_sizes();
            }
            Step::Publish => self.publish(),
            Step::Seal => self.seal(),
            Step::Take => self.taken.extend(self.store.take_sealed()),
            Step::Write => self.write(),
            Step::Restart => self.restart(),
            Step::Pin(per_mille) => {
                let view = self.store.views().load();
                let low = self.published.compacted.0.max(1);
                let span = self.published.revision.0 - low;
                let at = Revision(low + span * i64::from(per_mille) / 1000);
                match view.register(At::from(at)) {
                    Ok(guard) => self.pin = Some((guard, view, self.published.clone())),
                    Err(StorageError::Superseded) => assert!(at < self.model.compacted),
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Unpin => self.pin = None,
            Step::Check => self.check(),
        }
    }

    fn txn(&mut self, mut writes: Vec<Write>, ends: bool) {
        if ends {
            // KV-T07: no transaction of a client changes a key twice. One that is taken back may.
            self.model.drop_second_writes(&mut writes);
        }
        let mut after = self.model.clone();
        let expected = after.txn(&writes);
        let mut txn = self.store.begin();
        for write in &writes {
            match write {
                Write::Put { key, value, lease } => {
                    let change = txn.put(key, value, LeaseId(*lease)).clone();
                    let record = txn.record(change.revision, At::Newest).unwrap();
                    assert_eq!(
                        (record.value().unwrap(), record.lease().unwrap()),
                        (value.clone().into(), LeaseId(*lease))
                    );
                }
                Write::Delete(range) => {
                    let before = txn.count(range, At::Newest).unwrap();
                    assert_eq!(txn.delete(range).unwrap().len() as i64, before);
                    assert_eq!(txn.count(range, At::Newest).unwrap(), 0);
                }
            }
        }
        if !ends {
            drop(txn);
            return;
        }
        check_reader(&txn, &after, self.model.compacted);
        let end = txn.end();
        assert_eq!(
            end.revision,
            (!expected.is_empty()).then_some(after.revision)
        );
        assert_eq!(end.changes, expected);
        self.model = after;
    }

    fn publish(&mut self) {
        self.store.publish();
        self.published = self.model.clone();
    }

    fn seal(&mut self) {
        self.store.seal(LogPosition {
            index: self.sealed.len() as u64,
            term: 3,
        });
        self.sealed.push(self.model.clone());
    }

    fn write(&mut self) {
        self.taken.extend(self.store.take_sealed());
        for sealed in self.taken.drain(..) {
            assert_eq!(sealed.bytes, sealed.batch.bytes());
            self.engine.write(&sealed.batch).unwrap();
            self.store.wrote(sealed.seq);
        }
    }

    fn restart(&mut self) {
        self.pin = None;
        self.compaction = None;
        self.hashes.clear();
        self.taken.clear();
        self.store = MvccStore::open(self.engine.clone(), self.options.clone()).unwrap();
        let applied = self.store.applied();
        self.sealed.truncate(applied.index as usize + 1);
        self.model = self.sealed[applied.index as usize].clone();
        self.published = self.model.clone();
        self.check();
    }

    /// Once compaction is through, exactly what etcd would keep is left.
    fn check_sizes(&self) {
        if self.store.compaction_pending().is_some() {
            return;
        }
        let sizes = self.store.sizes();
        assert_eq!(sizes.records as usize, self.model.retained.len());
        let bytes: usize = self
            .model
            .retained
            .values()
            .map(|record| 13 + usize::from(record.tombstone) + record.stored.len())
            .sum();
        assert_eq!(sizes.logical_bytes as usize, bytes);
    }

    fn check(&mut self) {
        let view = self.store.views().load();
        let floor = self.model.compacted;
        check_view(&view, &self.published, floor);
        check_reader(&self.store, &self.model, floor);
        for (age, hash) in self.hashes.iter().rev().enumerate() {
            let found = self.store.views().hash_kv(At::from(hash.revision));
            assert_eq!(found.ok() == Some(*hash), age < 10, "{hash:?} of age {age}");
        }
        if let Some((guard, view, model)) = &self.pin {
            check_at(view.as_ref(), model, At::from(guard.revision()), None);
        }
    }
}

/// Compares everything at every readable revision. Below `floor` a view may say that it has been superseded.
fn check_reader(reader: &impl ReadAt, model: &Model, floor: Revision) {
    assert_eq!(
        (reader.revision(), reader.compacted_revision()),
        (model.revision, model.compacted)
    );
    for at in (1..=model.revision.0).map(Revision) {
        if at < model.compacted {
            assert!(matches!(
                reader.count(&KeyRange::all(), At::from(at)),
                Err(StorageError::Compacted)
            ));
            assert!(matches!(
                reader.get(b"a", At::from(at)),
                Err(StorageError::Compacted)
            ));
        } else {
            check_at(reader, model, At::from(at), Some(floor));
        }
    }
    check_at(reader, model, At::Newest, Some(floor));
    assert!(matches!(
        reader.get(b"a", At::from(model.revision.next())),
        Err(StorageError::FutureRevision)
    ));
    let live = model.alive_at(&KeyRange::all(), model.revision);
    let estimate = reader.estimate(&KeyRange::all());
    assert_eq!(estimate.keys as usize, live.len());
    assert_eq!(
        estimate.bytes as usize,
        live.iter().map(|record| record.stored.len()).sum::<usize>()
    );
}

fn resolve(at: At, model: &Model) -> Revision {
    match at {
        At::Newest => model.revision,
        At::Revision(revision) => revision,
    }
}

fn check_at(reader: &impl ReadAt, model: &Model, at: At, floor: Option<Revision>) {
    let resolved = resolve(at, model);
    let may_be_superseded = floor.is_some_and(|floor| resolved < floor);
    let ranges = [
        KeyRange::all(),
        KeyRange::One("b".into()),
        KeyRange::prefix("/registry/pods/1"),
        KeyRange::Between("a\0".into(), "b\0".into()),
        KeyRange::From("/registry/pods/15".into()),
        KeyRange::Between("b".into(), "a".into()),
    ];
    for range in ranges {
        let expected = model.alive_at(&range, resolved);
        let mut found: Vec<(Vec<u8>, KeyMeta)> = Vec::new();
        let walked = reader.walk(&range, at, &mut |key, meta| {
            found.push((key.to_vec(), *meta));
            ControlFlow::Continue(())
        });
        let counted = reader.count(&range, at);
        if may_be_superseded
            && (matches!(walked, Err(StorageError::Superseded))
                || matches!(counted, Err(StorageError::Superseded)))
        {
            continue;
        }
        walked.unwrap();
        assert_eq!(
            counted.unwrap() as usize,
            expected.len(),
            "count of {range:?} at {resolved}"
        );
        assert_eq!(
            found.len(),
            expected.len(),
            "walk of {range:?} at {resolved}"
        );
        for ((key, meta), expected) in found.iter().zip(expected) {
            assert_eq!(key, &expected.key);
            assert_eq!(*meta, expected.meta(), "{range:?} at {resolved}");
            assert_eq!(reader.get(key, at).unwrap(), Some(*meta));
            match reader.record(meta.mod_revision, at) {
                Ok(record) => assert_eq!(record.bytes, expected.stored),
                Err(StorageError::Superseded) if may_be_superseded => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn check_view(view: &ReadView, model: &Model, floor: Revision) {
    check_reader(view, model, floor);
    for number in 0..=model.revision.next().0 {
        let at = At::from_wire(number);
        let revision = resolve(at, model);
        match (view.hash_kv(at), model.hash_kv(revision)) {
            (Ok(found), Some(hash)) => {
                assert_eq!(
                    (found.hash, found.revision, found.compact_revision),
                    (hash, revision, model.compacted),
                    "hash at {revision}"
                );
            }
            (Err(StorageError::Superseded), _) if model.compacted < floor => {}
            (Err(StorageError::Compacted), None) if revision < model.compacted => {}
            (Err(StorageError::FutureRevision), None) if revision > model.revision => {}
            (found, expected) => panic!("hash at {revision}: {found:?}, expected {expected:?}"),
        }
        for max_bytes in [0, 60, 1 << 20] {
            check_history(view, model, Revision(number), max_bytes, floor);
        }
    }
}

fn check_history(
    view: &ReadView,
    model: &Model,
    from: Revision,
    max_bytes: usize,
    floor: Revision,
) {
    let mut next = from;
    let mut found = Vec::new();
    while next <= model.revision {
        match view.history(next, Revision(i64::MAX), max_bytes, true) {
            Ok(page) => {
                assert!(page.next_revision > next);
                next = page.next_revision;
                found.extend(page.changes);
            }
            Err(StorageError::Compacted) if from < model.compacted => return,
            Err(StorageError::Superseded) if next < floor => return,
            Err(error) => panic!("{error}"),
        }
    }
    let expected = model.history(from);
    assert_eq!(found.len(), expected.len(), "history from {from}");
    for ((main, changes), (expected_main, expected)) in found.iter().zip(&expected) {
        assert_eq!(main, expected_main);
        assert_eq!(changes.len(), expected.len());
        for (change, expected) in changes.iter().zip(expected) {
            let mut expected = expected.clone();
            if change.previous.is_none() && main.previous() < floor {
                expected.previous = None;
            }
            assert_eq!(*change, expected);
            assert_eq!(
                change.kind == ChangeKind::Delete,
                change.record.len() < 40 && model.is_tombstone(change.revision)
            );
        }
    }
}

fn run(steps: Vec<Step>, options: MvccOptions) {
    let mut pair = Pair::new(options);
    for step in steps {
        pair.step(step);
        pair.store.check();
    }
    pair.pin = None;
    pair.compaction = None;
    pair.publish();
    pair.check();
    let finished = (0..10_000).any(|_| pair.store.compact_step(3).unwrap().finished);
    assert!(finished, "compaction makes no progress");
    pair.check_sizes();
    pair.check();
    pair.seal();
    pair.write();
    pair.restart();
    pair.check_sizes();
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn kv_r03_kv_c02_kv_c05_the_store_is_etcds_history(
        steps in proptest::collection::vec(step(), 1..120),
        ring_bytes in prop_oneof![Just(0usize), Just(2000), Just(1 << 20)],
        births_max in prop_oneof![Just(0usize), Just(65_536)],
    ) {
        run(steps, MvccOptions { ring_bytes, births_max });
    }
}
