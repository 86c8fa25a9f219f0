//! What operators read about compactions: in the log and, of removals that are done, in the metrics.
#![allow(clippy::disallowed_methods)]

use crate::metrics;
use crate::pacing::Finished;
use crate::policy::AutoMode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn mode_name(auto: AutoMode) -> &'static str {
    match auto {
        AutoMode::Off => "no",
        AutoMode::Periodic { .. } => "periodic",
        AutoMode::Revisions { .. } => "revision",
    }
}

pub(crate) fn proposing(auto: AutoMode, revision: i64) {
    tracing::info!(revision, "starting auto {} compaction", mode_name(auto));
}

/// A proposed compaction is applied, or has failed.
pub(crate) fn proposed(auto: AutoMode, revision: i64, took: Duration, failure: Option<&str>) {
    let mode = mode_name(auto);
    match failure {
        None => tracing::info!(revision, ?took, "completed auto {mode} compaction"),
        Some(error) => tracing::warn!(revision, ?took, error, "failed auto {mode} compaction"),
    }
}

/// Everything that a compaction makes superfluous is removed.
pub(crate) fn finished(finished: &Finished, took: Duration) {
    metrics::TOTAL.observe(took.as_millis() as f64);
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    metrics::LAST.set(unix.as_secs() as f64);
    tracing::info!(
        "compact-revision" = finished.revision,
        ?took,
        "number-of-keys-compacted" = finished.removed,
        "finished scheduled compaction"
    );
}
