//! Finding the snapshot that is meant: by the start of its id, `latest`, `latest~2`, or a unit and a date as in
//! `ctl1@2026-11-03`.

use crate::{
    Result,
    error::RepoError,
    format::{Snapshot, SnapshotId},
};
use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date, tz::TimeZone};
use std::{fmt, str::FromStr};

/// Snapshots captured before their end; never the latest.
const INCOMPLETE: &str = "incomplete";
/// The fewest digits that name a snapshot.
const PREFIX_MIN: usize = 4;

/// Which one of the matching snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The n-th newest, counted from 0.
    Latest(usize),
    /// The one whose id starts so, in lower-case hex digits.
    Prefix(String),
    /// The newest one of a unit up to an instant; the unit by its tag `unit:` or its host name.
    At {
        /// Name or id of the unit.
        unit: String,
        /// The first instant that is too late.
        before: Timestamp,
    },
}

/// What a snapshot must be like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// One of these host names; empty: any.
    pub hosts: Vec<String>,
    /// All of these paths; empty: any.
    pub paths: Vec<String>,
    /// All tags of one of these lists; empty: any.
    pub tags: Vec<Vec<String>>,
    /// Also those tagged `incomplete`.
    pub with_incomplete: bool,
}

/// One snapshot, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotQuery {
    /// Which of the matching ones.
    pub which: Which,
    /// Which ones match. An id is looked for among all.
    pub filter: SnapshotFilter,
}

/// A text is no way to name a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot: {0:?}; give an id, latest, latest~2 or unit@2026-11-03")]
pub struct BadQuery(String);

impl FromStr for Which {
    type Err = BadQuery;

    fn from_str(text: &str) -> Result<Self, BadQuery> {
        let bad = || BadQuery(text.into());
        if text == "latest" {
            return Ok(Self::Latest(0));
        }
        if let Some(count) = text.strip_prefix("latest~") {
            return count.parse().map(Self::Latest).map_err(|_| bad());
        }
        if let Some((unit, date)) = text.rsplit_once('@') {
            let before = end_of(date).filter(|_| !unit.is_empty()).ok_or_else(bad)?;
            return Ok(Self::At { unit: unit.into(), before });
        }
        let is_id = (PREFIX_MIN..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if is_id { Ok(Self::Prefix(text.into())) } else { Err(bad()) }
    }
}

/// The first instant after a date, in UTC, or after an instant.
fn end_of(text: &str) -> Option<Timestamp> {
    if let Ok(date) = text.parse::<Date>() {
        let next = date.checked_add(1.day()).ok()?;
        return next.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    }
    text.parse::<Timestamp>().ok()?.checked_add(SignedDuration::from_nanos(1)).ok()
}

impl SnapshotFilter {
    /// Whether a snapshot is like that.
    pub fn matches(&self, snapshot: &Snapshot) -> bool {
        (self.hosts.is_empty() || self.hosts.contains(&snapshot.hostname))
            && self.paths.iter().all(|path| snapshot.paths.contains(path))
            && (self.tags.is_empty() || self.tags.iter().any(|tags| tags.iter().all(|tag| snapshot.has_tag(tag))))
            && (self.with_incomplete || !snapshot.has_tag(INCOMPLETE))
    }
}

impl SnapshotQuery {
    /// A query for any snapshot that `text` names.
    pub fn new(text: &str) -> Result<Self, BadQuery> {
        Ok(Self { which: text.parse()?, filter: SnapshotFilter::default() })
    }

    /// Finds the snapshot among these, which are sorted from the oldest to the newest. `Missing` or `Ambiguous` else.
    pub fn find<'a>(&self, snapshots: &'a [(SnapshotId, Snapshot)]) -> Result<&'a (SnapshotId, Snapshot)> {
        let newest = || snapshots.iter().rev().filter(|(_, snapshot)| self.filter.matches(snapshot));
        let found = match &self.which {
            Which::Latest(back) => newest().nth(*back),
            Which::At { unit, before } => {
                let is_of = |snapshot: &Snapshot| {
                    snapshot.hostname == *unit || snapshot.tag_value("unit").is_some_and(|own| own == *unit)
                };
                newest().find(|(_, snapshot)| is_of(snapshot) && snapshot.time.instant < *before)
            }
            Which::Prefix(prefix) => {
                let mut fitting = snapshots.iter().filter(|(id, _)| id.to_string().starts_with(prefix));
                let first = fitting.next();
                if fitting.next().is_some() {
                    return Err(RepoError::Ambiguous(format!("snapshot {prefix}")));
                }
                first
            }
        };
        found.ok_or_else(|| RepoError::Missing(format!("snapshot {}", self.which)))
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest(0) => f.write_str("latest"),
            Self::Latest(back) => write!(f, "latest~{back}"),
            Self::Prefix(prefix) => f.write_str(prefix),
            Self::At { unit, before } => write!(f, "{unit} before {before}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{BlobId, Time};

    /// `day host tags`, from the oldest to the newest.
    const SNAPSHOTS: [&str; 5] = ["01 a", "02 b unit:u1", "03 a nightly", "04 a incomplete", "05 b nightly,unit:u1"];

    fn snapshots() -> Vec<(SnapshotId, Snapshot)> {
        let snapshot = |(index, text): (usize, &&str)| {
            let mut words = text.split(' ');
            let time: Timestamp = format!("2026-09-{}T12:00:00Z", words.next().unwrap()).parse().unwrap();
            let mut snapshot = Snapshot::new(Time::utc(time), BlobId([0; 32]));
            snapshot.hostname = words.next().unwrap().into();
            snapshot.tags = words.next().map(|tags| tags.split(',').map(Into::into).collect()).unwrap_or_default();
            (SnapshotId([index as u8 / 2; 32]), snapshot)
        };
        SNAPSHOTS.iter().enumerate().map(snapshot).collect()
    }

    #[track_caller]
    fn check(query: &str, filter: SnapshotFilter, expected: &str) {
        let query = SnapshotQuery { filter, ..SnapshotQuery::new(query).unwrap() };
        let snapshots = snapshots();
        let found = match query.find(&snapshots) {
            Ok((_, snapshot)) => snapshot.time.to_string()[8..10].to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    fn all() -> SnapshotFilter {
        SnapshotFilter::default()
    }

    #[test]
    fn the_latest_is_the_newest_complete_one_that_matches() {
        check("latest", all(), "05");
        check("latest~1", all(), "03");
        check("latest~4", all(), "snapshot latest~4 is not in the repository");
        check("latest", SnapshotFilter { hosts: vec!["a".into()], ..all() }, "03");
        check("latest", SnapshotFilter { hosts: vec!["a".into()], with_incomplete: true, ..all() }, "04");
        check("latest~1", SnapshotFilter { tags: vec![vec!["nightly".into()], vec!["x".into()]], ..all() }, "03");
        check(
            "latest",
            SnapshotFilter { paths: vec!["/x".into()], ..all() },
            "snapshot latest is not in the repository",
        );
    }

    #[test]
    fn a_unit_and_a_date_give_the_last_one_up_to_that_day() {
        check("a@2026-09-02", all(), "01");
        check("u1@2026-09-04", all(), "02");
        check("b@2026-09-05T12:00:00Z", all(), "05");
        check("b@2026-09-05T11:59:59Z", all(), "02");
    }

    #[test]
    fn an_id_needs_to_be_unique() {
        check("0202", all(), "05");
        check("0101", all(), "snapshot 0101 is ambiguous");
        check("ffff", all(), "snapshot ffff is not in the repository");
    }

    #[test]
    fn other_texts_name_no_snapshot() {
        for text in
            ["", "lat", "latest~", "latest~x", "012", "ABCD", "@2026-09-01", "a@", "a@yesterday", "a@2026-13-01"]
        {
            assert!(SnapshotQuery::new(text).is_err(), "{text}");
        }
    }
}
