//! Which member a snapshot is taken of. Pure.

use super::client::Status;
use super::model::ClusterId;
use crate::source::SourceError;

/// What a member says when it knows no leader.
const NO_LEADER: &str = "no leader";

/// A member that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub endpoint: String,
    pub status: Status,
}

/// An endpoint that did not, and why.
#[derive(Debug)]
pub(super) struct Missing {
    pub endpoint: String,
    pub error: SourceError,
}

/// What decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// Raft entries that a member may lag behind before others are preferred.
    pub lag_max: u64,
    pub allow_no_quorum: bool,
    pub allow_corrupt: bool,
    /// Member and version of the last snapshot: bytes differ between members, and are stored once only from the same.
    pub last: Option<(ClusterId, String)>,
}

/// The members in the order in which they are to be tried, and what is doubtful of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selection {
    pub members: Vec<Found>,
    pub has_leader: bool,
    /// As `NOSPACE 8e9e05c52164694d`.
    pub alarms: Vec<String>,
}

impl Selection {
    pub fn is_corrupt(&self) -> bool {
        self.alarms.iter().any(|alarm| alarm.starts_with("CORRUPT"))
    }
}

/// Orders the members, or says why none may be read.
pub(super) fn select(found: Vec<Found>, missing: &[Missing], rules: &Rules) -> Result<Selection, SourceError> {
    let Some(cluster) = found.first().map(|found| found.status.cluster_id) else { return Err(unreachable(missing)) };
    if let Some(other) = found.iter().find(|found| found.status.cluster_id != cluster) {
        let text = format!("{} belongs to cluster {cluster}", found[0].endpoint);
        let text = format!("{text} and {} to {}: they are one source", other.endpoint, other.status.cluster_id);
        return Err(SourceError::Refused(text));
    }
    let has_leader = found.iter().any(|found| {
        found.status.leader.is_some() && !found.status.errors.iter().any(|error| error.contains(NO_LEADER))
    });
    if !has_leader && !rules.allow_no_quorum {
        let text =
            "the cluster has no leader, so its members may be stale; `allow-no-quorum: true` takes one all the same";
        return Err(SourceError::Refused(text.to_owned()));
    }
    let mut alarms: Vec<_> =
        found.iter().flat_map(|found| &found.status.errors).filter_map(|text| alarm(text)).collect();
    alarms.sort();
    alarms.dedup();
    let head = found.iter().map(|found| found.status.applied_index).max().unwrap_or_default();
    let mut members = found;
    members.retain(|found| !found.status.is_learner);
    if members.is_empty() {
        return Err(SourceError::Refused("only learners can be reached, which serve no snapshot".to_owned()));
    }
    members.sort_by_cached_key(|found| preference(found, head, rules));
    // One member may have been reached under two addresses.
    let mut seen = std::collections::BTreeSet::new();
    members.retain(|found| seen.insert(found.status.member_id));
    let selection = Selection { members, has_leader, alarms };
    if selection.is_corrupt() && !rules.allow_corrupt {
        let text = format!("a member reports corruption: {}", selection.alarms.join(", "));
        return Err(SourceError::Refused(format!("{text}; `allow-corrupt: true` takes a snapshot all the same")));
    }
    Ok(selection)
}

fn preference(found: &Found, head: u64, rules: &Rules) -> (bool, bool, bool, bool, u64) {
    let status = &found.status;
    let lags = head - status.applied_index > rules.lag_max;
    let last = rules.last.as_ref();
    let is_other_version = last.is_some_and(|(_, version)| *version != status.version);
    let is_other_member = last.is_some_and(|(member, _)| *member != status.member_id);
    (lags, is_other_version, is_other_member, status.leader == Some(status.member_id), status.db_size)
}

/// Reads `memberID:10276657743932975437 alarm:NOSPACE`.
fn alarm(text: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    let word = |words: &mut std::str::SplitWhitespace<'_>, name: &str| {
        words.next().and_then(|word| word.strip_prefix(name)).map(ToOwned::to_owned)
    };
    let member = word(&mut words, "memberID:")?.parse().ok()?;
    Some(format!("{} {}", word(&mut words, "alarm:")?, ClusterId(member)))
}

/// No endpoint answered: it is a matter of access if each of them refused.
fn unreachable(missing: &[Missing]) -> SourceError {
    let reason = |missing: &Missing| match &missing.error {
        SourceError::Denied(text) | SourceError::Unreachable(text) => format!("{}: {text}", missing.endpoint),
        error => format!("{}: {error}", missing.endpoint),
    };
    let text = missing.iter().map(reason).collect::<Vec<_>>().join("; ");
    let is_denied = |missing: &Missing| matches!(missing.error, SourceError::Denied(_));
    if missing.iter().all(is_denied) { SourceError::Denied(text) } else { SourceError::Unreachable(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules { lag_max: 1000, ..Rules::default() }
    }

    fn member(id: u64, leader: u64) -> Found {
        let status = Status {
            cluster_id: ClusterId(9),
            member_id: ClusterId(id),
            version: "3.5.16".to_owned(),
            db_size: 100,
            leader: Some(ClusterId(leader)).filter(|leader| leader.0 != 0),
            applied_index: 5000,
            ..Status::default()
        };
        Found { endpoint: format!("https://m{id}"), status }
    }

    fn with(mut found: Found, change: impl FnOnce(&mut Status)) -> Found {
        change(&mut found.status);
        found
    }

    /// The members by their ids in the order in which they are tried.
    #[track_caller]
    fn check(found: Vec<Found>, rules: &Rules, expected: &[u64]) {
        let selection = select(found, &[], rules).unwrap();
        let ids: Vec<_> = selection.members.iter().map(|found| found.status.member_id.0).collect();
        assert_eq!(ids, expected);
    }

    #[test]
    fn followers_come_before_the_leader_and_small_before_large() {
        let large = with(member(2, 1), |status| status.db_size = 200);
        check(vec![member(1, 1), large, member(3, 1)], &rules(), &[3, 2, 1]);
    }

    #[test]
    fn the_member_of_last_time_stays_while_it_keeps_up() {
        let rules = Rules { last: Some((ClusterId(1), "3.5.16".to_owned())), ..rules() };
        check(vec![member(1, 1), member(2, 1)], &rules, &[1, 2]);
        check(vec![with(member(1, 1), |status| status.applied_index = 1), member(2, 1)], &rules, &[2, 1]);
        check(vec![with(member(1, 1), |status| status.version = "3.6.0".to_owned()), member(2, 1)], &rules, &[2, 1]);
    }

    #[test]
    fn learners_and_second_addresses_are_left_out() {
        let learner = with(member(3, 1), |status| status.is_learner = true);
        check(vec![member(1, 1), member(1, 1), learner.clone()], &rules(), &[1]);
        assert!(matches!(select(vec![learner], &[], &rules()), Err(SourceError::Refused(_))));
    }

    #[test]
    fn two_clusters_are_refused() {
        let other = with(member(2, 2), |status| status.cluster_id = ClusterId(8));
        let error = select(vec![member(1, 1), other], &[], &rules()).unwrap_err();
        assert!(matches!(&error, SourceError::Refused(text) if text.contains("0000000000000008")), "{error}");
    }

    #[test]
    fn no_leader_and_corruption_are_refused_unless_allowed() {
        let alone = with(member(1, 0), |status| status.errors = vec!["etcdserver: no leader".to_owned()]);
        assert!(matches!(select(vec![alone.clone()], &[], &rules()), Err(SourceError::Refused(_))));
        let allowed = Rules { allow_no_quorum: true, allow_corrupt: true, ..rules() };
        assert!(!select(vec![alone], &[], &allowed).unwrap().has_leader);
        let alarmed = |kind| with(member(1, 1), |status| status.errors = vec![format!("memberID:10 alarm:{kind} ")]);
        assert!(matches!(select(vec![alarmed("CORRUPT")], &[], &rules()), Err(SourceError::Refused(_))));
        assert!(select(vec![alarmed("CORRUPT")], &[], &allowed).unwrap().is_corrupt());
        assert_eq!(select(vec![alarmed("NOSPACE")], &[], &rules()).unwrap().alarms, ["NOSPACE 000000000000000a"]);
    }

    #[test]
    fn every_endpoint_gives_its_reason() {
        let missing =
            |error: fn(String) -> SourceError| Missing { endpoint: "https://a".into(), error: error("x".into()) };
        let denied = select(Vec::new(), &[missing(SourceError::Denied)], &rules()).unwrap_err();
        assert_eq!(denied.to_string(), "access is denied: https://a: x");
        let both = [missing(SourceError::Denied), missing(SourceError::Unreachable)];
        let error = select(Vec::new(), &both, &rules()).unwrap_err();
        assert_eq!(error.to_string(), "system cannot be reached: https://a: x; https://a: x");
    }
}
