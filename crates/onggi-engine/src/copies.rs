//! The rule of copies, judged for each unit from the labels of the storages that hold its newest state: three copies with
//! the living system, on two kinds of media, one at another site, one out of reach of whoever can delete, none with errors.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use onggi_repo::forget::{GroupBy, GroupKey};
use onggi_repo::format::{Snapshot, SnapshotId};

/// What the living system stands on.
const LIVING_MEDIA: &str = "disk";

/// A repository that holds the state, as its storage's labels say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holder {
    /// Where it stands; `None`: nobody knows, so it counts as no other place.
    pub site: Option<String>,
    /// What it stands on.
    pub media: String,
    /// It is immutable, or not always connected.
    pub is_out_of_reach: bool,
    /// Faults that its last verification found; `None`: it was never verified.
    pub faults: Option<u64>,
}

/// One part of the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Copies, with the living system.
    Copies,
    /// Kinds of media, with that of the living system.
    Media,
    /// Sites beside the first.
    Sites,
    /// Copies out of reach.
    OutOfReach,
    /// Faults.
    Faults,
}

/// What was found, in the order of [`Part::ALL`]; `None`: unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgment([Option<u64>; 5]);

impl Part {
    /// In the order in which they are written.
    pub const ALL: [Self; 5] = [Self::Copies, Self::Media, Self::Sites, Self::OutOfReach, Self::Faults];

    /// Whether a number is enough, or of faults, few enough.
    fn is_met(self, found: Option<u64>) -> bool {
        let Some(found) = found else { return false };
        match self {
            Self::Copies => found >= 3,
            Self::Media => found >= 2,
            Self::Sites | Self::OutOfReach => found >= 1,
            Self::Faults => found == 0,
        }
    }
}

/// Judges a unit by the repositories that hold its newest state.
fn judge(holders: &[Holder]) -> Judgment {
    let media: BTreeSet<&str> = holders.iter().map(|holder| &*holder.media).chain([LIVING_MEDIA]).collect();
    let sites: BTreeSet<&str> = holders.iter().filter_map(|holder| holder.site.as_deref()).collect();
    let out_of_reach = holders.iter().filter(|holder| holder.is_out_of_reach).count();
    let faults = holders.iter().map(|holder| holder.faults).sum::<Option<u64>>().filter(|_| !holders.is_empty());
    Judgment([
        Some(holders.len() as u64 + 1),
        Some(media.len() as u64),
        Some(sites.len().saturating_sub(1) as u64),
        Some(out_of_reach as u64),
        faults,
    ])
}

impl Judgment {
    /// The parts that are not met.
    pub fn broken(&self) -> impl Iterator<Item = Part> {
        Part::ALL.into_iter().zip(self.0).filter(|(part, found)| !part.is_met(*found)).map(|(part, _)| part)
    }
}

/// `3-2-1-1-0`; what is unknown is `?`.
impl fmt::Display for Judgment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.map(|found| found.map_or_else(|| "?".to_owned(), |found| found.to_string()));
        f.pad(&parts.join("-"))
    }
}

/// A repository that was read.
#[derive(Debug)]
pub struct Store {
    /// Its name in the configuration.
    pub name: String,
    /// How it counts as a holder.
    pub holder: Holder,
    snapshots: Vec<(SnapshotId, Snapshot)>,
    /// What they are copies of.
    origins: HashSet<SnapshotId>,
}

impl Store {
    /// One that holds these snapshots.
    pub fn new(name: String, holder: Holder, snapshots: Vec<(SnapshotId, Snapshot)>) -> Self {
        let origins = snapshots.iter().map(origin).collect();
        Self { name, holder, snapshots, origins }
    }
}

/// One unit, its newest snapshot, and which of the stores have that.
#[derive(Debug)]
pub struct Unit<'a> {
    /// What its snapshots have in common.
    pub key: GroupKey,
    /// Its newest snapshot.
    pub newest: &'a Snapshot,
    /// Where that lies.
    pub stores: Vec<&'a Store>,
    /// What that comes to.
    pub judgment: Judgment,
}

/// All units of all stores, in the order of their names.
pub fn units(stores: &[Store]) -> Vec<Unit<'_>> {
    let mut newest: BTreeMap<GroupKey, &(SnapshotId, Snapshot)> = BTreeMap::new();
    for found in stores.iter().flat_map(|store| &store.snapshots) {
        let newest = newest.entry(GroupKey::of(&found.1, GroupBy::Unit)).or_insert(found);
        if found.1.time > newest.1.time {
            *newest = found;
        }
    }
    newest.into_iter().map(|(key, found)| unit(key, found, stores)).collect()
}

fn unit<'a>(key: GroupKey, found: &'a (SnapshotId, Snapshot), stores: &'a [Store]) -> Unit<'a> {
    let stores: Vec<_> = stores.iter().filter(|store| store.origins.contains(&origin(found))).collect();
    let holders: Vec<_> = stores.iter().map(|store| store.holder.clone()).collect();
    Unit { key, newest: &found.1, stores, judgment: judge(&holders) }
}

/// A copy is what it is a copy of.
fn origin((id, snapshot): &(SnapshotId, Snapshot)) -> SnapshotId {
    snapshot.original.unwrap_or(*id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(site: &str, media: &str, is_out_of_reach: bool, faults: Option<u64>) -> Holder {
        let site = Some(site.to_owned()).filter(|site| !site.is_empty());
        Holder { site, media: media.to_owned(), is_out_of_reach, faults }
    }

    #[track_caller]
    fn check(holders: &[Holder], expected: &str, broken: &[Part]) {
        let judgment = judge(holders);
        assert_eq!(judgment.to_string(), expected);
        assert_eq!(judgment.broken().collect::<Vec<_>>(), broken);
    }

    #[test]
    fn all_parts_are_met_by_a_second_site_out_of_reach() {
        let near = holder("here", "disk", false, Some(0));
        check(&[near.clone(), holder("there", "object", true, Some(0))], "3-2-1-1-0", &[]);
        check(&[near, holder("there", "object", false, Some(2))], "3-2-1-0-2", &[Part::OutOfReach, Part::Faults]);
    }

    #[test]
    fn two_stores_of_one_site_are_one_place() {
        let near = holder("mghpcc", "disk", false, Some(0));
        check(&[near.clone(), holder("mghpcc", "object", true, Some(0))], "3-2-0-1-0", &[Part::Sites]);
        check(&[near, holder("", "object", true, Some(0))], "3-2-0-1-0", &[Part::Sites]);
    }

    #[test]
    fn what_nobody_verified_is_not_known_to_be_whole() {
        let all = [holder("a", "disk", false, Some(0)), holder("b", "object", true, None)];
        check(&all, "3-2-1-1-?", &[Part::Faults]);
        check(&[], "1-1-0-0-?", &Part::ALL);
    }
}
