//! Durations, sizes, rates and names as the file writes them. A number without its unit is refused: nobody remembers
//! which one was meant.

use std::time::Duration;

pub use onggi_source::secret::{SECRET_FORM, SecretReference};

/// Reads `90s`, `30m`, `1h30m`, `26h`, `2d`, `1w`.
pub fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 5] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];
    let wrong = || format!("{text:?} is no duration");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0u64);
    while !rest.is_empty() {
        let (number, tail) = split_number(rest).ok_or_else(wrong)?;
        let end = tail.find(|letter: char| letter.is_ascii_digit()).unwrap_or(tail.len());
        let unit = UNITS.iter().find(|(unit, _)| *unit == &tail[..end]).ok_or_else(wrong)?.1;
        seconds = number.checked_mul(unit).and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
        rest = &tail[end..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_secs(seconds)) }
}

/// What a duration looks like, for remedies.
pub const DURATION_FORM: &str = "write a number with s, m, h, d or w: 90s, 30m, 26h";

/// Reads `64KiB`, `500MB`, `4 GiB`, `512B`; `MB` is 10⁶, `MiB` 2²⁰.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size");
    let (number, unit) = split_number(text).ok_or_else(wrong)?;
    let factor = byte_unit(unit.trim_start()).ok_or_else(wrong)?;
    number.checked_mul(factor).ok_or_else(wrong)
}

/// What a size looks like, for remedies.
pub const SIZE_FORM: &str = "write a number with B, kB, MB, GB (powers of 1000) or KiB, MiB, GiB (powers of 1024)";

/// Reads `500MB/s`, `40MiB/s`, `100Mbit/s`; the answer is in bytes per second.
pub fn rate(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no rate");
    let amount = text.strip_suffix("/s").ok_or_else(wrong)?;
    let (number, unit) = split_number(amount).ok_or_else(wrong)?;
    let bytes = match unit.trim_start().strip_suffix("bit") {
        Some(prefix) => number.checked_mul(byte_unit(&format!("{prefix}B")).ok_or_else(wrong)?).map(|bits| bits / 8),
        None => number.checked_mul(byte_unit(unit.trim_start()).ok_or_else(wrong)?),
    };
    bytes.filter(|rate| *rate > 0).ok_or_else(wrong)
}

/// What a rate looks like, for remedies.
pub const RATE_FORM: &str = "write a size or bits per second: 500MB/s, 40MiB/s, 100Mbit/s";

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

fn byte_unit(unit: &str) -> Option<u64> {
    let (prefix, base) = match unit.strip_suffix('B')? {
        prefix if prefix.ends_with('i') => (prefix.trim_end_matches('i'), 1024u64),
        prefix => (prefix, 1000),
    };
    let power = match prefix {
        "" if base == 1000 => 0,
        "k" | "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return None,
    };
    base.checked_pow(power)
}

/// Whether this may name a storage, repository, source or policy.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_units() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("26h", 93_600), ("2d", 172_800), ("0", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "90", "m", "1.5h", "1 h", "-1s", "1y", "99999999999999999999s", "999999999999999w", "5min"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_megabyte_is_not_a_mebibyte() {
        for (text, bytes) in [("500MB", 500_000_000), ("64KiB", 65_536), ("1 GiB", 1 << 30), ("7B", 7), ("3kB", 3000)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["500", "MB", "1.5MB", "5iB", "20000000TiB", "5mb"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_bytes_per_second() {
        for (text, bytes) in [("500MB/s", 500_000_000), ("40MiB/s", 40 << 20), ("100Mbit/s", 12_500_000)] {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        for text in ["500MB", "5/s", "0MB/s", "4bit/s"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
