//! Retention: which snapshots go. A pure plan with a reason for each, guards that refuse it, and a step that carries it
//! out. Removing snapshots frees no space; prune does.

mod chain;
mod group;
mod judge;
mod rules;

pub use chain::{FOLLOWS, followed, followers};
pub use group::{GroupBy, GroupKey};
pub use judge::{Action, Candidate, INCOMPLETE, PARTIAL, Verdict};
pub use rules::{BadRule, CalendarSpan, Count, Period, Rule, Rules};

use crate::{
    Lock, Repository, Result,
    error::{Act, Problem, RepoError},
    format::SnapshotId,
    reindex::Removal,
    sabotage,
};
use futures::TryStreamExt;
use jiff::Timestamp;
use onggi_storage::FileType;
use std::collections::{BTreeMap, HashMap};

/// Whose clock decides in which period a snapshot lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustedTime {
    /// The writer's, as restic does: for copies, and where writers are trusted.
    Written,
    /// The storage's: no writer can move its snapshots into other periods or displace an earlier one.
    Received,
}

/// Most snapshots that one plan may remove from a group: the larger of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForgetMax {
    /// A share of the group in percent.
    pub percent: u32,
    /// A number.
    pub count: usize,
}

impl ForgetMax {
    /// A quarter of the group, or ten.
    pub const DEFAULT: Self = Self { percent: 25, count: 10 };

    fn allows(self, forgotten: usize, total: usize) -> bool {
        forgotten <= self.count || forgotten as u64 * 100 <= total as u64 * u64::from(self.percent)
    }
}

/// How to plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgetOptions {
    /// What time it is, by the same clock as the snapshots' trusted times.
    pub now: Timestamp,
    /// What belongs together.
    pub group_by: GroupBy,
    /// Whose clock decides.
    pub trusted: TrustedTime,
    /// A larger plan is refused; `None` after an explicit confirmation.
    pub max: Option<ForgetMax>,
    /// A group whose newest snapshot shrank to less than half is left alone until someone says it is fine.
    pub is_shrinking_fine: bool,
    /// A unit whose newest snapshot bears the tag `keep:N` keeps its last N, whatever the rules say of the last ones.
    pub is_own_count_heard: bool,
}

impl ForgetOptions {
    /// The defaults, at this time.
    pub fn at(now: Timestamp) -> Self {
        Self {
            now,
            group_by: GroupBy::Unit,
            trusted: TrustedTime::Received,
            max: Some(ForgetMax::DEFAULT),
            is_shrinking_fine: false,
            is_own_count_heard: false,
        }
    }
}

/// The verdicts over one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPlan {
    /// Which group.
    pub key: GroupKey,
    /// Newest first.
    pub verdicts: Vec<Verdict>,
    /// Why nothing of it is forgotten though rules would allow.
    pub held: Option<String>,
}

impl GroupPlan {
    /// Those that go.
    pub fn forgotten(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(|verdict| verdict.action == Action::Forget)
    }
}

/// What would be forgotten; to be shown, then carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgetPlan {
    /// Every group.
    pub groups: Vec<GroupPlan>,
    /// Guards that forbid carrying it out, with the reason.
    pub refusals: Vec<(&'static str, String)>,
}

impl ForgetPlan {
    /// The snapshots that go.
    pub fn forgotten(&self) -> Vec<SnapshotId> {
        self.groups.iter().flat_map(GroupPlan::forgotten).map(|verdict| verdict.candidate.id).collect()
    }
}

/// Decides what goes. A policy without rules is refused here; other guards are listed in the plan and refuse its
/// execution.
pub fn plan_forget(rules: &Rules, candidates: Vec<Candidate>, options: &ForgetOptions) -> Result<ForgetPlan> {
    if rules.is_empty() && !sabotage::UNKNOWN_RULE_IGNORED.is_on() {
        return Err(RepoError::Refused { guard: "empty-policy", reason: "no rule keeps anything".into() });
    }
    let mut groups: BTreeMap<GroupKey, Vec<Candidate>> = BTreeMap::new();
    for candidate in candidates {
        groups.entry(GroupKey::of(&candidate.snapshot, options.group_by)).or_default().push(candidate);
    }
    let mut plan = ForgetPlan { groups: Vec::new(), refusals: Vec::new() };
    for (key, candidates) in groups {
        plan.groups.push(GroupPlan { key, verdicts: judge::judge(rules, candidates, options), held: None });
    }
    chain::keep_whole(&mut plan.groups);
    for group in &mut plan.groups {
        if !options.is_shrinking_fine {
            hold_if_shrunk(group);
        }
        plan.refusals.extend(refusal(group, options.max));
    }
    Ok(plan)
}

fn refusal(group: &GroupPlan, max: Option<ForgetMax>) -> Option<(&'static str, String)> {
    let (forgotten, total) = (group.forgotten().count(), group.verdicts.len());
    let is_whole = |verdict: &&Verdict| {
        let snapshot = &verdict.candidate.snapshot;
        !snapshot.has_tag(PARTIAL) && !snapshot.has_tag(INCOMPLETE)
    };
    let whole = group.verdicts.iter().filter(is_whole).count();
    if forgotten > 0 && forgotten == total {
        return Some(("empties-group", format!("all {total} snapshots of {} would go", group.key)));
    }
    if whole > 0 && group.forgotten().filter(is_whole).count() == whole {
        return Some(("empties-group", format!("all {whole} complete snapshots of {} would go", group.key)));
    }
    match max {
        Some(max) if !max.allows(forgotten, total) => {
            Some(("forget-max", format!("{forgotten} of {total} snapshots of {} would go", group.key)))
        }
        _ => None,
    }
}

/// Keeps everything of a group whose newest snapshot holds less than half of what the one before held: perhaps the
/// source lost its data, and the old snapshots are all there is.
fn hold_if_shrunk(group: &mut GroupPlan) {
    let sizes = group.verdicts.iter().filter_map(|verdict| {
        let snapshot = &verdict.candidate.snapshot;
        let is_counted = !snapshot.has_tag(PARTIAL) && !snapshot.has_tag(INCOMPLETE) && followed(snapshot).is_none();
        let summary = snapshot.summary.as_ref().filter(|_| is_counted)?;
        Some((summary.figures.total_files_processed, summary.figures.total_bytes_processed))
    });
    let sizes: Vec<_> = sizes.take(2).collect();
    let &[(files, bytes), (files_before, bytes_before)] = sizes.as_slice() else { return };
    if files.saturating_mul(2) >= files_before && bytes.saturating_mul(2) >= bytes_before {
        return;
    }
    let held = format!(
        "the newest snapshot has {files} files and {bytes} bytes, the one before {files_before} and {bytes_before}"
    );
    for verdict in &mut group.verdicts {
        if verdict.action == Action::Forget {
            verdict.action = Action::Keep;
            verdict.reasons = vec!["held: the newest snapshot shrank".into()];
        }
    }
    group.held = Some(held);
}

/// What became of the snapshots that a plan forgets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Not there any more; those that were gone before count.
    pub gone: usize,
    /// They stay because an object lock holds them.
    pub held: usize,
}

impl Repository {
    /// All snapshots with the times the storage received them; problems name the unreadable ones.
    pub async fn forget_candidates(&self) -> Result<(Vec<Candidate>, Vec<Problem>)> {
        let listed: Vec<_> =
            self.fresh().list(FileType::Snapshot).try_collect().await.act(|| "list snapshots".into())?;
        let received: HashMap<_, _> = listed
            .into_iter()
            .filter_map(|file| Some((SnapshotId::from(file.handle.id()?), file.modified_at?)))
            .collect();
        let snapshots = self.snapshots().await?;
        let candidates = snapshots.found.into_iter().map(|(id, snapshot)| Candidate {
            received_at: received.get(&id).copied(),
            id,
            snapshot,
        });
        Ok((candidates.collect(), snapshots.problems))
    }

    /// Removes what the plan forgets, oldest first.
    pub async fn forget(&self, lock: &Lock, plan: &ForgetPlan) -> Result<Forgotten> {
        if let Some((guard, reason)) = plan.refusals.first() {
            return Err(RepoError::Refused { guard, reason: reason.clone() });
        }
        self.refuse_if_append_only()?;
        let mut forgotten = plan.forgotten();
        forgotten.reverse();
        let mut done = Forgotten::default();
        for id in &forgotten {
            lock.check()?;
            match self.remove_or_leave(id.handle()).await? {
                Removal::Gone => done.gone += 1,
                Removal::Held => done.held += 1,
            }
        }
        Ok(done)
    }

    /// Another program may have declared that nothing is ever removed here.
    pub(crate) fn refuse_if_append_only(&self) -> Result<()> {
        if self.config().is_append_only() {
            return Err(RepoError::Refused {
                guard: "append-only",
                reason: "the config says that nothing may be removed".into(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
