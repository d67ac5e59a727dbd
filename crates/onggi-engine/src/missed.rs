//! Pure: which runs were missed, judged from the snapshots that there are. What a run said of itself counts for nothing, and
//! silence is no success.

use std::cmp::Reverse;
use std::time::Duration;

use jiff::Timestamp;
use onggi_repo::format::{Snapshot, SnapshotId};
use onggi_source::Unit;

use crate::backup::{is_good, is_of};

/// A unit that has no good snapshot for a whole interval or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Its source.
    pub source: String,
    /// The unit.
    pub unit: Unit,
    /// Its newest snapshot without a fault; `None`: it never had one.
    pub last_good: Option<Timestamp>,
    /// Runs that should have stored it since then; one that makes up for all of them is enough.
    pub runs: u64,
}

/// Those of the units that missed a run, each once, the longest without a good snapshot first.
pub fn missed(
    units: &[(String, Unit)],
    snapshots: &[(SnapshotId, Snapshot)],
    every: Duration,
    now: Timestamp,
) -> Vec<Missed> {
    let judge = |(source, unit): &(String, Unit)| {
        let own = snapshots.iter().map(|(_, snapshot)| snapshot).filter(|one| is_of(one, source, &unit.id));
        let last_good = own.filter(|one| is_good(one)).map(|one| one.time.instant).max();
        let runs = match last_good {
            None => 1,
            Some(last) => whole(now.duration_since(last).unsigned_abs(), every).filter(|_| last < now).unwrap_or(0),
        };
        Missed { source: source.clone(), unit: unit.clone(), last_good, runs }
    };
    let mut missed: Vec<_> = units.iter().map(judge).filter(|one| one.runs > 0).collect();
    missed.sort_by_key(|one| (Reverse(one.last_good.is_none()), one.last_good));
    missed
}

/// How often an interval fits into a time.
fn whole(time: Duration, every: Duration) -> Option<u64> {
    u64::try_from(time.as_nanos().checked_div(every.as_nanos())?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use onggi_repo::format::BlobId;
    use onggi_source::UnitId;

    const DAY: Duration = Duration::from_hours(24);

    fn at(text: &str) -> Timestamp {
        format!("2026-11-{text}:00Z").parse().unwrap()
    }

    /// Units `source nodes` by name, snapshots as moment, unit and further tag; what is missed with how many runs.
    #[track_caller]
    fn check(units: &[&str], snapshots: &[(&str, &str, &str)], now: &str, expected: &[(&str, u64)]) {
        let unit = |name: &&str| ("nodes".to_owned(), Unit { id: UnitId::from(*name), name: (*name).to_owned() });
        let units: Vec<_> = units.iter().map(unit).collect();
        let snapshots = snapshots.iter().enumerate().map(|(number, (moment, unit, tag))| {
            let mut snapshot = Snapshot::new(at(moment).into(), BlobId([0; 32]));
            snapshot.tags = ["source:nodes".to_owned(), format!("unit:{unit}"), (*tag).to_owned()].into();
            (SnapshotId([number as u8; 32]), snapshot)
        });
        let found = missed(&units, &snapshots.collect::<Vec<_>>(), DAY, at(now));
        let found: Vec<_> = found.iter().map(|one| (one.unit.name.as_str(), one.runs)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_hub_that_was_off_for_two_intervals_missed_two_runs_of_each_unit_and_lists_it_once() {
        let snapshots = [("01T02:00", "a", ""), ("02T02:00", "a", ""), ("02T03:00", "b", "")];
        check(&["a", "b"], &snapshots, "04T02:30", &[("a", 2), ("b", 1)]);
        check(&["a", "b"], &snapshots, "03T01:59", &[]);
    }

    #[test]
    fn a_snapshot_with_faults_is_no_good_one() {
        let snapshots = [("01T02:00", "a", ""), ("03T02:00", "a", "partial"), ("03T03:00", "a", "incomplete")];
        check(&["a"], &snapshots, "03T04:00", &[("a", 2)]);
    }

    #[test]
    fn a_unit_that_was_never_stored_comes_first() {
        check(&["a", "new"], &[("01T02:00", "a", "")], "09T02:00", &[("new", 1), ("a", 8)]);
        check(&[], &[("01T02:00", "gone", "")], "09T02:00", &[]);
    }

    #[test]
    fn a_snapshot_of_the_future_misses_nothing() {
        check(&["a"], &[("09T02:00", "a", "")], "01T02:00", &[]);
    }
}
