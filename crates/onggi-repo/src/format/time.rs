//! Instants as the format writes them: RFC 3339, up to nine digits of fraction, with the offset they were written in.

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::Offset};
use serde::{Deserialize, Deserializer, de};
use std::{cmp::Ordering, fmt, str::FromStr};

/// An instant and the offset from UTC in which it is shown. Compared by the instant alone.
#[derive(Clone, Copy)]
pub struct Time {
    /// The instant.
    pub instant: Timestamp,
    /// Seconds east of UTC; restic writes local times, onggi always zero.
    pub offset: i32,
}

/// A text is not an RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a time: {0:?}")]
pub struct BadTime(String);

impl Time {
    /// The instant in UTC.
    pub fn utc(instant: Timestamp) -> Self {
        Self { instant, offset: 0 }
    }

    /// Date and time on the clock where it was written.
    pub fn civil(&self) -> DateTime {
        Offset::from_seconds(self.offset).unwrap_or(Offset::UTC).to_datetime(self.instant)
    }
}

impl PartialEq for Time {
    fn eq(&self, other: &Self) -> bool {
        self.instant == other.instant
    }
}

impl Eq for Time {}

impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Time {
    fn cmp(&self, other: &Self) -> Ordering {
        self.instant.cmp(&other.instant)
    }
}

impl From<Timestamp> for Time {
    fn from(instant: Timestamp) -> Self {
        Self::utc(instant)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Time {
    /// As Go's `RFC3339Nano`; years outside 0 to 9999 become the nearest of these.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut civil = self.civil();
        if civil.year() < 0 {
            civil = civil.with().year(0).build().unwrap_or(civil);
        }
        let (date, time) = (civil.date(), civil.time());
        let (century, year) = (date.year() / 100, date.year() % 100);
        let fields = [century, year, date.month().into(), date.day().into()];
        let fields = fields.into_iter().chain([time.hour(), time.minute(), time.second()].map(i16::from));
        // written as often as there are files, three times each
        let mut text = *b"0000-00-00T00:00:00.000000000";
        for (at, field) in [0, 2, 5, 8, 11, 14, 17].into_iter().zip(fields) {
            write_digits(&mut text[at..at + 2], field.unsigned_abs().into());
        }
        write_digits(&mut text[20..], time.subsec_nanosecond().unsigned_abs());
        f.write_str(without_zeros(&text))?;
        let minutes = self.offset / 60;
        if minutes == 0 {
            return f.write_str("Z");
        }
        let sign = if minutes < 0 { '-' } else { '+' };
        write!(f, "{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
    }
}

/// Fills a field with the last digits of a number.
fn write_digits(field: &mut [u8], number: u32) {
    let mut left = number;
    for digit in field.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
}

/// Without the zeros at the end of the fraction, and without a fraction that has no other digits.
fn without_zeros(text: &[u8]) -> &str {
    let end = text.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
    let text = text[..end].strip_suffix(b".").unwrap_or(&text[..end]);
    std::str::from_utf8(text).expect("digits are ASCII")
}

impl FromStr for Time {
    type Err = BadTime;

    fn from_str(text: &str) -> Result<Self, BadTime> {
        parse(text.as_bytes()).ok_or_else(|| BadTime(text.chars().take(40).collect()))
    }
}

fn parse(text: &[u8]) -> Option<Time> {
    let (whole, rest) = text.split_at_checked(19)?;
    let is_shaped =
        whole[4] == b'-' && whole[7] == b'-' && whole[10] | 0x20 == b't' && whole[13] == b':' && whole[16] == b':';
    if !is_shaped {
        return None;
    }
    let field = |from: usize, len: usize| digits(&whole[from..from + len]);
    let (nanoseconds, rest) = fraction(rest)?;
    let (year, second) = (i16::try_from(field(0, 4)?).ok()?, small(field(17, 2)?)?);
    let date = jiff::civil::Date::new(year, small(field(5, 2)?)?, small(field(8, 2)?)?).ok()?;
    let time = jiff::civil::Time::new(small(field(11, 2)?)?, small(field(14, 2)?)?, second, nanoseconds).ok()?;
    let offset = offset(rest)?;
    // The last hours of the year 9999 lie beyond what an instant can hold.
    let as_utc = Offset::UTC.to_timestamp(date.to_datetime(time)).unwrap_or(Timestamp::MAX);
    let instant = as_utc.saturating_sub(SignedDuration::from_secs(i64::from(offset))).ok()?;
    Some(Time { instant, offset })
}

fn small(value: u32) -> Option<i8> {
    i8::try_from(value).ok()
}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |value: u32, &byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')))
}

/// The fraction in nanoseconds, if there is one, and what follows. Digits beyond the ninth are dropped.
fn fraction(text: &[u8]) -> Option<(i32, &[u8])> {
    let Some(text) = text.strip_prefix(b".") else { return Some((0, text)) };
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, rest) = text.split_at(length);
    let known = digits(&fraction[..length.min(9)])?;
    let scale = 10_u32.pow(9 - length.min(9) as u32);
    (length > 0).then_some((i32::try_from(known * scale).ok()?, rest))
}

fn offset(text: &[u8]) -> Option<i32> {
    match text {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            let seconds = i32::try_from(hours * 3600 + minutes * 60).ok()?;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl serde::Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str) {
        assert_eq!(text.parse::<Time>().unwrap().to_string(), text);
    }

    #[test]
    fn times_are_written_as_they_were_read() {
        check("2026-11-20T11:26:36.243103549Z");
        check("2026-11-20T11:26:36.4Z");
        check("2026-11-20T11:26:36Z");
        check("2026-11-20T11:26:36.000000001+05:30");
        check("1969-12-31T23:59:59.5-11:00");
        check("0000-01-01T00:00:00Z");
        check("9999-12-30T21:59:59.999999999Z");
    }

    #[test]
    fn only_the_instant_counts_in_a_comparison() {
        assert_eq!("2026-01-01T01:00:00+01:00".parse::<Time>(), "2026-01-01T00:00:00Z".parse());
        assert!("2026-01-01T00:30:00+01:00".parse::<Time>().unwrap() < "2026-01-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn years_before_zero_are_shown_as_year_zero() {
        let instant = "-000099-03-01T00:00:00Z".parse::<Timestamp>().unwrap();
        assert_eq!(Time::utc(instant).to_string(), "0000-03-01T00:00:00Z");
    }

    #[test]
    fn the_last_day_of_the_year_9999_is_the_last_instant() {
        let time: Time = "9999-12-31T23:59:59.999999999Z".parse().unwrap();
        assert_eq!(time.instant, Timestamp::MAX);
    }

    #[test]
    fn other_texts_are_no_times() {
        for text in [
            "",
            "2026-11-20",
            "2026-11-20T11:26:36",
            "2026-13-20T11:26:36Z",
            "2026-11-20T11:26:36.Z",
            "2026-11-20T11:26:36+0100",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_texts_never_panic(text in any::<String>()) {
            let _ = text.parse::<Time>();
        }

        #[test]
        fn every_instant_is_read_back(second in -62_167_219_200..253_402_207_200_i64, nanosecond in 0..1_000_000_000, minutes in -1439..1440) {
            let instant = Timestamp::new(second, nanosecond).unwrap_or_default();
            let time = Time { instant, offset: minutes * 60 };
            if (0..=9999).contains(&time.civil().year()) {
                let read: Time = time.to_string().parse().unwrap();
                prop_assert_eq!(read.instant, instant);
                prop_assert_eq!(read.offset, time.offset);
            }
        }
    }
}
