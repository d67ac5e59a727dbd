//! Which snapshots belong together for retention: one unit's, told by its tags, or else by host and paths.

use crate::format::Snapshot;
use std::fmt;

/// By what snapshots are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// Tags `source:` and `unit:` where present, else host and paths.
    Unit,
    /// Exactly these, as restic does.
    Fields {
        /// The host name.
        host: bool,
        /// The paths, in any order.
        paths: bool,
        /// The tags, in any order.
        tags: bool,
    },
}

impl GroupBy {
    /// restic's default.
    pub const HOST_AND_PATHS: Self = Self::Fields { host: true, paths: true, tags: false };
}

/// What the snapshots of a group have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupKey {
    /// A unit of a source.
    Unit {
        /// Value of the tag `source:`.
        source: String,
        /// Value of the tag `unit:`.
        unit: String,
    },
    /// Fields of the snapshots; those not asked for are `None`.
    Fields {
        /// The host name.
        host: Option<String>,
        /// The paths, sorted.
        paths: Option<Vec<String>>,
        /// The tags, sorted.
        tags: Option<Vec<String>>,
    },
}

impl GroupKey {
    /// The group of a snapshot.
    pub fn of(snapshot: &Snapshot, by: GroupBy) -> Self {
        let sorted = |list: &[String]| {
            let mut list = list.to_vec();
            list.sort();
            list
        };
        let (host, paths, tags) = match by {
            GroupBy::Unit => match (snapshot.tag_value("source"), snapshot.tag_value("unit")) {
                (Some(source), Some(unit)) => return Self::Unit { source, unit },
                _ => (true, true, false),
            },
            GroupBy::Fields { host, paths, tags } => (host, paths, tags),
        };
        Self::Fields {
            host: host.then(|| snapshot.hostname.clone()),
            paths: paths.then(|| sorted(&snapshot.paths)),
            tags: tags.then(|| sorted(&snapshot.tags)),
        }
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit { source, unit } => write!(f, "{source}/{unit}"),
            Self::Fields { host, paths, tags } => {
                let host = host.as_ref().map(|host| format!("host {host}"));
                let list = |word: &str, list: &Option<Vec<String>>| {
                    list.as_ref().map(|list| format!("{word} {}", list.join(", ")))
                };
                let parts: Vec<_> = [host, list("paths", paths), list("tags", tags)].into_iter().flatten().collect();
                f.write_str(if parts.is_empty() { "all snapshots".into() } else { parts.join(", ") }.as_str())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::BlobId;

    #[track_caller]
    fn check(by: GroupBy, tags: &[&str], expected: &str) {
        let mut snapshot = Snapshot::new("2026-01-01T00:00:00Z".parse().unwrap(), BlobId([1; 32]));
        snapshot.hostname = "h".into();
        snapshot.paths = vec!["/b".into(), "/a".into()];
        snapshot.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        assert_eq!(GroupKey::of(&snapshot, by).to_string(), expected);
    }

    #[test]
    fn a_unit_is_told_by_its_tags_and_else_by_host_and_paths() {
        check(GroupBy::Unit, &["source:s", "unit:a%2Cb"], "s/a,b");
        check(GroupBy::Unit, &["unit:u"], "host h, paths /a, /b");
        check(GroupBy::HOST_AND_PATHS, &["source:s", "unit:u"], "host h, paths /a, /b");
        check(GroupBy::Fields { host: false, paths: false, tags: true }, &["y", "x"], "tags x, y");
        check(GroupBy::Fields { host: false, paths: false, tags: false }, &[], "all snapshots");
    }
}
