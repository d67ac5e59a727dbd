//! Policies over small histories. A history is a list of `month-day` or `month-dayThour`, with `p` for partial and `i` for incomplete.

use super::*;
use crate::format::{BlobId, Snapshot, Summary, Time};

fn moment(text: &str) -> Timestamp {
    let (date, hour) = text.split_once('T').unwrap_or((text, "00"));
    let text = if date.len() > 5 { format!("{date}T{hour}:00:00Z") } else { format!("2026-{date}T{hour}:00:00Z") };
    text.parse().unwrap()
}

fn candidate(word: &str) -> Candidate {
    let bare = word.trim_end_matches(['p', 'i']);
    let time = moment(bare);
    let mut snapshot = Snapshot::new(Time::utc(time), BlobId::of(word.as_bytes()));
    for (mark, tag) in [('p', PARTIAL), ('i', INCOMPLETE)] {
        if word.ends_with(mark) {
            snapshot.tags.push(tag.into());
        }
    }
    Candidate { id: SnapshotId::of(word.as_bytes()), snapshot, received_at: Some(time) }
}

fn options(trusted: TrustedTime) -> ForgetOptions {
    ForgetOptions { trusted, max: None, ..ForgetOptions::at(moment("2027-01-01")) }
}

fn plan(rules: &str, candidates: Vec<Candidate>, options: &ForgetOptions) -> ForgetPlan {
    plan_forget(&rules.parse().unwrap(), candidates, options).unwrap()
}

fn words(plan: &ForgetPlan) -> String {
    let verdicts = plan.groups.iter().flat_map(|group| &group.verdicts);
    let words: Vec<_> =
        verdicts.map(|verdict| if verdict.action == Action::Keep { "keep" } else { "forget" }).collect();
    words.join(" ")
}

/// The one place that knows the planner's signature.
#[track_caller]
fn check_trusting(trusted: TrustedTime, rules: &str, newest_first: &str, expected: &str) {
    let candidates = newest_first.split(' ').map(candidate).collect();
    assert_eq!(words(&plan(rules, candidates, &options(trusted))), expected);
}

#[track_caller]
fn check(rules: &str, newest_first: &str, expected: &str) {
    check_trusting(TrustedTime::Written, rules, newest_first, expected);
}

#[test]
fn the_last_two_are_kept() {
    check("last=2", "09-03 09-02 09-01", "keep keep forget");
}

#[test]
fn the_newest_of_each_day_is_kept_and_the_oldest_while_counts_are_left() {
    check(
        "daily=2",
        "09-03T9 09-03T8 09-02T9 09-02T8 09-01".replace('T', "T0").as_str(),
        "keep forget keep forget forget",
    );
    check("daily=9", "09-02T09 09-02T08 09-01T09 09-01T08", "keep forget keep keep");
    check("hourly=1", "09-02T09 09-02T08", "keep forget");
    check("weekly=2", "09-14 09-13 09-07 09-06", "keep keep forget forget");
    check("monthly=all", "09-02 09-01 08-01", "keep forget keep");
    check("yearly=1", "2026-02-01 2026-01-01 2025-12-31", "keep forget forget");
}

#[test]
fn a_span_reaches_back_from_the_newest_snapshot() {
    check("within=2d", "09-10 09-09 09-08 09-07", "keep keep forget forget");
    check("within-daily=2d", "09-10T09 09-10T08 09-09 09-01", "keep forget keep forget");
    check("within=1m", "09-10 08-11 08-10", "keep keep forget");
}

#[test]
fn a_snapshot_from_the_future_does_not_move_the_span() {
    check("within=1d", "2028-01-01 09-10 09-09T12 09-08", "keep keep keep forget");
}

#[test]
fn tags_are_kept_whatever_their_age() {
    let mut candidates: Vec<_> = ["09-03", "09-02", "09-01"].map(candidate).into();
    candidates[2].snapshot.tags = vec!["a".into(), "b".into()];
    candidates[1].snapshot.tags = vec!["a".into()];
    assert_eq!(words(&plan("last=1 tag=a,b", candidates, &options(TrustedTime::Written))), "keep forget keep");
}

#[test]
fn a_partial_snapshot_never_displaces_a_complete_one() {
    check("last=1", "09-03p 09-02 09-01", "keep keep forget");
    check("daily=1", "09-03T09p 09-03T08 09-02", "forget keep forget");
    check("daily=2", "09-03p 09-02", "keep keep");
    check("last=2", "09-03p 09-02p 09-01p", "keep keep forget");
}

#[test]
fn the_last_good_snapshot_stays_while_the_newest_runs_fail() {
    // thirty days of runs with problems, or of runs that store nothing
    let failing: Vec<_> = (1..=30).rev().map(|day| format!("09-{day:02}p")).collect();
    let history = format!("{} 08-31 08-30", failing.join(" "));
    for rules in ["within=7d", "daily=7", "last=1 daily=3", "hourly=2"] {
        let candidates = history.split(' ').map(candidate).collect();
        for trusted in [TrustedTime::Written, TrustedTime::Received] {
            let words = words(&plan(rules, Vec::clone(&candidates), &options(trusted)));
            assert!(words.ends_with("keep forget"), "{rules}: {words}");
        }
    }
    check("within=7d", "08-31 08-30 08-20", "keep keep forget");
    check("within=7d", "09-30i 09-29i 08-31 08-20", "keep keep keep forget");
}

#[test]
fn an_incomplete_snapshot_is_never_counted() {
    check("last=1", "09-03i 09-02 09-01", "keep keep forget");
    check("last=2", "09-03 09-02i 09-01", "keep forget keep");
}

#[test]
fn the_first_received_of_a_day_is_kept_where_writers_are_not_trusted() {
    check_trusting(TrustedTime::Received, "daily=1", "09-03T09 09-03T08 09-02", "forget keep forget");
}

#[test]
fn a_forged_time_does_not_help() {
    let mut forged = candidate("09-03T09");
    forged.snapshot.time = Time::utc(moment("09-02T09"));
    let candidates = vec![forged, candidate("09-03T08"), candidate("09-02T08")];
    assert_eq!(words(&plan("daily=2", candidates, &options(TrustedTime::Received))), "forget keep keep");
}

#[test]
fn groups_are_judged_apart() {
    let mut other = candidate("09-01");
    other.snapshot.hostname = "other".into();
    let plan = plan("last=1", vec![candidate("09-03"), candidate("09-02"), other], &options(TrustedTime::Written));
    assert_eq!(plan.groups.len(), 2);
    assert_eq!(words(&plan), "keep forget keep");
}

#[test]
fn an_empty_policy_is_refused() {
    let answer = plan_forget(&Rules::default(), vec![candidate("09-03")], &options(TrustedTime::Written));
    assert!(matches!(answer, Err(RepoError::Refused { guard: "empty-policy", .. })));
}

#[test]
fn a_plan_that_empties_a_group_is_refused() {
    let refusals = |history: &[&str]| {
        let candidates = history.iter().map(|word| candidate(word)).collect();
        let plan = plan("tag=never", candidates, &options(TrustedTime::Written));
        plan.refusals.iter().map(|(guard, _)| *guard).collect::<Vec<_>>()
    };
    assert_eq!(refusals(&["09-03", "09-02"]), ["empties-group"]);
    let mut kept = candidate("09-03p");
    kept.snapshot.tags.push("never".into());
    let plan = plan("tag=never", vec![kept, candidate("09-02")], &options(TrustedTime::Written));
    assert_eq!(words(&plan), "keep keep", "a partial one alone is not left");
}

#[test]
fn a_plan_that_removes_too_much_is_refused() {
    let days: Vec<_> = (1..=28).map(|day| format!("09-{day:02}")).collect();
    let mut options = options(TrustedTime::Written);
    options.max = Some(ForgetMax::DEFAULT);
    let count = |rules: &str| plan(rules, days.iter().map(|day| candidate(day)).collect(), &options).refusals.len();
    assert_eq!(count("last=18"), 0);
    assert_eq!(count("last=17"), 1);
}

#[test]
fn nothing_goes_after_the_newest_one_shrank() {
    let mut candidates: Vec<_> = ["09-03", "09-02", "09-01"].map(candidate).into();
    for (candidate, files) in candidates.iter_mut().zip([4, 10, 10]) {
        let time = candidate.snapshot.time;
        let mut summary = Summary::new(time, time);
        (summary.figures.total_files_processed, summary.figures.total_bytes_processed) = (files, 100);
        candidate.snapshot.summary = Some(summary);
    }
    let mut options = options(TrustedTime::Written);
    let held = plan("last=2", candidates.clone(), &options);
    assert_eq!(words(&held), "keep keep keep");
    assert!(held.groups[0].held.is_some());
    options.is_shrinking_fine = true;
    assert_eq!(words(&plan("last=2", candidates, &options)), "keep keep forget");
}

#[test]
fn a_delete_rule_of_rustic_is_honoured() {
    let mut candidates: Vec<_> = ["09-04", "09-03", "09-02", "09-01"].map(candidate).into();
    candidates[1].snapshot.unknown.insert("delete".into(), "Never".into());
    candidates[2].snapshot.unknown.insert("delete".into(), serde_json::json!({"After": "2028-01-01T00:00:00Z"}));
    candidates[3].snapshot.unknown.insert("delete".into(), serde_json::json!({"After": "2026-12-01T00:00:00Z"}));
    assert_eq!(words(&plan("last=1", candidates, &options(TrustedTime::Written))), "keep keep keep forget");
}

#[test]
fn every_verdict_has_a_reason() {
    let plan = plan(
        "last=1 daily=2",
        ["09-03", "09-02i", "09-01", "08-01"].map(candidate).into(),
        &options(TrustedTime::Written),
    );
    let reasons: Vec<_> = plan.groups[0].verdicts.iter().map(|verdict| verdict.reasons.join(", ")).collect();
    assert_eq!(reasons, ["last, daily", "incomplete, and a newer snapshot is whole", "daily", "no rule keeps it"]);
}

mod chains {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// Snapshots of one unit, an hour apart, oldest first: each stands alone or continues one before it.
    fn timeline(bases: &[Option<prop::sample::Index>]) -> Vec<Candidate> {
        let mut all: Vec<Candidate> = Vec::new();
        for (hour, base) in bases.iter().enumerate() {
            let mut one =
                candidate(&format!("2026-{:02}-{:02}T{:02}", 9 + hour / 24 / 28, 1 + hour / 24 % 28, hour % 24));
            if let Some(base) = base.as_ref().filter(|_| !all.is_empty()) {
                // Mostly the one just before, as a capture does.
                let at = all.len() - 1 - base.index(all.len()).min(base.index(3));
                one.snapshot.tags.push(format!("{FOLLOWS}:{}", all[at].id));
            }
            all.push(one);
        }
        all
    }

    fn is_whole(kept: &[&Candidate], all: &[Candidate]) -> bool {
        let ids: HashSet<_> = kept.iter().map(|one| one.id.to_string()).collect();
        let known: HashSet<_> = all.iter().map(|one| one.id.to_string()).collect();
        let bases = kept.iter().filter_map(|one| followed(&one.snapshot));
        bases.filter(|base| known.contains(*base)).all(|base| ids.contains(base))
    }

    proptest! {
        #[test]
        fn retention_never_breaks_a_chain(
            bases in prop::collection::vec(prop::option::weighted(0.8, any::<prop::sample::Index>()), 1..120),
            rules in prop::sample::select(vec!["last=1", "last=3", "daily=2", "hourly=5", "within=2d", "weekly=1", "daily=2 last=2"]),
            named in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let all = timeline(&bases);
            for trusted in [TrustedTime::Written, TrustedTime::Received] {
                let plan = plan(rules, all.clone(), &options(trusted));
                let verdicts = plan.groups.iter().flat_map(|group| &group.verdicts);
                let kept: Vec<_> = verdicts.filter(|one| one.action == Action::Keep).map(|one| &one.candidate).collect();
                prop_assert!(is_whole(&kept, &all));
            }
            let chosen: Vec<_> = named.iter().map(|index| all[index.index(all.len())].id).collect();
            let gone: HashSet<_> = followers(&all, &chosen).into_iter().chain(chosen).collect();
            let kept: Vec<_> = all.iter().filter(|one| !gone.contains(&one.id)).collect();
            prop_assert!(is_whole(&kept, &all));
        }
    }

    #[test]
    fn a_kept_delta_keeps_its_full_and_says_so() {
        let mut all = ["09-03", "09-02", "09-01"].map(candidate);
        for at in [0, 1] {
            let base = all[at + 1].id;
            all[at].snapshot.tags.push(format!("{FOLLOWS}:{base}"));
        }
        let plan = plan("last=1", all.to_vec(), &options(TrustedTime::Written));
        assert_eq!(words(&plan), "keep keep keep");
        assert_eq!(plan.groups[0].verdicts[2].reasons, ["a kept snapshot continues it"]);
    }
}

/// Newest first; `=N` is what a snapshot says of its unit.
#[track_caller]
fn check_own(is_heard: bool, tags: &[&str], newest_first: &str, expected: &str) {
    let candidates = newest_first.split(' ').map(|word| {
        let (word, own) = word.split_once('=').map_or((word, None), |(word, own)| (word, Some(own)));
        let mut one = candidate(word);
        one.snapshot.tags.extend(tags.iter().map(|tag| (*tag).to_owned()));
        one.snapshot.tags.extend(own.map(|own| format!("keep:{own}")));
        one
    });
    let options = ForgetOptions { is_own_count_heard: is_heard, ..options(TrustedTime::Written) };
    let plan = plan("last=2 monthly=2", candidates.collect(), &options);
    assert_eq!(words(&plan), expected);
}

#[test]
fn a_unit_that_says_itself_how_many_are_kept_is_heard_where_that_is_asked_for() {
    let unit = &["source:s", "unit:u"][..];
    check_own(true, unit, "09-04=3 09-03 09-02 09-01 08-01", "keep keep keep forget keep");
    check_own(false, unit, "09-04=3 09-03 09-02 09-01 08-01", "keep keep forget forget keep");
    check_own(true, unit, "09-04=1 09-03=9 09-02=9 08-02 08-01", "keep forget forget keep forget");
}

#[test]
fn a_word_that_is_no_units_or_no_number_changes_nothing() {
    let unit = &["source:s", "unit:u"][..];
    check_own(true, &[], "09-04=1 09-03 09-02 08-01", "keep keep forget keep");
    check_own(true, unit, "09-04=0 09-03 09-02 08-01", "keep keep forget keep");
    check_own(true, unit, "09-04=x 09-03 09-02 08-01", "keep keep forget keep");
    check_own(true, unit, "09-04 09-03=1 09-02 08-01", "keep keep forget keep");
}
