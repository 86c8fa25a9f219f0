//! The log line of a call that took too long (G-12): what was asked, never the values.

use bytes::Bytes;
use std::fmt;
use std::time::{Duration, Instant};
use tracing::warn;

/// What a slow call is described by.
#[derive(Debug)]
pub enum Content {
    /// A key or range, and the size of the value that came with it.
    Keys {
        /// The first key.
        key: Bytes,
        /// The end of the range; empty for a single key.
        range_end: Bytes,
        /// The size of the value, for a put.
        value_bytes: Option<usize>,
    },
    /// A transaction.
    Txn {
        /// How many compares it has.
        compares: usize,
        /// Operations if they hold.
        success: usize,
        /// Operations if not.
        failure: usize,
    },
    /// Anything else.
    Other,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys {
                key,
                range_end,
                value_bytes,
            } => {
                write!(f, "key:\"{}\"", key.escape_ascii())?;
                if !range_end.is_empty() {
                    write!(f, " range_end:\"{}\"", range_end.escape_ascii())?;
                }
                match value_bytes {
                    Some(bytes) => write!(f, " value_size:{bytes}"),
                    None => Ok(()),
                }
            }
            Self::Txn {
                compares,
                success,
                failure,
            } => write!(f, "compare:{compares} success:{success} failure:{failure}"),
            Self::Other => Ok(()),
        }
    }
}

/// Logs a call that took longer than `--warning-unary-request-duration`; 0 switches that off.
pub fn warn_if_slow(method: &str, started: Instant, slow_after: Duration, content: &Content) {
    if slow_after.is_zero() {
        return;
    }
    let took = started.elapsed();
    if took > slow_after {
        warn!(
            "time spent" = ?took,
            "expected duration" = ?slow_after,
            "response type" = method,
            "request content" = %content,
            "request stats"
        );
    }
}
