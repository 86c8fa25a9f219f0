//! Times as log lines and old log files show them, in UTC.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment in the civil calendar.
struct Civil {
    year: i64,
    month: u32,
    day: u32,
    hour: u64,
    minute: u64,
    second: u64,
    micros: u32,
}

/// The civil time of a moment. A clock set before 1970 shows 1970.
fn civil(time: SystemTime) -> Civil {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = date(i64::try_from(seconds / 86_400).unwrap_or(0));
    Civil {
        year,
        month,
        day,
        hour: seconds / 3600 % 24,
        minute: seconds / 60 % 60,
        second: seconds % 60,
        micros: since.subsec_micros(),
    }
}

/// The proleptic Gregorian date of a day counted from 1970-01-01. Years are counted from March, so that the leap day
/// is the last of its year; an era is the 400 years after which the calendar repeats.
fn date(days_since_1970: i64) -> (i64, u32, u32) {
    let days = days_since_1970 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (
        year,
        u32::try_from(month).unwrap_or(1),
        u32::try_from(day).unwrap_or(1),
    )
}

/// Appends `2026-11-21T07:16:05.506652Z`.
pub(super) fn push_rfc3339_micros(time: SystemTime, out: &mut String) {
    let Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
        micros,
    } = civil(time);
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
    );
}

/// `2026-11-21T07-16-05.506`, which a file name may contain and which sorts by time.
pub(super) fn for_file_name(time: SystemTime) -> String {
    let Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
        micros,
    } = civil(time);
    let millis = micros / 1000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}.{millis:03}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

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
    }

    proptest! {
        #[test]
        fn later_days_have_later_dates(day in 0_i64..3_000_000) {
            prop_assert!(date(day) < date(day + 1));
        }
    }
}
