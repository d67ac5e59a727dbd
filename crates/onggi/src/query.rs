//! Which snapshot is meant, as it is typed: SNAPSHOT or SNAPSHOT:PATH, dates on the clock of this machine.

use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use onggi_repo::format::{Snapshot, SnapshotId};
use onggi_repo::{BadQuery, RepoError, SnapshotQuery, Which};

use crate::command::filter::Filter;

/// A snapshot and its id.
pub type Found = (SnapshotId, Snapshot);

/// Reads what stands for a snapshot. A day is one of this time zone.
pub fn parse(text: &str, zone: &TimeZone) -> Result<Which, BadQuery> {
    let last_moment = |date: &str| {
        let next = date.parse::<Date>().ok().filter(|_| date.len() == 10)?.checked_add(1.day()).ok()?;
        next.to_zoned(zone.clone()).ok()?.timestamp().checked_sub(1.nanosecond()).ok()
    };
    match text.rsplit_once('@').and_then(|(unit, date)| Some((unit, last_moment(date)?))) {
        Some((unit, moment)) => format!("{unit}@{moment}").parse(),
        None => text.to_ascii_lowercase().parse::<Which>().or_else(|_| text.parse()),
    }
}

/// Splits SNAPSHOT:PATH at the last colon before which something stands for a snapshot.
pub fn parse_with_path(text: &[u8], zone: &TimeZone) -> Result<(Which, Vec<u8>), BadQuery> {
    let colons = (0..text.len()).rev().filter(|at| text[*at] == b':');
    for at in colons {
        if let Some(which) = std::str::from_utf8(&text[..at]).ok().and_then(|text| parse(text, zone).ok()) {
            return Ok((which, text[at + 1..].to_vec()));
        }
    }
    parse(&String::from_utf8_lossy(text), zone).map(|which| (which, Vec::new()))
}

/// The one that is meant; `all` is oldest first.
pub fn choose<'a>(which: &Which, all: &'a [Found], filter: &Filter) -> Result<&'a Found, RepoError> {
    SnapshotQuery { which: which.clone(), filter: filter.wanted() }.find(all)
}

#[cfg(test)]
mod tests {
    use onggi_repo::format::BlobId;

    use super::*;

    fn snapshots() -> Vec<Found> {
        let one = |day: u8, host: &str| {
            let time = format!("2026-11-{day:02}T20:00:00Z").parse().unwrap();
            let mut snapshot = Snapshot::new(time, BlobId([day; 32]));
            snapshot.hostname = host.into();
            (SnapshotId([day; 32]), snapshot)
        };
        vec![one(3, "web-1"), one(4, "db"), one(5, "web-1")]
    }

    #[track_caller]
    fn check(text: &str, zone: &TimeZone, expected: u8) {
        let all = snapshots();
        let which = parse(text, zone).unwrap();
        assert_eq!(choose(&which, &all, &Filter::default()).unwrap().0.0[0], expected, "{text}");
    }

    #[test]
    fn a_day_ends_at_midnight_of_this_machine() {
        check("web-1@2026-11-05", &TimeZone::UTC, 5);
        let seoul = TimeZone::fixed(jiff::tz::offset(9));
        check("web-1@2026-11-05", &seoul, 3);
        check("web-1@2026-11-06", &seoul, 5);
        check("LATEST~1", &seoul, 4);
    }

    #[test]
    fn a_path_follows_the_colon_even_after_a_time() {
        let split = |text: &str| {
            let (which, path) = parse_with_path(text.as_bytes(), &TimeZone::UTC).unwrap();
            (which.to_string(), String::from_utf8(path).unwrap())
        };
        assert_eq!(split("latest:report.odt"), ("latest".into(), "report.odt".into()));
        assert_eq!(split("latest"), ("latest".into(), String::new()));
        assert_eq!(split("4f1c09ab:/a:b"), ("4f1c09ab".into(), "/a:b".into()));
        assert_eq!(split("web-1@2026-11-03T12:00:00Z:/etc").1, "/etc");
        assert_eq!(split("web-1@2026-11-03:/etc").1, "/etc");
    }

    #[test]
    fn what_means_nothing_is_refused_before_anything_is_read() {
        for text in ["", "abc", "latest2", "latest~x", "report.odt", "@2026-11-04", "web-1@yesterday"] {
            assert!(parse_with_path(text.as_bytes(), &TimeZone::UTC).is_err(), "{text}");
        }
    }
}
