//! Progress of one long act: what is done, how fast, and what honestly remains.
//!
//! On a terminal one line at the bottom, ten times a second; elsewhere a line every 30 s; `SIGUSR1` prints one in any
//! case. A share and a remaining time are shown only when the total is known; the time comes from the rate of the last
//! 60 s and is not shown before 10 s have passed.

use std::collections::VecDeque;
use std::time::Duration;

use crate::figure;

/// The rate is averaged over this time.
const WINDOW: Duration = Duration::from_mins(1);
/// A remaining time is not shown before.
const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// Samples are kept this far apart, so that a window holds at most 120.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// How far an act is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// Bytes that are done.
    pub bytes: u64,
    /// Bytes that there are, once that is known.
    pub bytes_total: Option<u64>,
    /// Items that are done.
    pub items: u64,
    /// Items that there are, once that is known.
    pub items_total: Option<u64>,
    /// Problems so far.
    pub problems: u64,
    /// What is being worked on, already escaped.
    pub current: String,
}

/// Turns positions over time into a rate and a remaining time.
#[derive(Debug, Default)]
pub struct Meter {
    samples: VecDeque<(Duration, u64)>,
}

impl Meter {
    /// Takes note of the bytes done at this time since the start.
    pub fn note(&mut self, elapsed: Duration, bytes: u64) {
        if self.samples.back().is_some_and(|(at, _)| elapsed < *at + SAMPLE_EVERY) {
            return;
        }
        self.samples.push_back((elapsed, bytes));
        while self.samples.len() > 2 && self.samples.front().is_some_and(|(at, _)| elapsed.saturating_sub(*at) > WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Bytes per second over the last minute.
    pub fn rate(&self, elapsed: Duration, bytes: u64) -> u64 {
        let (start, before) = self.samples.front().copied().unwrap_or_default();
        let span = elapsed.saturating_sub(start).as_secs_f64();
        #[expect(clippy::cast_sign_loss, reason = "neither bytes nor time are negative")]
        let rate = if span < 0.05 { 0 } else { (bytes.saturating_sub(before) as f64 / span) as u64 };
        rate
    }

    /// Time to the end at that rate, if it can be said honestly.
    pub fn remaining(&self, elapsed: Duration, position: &Position) -> Option<Duration> {
        let left = position.bytes_total?.saturating_sub(position.bytes);
        let rate = self.rate(elapsed, position.bytes);
        (elapsed >= SETTLED_AFTER && rate > 0).then(|| Duration::from_secs(left / rate))
    }
}

/// The line for people.
pub fn line(act: &str, position: &Position, meter: &Meter, elapsed: Duration, dot: &str, columns: usize) -> String {
    let mut parts = Vec::new();
    if let Some(total) = position.bytes_total.filter(|total| *total > 0) {
        parts.push(figure::percent(position.bytes.min(total), total));
    }
    parts.push(of_items(position));
    parts.push(of_bytes(position));
    let rate = meter.rate(elapsed, position.bytes);
    if rate > 0 {
        parts.push(format!("{}/s", figure::bytes(rate)));
    }
    parts.push(match meter.remaining(elapsed, position) {
        Some(left) => format!("{} left", figure::duration(left)),
        None => figure::duration(elapsed),
    });
    if position.problems > 0 {
        parts.push(figure::counted(position.problems, "problem", "problems"));
    }
    if !position.current.is_empty() {
        parts.push(position.current.clone());
    }
    figure::fit(&format!("{act}  {}", parts.join(dot)), columns)
}

fn of_items(position: &Position) -> String {
    match position.items_total {
        Some(total) => format!("{} of {}", figure::count(position.items), figure::counted(total, "file", "files")),
        None => figure::counted(position.items, "file", "files"),
    }
}

fn of_bytes(position: &Position) -> String {
    match position.bytes_total {
        Some(total) => format!("{} of {}", figure::bytes(position.bytes), figure::bytes(total)),
        None => figure::bytes(position.bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Feeds one mebibyte per second up to `seconds`, and draws the line.
    #[track_caller]
    fn check(seconds: u64, total: Option<u64>, columns: usize, expected: &str) {
        let mut meter = Meter::default();
        (0..=seconds).for_each(|second| meter.note(Duration::from_secs(second), second * MIB));
        let position = Position { bytes: seconds * MIB, bytes_total: total, items: 7, ..Position::default() };
        assert_eq!(line("backup", &position, &meter, Duration::from_secs(seconds), " · ", columns), expected);
    }

    #[test]
    fn without_a_total_there_is_no_share() {
        check(5, None, 80, "backup  7 files · 5.00 MiB · 1.00 MiB/s · 5 s");
    }

    #[test]
    fn a_remaining_time_waits_ten_seconds() {
        check(9, Some(100 * MIB), 80, "backup  9.0% · 7 files · 9.00 MiB of 100 MiB · 1.00 MiB/s · 9 s");
        check(10, Some(100 * MIB), 80, "backup  10.0% · 7 files · 10.0 MiB of 100 MiB · 1.00 MiB/s · 1 min 30 s left");
    }

    #[test]
    fn a_line_fits_the_terminal() {
        check(9, None, 20, "backup  7 files · ..");
    }

    #[test]
    fn only_the_last_minute_counts() {
        let mut meter = Meter::default();
        (0..=600).for_each(|second| meter.note(Duration::from_secs(second), second * 100));
        (601..=700).for_each(|second| meter.note(Duration::from_secs(second), 60_000));
        assert_eq!(meter.rate(Duration::from_secs(700), 60_000), 0);
        let stalled = Position { bytes: 60_000, bytes_total: Some(90_000), ..Position::default() };
        assert_eq!(meter.remaining(Duration::from_secs(700), &stalled), None);
    }
}
