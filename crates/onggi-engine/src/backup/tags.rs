//! The tags of a snapshot: whose it is, of which run, and in what state.

use super::{Member, UnitPlan};
use onggi_repo::{
    forget::FOLLOWS,
    format::{Snapshot, tag},
};
use onggi_source::{Facts, RunId, UnitId};

/// Stored with listed problems.
pub const PARTIAL: &str = "partial";
/// A checkpoint or a drain that ended early; never counted.
pub const INCOMPLETE: &str = "incomplete";

/// All tags of a unit's snapshot.
pub(super) fn tags(member: &Member<'_>, run: &RunId, facts: &Facts, is_partial: bool) -> Vec<String> {
    let UnitPlan { kind, source, tags, .. } = member.plan;
    let mut all = vec![
        "onggi".to_owned(),
        tag("kind", kind),
        tag("source", source),
        tag("unit", member.unit.id.as_str()),
        tag("run", run.as_str()),
    ];
    all.extend(facts.follows.iter().map(|base| tag(FOLLOWS, base.as_str())));
    let more = facts.tags.iter().chain(tags).cloned().chain(is_partial.then(|| PARTIAL.to_owned()));
    for one in more {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all
}

/// Whether a snapshot is whole and without a listed problem.
pub(crate) fn is_good(snapshot: &Snapshot) -> bool {
    !snapshot.has_tag(PARTIAL) && !snapshot.has_tag(INCOMPLETE)
}

/// Whether a snapshot is of this unit of this source.
pub(crate) fn is_of(snapshot: &Snapshot, source: &str, unit: &UnitId) -> bool {
    snapshot.has_tag(&tag("source", source)) && snapshot.has_tag(&tag("unit", unit.as_str()))
}
