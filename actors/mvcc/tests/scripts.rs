//! Golden scripts of the two cores: `scripts/core` and `scripts/engine` hold them; see the runners in `common`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "common/core.rs"]
mod core;
#[path = "common/engine.rs"]
mod engine;
#[path = "common/entries.rs"]
mod entries;

use goldenscript::Argument;

/// `name` or `name=value`.
fn named(argument: &Argument) -> (&str, &str) {
    match argument {
        Argument::Positional(name) => (name, ""),
        Argument::KeyValue(name, value) => (name, value),
        other => panic!("{other:?}"),
    }
}

mod state_machine {
    use super::core::Runner;

    rusd_kit::run_dir!("tests/scripts/core", Runner::new(), [
        a_batch_is_visible_before_anybody_hears_of_it
        a_conf_change_is_answered_to_raft_before_members_and_callers
        batches_for_the_engine
        compaction_is_told_then_removed_step_by_step
        credits_wait_for_an_engine_that_is_far_behind
        restart_passes_over_what_was_applied
        stop_hands_over_what_is_left
        the_compactor_learns_the_revision_at_a_tick
        w_18_a_hub_that_is_behind_reads_history
    ]);
}

mod engine_writer {
    use super::engine::Runner;

    rusd_kit::run_dir!("tests/scripts/engine", Runner::new(), [
        a_checkpoint_takes_half_of_the_time
        a_checkpoint_that_fails_is_tried_again_or_given_up
        a_copy_lets_batches_go_first_for_a_while
        a_defragmentation_that_fails
        a_defragmentation_waits_for_the_checkpoint
        close_ends_a_copy
        persist_by_bytes_and_by_interval
    ]);
}
