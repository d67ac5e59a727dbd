//! Which snapshot is meant: by id, by `latest`, by date, by unit and date; among those that the filter takes.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use onggi_repo::format::{Snapshot, SnapshotId};

use crate::command::filter::Filter;

/// A snapshot and its id.
pub type Found = (SnapshotId, Snapshot);

/// What an operator may write for a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// The newest but so many.
    Latest(usize),
    /// An id, or the beginning of one.
    Id(String),
    /// The newest one not after this moment, of this unit or host if one is given.
    At(Option<String>, Timestamp),
}

/// Why there is no one snapshot that is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOne {
    /// The text is nothing that stands for a snapshot.
    #[error("`{0}` is no snapshot: write an id, latest, latest~1, a date or UNIT@DATE")]
    Meaning(String),
    /// None fits.
    #[error("there is no snapshot {0}")]
    None(String),
    /// Several begin like that.
    #[error("{1} snapshots begin with {0}")]
    Several(String, usize),
}

impl Query {
    /// Reads what stands for a snapshot; dates are in this time zone.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Self, NotOne> {
        let no_meaning = || NotOne::Meaning(text.to_owned());
        if let Some(rest) = text.strip_prefix("latest") {
            return match rest.strip_prefix('~') {
                None if rest.is_empty() => Ok(Self::Latest(0)),
                Some(count) => count.parse().map(Self::Latest).map_err(|_| no_meaning()),
                None => Err(no_meaning()),
            };
        }
        if let Some((unit, date)) = text.rsplit_once('@').filter(|(unit, _)| !unit.is_empty()) {
            return end_of(date, zone).map(|end| Self::At(Some(unit.to_owned()), end)).ok_or_else(no_meaning);
        }
        if (4..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self::Id(text.to_ascii_lowercase()));
        }
        end_of(text, zone).map(|end| Self::At(None, end)).ok_or_else(no_meaning)
    }

    /// Splits SNAPSHOT:PATH at the last colon before which something stands for a snapshot.
    pub fn parse_with_path(text: &[u8], zone: &TimeZone) -> Result<(Self, Vec<u8>), NotOne> {
        let colons = (0..text.len()).rev().filter(|at| text[*at] == b':');
        for at in colons {
            if let Some(query) = std::str::from_utf8(&text[..at]).ok().and_then(|text| Self::parse(text, zone).ok()) {
                return Ok((query, text[at + 1..].to_vec()));
            }
        }
        Self::parse(&String::from_utf8_lossy(text), zone).map(|query| (query, Vec::new()))
    }

    /// The one that is meant; `all` is oldest first.
    pub fn choose<'a>(&self, all: &'a [Found], filter: &Filter) -> Result<&'a Found, NotOne> {
        let mut taken = all.iter().filter(|(_, snapshot)| filter.takes(snapshot));
        match self {
            Self::Id(start) => {
                let fitting: Vec<_> = all.iter().filter(|(id, _)| id.to_string().starts_with(start)).collect();
                match fitting.as_slice() {
                    [one] => Ok(one),
                    [] => Err(NotOne::None(start.clone())),
                    several => Err(NotOne::Several(start.clone(), several.len())),
                }
            }
            Self::Latest(back) => taken.nth_back(*back).ok_or_else(|| NotOne::None(self.to_string())),
            Self::At(unit, end) => taken
                .rfind(|(_, snapshot)| {
                    snapshot.time.instant <= *end && unit.as_ref().is_none_or(|unit| is_of_unit(snapshot, unit))
                })
                .ok_or_else(|| NotOne::None(self.to_string())),
        }
    }
}

impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Latest(0) => f.write_str("latest"),
            Self::Latest(back) => write!(f, "latest~{back}"),
            Self::Id(start) => f.write_str(start),
            Self::At(unit, end) => {
                let of = unit.as_ref().map(|unit| format!("of {unit} ")).unwrap_or_default();
                write!(f, "{of}up to {}", end.strftime("%Y-%m-%d %H:%M:%S UTC"))
            }
        }
    }
}

impl Filter {
    /// Whether a snapshot is one of those that the flags take.
    pub fn takes(&self, snapshot: &Snapshot) -> bool {
        let has_all = |list: &String| list.split(',').all(|tag| tag.is_empty() || snapshot.has_tag(tag));
        (self.host.is_empty() || self.host.contains(&snapshot.hostname))
            && (self.tag.is_empty() || self.tag.iter().any(has_all))
            && self.path.iter().all(|path| snapshot.paths.contains(path))
    }
}

/// Whether a snapshot is of a unit: by its id, its source's name, or the host name.
fn is_of_unit(snapshot: &Snapshot, unit: &str) -> bool {
    snapshot.hostname == unit || [snapshot.tag_value("unit"), snapshot.tag_value("source")].contains(&Some(unit.to_owned()))
}

/// The last moment of a date; of a date with a time of day, that moment.
fn end_of(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(exact) = text.parse::<Timestamp>() {
        return Some(exact);
    }
    if let (10, Ok(date)) = (text.len(), text.parse::<Date>()) {
        let next = date.checked_add(1.day()).ok()?.to_zoned(zone.clone()).ok()?;
        return next.timestamp().checked_sub(1.nanosecond()).ok();
    }
    // Without minutes it may as well be something else before a colon.
    let is_whole = text.len() >= 16 && text.contains(':');
    let moment = text.parse::<DateTime>().ok().filter(|_| is_whole)?;
    Some(moment.to_zoned(zone.clone()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use onggi_repo::format::BlobId;

    use super::*;

    fn snapshots() -> Vec<Found> {
        let one = |day: u8, host: &str, tag: &str| {
            let time = format!("2026-11-{day:02}T12:00:00Z").parse().unwrap();
            let mut snapshot = Snapshot::new(time, BlobId([day; 32]));
            (snapshot.hostname, snapshot.paths) = (host.into(), vec!["/etc".into()]);
            snapshot.tags = vec![tag.into()];
            (SnapshotId([day; 32]), snapshot)
        };
        vec![one(3, "web-1", "unit:a%2Cb"), one(4, "db", "nightly"), one(5, "web-1", "nightly")]
    }

    #[track_caller]
    fn check(text: &str, filter: &Filter, expected: Result<u8, &str>) {
        let all = snapshots();
        let chosen = Query::parse(text, &TimeZone::UTC).and_then(|query| query.choose(&all, filter));
        let day = chosen.map(|(id, _)| id.0[0]).map_err(|error| error.to_string());
        assert_eq!(day, expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn a_snapshot_is_named_in_many_ways() {
        let all = Filter::default();
        check("latest", &all, Ok(5));
        check("latest~2", &all, Ok(3));
        check("latest~3", &all, Err("there is no snapshot latest~3"));
        check("0404", &all, Ok(4));
        check("ffff", &all, Err("there is no snapshot ffff"));
        check("2026-11-04", &all, Ok(4));
        check("2026-11-04T11:59:00", &all, Ok(3));
        check("web-1@2026-11-04", &all, Ok(3));
        check("a,b@2026-12-01", &all, Ok(3));
        check("web-1@2026-11-01", &all, Err("there is no snapshot of web-1 up to 2026-11-01 23:59:59 UTC"));
    }

    #[test]
    fn the_filter_narrows_what_latest_means() {
        let host = Filter { host: vec!["db".into()], ..Filter::default() };
        check("latest", &host, Ok(4));
        let tag = Filter { tag: vec!["nightly,absent".into(), "nightly".into()], ..Filter::default() };
        check("latest~1", &tag, Ok(4));
        let path = Filter { path: vec!["/srv".into()], ..Filter::default() };
        check("latest", &path, Err("there is no snapshot latest"));
    }

    #[test]
    fn what_means_nothing_is_refused_before_anything_is_read() {
        for text in ["", "abc", "latest2", "latest~x", "report.odt", "@2026-11-04", "web-1@yesterday", "2026-13-01"] {
            assert!(matches!(Query::parse(text, &TimeZone::UTC), Err(NotOne::Meaning(_))), "{text}");
        }
    }

    #[test]
    fn a_path_follows_the_colon_even_after_a_time() {
        let split = |text: &str| {
            let (query, path) = Query::parse_with_path(text.as_bytes(), &TimeZone::UTC).unwrap();
            (query.to_string(), String::from_utf8(path).unwrap())
        };
        assert_eq!(split("latest:report.odt"), ("latest".into(), "report.odt".into()));
        assert_eq!(split("latest"), ("latest".into(), String::new()));
        assert_eq!(split("4f1c09ab:/a:b"), ("4f1c09ab".into(), "/a:b".into()));
        assert_eq!(split("2026-11-03T12:00:/etc").1, "/etc");
        assert_eq!(split("2026-11-03T12:00").1, "");
        assert_eq!(split("web-1@2026-11-03:/etc").1, "/etc");
    }
}
