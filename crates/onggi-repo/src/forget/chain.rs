//! Chains: a snapshot that continues another is worth nothing without it, and bears its id in the tag `follows:`. What is
//! kept keeps all that it continues, and what is forgotten takes along all that continue it.

use super::{Action, Candidate, GroupPlan};
use crate::format::{Snapshot, SnapshotId};
use std::collections::{HashMap, HashSet};

/// Begins the tag that names the snapshot which this one continues.
pub const FOLLOWS: &str = "follows";

/// The snapshot that this one continues.
pub fn followed(snapshot: &Snapshot) -> Option<&str> {
    snapshot.tags.iter().find_map(|tag| tag.strip_prefix(FOLLOWS)?.strip_prefix(':'))
}

/// By which ids others may name it: a copy bears the one that it was copied from beside its own.
fn names(candidate: &Candidate) -> impl Iterator<Item = String> {
    [Some(candidate.id), candidate.snapshot.original].into_iter().flatten().map(|id| id.to_string())
}

/// Keeps whatever a kept snapshot continues, back to the one that stands alone.
pub(super) fn keep_whole(groups: &mut [GroupPlan]) {
    let all = || groups.iter().flat_map(|group| &group.verdicts);
    let mut follows: HashMap<String, &str> = HashMap::new();
    for candidate in all().map(|verdict| &verdict.candidate) {
        if let Some(base) = followed(&candidate.snapshot) {
            follows.extend(names(candidate).map(|name| (name, base)));
        }
    }
    let mut needed = HashSet::new();
    for verdict in all().filter(|verdict| verdict.action == Action::Keep) {
        let mut next = followed(&verdict.candidate.snapshot);
        while let Some(base) = next {
            // A base that was seen before has led to its own.
            next = if needed.insert(base.to_owned()) { follows.get(base).copied() } else { None };
        }
    }
    for verdict in groups.iter_mut().flat_map(|group| &mut group.verdicts) {
        if verdict.action == Action::Forget && names(&verdict.candidate).any(|name| needed.contains(&name)) {
            verdict.action = Action::Keep;
            verdict.reasons = vec!["a kept snapshot continues it".into()];
        }
    }
}

/// All that continue one of these, over however many between; without these.
pub fn followers(candidates: &[Candidate], chosen: &[SnapshotId]) -> Vec<SnapshotId> {
    let mut next: HashMap<&str, Vec<&Candidate>> = HashMap::new();
    for candidate in candidates {
        if let Some(base) = followed(&candidate.snapshot) {
            next.entry(base).or_default().push(candidate);
        }
    }
    let mut seen: HashSet<SnapshotId> = chosen.iter().copied().collect();
    let mut open: Vec<&Candidate> = candidates.iter().filter(|one| seen.contains(&one.id)).collect();
    let mut found = Vec::new();
    while let Some(gone) = open.pop() {
        for follower in names(gone).filter_map(|name| next.get(name.as_str())).flatten() {
            if seen.insert(follower.id) {
                found.push(follower.id);
                open.push(follower);
            }
        }
    }
    found
}
