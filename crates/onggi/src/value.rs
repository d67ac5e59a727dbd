//! Values on the command line: sizes, rates, durations, times, shares. Each parser refuses what it does not understand
//! and shows the text.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// A size in bytes: `500`, `4KiB`, `16M`, `2GB`. `MB` is 10⁶, `MiB` and restic's `M` are 2²⁰.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// Bytes per second: `10MiB/s`, `500MB/s`. Without a unit KiB/s, as restic has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub u64);

/// A duration: `30s`, `10m`, `1h30m`, `2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A moment: `2026-11-03 22:08:41` in local time, `2026-11-03`, or with an offset as in RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment(pub Zoned);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        scaled(text)
            .map(|(size, _)| Self(size))
            .ok_or_else(|| format!("`{text}` is not a size such as 500MB, 16MiB or 2G"))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refusal = || format!("`{text}` is not a rate such as 10MiB/s or 500MB/s");
        let (rate, has_unit) = scaled(text.strip_suffix("/s").unwrap_or(text)).ok_or_else(refusal)?;
        let rate = if has_unit || text.ends_with("/s") { rate } else { rate.checked_mul(1024).ok_or_else(refusal)? };
        if rate == 0 { Err(refusal()) } else { Ok(Self(rate)) }
    }
}

/// A number with an optional unit, and whether it had one.
fn scaled(text: &str) -> Option<(u64, bool)> {
    let text = text.trim();
    let split = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    let size = match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(factor)?,
        Err(_) => fraction(number, factor)?,
    };
    Some((size, !unit.is_empty()))
}

fn fraction(number: &str, factor: u64) -> Option<u64> {
    let value = number.parse::<f64>().ok()? * factor as f64;
    #[expect(clippy::cast_sign_loss, reason = "digits and a point are never negative")]
    (value.is_finite() && value < 1e18).then_some(value as u64)
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        span(text).map(Self).ok_or_else(|| format!("`{text}` is not a duration such as 30s, 10m or 1h30m"))
    }
}

fn span(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = 0u64;
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].find(|char: char| char.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let seconds = match &rest[digits..unit] {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(seconds)?)?;
        rest = &rest[unit..];
    }
    Some(Duration::from_secs(total))
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        moment(text).map(Self).ok_or_else(|| format!("`{text}` is not a time such as 2026-11-03 22:08:41"))
    }
}

fn moment(text: &str) -> Option<Zoned> {
    if let Ok(exact) = text.parse::<Timestamp>() {
        return Some(exact.to_zoned(offset_of(text).unwrap_or(TimeZone::UTC)));
    }
    text.parse::<DateTime>().ok()?.to_zoned(TimeZone::system()).ok()
}

/// The offset that an RFC 3339 text names, to show the time as it was given.
fn offset_of(text: &str) -> Option<TimeZone> {
    let pieces = jiff::fmt::temporal::DateTimeParser::new().parse_pieces(text).ok()?;
    pieces.to_numeric_offset().map(TimeZone::fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: FromStr<Err = String>>(text: &str, read: impl Fn(T) -> u64, expected: Option<u64>) {
        assert_eq!(text.parse::<T>().ok().map(read), expected, "{text}");
    }

    #[test]
    fn sizes_carry_units() {
        for (text, expected) in
            [("500", Some(500)), ("4KiB", Some(4096)), ("16M", Some(16 << 20)), ("2GB", Some(2_000_000_000))]
        {
            check(text, |size: Size| size.0, expected);
        }
        for text in ["", "M", "-1", "1.5.2G", "1XB", "99999999999T", "1e9"] {
            check(text, |size: Size| size.0, None);
        }
        check("1.5K", |size: Size| size.0, Some(1536));
    }

    #[test]
    fn a_rate_without_unit_is_restics() {
        check("512", |rate: Rate| rate.0, Some(512 * 1024));
        check("500MB/s", |rate: Rate| rate.0, Some(500_000_000));
        check("10MiB", |rate: Rate| rate.0, Some(10 << 20));
        check("0", |rate: Rate| rate.0, None);
    }

    #[test]
    fn durations_are_sums() {
        check("1h30m", |span: Span| span.0.as_secs(), Some(5400));
        check("0", |span: Span| span.0.as_secs(), Some(0));
        for text in ["", "10", "m", "1h30", "1y", "h1"] {
            check(text, |span: Span| span.0.as_secs(), None);
        }
    }

    #[test]
    fn a_time_keeps_the_offset_it_was_given_with() {
        let moment: Moment = "2026-11-03T22:08:41+09:00".parse().unwrap();
        assert_eq!(moment.0.offset().seconds(), 9 * 3600);
        assert_eq!(moment.0.timestamp().to_string(), "2026-11-03T13:08:41Z");
        assert!("2026-11-03 22:08:41".parse::<Moment>().is_ok());
        assert!("2026-11-03".parse::<Moment>().is_ok());
        assert!("yesterday".parse::<Moment>().is_err());
    }
}
