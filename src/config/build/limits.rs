//! Bounds on requests.

use crate::config::error::ConfigError;
use crate::config::model::Limits;
use crate::config::settings::{Settings, Warning};
use std::time::Duration;

/// Requests above this size make every member's log and every follower's memory suffer.
const MAX_REQUEST_BYTES_RECOMMENDED: u32 = 10 * 1024 * 1024;
/// The quota when none is given.
const QUOTA_BYTES_DEFAULT: u64 = 2 * 1024 * 1024 * 1024;
/// The quota above which recovery becomes slow.
const QUOTA_BYTES_RECOMMENDED: u64 = 8 * 1024 * 1024 * 1024;
/// More reader threads than this would be a typing error.
const READER_THREADS_MAX: u32 = 256;

pub(super) fn limits(settings: &mut Settings) -> Result<Limits, ConfigError> {
    let max_request_bytes = settings.get("max-request-bytes")?;
    if max_request_bytes > MAX_REQUEST_BYTES_RECOMMENDED {
        settings.warnings.push(Warning::new(format!(
            "--max-request-bytes is {max_request_bytes}, above the recommended maximum of \
             {MAX_REQUEST_BYTES_RECOMMENDED}"
        )));
    }
    let quota: i64 = settings.get("quota-backend-bytes")?;
    let quota_bytes = match quota {
        0 => Some(QUOTA_BYTES_DEFAULT),
        _ => u64::try_from(quota).ok(),
    };
    if let Some(bytes) = quota_bytes.filter(|&bytes| bytes > QUOTA_BYTES_RECOMMENDED) {
        settings.warnings.push(Warning::new(format!(
            "--quota-backend-bytes is {bytes}, above the recommended maximum of {QUOTA_BYTES_RECOMMENDED}"
        )));
    }
    let reader_threads = settings.get("reader-threads")?;
    if reader_threads == 0 || reader_threads > READER_THREADS_MAX {
        return Err(settings.bad(
            "reader-threads",
            format!("it must be between 1 and {READER_THREADS_MAX}"),
        ));
    }
    Ok(Limits {
        quota_bytes,
        reader_threads,
        max_txn_ops: settings.get("max-txn-ops")?,
        max_request_bytes,
        warning_unary_request_duration: settings
            .unless_zero("warning-unary-request-duration")?
            .unwrap_or(Duration::from_millis(300)),
        warning_apply_duration: settings.get("warning-apply-duration")?,
    })
}
