//! A repository in the place of the backup server's folder: a capture is a snapshot like those of the kind `openstack`, of
//! the moment in its image's name.
//!
//! What is stored was read back before it counts; a capture that has its snapshot already is not stored again.

use onggi_repo::forget::{Candidate, ForgetOptions, ForgetPlan, Rules, TrustedTime, plan_forget};
use onggi_repo::format::{Snapshot, SnapshotId};
use onggi_repo::{RepoError, format};
use onggi_source::openstack::jcloud::{Captured, Project, ServerImage};
use onggi_source::{Context, SourceError, Timestamp};
use serde_json::Value;
use tokio::sync::Mutex;

use super::Fault;
use crate::backup::{Job, UnitPlan};
use crate::import::import;

/// A repository, open for the captures of one project.
pub struct Shelf<'a> {
    /// What stores.
    pub job: Job<'a>,
    /// What holds for all captures; the host name is each server's own.
    pub plan: UnitPlan,
    /// Snapshots of this run.
    stored: Mutex<Vec<(SnapshotId, Snapshot)>>,
}

/// A capture that lies in the repository.
pub(super) struct Stored {
    /// What it is called there.
    pub(super) name: String,
    /// So much was read for it.
    pub(super) bytes: u64,
    /// What is missing or doubtful.
    pub(super) problems: Vec<String>,
}

impl<'a> Shelf<'a> {
    /// A shelf of which nothing is stored yet.
    pub fn new(job: Job<'a>, plan: UnitPlan) -> Self {
        Self { job, plan, stored: Mutex::default() }
    }

    /// Stores a capture, unless it has its snapshot.
    pub(super) async fn store(
        &self,
        cx: &Context,
        project: &Project,
        server: &Value,
        image: &ServerImage,
    ) -> Result<Stored, Fault> {
        let captured = Captured::new(project, server, image);
        let remnant = captured.remnant().ok_or_else(|| Fault::Store("its name has no moment".to_owned()))?;
        let name = |id: &SnapshotId| format!("snapshot {}", id.short());
        if let Some(known) = self.job.history.at(&self.plan.source, &remnant.unit.id, remnant.seen_at) {
            return Ok(Stored { name: name(&known), bytes: 0, problems: Vec::new() });
        }
        let plan = UnitPlan { hostname: remnant.unit.name.clone(), ..self.plan.clone() };
        let mut stored = self.stored.lock().await;
        let before = stored.len();
        let report = import(cx, &self.job, &captured, &plan, &remnant, &mut stored).await;
        cx.check().map_err(SourceError::from)?;
        match stored.get(before) {
            Some((id, _)) => {
                let problems = report.problems.first.iter().map(|problem| problem.text.clone()).collect();
                Ok(Stored { name: name(id), bytes: report.bytes_read, problems })
            }
            None => Err(Fault::Store(report.causes.join(": "))),
        }
    }
}

/// What of a server's snapshots goes so that the newest `keep` stay, as the script's file says: no guard asks again.
pub fn surplus(
    candidates: &[Candidate],
    source: &str,
    server: &str,
    keep: usize,
    now: Timestamp,
) -> Result<ForgetPlan, RepoError> {
    let tags = [format::tag("source", source), format::tag("unit", server)];
    let own = candidates.iter().filter(|one| tags.iter().all(|tag| one.snapshot.has_tag(tag))).cloned();
    let mut rules = Rules::default();
    // A repository without the newest is never meant.
    let added = rules.add("last", &keep.max(1).to_string());
    added.map_err(|error| RepoError::Refused { guard: "empty-policy", reason: error.to_string() })?;
    let options = ForgetOptions { trusted: TrustedTime::Written, max: None, ..ForgetOptions::at(now) };
    plan_forget(&rules, own.collect(), &options)
}
