//! Durations as Go writes them: `300ms`, `1h30m`, `1.5s`.
//!
//! Every duration flag and variable is in this form, and so are the duration keys of `rusd.toml`. (The duration keys
//! of etcd's own YAML file are integer nanoseconds instead.) A duration here is never negative: no setting of the
//! server has a use for one.

use std::time::Duration;

/// What a unit is worth in nanoseconds. The micro sign and the Greek letter mu are both in use.
const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The longest duration that Go's 64-bit nanoseconds can hold, about 292 years.
pub const MAX_NANOS: u64 = i64::MAX as u64;

/// Reads a duration: a sequence of decimal numbers, each with an optional fraction and a unit; or a bare `0`.
pub fn parse(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a duration such as \"300ms\", \"5s\" or \"1h30m\"");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if let Some(magnitude) = rest.strip_prefix('-') {
        return match parse(magnitude) {
            Ok(Duration::ZERO) => Ok(Duration::ZERO),
            Ok(_) => Err(format!("{text:?} is negative")),
            Err(_) => Err(bad()),
        };
    }
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total_nanos = 0_u64;
    while !rest.is_empty() {
        let (nanos, after) = term(rest).ok_or_else(bad)?;
        total_nanos = total_nanos
            .checked_add(nanos)
            .filter(|&total| total <= MAX_NANOS)
            .ok_or_else(|| format!("{text:?} is too long a time"))?;
        rest = after;
    }
    Ok(Duration::from_nanos(total_nanos))
}

/// One `number unit` pair at the start of `text`: its nanoseconds, and what follows it.
fn term(text: &str) -> Option<(u64, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(after_point) => digits(after_point),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let unit_end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, after) = rest.split_at(unit_end);
    let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    let whole_value: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut nanos = whole_value.checked_mul(scale)?;
    // Digits beyond what a nanosecond can show are dropped, as in Go.
    let mut weight = scale;
    for digit in fraction.bytes() {
        weight /= 10;
        nanos = nanos.checked_add(u64::from(digit - b'0') * weight)?;
    }
    Some((nanos, after))
}

/// The ASCII digits at the start of `text`, and what follows them.
fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// Writes a duration as Go prints it: `1m0s`, `2h0m0s`, `100ms`, `0s`.
pub fn format(duration: Duration) -> String {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (scale, unit) = match nanos {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "\u{b5}s"),
            _ => (1_000_000, "ms"),
        };
        return format!("{}{unit}", decimal(nanos, scale));
    }
    let minutes_total = nanos / 60_000_000_000;
    let seconds = format!("{}s", decimal(nanos % 60_000_000_000, 1_000_000_000));
    match (minutes_total / 60, minutes_total % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

/// `nanos / scale` in decimal, without trailing zeros.
fn decimal(nanos: u64, scale: u64) -> String {
    let width = scale.ilog10() as usize;
    if width == 0 || nanos.is_multiple_of(scale) {
        return (nanos / scale).to_string();
    }
    let fraction = format!("{:0width$}", nanos % scale);
    format!("{}.{}", nanos / scale, fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn f06_command_line_durations_are_go_durations() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1m1ms1us1ns", 60_001_001_001),
            ("3\u{b5}s", 3_000),
            ("3\u{3bc}s", 3_000),
            ("0.0000000001s", 0),
        ] {
            assert_eq!(parse(text).unwrap(), Duration::from_nanos(nanos), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "5x",
            "-1s",
            ".s",
            "5s ",
            " 5s",
            "1e3s",
            "9999999999h",
            "--1s",
            "10 m",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5\u{b5}s"),
            (100_000_000, "100ms"),
            (1_000_000_000, "1s"),
            (60_000_000_000, "1m0s"),
            (7_200_000_000_000, "2h0m0s"),
            (5_430_500_000_000, "1h30m30.5s"),
        ] {
            assert_eq!(format(Duration::from_nanos(nanos)), text);
        }
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back(nanos in 0..=MAX_NANOS) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "[-+.0-9a-z\u{b5}]{0,12}") {
            let _ = parse(&text);
        }
    }
}
