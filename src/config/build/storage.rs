//! The storage engine, and the compaction of history.

use crate::config::duration;
use crate::config::error::ConfigError;
use crate::config::model::{AutoCompaction, Compaction, RetentionMode, Storage};
use crate::config::settings::Settings;
use std::time::Duration;

pub(super) fn storage(settings: &Settings) -> Result<Storage, ConfigError> {
    let persist_bytes = settings.get("engine-persist-bytes")?;
    if persist_bytes == 0 {
        return Err(settings.bad("engine-persist-bytes", "it must be at least 1"));
    }
    let persist_interval = settings
        .unless_zero("engine-persist-interval")?
        .ok_or_else(|| settings.bad("engine-persist-interval", "it must be longer than 0"))?;
    let threshold_megabytes: u64 = settings.get("bootstrap-defrag-threshold-megabytes")?;
    Ok(Storage {
        engine: settings.get("storage-engine")?,
        cache_bytes: Some(settings.get("engine-cache-bytes")?).filter(|&bytes| bytes > 0),
        persist_bytes,
        persist_interval,
        checkpoint_interval: settings.unless_zero("checkpoint-interval")?,
        bootstrap_defrag_threshold_bytes: Some(threshold_megabytes * 1024 * 1024)
            .filter(|&bytes| bytes > 0),
    })
}

pub(super) fn compaction(settings: &Settings) -> Result<Compaction, ConfigError> {
    let retention: String = settings.get("auto-compaction-retention")?;
    let mode: RetentionMode = settings.get("auto-compaction-mode")?;
    let bad = |reason: String| settings.bad("auto-compaction-retention", reason);
    let auto = match (retention.parse::<u64>(), mode) {
        (Ok(0), _) => AutoCompaction::Off,
        (Ok(hours), RetentionMode::Periodic) => {
            let seconds = hours
                .checked_mul(3600)
                .filter(|&seconds| seconds <= duration::MAX_NANOS / 1_000_000_000);
            let seconds = seconds.ok_or_else(|| bad("it is too long a time".to_owned()))?;
            AutoCompaction::Periodic(Duration::from_secs(seconds))
        }
        (Ok(revisions), RetentionMode::Revision) => {
            let revisions =
                i64::try_from(revisions).map_err(|_| bad("it is too large".to_owned()))?;
            AutoCompaction::Revisions(revisions)
        }
        (Err(_), RetentionMode::Periodic) => match duration::parse(&retention).map_err(bad)? {
            Duration::ZERO => AutoCompaction::Off,
            period => AutoCompaction::Periodic(period),
        },
        (Err(_), RetentionMode::Revision) => {
            return Err(bad(
                "with --auto-compaction-mode=revision it is a number of revisions".to_owned(),
            ));
        }
    };
    Ok(Compaction {
        auto,
        batch_limit: match settings.get("compaction-batch-limit")? {
            0 => 1000,
            limit => limit,
        },
        sleep_interval: settings
            .unless_zero("compaction-sleep-interval")?
            .unwrap_or(Duration::from_millis(10)),
    })
}
