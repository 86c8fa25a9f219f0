//! Booleans and whole numbers as Go's flag package reads them, because scripts written for etcd rely on it.
//!
//! Booleans are `1 t T true True TRUE` and their opposites; integers may be decimal, `0x`, `0o`, `0b` or octal with a
//! leading zero, and may have underscores.

/// Reads a boolean by Go's rules.
pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// Reads an unsigned integer by Go's rules.
pub(super) fn parse_uint(text: &str, bits: u32) -> Result<u64, String> {
    let value =
        magnitude(text).ok_or_else(|| format!("{text:?} is not a whole number of at least 0"))?;
    let max = u64::MAX >> (64 - bits.clamp(1, 64));
    if value > u128::from(max) {
        return Err(format!("{text:?} is above {max}"));
    }
    u64::try_from(value).map_err(|_| format!("{text:?} is above {max}"))
}

/// Reads a signed integer by Go's rules.
pub(super) fn parse_int(text: &str) -> Result<i64, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = magnitude(digits)
        .and_then(|value| i128::try_from(value).ok())
        .ok_or_else(|| format!("{text:?} is not a whole number"))?;
    let signed = if negative { -value } else { value };
    i64::try_from(signed).map_err(|_| format!("{text:?} does not fit in 64 bits"))
}

/// Reads digits with an optional base prefix and single underscores between digits.
fn magnitude(text: &str) -> Option<u128> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let underscores_ok = !digits.ends_with('_')
        && !digits.contains("__")
        && (radix != 10 || !digits.starts_with('_'));
    let plain = digits.replace('_', "");
    if !underscores_ok || plain.is_empty() || !plain.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    u128::from_str_radix(&plain, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn f01_booleans_and_numbers_are_read_as_go_reads_them() {
        assert_eq!(parse_bool("T"), Ok(true));
        assert!(parse_bool("yes").is_err());
        assert!(parse_bool("").is_err());
        for (text, value) in [
            ("0", 0),
            ("10", 10),
            ("0x10", 16),
            ("0o17", 15),
            ("017", 15),
            ("0b11", 3),
            ("0x1_0", 16),
            ("1_0", 10),
        ] {
            assert_eq!(parse_uint(text, 64), Ok(value), "{text}");
        }
        for text in [
            "",
            "-1",
            "+1",
            "_10",
            "1__0",
            "10_",
            "08",
            "0x",
            "1.5",
            " 1",
            "1 ",
            "18446744073709551616",
        ] {
            assert!(parse_uint(text, 64).is_err(), "{text:?}");
        }
        assert_eq!(parse_uint("4294967295", 32), Ok(u64::from(u32::MAX)));
        assert!(parse_uint("4294967296", 32).is_err());
        assert_eq!(parse_int("-9223372036854775808"), Ok(i64::MIN));
        assert!(parse_int("9223372036854775808").is_err());
    }

    proptest! {
        #[test]
        fn decimal_numbers_read_back(value: i64) {
            prop_assert_eq!(parse_int(&value.to_string()), Ok(value));
        }
    }
}
