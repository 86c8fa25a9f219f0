//! P5: readers on their own threads, while the writer writes, publishes, compacts and hands batches to the engine.
//!
//! Every transaction writes a pair of keys, now and then deleting it instead, so a reader can tell from any revision
//! whether it saw exactly that one: both halves of a pair are there with the same revision, or neither is.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusd_proto::ids::{LeaseId, Revision};
use rusd_storage::engine::{Engine, Memory};
use rusd_storage::{
    At, KeyRange, LogPosition, MvccOptions, MvccStore, ReadAt, ReadView, StorageError,
    StorageResult, Views,
};

const PAIRS: u32 = 150;
const TXNS: i64 = 6_000;

fn write(store: &mut MvccStore, random: &mut StdRng, pair: u32) {
    let revision = store.revision().next();
    let keys = [format!("left/{pair:04}"), format!("right/{pair:04}")];
    let deletes =
        random.random_ratio(1, 4) && store.get(keys[0].as_bytes(), At::Newest).unwrap().is_some();
    let mut txn = store.begin();
    for key in keys {
        if deletes {
            assert_eq!(txn.delete(&KeyRange::One(key.into())).unwrap().len(), 1);
        } else {
            txn.put(
                key.as_bytes(),
                format!("{key} at {revision}").as_bytes(),
                LeaseId::NONE,
            );
        }
    }
    assert_eq!(txn.end().revision, Some(revision));
}

/// The keys under `side` at `revision`, checked record by record; pair and revision of each.
fn side(view: &ReadView, side: &str, revision: Revision) -> StorageResult<Vec<(String, Revision)>> {
    let (at, range) = (At::from(revision), KeyRange::prefix(side.to_owned()));
    let mut found = Vec::new();
    view.walk(&range, at, &mut |key, meta| {
        found.push((String::from_utf8(key.to_vec()).unwrap(), meta.mod_revision));
        ControlFlow::Continue(())
    })?;
    assert_eq!(
        view.count(&range, at)?,
        found.len() as i64,
        "count at {revision}"
    );
    let mut pairs = Vec::new();
    for (key, place) in found {
        assert!(place.main <= revision);
        let record = view.record(place, at)?;
        assert_eq!(record.value()?, format!("{key} at {}", place.main));
        pairs.push((key.split('/').nth(1).unwrap().to_owned(), place.main));
    }
    Ok(pairs)
}

fn read(view: &ReadView, random: &mut StdRng) -> StorageResult<()> {
    let oldest = view.compacted_revision().0.max(1);
    let at = Revision(random.random_range(oldest..=view.revision().0));
    let _pin = if random.random() {
        Some(view.register(At::from(at))?)
    } else {
        None
    };
    assert_eq!(
        side(view, "left/", at)?,
        side(view, "right/", at)?,
        "torn at {at}"
    );
    let page = view.history(at, view.revision(), 2000, true)?;
    for (n, (main, changes)) in page.changes.iter().enumerate() {
        assert_eq!(
            (*main, changes.len()),
            (Revision(at.0.max(2) + n as i64), 2)
        );
    }
    Ok(())
}

/// Reads until the writer is done; says how many reads came through and how many came too late.
fn reader(views: &Views, seed: u64, done: &AtomicBool, through: &AtomicUsize, late: &AtomicUsize) {
    let mut random = StdRng::seed_from_u64(seed);
    while !done.load(Ordering::SeqCst) {
        match read(&views.load(), &mut random) {
            Ok(()) => through.fetch_add(1, Ordering::SeqCst),
            Err(StorageError::Superseded) => late.fetch_add(1, Ordering::SeqCst),
            Err(error) => panic!("{error}"),
        };
    }
}

#[test]
fn p5_readers_see_whole_revisions_while_the_writer_goes_on() {
    let engine = Arc::new(Memory::new());
    let options = MvccOptions {
        ring_bytes: 20_000,
        births_max: 65_536,
    };
    let mut store = MvccStore::open(engine.clone(), options).unwrap();
    let views = store.views();
    let (done, through, late) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (views, done, through, late) = (views.clone(), &done, &through, &late);
            scope.spawn(move || reader(&views, seed, done, through, late));
        }
        let mut random = StdRng::seed_from_u64(99);
        for n in 1..=TXNS {
            let pair = random.random_range(0..PAIRS);
            write(&mut store, &mut random, pair);
            if n % 7 == 0 {
                store.seal(LogPosition {
                    index: n as u64,
                    term: 1,
                });
                store.publish();
            }
            if n % 21 == 0
                && let Some(sealed) = store.take_sealed()
            {
                engine.write(&sealed.batch).unwrap();
                store.wrote(sealed.seq);
            }
            if n % 100 == 0 {
                store.compact(Revision(n - 60)).unwrap();
            }
            store.compact_step(5).unwrap();
            // Let the readers have their share, however few cores there are.
            while n % 50 == 0 && through.load(Ordering::SeqCst) < (n / 50) as usize {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(through.load(Ordering::SeqCst) >= (TXNS / 50) as usize);
}
