//! The key index with a million keys of 20 random bytes: what a get, a put and a count cost, and what a key takes.
//!
//! Puts overwrite random keys, with a view published every so many, as the store does once per batch: that is what
//! makes the tree copy nodes. Run with `cargo bench -p rusd-storage --bench index`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rusd_proto::ids::Revision;
use rusd_storage::{At, KeyIndex, KeyRange, RecordRevision};

const KEYS: usize = 1_000_000;

fn at(main: i64) -> RecordRevision {
    RecordRevision {
        main: Revision(main),
        sub: 0,
    }
}

/// Resident memory of this process.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0)
        * 4096
}

fn random_keys(random: &mut StdRng) -> Vec<Vec<u8>> {
    (0..KEYS)
        .map(|_| format!("{:020x}", random.random::<u128>() >> 48).into_bytes())
        .collect()
}

fn load(keys: &[Vec<u8>]) -> (KeyIndex, i64) {
    let mut index = KeyIndex::new();
    for (n, key) in keys.iter().enumerate() {
        index.put(key, at(n as i64 + 2), |_, _| 300);
    }
    (index, keys.len() as i64 + 2)
}

fn report(name: &str, keys: &[Vec<u8>]) -> (KeyIndex, i64) {
    let before = resident_bytes();
    let start = Instant::now();
    let loaded = load(keys);
    eprintln!(
        "{name}: loaded in {:?}, {} bytes a key counted, {} resident",
        start.elapsed(),
        loaded.0.heap_bytes() / KEYS,
        (resident_bytes() - before) / KEYS,
    );
    loaded
}

fn index(criterion: &mut Criterion) {
    let mut random = StdRng::seed_from_u64(1);
    let mut paths: Vec<Vec<u8>> = (0..KEYS)
        .map(|n| format!("/registry/pods/namespace-{:03}/pod-{n:07}", n % 200).into_bytes())
        .collect();
    paths.shuffle(&mut random);
    drop(report("40-byte paths, random order", &paths));
    paths.sort_unstable();
    drop(report("40-byte paths, ascending", &paths));
    let keys = random_keys(&mut random);
    let (mut index, mut revision) = report("20-byte random keys", &keys);

    let mut group = criterion.benchmark_group("index, 1M keys");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(2))
        .warm_up_time(Duration::from_millis(300));
    group.bench_function("get", |bencher| {
        bencher.iter(|| {
            black_box(
                index
                    .view()
                    .get(&keys[random.random_range(0..KEYS)], At::Newest),
            )
        });
    });
    let range = KeyRange::Between("3".into(), "b".into());
    group.bench_function("count of half the keys, now", |bencher| {
        bencher.iter(|| black_box(index.view().count(&range, At::Newest, Revision(revision))));
    });
    group.bench_function("count of half the keys, 20 000 births ago", |bencher| {
        bencher.iter(|| {
            black_box(index.view().count(
                &range,
                At::Revision(Revision(revision - 20_000)),
                Revision(revision),
            ))
        });
    });
    for every in [1u64, 16, 64, 512] {
        group.bench_function(format!("put, a view every {every}"), |bencher| {
            bencher.iter_custom(|puts| {
                let mut view = index.view().clone();
                let start = Instant::now();
                for n in 0..puts {
                    revision += 1;
                    index.put(&keys[random.random_range(0..KEYS)], at(revision), |_, _| {
                        300
                    });
                    if n % every == 0 {
                        view = index.view().clone();
                    }
                }
                let elapsed = start.elapsed();
                drop(view);
                elapsed
            });
        });
    }
    group.finish();
    eprintln!(
        "with the past of all these puts: {} bytes a key",
        index.heap_bytes() / KEYS
    );
}

criterion_group!(benches, index);
criterion_main!(benches);
