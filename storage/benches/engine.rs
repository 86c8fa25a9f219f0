//! What the engines cost: appending revisions in batches of several sizes,
//! reading them one at a time, removing superseded ones, and their footprint.
//!
//! Nothing here is durable per operation: engines are persisted now and then,
//! as they are in service. Values are 300 random bytes; one thread.
//!
//! `footprint` runs in a process of its own per engine and prints, for a
//! million records, the processor time per record, resident memory, disk and
//! the time to open and read everything.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::hint::black_box;
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use rusd_storage::engine::{self, Direction, Engine, EngineKind, EngineOptions, Tree, WriteBatch};
use tempfile::TempDir;

const KINDS: [EngineKind; 2] = [EngineKind::Sled, EngineKind::Redb];
const RECORD_BYTES: usize = 300;
const PERSIST_BYTES: usize = 64 << 20;
const FOOTPRINT: &str = "RUSD_BENCH_FOOTPRINT";

fn key(main: u64) -> Bytes {
    let mut key = main.to_be_bytes().to_vec();
    key.extend_from_slice(&0u32.to_be_bytes());
    Bytes::from(Tree::KvRev.key(&key))
}

struct Filler {
    engine: Arc<dyn Engine>,
    value: Vec<u8>,
    next: u64,
    unpersisted: usize,
    random: u64,
}

impl Filler {
    fn new(engine: Arc<dyn Engine>) -> Self {
        let mut filler = Self {
            engine,
            value: Vec::new(),
            next: 1,
            unpersisted: 0,
            random: 88172645463325252,
        };
        filler.value = (0..RECORD_BYTES).map(|_| filler.random() as u8).collect();
        filler
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 8
    }

    fn batch(&mut self, records: u64) -> WriteBatch {
        let mut batch = WriteBatch::new();
        for main in self.next..self.next + records {
            let random = self.random().to_le_bytes();
            self.value[..8].copy_from_slice(&random);
            batch.put(key(main), self.value.clone());
        }
        self.next += records;
        let applied = self.next.to_be_bytes().to_vec();
        batch.put(Tree::Meta.key(b"applied"), applied);
        batch
    }

    fn append(&mut self, records: u64) {
        let batch = self.batch(records);
        self.engine.write(&batch).unwrap();
        self.unpersisted += batch.bytes();
        if self.unpersisted > PERSIST_BYTES {
            self.engine.persist().unwrap();
            self.unpersisted = 0;
        }
    }
}

fn open(kind: EngineKind) -> (TempDir, Arc<dyn Engine>) {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine::open(dir.path(), &EngineOptions::new(kind)).unwrap();
    (dir, engine)
}

fn benches(criterion: &mut Criterion) {
    for kind in KINDS {
        let mut group = criterion.benchmark_group(format!("{kind}/append"));
        for records in [1, 16, 64, 1000] {
            let (_dir, engine) = open(kind);
            let mut filler = Filler::new(engine);
            group.throughput(Throughput::Elements(records));
            group.bench_function(BenchmarkId::from_parameter(records), |bencher| {
                bencher.iter(|| filler.append(records));
            });
        }
        group.finish();

        let (_dir, engine) = open(kind);
        let mut filler = Filler::new(engine.clone());
        (0..200).for_each(|_| filler.append(1000));
        let mut group = criterion.benchmark_group(kind.name());
        group.bench_function("get", |bencher| {
            bencher.iter(|| {
                let main = filler.random() % 200_000 + 1;
                black_box(engine.get(&key(main)).unwrap().unwrap())
            });
        });
        group.throughput(Throughput::Elements(1000));
        group.bench_function("scan 1000", |bencher| {
            bencher.iter(|| {
                let main = filler.random() % 199_000 + 1;
                let mut visit = |_: &[u8], value: &[u8]| {
                    black_box(value.len());
                    ControlFlow::Continue(())
                };
                let (start, end) = (key(main), key(main + 1000));
                let direction = Direction::Forward;
                engine.scan(&start, &end, direction, &mut visit).unwrap();
            });
        });
        let mut oldest = 1;
        group.bench_function("append and compact 1000", |bencher| {
            bencher.iter(|| {
                filler.append(1000);
                let mut batch = WriteBatch::new();
                // Nine of ten revisions are superseded.
                (oldest..oldest + 1000)
                    .filter(|main| main % 10 != 0)
                    .for_each(|main| batch.delete(key(main)));
                oldest += 1000;
                engine.write(&batch).unwrap();
            });
        });
        group.finish();
    }
}

/// Processor time of this process, by the kernel's count of 10 ms.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    Duration::from_millis(
        10 * ticks
            .filter_map(|tick| tick.parse::<u64>().ok())
            .sum::<u64>(),
    )
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}

fn footprint(kind: EngineKind, batch: u64) {
    const RECORDS: u64 = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions::new(kind);
    let engine = engine::open(dir.path(), &options).unwrap();
    let mut filler = Filler::new(engine.clone());
    let (start, used) = (Instant::now(), processor_time());
    (0..RECORDS / batch).for_each(|_| filler.append(batch));
    engine.persist().unwrap();
    let (took, used) = (start.elapsed(), processor_time() - used);
    let disk = engine.stats().unwrap().disk_bytes >> 20;
    let filled = resident_mb();
    drop(filler);
    engine.close().unwrap();
    drop(engine);
    let start = Instant::now();
    let engine = engine::open(dir.path(), &options).unwrap();
    let opened = start.elapsed();
    let mut records = 0;
    let mut visit = |_: &[u8], value: &[u8]| {
        records += black_box(value.len()).min(1);
        ControlFlow::Continue(())
    };
    engine
        .scan(b"r", b"s", Direction::Forward, &mut visit)
        .unwrap();
    println!(
        "{kind:>5}, batches of {batch:>4}: {:>6} ns CPU and {:>6} ns per record, {filled:>4} MB resident, \
         {disk:>4} MB on disk, open {opened:.0?}, open and read {records} in {:.0?}, then {} MB resident",
        used.as_nanos() as u64 / RECORDS,
        took.as_nanos() as u64 / RECORDS,
        start.elapsed(),
        resident_mb(),
    );
}

fn main() {
    if let Ok(what) = std::env::var(FOOTPRINT) {
        let (kind, batch) = what.split_once(' ').unwrap();
        footprint(kind.parse().unwrap(), batch.parse().unwrap());
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    // Criterion's own arguments choose benchmarks; without any, all run.
    if !std::env::args().any(|argument| argument == "--test") {
        for kind in KINDS {
            for batch in [64, 1000, 5000] {
                let child = Command::new(std::env::current_exe().unwrap())
                    .env(FOOTPRINT, format!("{kind} {batch}"))
                    .status();
                assert!(child.unwrap().success());
            }
        }
    }
    benches(&mut criterion);
    criterion.final_summary();
}
