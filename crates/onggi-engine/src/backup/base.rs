//! What is there already: the snapshots of the repository, and which of them a unit is compared with or continues.

use super::{Member, manifest::Manifest, tags};
use crate::report::{Problems, ReportProblem};
use onggi_repo::{
    Repository, Result,
    format::{Snapshot, SnapshotId},
};
use onggi_source::{Base, RunId, UnitId};

/// What a unit's files are compared with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Parents {
    /// The newest snapshot of the same unit, else of the same host and paths.
    #[default]
    Newest,
    /// These, as the operator said.
    Given(Vec<SnapshotId>),
    /// Nothing: all is read.
    Nothing,
}

/// The snapshots of a repository, as they were when the run began.
#[derive(Debug, Default)]
pub struct History {
    /// Oldest first.
    pub snapshots: Vec<(SnapshotId, Snapshot)>,
    /// Files that could not be read.
    pub problems: Problems,
}

impl History {
    /// Reads all snapshots, then the index, in the order that keeps the index no older than any of them.
    pub async fn load(repo: &Repository) -> Result<Self> {
        let snapshots = repo.snapshots().await?;
        let loaded = repo.load_index().await?;
        let mut problems = Problems::default();
        snapshots
            .problems
            .into_iter()
            .chain(loaded.problems)
            .map(ReportProblem::from)
            .for_each(|one| problems.push(one));
        Ok(Self { snapshots: snapshots.found, problems })
    }

    /// The snapshots that a unit is compared with.
    pub fn parents(&self, member: &Member<'_>) -> Vec<SnapshotId> {
        match &member.plan.parents {
            Parents::Given(ids) => ids.clone(),
            Parents::Nothing => Vec::new(),
            Parents::Newest => self.newest(member).map(|(id, _)| *id).into_iter().collect(),
        }
    }

    /// Those whose reading came to its end.
    fn whole(&self) -> impl DoubleEndedIterator<Item = &(SnapshotId, Snapshot)> + Clone {
        self.snapshots.iter().filter(|(_, snapshot)| !snapshot.has_tag(tags::INCOMPLETE))
    }

    fn newest(&self, member: &Member<'_>) -> Option<&(SnapshotId, Snapshot)> {
        let plan = member.plan;
        let mut candidates = self.whole().rev();
        let own = candidates.clone().find(|(_, snapshot)| tags::is_of(snapshot, &plan.source, &member.unit.id));
        own.or_else(|| {
            let alike = |snapshot: &Snapshot| snapshot.hostname == plan.hostname && same_paths(snapshot, &plan.paths);
            candidates.find(|(_, snapshot)| alike(snapshot))
        })
    }

    /// What a chained capture may continue: the newest complete snapshot of the unit whose manifest can be read.
    pub(super) async fn base(&self, repo: &Repository, member: &Member<'_>) -> Option<Base> {
        let root = member.plan.manifest.as_ref()?;
        let is_good = |snapshot: &Snapshot| {
            tags::is_of(snapshot, &member.plan.source, &member.unit.id) && !snapshot.has_tag(tags::PARTIAL)
        };
        let (id, snapshot) = self.whole().rev().find(|(_, snapshot)| is_good(snapshot))?;
        match Manifest::load(repo, snapshot.tree, root).await {
            Ok(Some(manifest)) => {
                Some(Base { snapshot: onggi_source::SnapshotId::new(id.to_string()), facts: manifest.facts })
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(
                    snapshot = id.short(),
                    error = crate::chain(&error),
                    "base is not readable, capturing a full"
                );
                None
            }
        }
    }

    /// The snapshot of a unit as of this moment.
    pub fn at(&self, source: &str, unit: &UnitId, moment: jiff::Timestamp) -> Option<SnapshotId> {
        let mut own = self.whole().filter(|(_, snapshot)| tags::is_of(snapshot, source, unit));
        own.find(|(_, snapshot)| snapshot.time.instant == moment).map(|(id, _)| *id)
    }

    /// Whether a run's snapshot of a unit is there: the repository alone says whether a run had finished.
    pub(crate) fn has(&self, source: &str, unit: &UnitId, run: &RunId) -> bool {
        let run = onggi_repo::format::tag("run", run.as_str());
        self.whole().any(|(_, snapshot)| snapshot.has_tag(&run) && tags::is_of(snapshot, source, unit))
    }
}

fn same_paths(snapshot: &Snapshot, paths: &[String]) -> bool {
    let sorted = |paths: &[String]| {
        let mut paths = paths.to_vec();
        paths.sort();
        paths
    };
    !paths.is_empty() && sorted(&snapshot.paths) == sorted(paths)
}
