//! Times as log lines and old log files show them, in UTC.

use jiff::Timestamp;
use std::fmt::Write as _;
use std::time::SystemTime;

/// The length of [`for_file_name`].
pub(super) const FILE_NAME_LEN: usize = "2026-11-21T07-16-05.506".len();

/// A clock that is set beyond year 9999 shows 1970.
fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Appends `2026-11-21T07:16:05.506652Z`.
pub(super) fn push_rfc3339_micros(time: SystemTime, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{:.6}", timestamp(time));
}

/// `2026-11-21T07-16-05.506`, which a file name may contain and which sorts by time.
pub(super) fn for_file_name(time: SystemTime) -> String {
    timestamp(time)
        .strftime("%Y-%m-%dT%H-%M-%S.%3f")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn shown(seconds: u64, micros: u32) -> String {
        let mut out = String::new();
        push_rfc3339_micros(UNIX_EPOCH + Duration::new(seconds, micros * 1000), &mut out);
        out
    }

    #[test]
    fn o17_times_are_rfc3339_with_microseconds_in_utc() {
        assert_eq!(shown(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(shown(951_782_400, 1), "2000-02-29T00:00:00.000001Z");
        assert_eq!(shown(1_795_245_365, 506_652), "2026-11-21T07:16:05.506652Z");
        assert_eq!(shown(4_107_542_399, 999_999), "2100-02-28T23:59:59.999999Z");
        assert_eq!(shown(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
        assert_eq!(shown(1 << 60, 0), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn a_time_in_a_file_name_has_one_length() {
        let time = UNIX_EPOCH + Duration::new(1_795_245_365, 506_652_999);
        assert_eq!(for_file_name(time), "2026-11-21T07-16-05.506");
        assert_eq!(for_file_name(UNIX_EPOCH).len(), FILE_NAME_LEN);
    }
}
