//! The store over the engine in memory: what applying a put costs, and compaction, counting and opening.
//!
//! 20-byte random keys, 256-byte values, a million keys. `put` is a transaction of one put on a random existing key;
//! a batch is sealed, published and handed to the engine as the server does, the engine's own work left out.
//! Run with `cargo bench -p rusd-storage --bench mvcc`.

#![allow(clippy::expect_used)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rusd_proto::ids::LeaseId;
use rusd_storage::engine::{Engine, Memory};
use rusd_storage::{At, KeyRange, LogPosition, MvccOptions, MvccStore, ReadAt};

const KEYS: usize = 1_000_000;

fn flush(store: &mut MvccStore, engine: Option<&Memory>) {
    let applied = LogPosition {
        index: store.applied().index + 1,
        term: 1,
    };
    store.seal(applied);
    store.publish();
    if let Some(sealed) = store.take_sealed() {
        if let Some(engine) = engine {
            engine
                .write(&sealed.batch)
                .expect("the engine in memory does not fail");
        }
        store.wrote(sealed.seq);
    }
}

fn put(store: &mut MvccStore, key: &[u8], value: &[u8]) {
    let mut txn = store.begin();
    txn.put(key, value, LeaseId::NONE);
    black_box(txn.end());
}

fn mvcc(criterion: &mut Criterion) {
    let mut random = StdRng::seed_from_u64(1);
    let value = [7u8; 256];
    let keys: Vec<Vec<u8>> = (0..KEYS)
        .map(|_| format!("{:020x}", random.random::<u128>() >> 48).into_bytes())
        .collect();
    let engine = Arc::new(Memory::new());
    let open =
        || MvccStore::open(engine.clone(), MvccOptions::default()).expect("a store of ours opens");
    let mut store = open();
    for (n, key) in keys.iter().enumerate() {
        put(&mut store, key, &value);
        if n % 512 == 0 {
            flush(&mut store, Some(&engine));
        }
    }
    flush(&mut store, Some(&engine));
    drop(store);
    let start = Instant::now();
    let mut store = open();
    eprintln!("opened 1M keys in {:?}", start.elapsed());

    let mut group = criterion.benchmark_group("mvcc, 1M keys");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(2))
        .warm_up_time(Duration::from_millis(300));
    for batch in [1u64, 64, 512] {
        group.bench_function(format!("put 256 B, batches of {batch}"), |bencher| {
            bencher.iter_custom(|puts| {
                let start = Instant::now();
                for n in 0..puts {
                    put(&mut store, &keys[random.random_range(0..KEYS)], &value);
                    if n % batch == batch - 1 {
                        flush(&mut store, None);
                    }
                }
                flush(&mut store, None);
                start.elapsed()
            });
        });
    }
    let views = store.views();
    group.bench_function("load a view", |bencher| {
        bencher.iter(|| black_box(views.load().revision()))
    });
    let view = views.load();
    group.bench_function("count of half the keys, 50 000 revisions ago", |bencher| {
        let range = KeyRange::Between("3".into(), "b".into());
        let at = At::from_wire(view.revision().0 - 50_000);
        bencher.iter(|| black_box(view.count(&range, at)));
    });
    drop(view);
    group.bench_function("remove one superseded record", |bencher| {
        bencher.iter_custom(|records| {
            for _ in 0..records {
                put(&mut store, &keys[random.random_range(0..KEYS)], &value);
            }
            let revision = store.revision();
            store.compact(revision).expect("not compacted before");
            let (mut removed, start) = (0, Instant::now());
            loop {
                let step = store.compact_step(1000).expect("steps do not fail");
                removed += step.removed as u64;
                flush(&mut store, None);
                if step.finished {
                    break;
                }
            }
            start.elapsed() * u32::try_from(records).unwrap_or(1)
                / u32::try_from(removed.max(1)).unwrap_or(1)
        });
    });
    group.finish();
}

criterion_group!(benches, mvcc);
criterion_main!(benches);
