//! Settings of checks, compaction, watch, and unsafe switches.

use super::Section::Features;
use super::Status::{Moot, Works};
use super::{Flag, flag};
use crate::config::value::Kind::{Bool, Duration, Int, Uint};

const NOBODY_TO_COMPARE: &str = "a single member has nobody to compare itself with";

pub(super) const FLAGS: &[Flag] = &[
    flag(
        "corrupt-check-time",
        Features,
        Duration,
        "0s",
        Moot(NOBODY_TO_COMPARE),
        "Interval at which the leader compares the members' data. 0: never.",
    ),
    flag(
        "compact-hash-check-time",
        Features,
        Duration,
        "1m",
        Moot(NOBODY_TO_COMPARE),
        "Interval at which the leader compares the members' compaction hashes.",
    ),
    flag(
        "compaction-batch-limit",
        Features,
        Uint(32),
        "1000",
        Works,
        "Most revisions removed in one step of a compaction.",
    ),
    flag(
        "compaction-sleep-interval",
        Features,
        Duration,
        "10ms",
        Works,
        "Pause between two steps of a compaction.",
    ),
    flag(
        "watch-progress-notify-interval",
        Features,
        Duration,
        "10m",
        Works,
        "Interval at which an idle watcher that asked for it is told the revision.",
    ),
    flag(
        "bootstrap-defrag-threshold-megabytes",
        Features,
        Uint(32),
        "0",
        Works,
        "Rewrite the storage at start if that frees at least so many megabytes. 0: never.",
    ),
    flag(
        "max-learners",
        Features,
        Int,
        "1",
        Moot("the membership of a single member does not change"),
        "Most learners in the cluster.",
    ),
    flag(
        "downgrade-check-time",
        Features,
        Duration,
        "5s",
        Moot("a single member has no other version to follow"),
        "Interval at which a running downgrade is checked.",
    ),
    flag(
        "force-new-cluster",
        Features,
        Bool,
        "false",
        Moot("the cluster of a single member is already this member alone"),
        "Make a cluster of this member alone out of its data.",
    ),
    flag(
        "unsafe-no-fsync",
        Features,
        Bool,
        "false",
        Works,
        "Do not wait for the disk. A power failure then loses acknowledged writes.",
    ),
];
