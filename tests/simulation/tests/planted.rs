//! A simulation that finds nothing may be blind. So bugs are planted in what surrounds the cores, one at a time, and
//! each is found by the promise that it breaks.
#![allow(clippy::panic)]

use rusd_simulation::{Planted, run};

/// Seeds within which each has to be found; it takes 37 at most.
const SEEDS: u64 = 200;

/// Runs seeds until one finds the bug, which has to show in one of these texts.
#[track_caller]
fn is_found(bug: Planted, shows_in: &[&str]) {
    let Some(found) = (1..=SEEDS).find_map(|seed| run(seed, Some(bug), false).err()) else {
        panic!("{SEEDS} seeds do not find {bug:?}");
    };
    println!("seed {}: {}", found.seed, found.what);
    let expected = shows_in.iter().any(|text| found.what.contains(text));
    assert!(expected, "found by something else: {}", found.what);
}

#[test]
fn a_sync_that_is_skipped() {
    is_found(Planted::SkippedSync, &["before it is durable"]);
}

#[test]
fn an_acknowledgement_before_the_log_is_written() {
    let texts = ["before it is durable", "a gap before entry"];
    is_found(Planted::AcknowledgedBeforeWritten, &texts);
}

#[test]
fn an_answer_before_readers_see_the_write() {
    let text = "does not see what was acknowledged";
    is_found(Planted::ReplyBeforeView, &[text]);
}

#[test]
fn entries_that_are_applied_twice() {
    let texts = ["beyond the applied revision", "of entry", "at entry"];
    is_found(Planted::AppliedTwice, &texts);
}

#[test]
fn a_log_truncated_above_what_the_engine_has_made_durable() {
    is_found(Planted::TruncatedAboveDurable, &["the log begins after"]);
}

#[test]
fn a_key_that_keeps_its_old_lease() {
    let texts = ["of entry", "at entry", "in order, once"];
    is_found(Planted::LostDetachment, &texts);
}

#[test]
fn an_event_that_is_skipped_when_the_hub_is_behind() {
    let texts = ["never saw", "in order, once, without gaps", "and lacks"];
    is_found(Planted::SkippedEvent, &texts);
}

#[test]
fn a_compaction_that_a_crash_takes_back() {
    is_found(Planted::ForgottenCompaction, &["the compacted revision"]);
}

#[test]
fn a_lease_that_ends_early() {
    is_found(Planted::EarlyExpiry, &["us early"]);
}

#[test]
fn a_defragmentation_that_misses_batches() {
    let texts = ["the log begins after", "at entry", "the hash at"];
    is_found(Planted::CopyWithoutBatches, &texts);
}
