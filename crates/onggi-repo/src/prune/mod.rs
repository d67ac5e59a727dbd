//! Freeing space in two steps that lie a day or more apart. The first marks packs that nothing needs; writers stop
//! building upon them at once, readers may still use them. A later run looks at everything anew, brings back what became
//! needed, and removes the rest after the grace time. Every step can be interrupted: the next plan goes on from there.

mod apply;
mod decide;
mod repack;
mod survey;
mod usage;

pub use apply::Pruned;
pub use repack::Care;

use crate::{
    Lock, LockKind, Repository, Result,
    error::RepoError,
    format::{IndexId, PackEntry, PackId, SnapshotId},
};
use jiff::Timestamp;
use std::{collections::HashMap, fmt, time::Duration};

/// Marked packs stay at least so long.
pub const GRACE_MIN: Duration = Duration::from_hours(24);

/// How much unneeded content may stay in packs that are still needed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxUnused {
    /// In percent of the needed bytes.
    Percent(f64),
    /// In bytes.
    Bytes(u64),
    /// Nothing is repacked for space.
    Unlimited,
}

/// How to prune.
#[derive(Debug, Clone, PartialEq)]
pub struct PruneOptions {
    /// When packs are repacked.
    pub max_unused: MaxUnused,
    /// Most bytes of packs that one run repacks.
    pub repack_bytes_max: Option<u64>,
    /// How long marked packs stay: at least a day, and twice the longest backup window.
    pub grace: Duration,
    /// Removes at once instead of marking. Needs an exclusive lock and someone who confirmed it.
    pub is_instant: bool,
    /// No other program writes here, so that marking needs no exclusive lock.
    pub is_onggi_only: bool,
    /// What is done with blobs that move.
    pub care: Care,
    /// How many packs the last run saw; fewer than half of them are refused.
    pub packs_before: Option<usize>,
    /// Snapshots that must be there by all that is known elsewhere.
    pub expected_snapshots: Vec<SnapshotId>,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            max_unused: MaxUnused::Percent(5.0),
            repack_bytes_max: None,
            grace: GRACE_MIN,
            is_instant: false,
            is_onggi_only: false,
            care: Care::default(),
            packs_before: None,
            expected_snapshots: Vec::new(),
        }
    }
}

/// What a run would do; to be shown, then carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrunePlan {
    /// Unneeded: will be marked, or removed at once if the run is instant.
    pub mark: Vec<PackId>,
    /// Marked by an earlier run, needed again: will be announced as before.
    pub recover: Vec<PackId>,
    /// Marked long enough ago: will be removed.
    pub remove: Vec<PackId>,
    /// Marked, in their grace time.
    pub waiting: Vec<PackId>,
    /// Announced but not there, and not needed: will be dropped from the index.
    pub drop: Vec<PackId>,
    /// Partly needed: what is needed moves into new packs, the rest is marked.
    pub repack: Vec<PackId>,
    /// There but announced nowhere, left by interrupted runs: treated like those to mark.
    pub unreferenced: Vec<PackId>,
    /// Packs that stay as they are.
    pub kept: usize,
    /// Bytes of needed blobs.
    pub used_bytes: u64,
    /// Bytes that this run makes free, at once or after the grace time.
    pub freed_bytes: u64,
    /// Bytes that repacking writes anew.
    pub repacked_bytes: u64,
    /// Bytes of unneeded blobs that stay in needed packs.
    pub left_bytes: u64,
    /// Packs that were seen: for the guard of the next run.
    pub packs_seen: usize,
    state: PlanState,
}

/// What carrying the plan out needs beyond what is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct PlanState {
    now: Timestamp,
    is_instant: bool,
    care: Care,
    indexes: Vec<IndexId>,
    snapshots: Vec<SnapshotId>,
    /// Needed blobs of the packs to repack.
    moved: HashMap<PackId, Vec<PackEntry>>,
    sizes: HashMap<PackId, u64>,
}

impl PrunePlan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        [&self.mark, &self.recover, &self.remove, &self.drop, &self.repack, &self.unreferenced]
            .iter()
            .all(|packs| packs.is_empty())
    }
}

impl fmt::Display for PrunePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.state.is_instant { "remove at once" } else { "mark for deletion" };
        for (count, what) in [
            (self.mark.len() + self.unreferenced.len(), word),
            (self.repack.len(), "repack"),
            (self.remove.len(), "remove after their grace time"),
            (self.waiting.len(), "still in their grace time"),
            (self.recover.len(), "needed again"),
            (self.drop.len(), "drop from the index, lost and not needed"),
            (self.kept, "keep"),
        ] {
            writeln!(f, "{count:>8} packs: {what}")?;
        }
        write!(f, "{} bytes free, {} bytes written anew", self.freed_bytes, self.repacked_bytes)
    }
}

impl Repository {
    /// Looks at everything and plans. Anything that is odd refuses: two listings that differ, unreadable files, needed
    /// packs that are lost, clocks that disagree. Nothing is changed.
    pub async fn plan_prune(&self, lock: &Lock, options: &PruneOptions) -> Result<PrunePlan> {
        self.refuse_if_append_only()?;
        check_lock(lock, options)?;
        let survey = survey::survey(self, options).await?;
        lock.check()?;
        let usage = usage::measure(self, &survey).await?;
        let now = self.storage_time().await?;
        if now.is_skewed() {
            return refuse("clock", "this machine's clock and the storage's are more than five minutes apart");
        }
        let now = now.storage.unwrap_or(now.local);
        let mut plan = decide::decide(&usage.packs, &survey, options, now);
        plan.state = PlanState {
            now,
            is_instant: options.is_instant,
            care: options.care,
            moved: usage.moved(&plan.repack)?,
            sizes: survey.packs.clone(),
            indexes: survey.indexes,
            snapshots: survey.snapshots,
        };
        lock.check()?;
        Ok(plan)
    }

    /// Carries a plan out. The lock must be the one it was made under.
    pub async fn prune(&self, lock: &Lock, plan: &PrunePlan) -> Result<Pruned> {
        apply::apply(self, lock, plan).await
    }
}

fn check_lock(lock: &Lock, options: &PruneOptions) -> Result<()> {
    lock.check()?;
    let is_alone = lock.kind() == LockKind::Exclusive;
    if options.is_instant && !is_alone {
        return refuse("instant", "removing at once needs an exclusive lock");
    }
    if !is_alone && !options.is_onggi_only {
        return refuse("lock", "other programs may write here: pruning needs an exclusive lock");
    }
    Ok(())
}

fn refuse<T>(guard: &'static str, reason: impl Into<String>) -> Result<T> {
    Err(RepoError::Refused { guard, reason: reason.into() })
}
