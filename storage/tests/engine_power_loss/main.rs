//! Power loss at random moments, with random parts of what was not synced
//! reaching the disk. What is left has to be the state after some batch, no
//! earlier than the last one that was persisted.
//!
//! This program leaves the C library's `sync_file_range` alone, so that sled
//! writes through; `engine_power_loss_synced` is the same with one of its own.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod disk;
#[path = "../engine_conformance/numbered.rs"]
mod numbered;
#[path = "../engine_conformance/support.rs"]
mod support;

use std::sync::Mutex;

use self::disk::{Mark, mark, record_dir};
use self::numbered::{applied, numbered_batch, state_after};
use self::support::{Fixture, Random, Under, assert_same, dump};

/// There is one recorder.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const IMAGES: usize = 20;

fn survives(under: Under) {
    let _turn = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(|turn| turn.into_inner());
    let mut random = Random::new(5);
    let fixture = Fixture::new(under);
    let recording = record_dir(fixture.dir.path(), || {
        for number in 1..=2500 {
            mark(Mark::Begun(number));
            fixture.engine.write(&numbered_batch(number)).unwrap();
            if number % 400 == 0 {
                fixture.engine.persist().unwrap();
                mark(Mark::Persisted(number));
            }
        }
    });
    let mut lost = 0;
    for _ in 0..IMAGES {
        let moment = random.below(recording.moments() as u64 + 1) as usize;
        let image = recording.image(moment, &mut random);
        let context = format!("{under:?} at {moment}");
        let dir = tempfile::tempdir().unwrap();
        image.write_to(dir.path());
        let engine = under.open(dir.path());
        let applied = applied(&*engine);
        assert!(
            (image.persisted..=image.begun).contains(&applied),
            "{context}: {applied} of {}, {} persisted",
            image.begun,
            image.persisted
        );
        lost += u64::from(applied < image.begun);
        assert_same(&dump(&*engine), &state_after(applied), &context);
    }
    assert!(
        lost > 0,
        "nothing was ever lost: the disk is too good to test anything"
    );
}

#[test]
fn sled_survives_power_loss() {
    survives(Under::Sled);
}

#[test]
fn redb_survives_power_loss() {
    survives(Under::Redb);
}
