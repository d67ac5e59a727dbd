//! What to keep: counts per period, spans of time, tags. A rule that is not understood is an error, never "nothing".

use crate::sabotage;
use jiff::{Span, Timestamp, civil::DateTime};
use std::{fmt, str::FromStr};

/// A stretch of time on the calendar, in the words of restic: `1y6m7d12h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CalendarSpan {
    years: u16,
    months: u16,
    days: u32,
    hours: u32,
}

impl CalendarSpan {
    fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// The moment so long before another, on the same clock.
    pub(super) fn before(self, moment: DateTime) -> DateTime {
        let span = Span::new()
            .years(self.years.min(9999))
            .months(self.months.min(9999))
            .days(self.days.min(999_999))
            .hours(self.hours.min(9_999_999));
        moment.saturating_sub(span)
    }
}

impl FromStr for CalendarSpan {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        let bad = || BadRule(text.into());
        let mut span = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u32 = rest[..digits].parse().map_err(|_| bad())?;
            let small = || u16::try_from(number).map_err(|_| bad());
            match rest.as_bytes().get(digits) {
                Some(b'y') => span.years = small()?,
                Some(b'm') => span.months = small()?,
                Some(b'd') => span.days = number,
                Some(b'h') => span.hours = number,
                _ => return Err(bad()),
            }
            rest = &rest[digits + 1..];
        }
        if span.is_zero() { Err(bad()) } else { Ok(span) }
    }
}

impl fmt::Display for CalendarSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(self.years.into(), 'y'), (self.months.into(), 'm'), (self.days, 'd'), (self.hours, 'h')];
        parts.iter().filter(|(number, _)| *number > 0).try_for_each(|(number, unit)| write!(f, "{number}{unit}"))
    }
}

/// How many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// All of them.
    All,
    /// So many; never zero.
    Of(u32),
}

impl FromStr for Count {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        match text {
            "all" | "unlimited" | "-1" => Ok(Self::All),
            _ => match text.parse() {
                Ok(0) | Err(_) => Err(BadRule(text.into())),
                Ok(count) => Ok(Self::Of(count)),
            },
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Of(count) => count.fmt(f),
        }
    }
}

/// Stretches of the calendar of which one snapshot each is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// Every snapshot is a period of its own.
    Each,
    /// Hours.
    Hour,
    /// Days.
    Day,
    /// Weeks of the ISO calendar.
    Week,
    /// Months.
    Month,
    /// Years.
    Year,
}

impl Period {
    /// Names that period of a moment.
    pub(super) fn key(self, moment: DateTime, position: usize) -> [i32; 4] {
        let date = moment.date();
        let (year, month, day) = (i32::from(date.year()), i32::from(date.month()), i32::from(date.day()));
        match self {
            Self::Each => [i32::try_from(position).unwrap_or(i32::MAX), 0, 0, 0],
            Self::Hour => [year, month, day, i32::from(moment.hour())],
            Self::Day => [year, month, day, 0],
            Self::Week => {
                let week = date.iso_week_date();
                [i32::from(week.year()), i32::from(week.week()), 0, 0]
            }
            Self::Month => [year, month, 0, 0],
            Self::Year => [year, 0, 0, 0],
        }
    }

    /// The word of the rule, as in `daily`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Each => "last",
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        let all = [Self::Each, Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];
        all.into_iter().find(|period| period.word() == word)
    }
}

/// One rule; what any rule keeps is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// One of each of so many periods that have any.
    Count(Period, Count),
    /// One of each period within a span before the newest snapshot; of `Each`, all.
    Within(Period, CalendarSpan),
    /// All that bear every one of these tags.
    Tags(Vec<String>),
}

/// A retention policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<Rule>,
}

/// A rule is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a retention rule: {0:?}")]
pub struct BadRule(pub String);

impl Rules {
    /// Adds a rule by its name (`last`, `daily`, `within`, `within-weekly`, `tag`...) and value.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), BadRule> {
        match rule(name.strip_prefix("keep-").unwrap_or(name), value) {
            Ok(rule) => self.rules.push(rule),
            Err(_) if sabotage::UNKNOWN_RULE_IGNORED.is_on() => {}
            Err(_) => return Err(BadRule(format!("{name}={value}"))),
        }
        Ok(())
    }

    /// The same rules with so many of the last ones, in the place of what they say of these.
    pub(super) fn with_last(&self, count: u32) -> Self {
        let others = self.rules.iter().filter(|rule| !matches!(rule, Rule::Count(Period::Each, _))).cloned();
        Self { rules: others.chain([Rule::Count(Period::Each, Count::Of(count))]).collect() }
    }

    /// Whether nothing would be kept.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules, in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }
}

fn rule(name: &str, value: &str) -> Result<Rule, BadRule> {
    let bad = || BadRule(name.into());
    if name == "tag" || name == "tags" {
        let tags: Vec<_> = value.split(',').map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect();
        return if tags.is_empty() { Err(bad()) } else { Ok(Rule::Tags(tags)) };
    }
    match name.strip_prefix("within") {
        Some("") => Ok(Rule::Within(Period::Each, value.parse()?)),
        Some(rest) => {
            let period = rest.strip_prefix('-').and_then(Period::of_word).filter(|period| *period != Period::Each);
            Ok(Rule::Within(period.ok_or_else(bad)?, value.parse()?))
        }
        None => Ok(Rule::Count(Period::of_word(name).ok_or_else(bad)?, value.parse()?)),
    }
}

impl FromStr for Rules {
    type Err = BadRule;

    /// Reads rules such as `last=3 daily=7 within=30d tag=release`.
    fn from_str(text: &str) -> Result<Self, BadRule> {
        let mut rules = Self::default();
        for word in text.split_whitespace() {
            let (name, value) = word.split_once('=').ok_or_else(|| BadRule(word.into()))?;
            rules.add(name, value)?;
        }
        Ok(rules)
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, rule) in self.rules.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            rule.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(period, count) => write!(f, "{}={count}", period.word()),
            Self::Within(Period::Each, span) => write!(f, "within={span}"),
            Self::Within(period, span) => write!(f, "within-{}={span}", period.word()),
            Self::Tags(tags) => write!(f, "tag={}", tags.join(",")),
        }
    }
}

/// Date and time of an instant in UTC.
pub(super) fn utc(instant: Timestamp) -> DateTime {
    jiff::tz::Offset::UTC.to_datetime(instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_printed_as_they_are_read() {
        let text = "last=3 hourly=all daily=7 within=1y2m3d4h within-weekly=30d tag=a,b";
        assert_eq!(text.parse::<Rules>().unwrap().to_string(), text);
        assert_eq!("keep-last=3".parse(), "last=3".parse::<Rules>());
    }

    #[test]
    fn a_rule_that_is_not_understood_is_an_error() {
        for text in [
            "last",
            "last=",
            "last=0",
            "last=-2",
            "last=x",
            "dayly=3",
            "within=",
            "within=3",
            "within=3w",
            "within=0d",
            "within-last=3d",
            "tag=",
            "tag=,",
            "withindaily=3d",
        ] {
            assert!(text.parse::<Rules>().is_err(), "{text}");
        }
    }

    #[test]
    fn absurd_spans_reach_back_to_the_beginning() {
        let moment = jiff::civil::date(2026, 11, 20).at(0, 0, 0, 0);
        let span: CalendarSpan = "65535y65535m4294967295d4294967295h".parse().unwrap();
        assert_eq!(span.before(moment), DateTime::MIN);
        assert_eq!(
            "1m1d".parse::<CalendarSpan>().unwrap().before(moment),
            jiff::civil::date(2026, 10, 19).at(0, 0, 0, 0)
        );
    }
}
