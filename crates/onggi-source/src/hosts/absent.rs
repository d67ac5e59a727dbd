//! Hosts that an inventory had once and has no more: their snapshots stay, and somebody should know since when nobody adds
//! to them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::carrier::ssh::write_known;
use crate::config::Surroundings;

/// Stands for a moment where there is none: the host is in the inventory.
const HERE: &str = "-";

/// The file of one source.
pub(super) fn file(surroundings: &Surroundings) -> PathBuf {
    surroundings.shared().join("inventory").join(&surroundings.source)
}

/// Notes the hosts that there are now; answers those that are gone, each with the moment at which that was seen first.
pub(super) fn note<'a>(
    file: &Path,
    here: impl Iterator<Item = &'a str>,
    now: Timestamp,
) -> io::Result<BTreeMap<String, Timestamp>> {
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        text => text.unwrap_or_default(),
    };
    let known = text.lines().filter_map(|line| line.split_once(' '));
    let mut all: BTreeMap<&str, Option<Timestamp>> =
        known.map(|(name, since)| (name, Some(since.parse().unwrap_or(now)))).collect();
    all.extend(here.map(|name| (name, None)));
    let line = |(name, since): (&&str, &Option<Timestamp>)| {
        let since = since.map_or_else(|| HERE.to_owned(), |since| since.to_string());
        format!("{name} {since}")
    };
    write_known(file, &all.iter().map(line).collect::<Vec<_>>())?;
    Ok(all.into_iter().filter_map(|(name, since)| Some((name.to_owned(), since?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_absent_since_it_was_missed_first_and_until_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("inventory/fleet");
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let check = |here: &[&str], now: i64, expected: &[(&str, i64)]| {
            let found = note(&file, here.iter().copied(), at(now)).unwrap();
            let found: Vec<_> = found.iter().map(|(name, since)| (name.as_str(), since.as_second())).collect();
            assert_eq!(found, expected);
        };
        check(&["a", "b"], 1, &[]);
        check(&["b", "c"], 2, &[("a", 2)]);
        check(&["c"], 3, &[("a", 2), ("b", 3)]);
        check(&["a", "c"], 4, &[("b", 3)]);
    }
}
