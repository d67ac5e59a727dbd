//! The verdict over each snapshot of one group. Pure. Equal to restic's policy where all snapshots are complete and the
//! writer's clock is trusted.

use super::{
    ForgetOptions, TrustedTime,
    rules::{Count, Period, Rule, Rules, utc},
};
use crate::{
    format::{DeleteRule, Snapshot, SnapshotId},
    sabotage,
};
use jiff::{Timestamp, civil::DateTime};

/// Marks a snapshot that was stored with problems.
pub const PARTIAL: &str = "partial";
/// Begins the tag by which a unit says itself how many of its last snapshots are kept.
const KEEP: &str = "keep";
/// Marks a checkpoint or a drain that ended early.
pub const INCOMPLETE: &str = "incomplete";

/// A snapshot that retention decides about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub id: SnapshotId,
    /// What it says.
    pub snapshot: Snapshot,
    /// When the storage received it, by the storage's clock.
    pub received_at: Option<Timestamp>,
}

/// What happens to a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It stays.
    Keep,
    /// It goes.
    Forget,
}

/// What happens to a snapshot, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The snapshot.
    pub candidate: Candidate,
    /// What happens to it.
    pub action: Action,
    /// Every rule that keeps it, or why none does.
    pub reasons: Vec<String>,
}

/// One snapshot under judgement.
struct Case {
    candidate: Candidate,
    moment: DateTime,
    instant: Timestamp,
    reasons: Vec<String>,
}

impl Case {
    fn new(candidate: Candidate, trusted: TrustedTime) -> Self {
        let written = candidate.snapshot.time;
        let (moment, instant) = match (trusted, candidate.received_at) {
            (TrustedTime::Received, Some(received)) => (utc(received), received),
            _ => (written.civil(), written.instant),
        };
        Self { candidate, moment, instant, reasons: Vec::new() }
    }

    fn is_complete(&self) -> bool {
        !self.candidate.snapshot.has_tag(PARTIAL)
    }
}

/// Judges the snapshots of one group, newest first.
pub(super) fn judge(rules: &Rules, candidates: Vec<Candidate>, options: &ForgetOptions) -> Vec<Verdict> {
    let trusted = if sabotage::CLAIMED_TIME_TRUSTED.is_on() { TrustedTime::Written } else { options.trusted };
    let mut cases: Vec<_> = candidates.into_iter().map(|candidate| Case::new(candidate, trusted)).collect();
    cases.sort_by_key(|case| std::cmp::Reverse((case.instant, case.candidate.id)));
    let (mut counted, uncounted): (Vec<_>, Vec<_>) =
        cases.into_iter().partition(|case| !case.candidate.snapshot.has_tag(INCOMPLETE));
    let newest = counted.iter().find(|case| case.instant <= options.now);
    let own = newest.filter(|_| options.is_own_count_heard).and_then(own_count);
    let newest = newest.map_or_else(|| utc(options.now), |case| case.moment);
    let own_rules = own.map(|count| rules.with_last(count));
    for rule in own_rules.as_ref().unwrap_or(rules).iter() {
        apply(rule, &mut counted, newest, trusted);
    }
    if let Some(count) = own {
        let reasons = counted.iter_mut().flat_map(|case| &mut case.reasons);
        reasons.filter(|reason| *reason == Period::Each.word()).for_each(|reason| {
            *reason = format!("last {count}, as the unit says");
        });
    }
    keep_last_complete(&mut counted);
    for case in &mut counted {
        honour_delete_rule(case, options.now);
    }
    let newest_counted = counted.first().map(|case| case.instant);
    let mut verdicts: Vec<_> = counted.into_iter().map(|case| (case.instant, verdict(case))).collect();
    verdicts.extend(uncounted.into_iter().map(|case| (case.instant, incomplete(case, newest_counted))));
    verdicts.sort_by_key(|(instant, _)| std::cmp::Reverse(*instant));
    verdicts.into_iter().map(|(_, verdict)| verdict).collect()
}

/// What a unit's snapshot says of how many are kept. Tags of other snapshots are whatever somebody gave them.
fn own_count(case: &Case) -> Option<u32> {
    let snapshot = &case.candidate.snapshot;
    snapshot.tag_value("unit")?;
    snapshot.tag_value(KEEP)?.parse().ok().filter(|count| *count > 0)
}

fn apply(rule: &Rule, cases: &mut [Case], newest: DateTime, trusted: TrustedTime) {
    match rule {
        Rule::Tags(tags) => {
            for case in cases.iter_mut().filter(|case| tags.iter().all(|tag| case.candidate.snapshot.has_tag(tag))) {
                case.reasons.push(format!("tag {}", tags.join(",")));
            }
        }
        Rule::Count(period, count) => keep_count(*period, *count, cases, trusted),
        Rule::Within(period, span) => {
            let start = span.before(newest);
            let within = cases.iter().take_while(|case| case.moment > start).count();
            let is_all = within == cases.len();
            for chosen in representatives(*period, &cases[..within], trusted) {
                cases[chosen].reasons.push(rule.to_string());
            }
            if is_all
                && *period != Period::Each
                && let Some(oldest) = cases.last_mut()
            {
                keep_once(oldest, rule.to_string());
            }
        }
    }
}

/// Keeps one of each of the newest `count` periods, and while some are left the oldest snapshot too, so that history
/// reaches back as far as it can.
fn keep_count(period: Period, count: Count, cases: &mut [Case], trusted: TrustedTime) {
    let chosen = representatives(period, cases, trusted);
    let allowed = match count {
        Count::All => chosen.len(),
        Count::Of(count) => chosen.len().min(count as usize),
    };
    let is_some_left = count == Count::All || matches!(count, Count::Of(count) if (count as usize) > allowed);
    for &position in &chosen[..allowed] {
        cases[position].reasons.push(period.word().into());
    }
    if is_some_left && let Some(oldest) = cases.last_mut() {
        keep_once(oldest, period.word().into());
    }
    if period == Period::Each {
        keep_partial_among_last(&chosen[..allowed], cases);
    }
}

/// Partial snapshots take no place among the last ones, but those newer than them stay beside them.
fn keep_partial_among_last(chosen: &[usize], cases: &mut [Case]) {
    let until = chosen.last().copied().unwrap_or(0);
    for case in cases[..until].iter_mut().filter(|case| !case.is_complete()) {
        keep_once(case, "partial, beside the last".into());
    }
}

/// While the newest runs store with problems, the last one without stays, however old it grows.
fn keep_last_complete(cases: &mut [Case]) {
    let newer = cases.iter().take_while(|case| !case.is_complete()).count();
    if newer > 0
        && let Some(last) = cases.get_mut(newer).filter(|case| case.reasons.is_empty())
    {
        last.reasons.push("the last complete one".into());
    }
}

fn keep_once(case: &mut Case, reason: String) {
    if !case.reasons.contains(&reason) {
        case.reasons.push(reason);
    }
}

/// The snapshot that stands for each period, newest period first. A complete one where there is one: the newest, or the
/// first received, so that a later forgery cannot displace it.
fn representatives(period: Period, cases: &[Case], trusted: TrustedTime) -> Vec<usize> {
    let has_complete = cases.iter().any(Case::is_complete);
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut last_key = None;
    for (position, case) in cases.iter().enumerate() {
        if period == Period::Each && has_complete && !case.is_complete() {
            continue;
        }
        let key = Some(period.key(case.moment, position));
        if key != last_key {
            runs.push(Vec::new());
            last_key = key;
        }
        if let Some(run) = runs.last_mut() {
            run.push(position);
        }
    }
    runs.into_iter().filter_map(|run| representative(&run, cases, trusted)).collect()
}

fn representative(run: &[usize], cases: &[Case], trusted: TrustedTime) -> Option<usize> {
    let first = |is_fine: &dyn Fn(usize) -> bool| match trusted {
        TrustedTime::Written => run.iter().copied().find(|&position| is_fine(position)),
        TrustedTime::Received => run.iter().rev().copied().find(|&position| is_fine(position)),
    };
    first(&|position| cases[position].is_complete()).or_else(|| first(&|_| true))
}

fn honour_delete_rule(case: &mut Case, now: Timestamp) {
    match case.candidate.snapshot.delete_rule() {
        Some(DeleteRule::Never) => case.reasons.push("marked never to be deleted".into()),
        Some(DeleteRule::After(time)) if time.instant > now => {
            case.reasons.push(format!("not to be deleted before {time}"));
        }
        _ => {}
    }
}

fn verdict(case: Case) -> Verdict {
    if case.reasons.is_empty() {
        Verdict { candidate: case.candidate, action: Action::Forget, reasons: vec!["no rule keeps it".into()] }
    } else {
        Verdict { candidate: case.candidate, action: Action::Keep, reasons: case.reasons }
    }
}

/// A checkpoint is never counted: it goes when a snapshot that counts is newer.
fn incomplete(case: Case, newest_counted: Option<Timestamp>) -> Verdict {
    let is_superseded = newest_counted.is_some_and(|newest| newest >= case.instant);
    let (action, reason) = if is_superseded {
        (Action::Forget, "incomplete, and a newer snapshot is whole")
    } else {
        (Action::Keep, "incomplete, and nothing newer is whole")
    };
    Verdict { candidate: case.candidate, action, reasons: vec![reason.into()] }
}
