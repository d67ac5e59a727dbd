//! What a dump knows of itself: the facts' notes, read by restore and drill.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::Preset;

/// Version of [`Notes`].
pub(super) const FORMAT: u32 = 1;

/// Of one dump.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Notes {
    /// Version of these notes.
    pub(super) format: u32,
    /// The preset's name.
    pub(super) preset: String,
    /// The server's version, as it says.
    pub(super) server_version: String,
    /// The version of the program that dumped.
    pub(super) client_version: String,
    /// Length of the dump in bytes.
    pub(super) length: u64,
    /// SHA-256 of the dump in hexadecimal digits.
    pub(super) sha256: String,
    /// The tables and how many rows each had in the moment of the dump; `None`: not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rows: Option<BTreeMap<String, u64>>,
    /// Character set and collation of a database of MySQL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) character_set: Vec<String>,
    /// The exit status of each process.
    pub(super) exits: Vec<(String, Option<i32>)>,
}

impl Notes {
    pub(super) fn new(preset: Preset) -> Self {
        Self { format: FORMAT, preset: preset.word().to_owned(), ..Self::default() }
    }
}

/// Names every table whose rows differ between what was dumped and what is there.
pub(super) fn differences(dumped: &BTreeMap<String, u64>, there: &BTreeMap<String, u64>) -> Vec<String> {
    let lost = dumped.iter().filter(|(table, rows)| there.get(*table) != Some(rows)).map(|(table, rows)| {
        there.get(table).map_or_else(
            || format!("{table} is missing"),
            |found| format!("{table} has {found} rows instead of {rows}"),
        )
    });
    let new = there.keys().filter(|table| !dumped.contains_key(*table)).map(|table| format!("{table} is new"));
    lost.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_named() {
        let rows = |list: &[(&str, u64)]| list.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect();
        let found = differences(&rows(&[("a", 1), ("b", 2), ("c", 3)]), &rows(&[("a", 1), ("b", 0), ("d", 1)]));
        assert_eq!(found, ["b has 0 rows instead of 2", "c is missing", "d is new"]);
    }
}
