//! How many bytes per second are allowed when.

use jiff::{Timestamp, civil::Time, tz::TimeZone};

/// A speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// As fast as it goes.
    Unlimited,
    /// At most so many bytes per second in the mean. 0: nothing goes until another window begins.
    BytesPerSecond(u64),
}

/// Rates by time of day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RatePlan {
    /// Of two windows that overlap, the first counts.
    pub windows: Vec<RateWindow>,
    /// Outside all windows.
    pub otherwise: Rate,
    /// Whose clock on the wall the windows mean.
    pub time_zone: TimeZone,
}

/// A part of each day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateWindow {
    /// When it begins.
    pub from: Time,
    /// When it has ended. Not after `from`: on the next day, so that equal times are a whole day.
    pub until: Time,
    /// What is allowed in it.
    pub rate: Rate,
}

impl RatePlan {
    /// The same rate always.
    pub fn constant(rate: Rate) -> Self {
        Self { windows: Vec::new(), otherwise: rate, time_zone: TimeZone::UTC }
    }

    /// Whether there is never a limit.
    pub fn is_unlimited(&self) -> bool {
        self.windows.iter().map(|window| window.rate).chain([self.otherwise]).all(|rate| rate == Rate::Unlimited)
    }

    /// The rate at an instant.
    pub fn at(&self, now: Timestamp) -> Rate {
        if self.windows.is_empty() {
            return self.otherwise;
        }
        let time = now.to_zoned(self.time_zone.clone()).time();
        self.windows.iter().find(|window| window.contains(time)).map_or(self.otherwise, |window| window.rate)
    }
}

impl RateWindow {
    fn contains(&self, time: Time) -> bool {
        if self.from < self.until {
            (self.from..self.until).contains(&time)
        } else {
            time >= self.from || time < self.until
        }
    }
}
