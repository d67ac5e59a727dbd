//! Rates by the time of the day, and one allowance that all hosts share.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;

use super::config::ByteRate;

/// Another rate at some times.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RateWindow {
    /// When: `Mon..Fri 08:00-19:00`, `Sat,Sun 00:00-24:00`, `22:00-06:00`.
    #[schemars(with = "String")]
    pub at: Hours,
    /// The most that is read then, in bytes per second.
    pub rate: ByteRate,
}

/// Days of the week and hours of the day; over midnight if they end before they begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    days: Vec<Weekday>,
    from: Time,
    to: Time,
    /// `24:00`, or over midnight.
    text: String,
}

/// A text that names no hours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no hours: write `Mon..Fri 08:00-19:00` or `22:00-06:00`")]
pub struct BadHours(String);

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

impl FromStr for Hours {
    type Err = BadHours;

    fn from_str(text: &str) -> Result<Self, BadHours> {
        let read = || {
            let (days, hours) = text.trim().rsplit_once(' ').unwrap_or(("Mon..Sun", text.trim()));
            let (from, to) = hours.split_once('-')?;
            let mut list = Vec::new();
            for part in days.split(',') {
                let (first, last) = part.split_once("..").unwrap_or((part, part));
                let (first, last) = (day(first)?, day(last)?);
                list.extend((0..7).map(|step| DAYS[(first + step) % 7].1).take((last + 7 - first) % 7 + 1));
            }
            Some(Self { days: list, from: time(from)?, to: time(to)?, text: text.to_owned() })
        };
        read().ok_or_else(|| BadHours(text.to_owned()))
    }
}

fn day(text: &str) -> Option<usize> {
    DAYS.iter().position(|(name, _)| name.eq_ignore_ascii_case(text.trim()))
}

fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.trim().split_once(':')?;
    match (hour.parse().ok()?, minute.parse().ok()?) {
        (24, 0) => Some(Time::MAX),
        (hour, minute) => Time::new(hour, minute, 0, 0).ok(),
    }
}

impl Hours {
    fn has(&self, now: Timestamp, zone: &TimeZone) -> bool {
        let now = zone.to_datetime(now);
        let on = |day: Weekday| self.days.contains(&day);
        let (day, time) = (now.weekday(), now.time());
        if self.from <= self.to {
            return on(day) && (self.from..=self.to).contains(&time);
        }
        on(day) && time >= self.from || on(day.previous()) && time < self.to
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What all hosts of a source may send together.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    sharers: AtomicU64,
}

/// A host that takes its share until this is dropped.
pub(super) struct Share<'a>(&'a Allowance);

impl Allowance {
    pub(super) fn join(&self) -> Share<'_> {
        self.sharers.fetch_add(1, Ordering::Relaxed);
        Share(self)
    }
}

impl Share<'_> {
    /// Bytes per second for this host now; 0: as many as can be. The first window that has the moment counts.
    pub(super) fn rate(&self, windows: &[RateWindow], now: Timestamp, zone: &TimeZone) -> u64 {
        let all = windows.iter().find(|window| window.at.has(now, zone)).map_or(0, |window| window.rate.0);
        if all == 0 { 0 } else { (all / self.0.sharers.load(Ordering::Relaxed).max(1)).max(1) }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.0.sharers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(hours: &str, moment: &str, expected: bool) {
        let hours: Hours = hours.parse().unwrap();
        assert_eq!(hours.has(moment.parse().unwrap(), &TimeZone::UTC), expected, "{hours} at {moment}");
    }

    #[test]
    fn hours_hold_on_their_days() {
        check("Mon..Fri 08:00-19:00", "2026-11-26T08:00:00Z", true); // a Thursday
        check("Mon..Fri 08:00-19:00", "2026-11-26T07:59:59Z", false);
        check("Mon..Fri 08:00-19:00", "2026-11-28T12:00:00Z", false);
        check("Sat,Sun 00:00-24:00", "2026-11-28T23:59:59Z", true);
        check("Fri..Mon 00:00-24:00", "2026-11-29T03:00:00Z", true);
    }

    #[test]
    fn hours_over_midnight_belong_to_the_day_they_begin_on() {
        check("22:00-06:00", "2026-11-26T23:00:00Z", true);
        check("22:00-06:00", "2026-11-26T05:59:00Z", true);
        check("22:00-06:00", "2026-11-26T06:00:00Z", false);
        check("Thu 22:00-06:00", "2026-11-27T01:00:00Z", true);
        check("Thu 22:00-06:00", "2026-11-26T01:00:00Z", false);
    }

    #[test]
    fn what_names_no_hours_is_refused() {
        for text in ["", "08:00", "Foo 08:00-09:00", "25:00-26:00", "Mon 8-9"] {
            assert!(text.parse::<Hours>().is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_share_the_rate_of_the_window() {
        let windows = [RateWindow { at: "00:00-24:00".parse().unwrap(), rate: ByteRate(9000) }];
        let (allowance, now) = (Allowance::default(), Timestamp::UNIX_EPOCH);
        let first = allowance.join();
        assert_eq!(first.rate(&windows, now, &TimeZone::UTC), 9000);
        let second = allowance.join();
        assert_eq!(second.rate(&windows, now, &TimeZone::UTC), 4500);
        drop(first);
        assert_eq!((second.rate(&windows, now, &TimeZone::UTC), second.rate(&[], now, &TimeZone::UTC)), (9000, 0));
    }
}
