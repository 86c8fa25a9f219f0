//! What packing records into blocks costs and gives: the same engine with and without it.
//!
//! An unpacked engine gets one entry per record: the records go to another tree. A record is the key of a revision, and
//! a value of 64 or 300 bytes of which the first 23 are always the same and the rest is random. Batches of 64 records
//! and a meta record, persisted every 16 MiB and at the end; one thread.
//!
//! `footprint` runs in a process of its own per case and prints, for 200,000 records: bytes on the disk, bytes handed
//! to `write` calls (`wchar` of the process), resident memory beyond that at the start, and time. Criterion then
//! measures a batch of 64, a get and a scan of 1000.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::hint::black_box;
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use rusd_storage::engine::{self, Direction, Engine, EngineKind, EngineOptions, Tree, WriteBatch};
use tempfile::TempDir;

const KINDS: [EngineKind; 2] = [EngineKind::Sled, EngineKind::Redb];
const VALUE_BYTES: [usize; 2] = [64, 300];
const BATCH_RECORDS: u64 = 64;
const RECORDS: u64 = 200_000;
const PERSIST_BYTES: usize = 16 << 20;
const FOOTPRINT: &str = "RUSD_BENCH_PACKED";

/// Records go to the packed tree, or to one of the others, which are stored as they come.
#[derive(Clone, Copy)]
struct Case {
    kind: EngineKind,
    packed: bool,
    value_bytes: usize,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        let kinds = KINDS.into_iter();
        kinds.flat_map(|kind| {
            VALUE_BYTES.into_iter().flat_map(move |value_bytes| {
                [true, false].map(|packed| Self {
                    kind,
                    packed,
                    value_bytes,
                })
            })
        })
    }

    fn key(self, main: u64) -> Bytes {
        let tree = if self.packed { Tree::KvRev } else { Tree::Auth };
        let mut key = main.to_be_bytes().to_vec();
        key.extend_from_slice(&0u32.to_be_bytes());
        Bytes::from(tree.key(&key))
    }

    fn name(self) -> String {
        let how = if self.packed { "packed" } else { "unpacked" };
        format!("{} {how} {}", self.kind, self.value_bytes)
    }

    fn open(self) -> (TempDir, Arc<dyn Engine>) {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine::open(dir.path(), &EngineOptions::new(self.kind)).unwrap();
        // As sled's own fences do for revisions: the meta record that every batch writes must not share a page with
        // unpacked records.
        let mut fence = WriteBatch::new();
        (0..40u8).for_each(|number| fence.put(Tree::Member.key(&[number]), Vec::new()));
        engine.write(&fence).unwrap();
        (dir, engine)
    }
}

struct Filler {
    case: Case,
    engine: Arc<dyn Engine>,
    next: u64,
    unpersisted: usize,
    random: u64,
}

impl Filler {
    fn new(case: Case, engine: Arc<dyn Engine>) -> Self {
        Self {
            case,
            engine,
            next: 1,
            unpersisted: 0,
            random: 88172645463325252,
        }
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 8
    }

    fn value(&mut self) -> Vec<u8> {
        let mut value = b"/registry/pods/default/".to_vec();
        while value.len() < self.case.value_bytes {
            value.extend_from_slice(&self.random().to_le_bytes());
        }
        value.truncate(self.case.value_bytes);
        value
    }

    fn append(&mut self) {
        let mut batch = WriteBatch::new();
        for main in self.next..self.next + BATCH_RECORDS {
            let value = self.value();
            batch.put(self.case.key(main), value);
        }
        self.next += BATCH_RECORDS;
        batch.put(Tree::Meta.key(b"applied"), self.next.to_be_bytes().to_vec());
        self.engine.write(&batch).unwrap();
        self.unpersisted += batch.bytes();
        if self.unpersisted > PERSIST_BYTES {
            self.engine.persist().unwrap();
            self.unpersisted = 0;
        }
    }
}

fn scan(case: Case, engine: &dyn Engine, from: u64, to: u64) -> u64 {
    let mut records = 0;
    let mut visit = |_: &[u8], value: &[u8]| {
        records += black_box(value.len()).min(1) as u64;
        ControlFlow::Continue(())
    };
    let (start, end) = (case.key(from), case.key(to));
    engine
        .scan(&start, &end, Direction::Forward, &mut visit)
        .unwrap();
    records
}

/// The first number after `name` in a file of this process, 0 where there is none.
fn process_number(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

fn footprint(case: Case) {
    let resident_before = process_number("status", "VmRSS:");
    let (_dir, engine) = case.open();
    let mut filler = Filler::new(case, engine.clone());
    let (start, written) = (Instant::now(), process_number("io", "wchar:"));
    (0..RECORDS / BATCH_RECORDS).for_each(|_| filler.append());
    engine.persist().unwrap();
    let took = start.elapsed();
    let written = process_number("io", "wchar:") - written;
    let resident = process_number("status", "VmRSS:") - resident_before;
    let disk = engine.stats().unwrap().disk_bytes;
    let start = Instant::now();
    let records = scan(case, &*engine, 0, u64::MAX);
    println!(
        "{:<18} {:>4} MB of records: {:>4} MB on disk, {:>5} MB written, {:>4} MB resident, {:>6.0} records/s, \
         read {records} in {:.0?}",
        case.name(),
        RECORDS * (case.value_bytes as u64 + 13) / 1_000_000,
        disk / 1_000_000,
        written / 1_000_000,
        resident / 1000,
        RECORDS as f64 / took.as_secs_f64(),
        start.elapsed(),
    );
}

fn benches(criterion: &mut Criterion, case: Case) {
    let (_dir, engine) = case.open();
    let mut filler = Filler::new(case, engine.clone());
    (0..1000).for_each(|_| filler.append());
    let filled = filler.next;
    let mut group = criterion.benchmark_group(case.name());
    group.bench_function("get", |bencher| {
        bencher.iter(|| {
            let main = filler.random() % (filled - 1) + 1;
            black_box(engine.get(&case.key(main)).unwrap().unwrap())
        });
    });
    group.throughput(Throughput::Elements(1000));
    group.bench_function("scan 1000", |bencher| {
        bencher.iter(|| {
            let main = filler.random() % (filled - 1001) + 1;
            scan(case, &*engine, main, main + 1000)
        });
    });
    group.throughput(Throughput::Elements(BATCH_RECORDS));
    group.bench_function("append 64", |bencher| bencher.iter(|| filler.append()));
    group.finish();
}

fn main() {
    if let Ok(name) = std::env::var(FOOTPRINT) {
        footprint(Case::all().find(|case| case.name() == name).unwrap());
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    if !std::env::args().any(|argument| argument == "--test") {
        for case in Case::all() {
            let child = Command::new(std::env::current_exe().unwrap())
                .env(FOOTPRINT, case.name())
                .status();
            assert!(child.unwrap().success());
        }
    }
    Case::all().for_each(|case| benches(&mut criterion, case));
    criterion.final_summary();
}
