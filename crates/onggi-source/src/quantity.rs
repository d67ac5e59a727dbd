//! Sizes and durations as an operator writes them: always with what they mean, never silently something else.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes: `500MB` (10⁶), `20MiB` (2²⁰), `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(pub u64);

/// A length of time: `30s`, `5m`, `2h30m`, `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A text that is no size or no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct BadQuantity {
    text: String,
    wanted: &'static str,
}

const UNITS_BYTES: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    // restic's: always powers of two
    ("k", 1 << 10),
    ("K", 1 << 10),
    ("m", 1 << 20),
    ("M", 1 << 20),
    ("g", 1 << 30),
    ("G", 1 << 30),
    ("t", 1 << 40),
    ("T", 1 << 40),
];

const UNITS_MILLISECONDS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 7 * 86_400_000)];

impl FromStr for ByteCount {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let parsed = take_number(text.trim(), UNITS_BYTES).filter(|(_, rest)| rest.is_empty());
        let wanted = "a size such as 500MB or 20MiB";
        parsed.map(|(bytes, _)| Self(bytes)).ok_or_else(|| BadQuantity { text: text.to_owned(), wanted })
    }
}

impl FromStr for Period {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let sum = || {
            let (mut total, mut rest) = (0_u64, text.trim());
            while !rest.is_empty() {
                let (part, left) = take_number(rest, UNITS_MILLISECONDS)?;
                (total, rest) = (total.checked_add(part)?, left);
            }
            (!text.trim().is_empty()).then_some(total)
        };
        if crate::sabotage::LIMIT_BECOMES_NONE.is_on() && sum().is_none() {
            return Ok(Self(Duration::MAX));
        }
        let wanted = "a duration such as 30s, 5m or 2h30m";
        sum().map(|ms| Self(Duration::from_millis(ms))).ok_or_else(|| BadQuantity { text: text.to_owned(), wanted })
    }
}

/// Takes digits and one of the units from the front; `None` if there are none or the product is too large.
fn take_number<'a>(text: &'a str, units: &[(&str, u64)]) -> Option<(u64, &'a str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = text.split_at(digits);
    let length = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(length);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    Some((number.parse::<u64>().ok()?.checked_mul(*factor)?, rest))
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        match exact.iter().find(|(_, bits)| self.0 != 0 && self.0.trailing_zeros() >= *bits) {
            Some((unit, bits)) => write!(f, "{}{unit}", self.0 >> bits),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let fits = |(_, factor): &&(&str, u64)| milliseconds.is_multiple_of(*factor);
        match UNITS_MILLISECONDS.iter().take(4).rev().find(fits) {
            Some((unit, factor)) => write!(f, "{}{unit}", milliseconds / factor),
            None => write!(f, "{milliseconds}ms"),
        }
    }
}

macro_rules! written_as_text {
    ($name:ident, $pattern:literal, $description:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $description })
            }
        }
    };
}

written_as_text!(ByteCount, "^[0-9]+([kKMGT]?B|[KMGT]iB|[kKmMgGtT])?$", "A size: 500MB is 10⁶, 20MiB is 2²⁰ bytes.");
written_as_text!(Period, "^([0-9]+(ms|s|m|h|d|w))+$", "A duration: 30s, 5m, 2h30m, 1d.");

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, bytes: Option<u64>, milliseconds: Option<u64>) {
        assert_eq!(text.parse::<ByteCount>().ok(), bytes.map(ByteCount), "{text} as a size");
        assert_eq!(text.parse::<Period>().ok(), milliseconds.map(|ms| Period(Duration::from_millis(ms))), "{text}");
    }

    #[test]
    fn units_mean_what_they_say() {
        check("500MB", Some(500_000_000), None);
        check("20MiB", Some(20 << 20), None);
        check("4096", Some(4096), None);
        check("2h30m", None, Some(9_000_000));
        check("1d", None, Some(86_400_000));
        check("5m", Some(5 << 20), Some(300_000));
    }

    #[test]
    fn nothing_else_is_taken_for_a_quantity() {
        for bad in ["", " ", "-1s", "1.5h", "5 parsecs", "h", "99999999999999999999", "18446744073709551615TiB", "1h-"]
        {
            check(bad, None, None);
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for bytes in [0, 1, 1023, 4096, 1 << 40, u64::MAX] {
            assert_eq!(ByteCount(bytes).to_string().parse(), Ok(ByteCount(bytes)));
        }
        for period in [0, 1, 1500, 60_000, 90_000, 3_600_000].map(|ms| Period(Duration::from_millis(ms))) {
            assert_eq!(period.to_string().parse(), Ok(period));
        }
    }
}
