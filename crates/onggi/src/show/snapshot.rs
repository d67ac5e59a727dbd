//! Snapshots.

use onggi_repo::forget::GroupKey;
use onggi_repo::format::{Snapshot, SnapshotId};
use serde_json::{Map, Value};

use super::node::moment;
use crate::escape::{escape_prose, escape_text};
use crate::figure::{self, Table};

/// A snapshot as `restic snapshots --json` prints it, with everything that other programs stored in it.
pub fn document(id: &SnapshotId, snapshot: &Snapshot) -> Map<String, Value> {
    let stored: Value = serde_json::from_slice(&snapshot.print()).expect("a snapshot prints JSON");
    let Value::Object(mut members) = stored else { unreachable!("a snapshot is an object") };
    members.insert("id".into(), id.to_string().into());
    members.insert("short_id".into(), id.short().into());
    members
}

/// One line of talk about a snapshot: `4f1c09ab of /etc, /srv at 2026-11-03 22:08:41 by web-1`.
pub fn sentence(id: &SnapshotId, snapshot: &Snapshot) -> String {
    let paths: Vec<_> = snapshot.paths.iter().map(|path| escape_text(path)).collect();
    format!(
        "{} of {} at {} by {}",
        id.short(),
        paths.join(", "),
        moment(snapshot.time),
        escape_text(&snapshot.hostname)
    )
}

/// The table of `onggi snapshots`.
pub fn table<'a>(all: impl IntoIterator<Item = &'a (SnapshotId, Snapshot)>, is_compact: bool) -> Vec<String> {
    let mut table = if is_compact {
        Table::new(&["ID", "Time", "Host", "Tags", "Size"]).right(&[4])
    } else {
        Table::new(&["ID", "Time", "Host", "Tags", "Size", "Paths"]).right(&[4])
    };
    for (id, snapshot) in all {
        let mut first = vec![
            id.short(),
            moment(snapshot.time),
            escape_text(&snapshot.hostname).into_owned(),
            tags(snapshot),
            snapshot
                .summary
                .as_ref()
                .map_or_else(String::new, |summary| figure::bytes(summary.figures.total_bytes_processed)),
        ];
        let mut paths = snapshot.paths.iter().map(|path| escape_text(path).into_owned());
        if is_compact {
            table.row(first);
            continue;
        }
        first.extend(paths.next());
        table.row(first);
        for path in paths {
            table.row(vec![String::new(), String::new(), String::new(), String::new(), String::new(), path]);
        }
    }
    table.lines()
}

/// What the snapshots of a group have in common, for people.
pub fn group(key: &GroupKey) -> String {
    match key {
        // A source that is named like a path was backed up without a configuration.
        GroupKey::Unit { source, unit } if source.starts_with('/') => {
            format!("{} by {}", escape_text(source), escape_text(unit))
        }
        key => escape_prose(&key.to_string()).into_owned(),
    }
}

/// Tags that people gave; those that onggi sets on every snapshot say nothing here.
fn tags(snapshot: &Snapshot) -> String {
    let own = |tag: &&String| {
        tag.as_str() == "onggi" || ["kind:", "source:", "unit:", "run:"].iter().any(|prefix| tag.starts_with(prefix))
    };
    let shown: Vec<_> = snapshot.tags.iter().filter(|tag| !own(tag)).map(|tag| escape_text(tag)).collect();
    shown.join(",")
}

#[cfg(test)]
mod tests {
    use onggi_repo::format::BlobId;

    use super::*;

    #[test]
    fn a_document_has_what_wrappers_look_for() {
        let mut snapshot = Snapshot::new("2026-11-03T22:08:41+09:00".parse().unwrap(), BlobId([0xab; 32]));
        snapshot.paths = vec!["/etc".into()];
        snapshot.unknown.insert("label".into(), "x".into());
        let document = document(&SnapshotId([0xcd; 32]), &snapshot);
        assert_eq!(document["time"], "2026-11-03T22:08:41+09:00");
        assert_eq!((&document["short_id"], &document["label"]), (&"cdcdcdcd".into(), &"x".into()));
    }

    #[test]
    fn onggis_own_tags_are_not_shown_to_people() {
        let mut snapshot = Snapshot::new("2026-11-03T22:08:41Z".parse().unwrap(), BlobId([0xab; 32]));
        snapshot.tags = ["onggi", "kind:paths", "nightly", "partial"].map(String::from).into();
        assert_eq!(tags(&snapshot), "nightly,partial");
    }
}
