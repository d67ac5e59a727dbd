//! From a capture to a snapshot: pushes the items into an archive, again on the same capture if a connection was lost,
//! and commits what became whole.

use super::{
    Job, Member, MemberName, UnitError, UnitRun,
    items::Sink,
    manifest::{ERRORS_FILE, FILE, FOLDER, ItemToken, Manifest},
    monitor::UnitMonitor,
    proof::Trust,
    tags,
};
use crate::{
    exit::Exit,
    report::{UnitOutcome, UnitReport},
};
use bytes::Bytes;
use onggi_repo::{
    RepoError,
    archive::{Archive, ArchiveOptions, ArchiveStats, Committed, SnapshotDraft},
    format::{Snapshot, SnapshotId},
};
use onggi_source::hex::hexadecimal;
use onggi_source::{Capture, Chunking, Content, Context, Facts, Item, Items, Metadata, SourceError, TreePath};
use std::{sync::Arc, time::Duration};

/// How often the items of one capture are asked for again after a transient error.
const RETRIES_MAX: u32 = 5;
/// The longest pause before that.
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// The longest that a stopped run stores what it read.
const SAVE_MAX: Duration = Duration::from_mins(1);

/// All items are in the archive.
pub(super) struct Filled {
    archive: Archive,
    facts: Facts,
    monitor: Arc<UnitMonitor>,
    parent: Option<SnapshotId>,
}

/// The unit is stored, or was read to the end in a dry run.
pub(super) struct Drained {
    committed: Option<Committed>,
    parent: Option<SnapshotId>,
    facts: Facts,
    stats: ArchiveStats,
}

impl Drained {
    pub fn is_dry(&self) -> bool {
        self.committed.is_none()
    }

    /// A copy of the snapshot; `None` of a dry run.
    pub fn committed(&self) -> Option<(SnapshotId, Snapshot)> {
        self.committed.as_ref().map(|committed| (committed.id, committed.snapshot.clone()))
    }

    /// The snapshot; `None` of a dry run.
    pub fn into_committed(self) -> Option<(SnapshotId, Snapshot)> {
        self.committed.map(|committed| (committed.id, committed.snapshot))
    }

    /// Writes what it knows into the unit's report.
    pub fn tell(self, report: &mut UnitReport) {
        let is_clean = report.problems.is_empty();
        report.exit = if is_clean { Exit::Done } else { Exit::Partial };
        report.outcome = if is_clean { UnitOutcome::Stored } else { UnitOutcome::StoredWithProblems };
        report.snapshot = self.committed.map(|committed| committed.id.to_string());
        report.parent = self.parent.map(|id| id.to_string());
        report.taken_at = Some(self.facts.taken_at);
        report.figures = self.stats.figures();
        report.bytes_read = self.stats.bytes_read;
    }
}

/// Pushes all items of a capture into an archive.
pub(super) async fn fill(
    cx: &Context,
    job: &Job<'_>,
    members: &[Member<'_>],
    unit: &UnitRun<'_>,
    capture: &mut dyn Capture,
) -> Result<Filled, UnitError> {
    let name = &unit.member.unit.name;
    let parents = job.history.parents(&unit.member);
    let before = manifest(job, &unit.member, parents.first()).await;
    let versions = before.as_ref().map(Manifest::versions).unwrap_or_default();
    let mut retries = 0;
    loop {
        let archive = Archive::begin(job.repo, job.lock, options(job, &unit.member, parents.clone())).await;
        let archive = archive.map_err(|error| UnitError::Store(name.clone(), error))?;
        let monitor = Arc::new(unit.monitor.fresh());
        let cx = cx.with_monitor(monitor.clone());
        let runs = before.as_ref().map(|manifest| manifest.runs_since_full_read);
        let trust = Trust::new(cx.run.clone(), unit.member.plan.full_read_every, runs);
        let sink = Sink::new(&cx, &archive, job.repo, unit, (trust, &versions));
        let mut pushed = capture.items(&cx, &sink).await;
        if let Ok(facts) = &pushed
            && let Err(error) = sink.check()
        {
            tracing::warn!(unit = name, taken_at = %facts.taken_at, "capture is torn");
            pushed = Err(error);
        }
        if let Ok(facts) = &pushed
            && let Err(error) = write_manifest(&sink, job, members, unit, facts, &monitor).await
        {
            pushed = Err(error);
        }
        let failure = sink.into_failure();
        match pushed {
            _ if failure.is_some() => return Err(store_error(name, failure)),
            Ok(facts) => return Ok(Filled { archive, facts, monitor, parent: parents.first().copied() }),
            Err(error) if error.is_transient() && retries < RETRIES_MAX => {
                let pause = Duration::from_secs(1 << (2 * retries)).min(PAUSE_MAX);
                tracing::info!(unit = name, %error, "capture is read again after a pause");
                // What came is not asked for again.
                save(&cx, &archive, name).await;
                drop(archive);
                cx.sleep(pause).await.map_err(|stop| UnitError::Items(name.clone(), stop.into()))?;
                retries += 1;
            }
            Err(error) => {
                match capture.early().filter(|_| !job.dry_run) {
                    Some(facts) => leave_incomplete(&cx, job, unit, archive, &facts).await,
                    None if matches!(error, SourceError::Stopped(_)) => save(&cx, &archive, name).await,
                    None => {}
                }
                unit.monitor.absorb(&monitor);
                return Err(UnitError::Items(name.clone(), error));
            }
        }
    }
}

/// Stores what was read so far, for the next attempt or run to find; not for long, since somebody waits.
async fn save(cx: &Context, archive: &Archive, unit: &str) {
    let saved = cx.for_cleanup(SAVE_MAX).unless_stopped(archive.flush()).await;
    match saved {
        Ok(Ok(())) => tracing::info!(unit, "what was read so far is stored"),
        Ok(Err(error)) => tracing::info!(unit, error = crate::chain(&error), "what was read so far is not stored"),
        Err(_) => tracing::info!(unit, "what was read so far is not stored in time"),
    }
}

/// Stores what was read so far as a snapshot that counts as none: it is seen, keeps its data from being pruned, and goes
/// when a whole one is there. Without a file it is not worth one.
async fn leave_incomplete(cx: &Context, job: &Job<'_>, unit: &UnitRun<'_>, archive: Archive, facts: &Facts) {
    let (name, stats) = (&unit.member.unit.name, archive.stats());
    if stats.files_new + stats.files_changed + stats.files_unmodified == 0 {
        return save(cx, &archive, name).await;
    }
    let mut draft = draft(cx, job, &unit.member, facts, false);
    draft.tags.push(tags::INCOMPLETE.to_owned());
    let left = async { archive.finish().await?.commit(draft).await };
    match cx.for_cleanup(SAVE_MAX).unless_stopped(left).await {
        Ok(Ok(left)) => tracing::info!(unit = name, snapshot = left.id.short(), "what was read is stored, incomplete"),
        Ok(Err(error)) => tracing::info!(unit = name, error = crate::chain(&error), "what was read is not stored"),
        Err(_) => tracing::info!(unit = name, "what was read is not stored in time"),
    }
}

fn store_error(name: &str, failure: Option<RepoError>) -> UnitError {
    let failure = failure.unwrap_or_else(|| RepoError::Torn("an item was given up".into()));
    UnitError::Store(name.to_owned(), failure)
}

fn options(job: &Job<'_>, member: &Member<'_>, parents: Vec<SnapshotId>) -> ArchiveOptions {
    ArchiveOptions {
        parents,
        compression: member.plan.compression,
        budget: job.budget,
        journal: member.plan.journal.clone().filter(|_| !job.dry_run),
        spill: job.spill.clone(),
        connections: None,
        dry_run: job.dry_run,
    }
}

/// The parent's manifest, for the tokens of its items; only a parent of the same source and unit has comparable ones.
async fn manifest(job: &Job<'_>, member: &Member<'_>, parent: Option<&SnapshotId>) -> Option<Manifest> {
    let (root, parent) = (member.plan.manifest.as_ref()?, parent?);
    let (_, snapshot) = job.history.snapshots.iter().find(|(id, _)| id == parent)?;
    if !tags::is_of(snapshot, &member.plan.source, &member.unit.id) {
        return None;
    }
    match Manifest::load(job.repo, snapshot.tree, root).await {
        Ok(manifest) => manifest,
        Err(error) => {
            tracing::warn!(error = crate::chain(&error), "parent's manifest is not readable, all items are read");
            None
        }
    }
}

async fn write_manifest(
    sink: &Sink<'_>,
    job: &Job<'_>,
    members: &[Member<'_>],
    unit: &UnitRun<'_>,
    facts: &Facts,
    monitor: &UnitMonitor,
) -> onggi_source::Result<()> {
    let Member { plan, unit: named, .. } = unit.member;
    let Some(root) = &plan.manifest else { return Ok(()) };
    let noted = sink.take_noted();
    let manifest = Manifest {
        schema: 1,
        kind: plan.kind.clone(),
        source: plan.source.clone(),
        unit: named.clone(),
        run: sink.run().to_string(),
        facts: facts.clone(),
        group: members
            .iter()
            .map(|one| MemberName { source: one.plan.source.clone(), unit: one.unit.clone() })
            .collect(),
        tokens: noted.tokens.into_iter().map(|(path, token)| ItemToken { path, token: hexadecimal(&token) }).collect(),
        runs_since_full_read: sink.runs_since_full(),
        secrets: noted.secrets.into_iter().collect(),
    };
    let taken_at = plan.time.unwrap_or(facts.taken_at);
    let folder = named_entry(root, FOLDER)?;
    let metadata = |mode| Metadata { mode, mtime: taken_at, ..Metadata::default() };
    sink.push(Item::directory(folder.clone()).with_metadata(metadata(0o755)), Content::None).await?;
    let mut files = vec![(FILE, json(&manifest)?)];
    let problems = monitor.problems();
    if !problems.is_empty() {
        files.push((ERRORS_FILE, json(&problems)?));
    }
    for (name, content) in files {
        let item =
            Item::file(named_entry(&folder, name)?).with_metadata(metadata(0o644)).with_chunking(Chunking::Default);
        sink.push(item, Content::Inline(content)).await?;
    }
    tracing::debug!(unit = named.name, dry = job.dry_run, "manifest is written");
    Ok(())
}

fn named_entry(folder: &TreePath, name: &str) -> onggi_source::Result<TreePath> {
    folder.join(name).map_err(|error| SourceError::Incomplete(error.to_string()))
}

fn json<T: serde::Serialize>(value: &T) -> onggi_source::Result<Bytes> {
    serde_json::to_vec_pretty(value).map(Bytes::from).map_err(|error| SourceError::Incomplete(error.to_string()))
}

/// Publishes the snapshot. Only this, after its read-back, makes a unit stored.
pub(super) async fn commit(
    cx: &Context,
    job: &Job<'_>,
    unit: &UnitRun<'_>,
    filled: Filled,
) -> Result<Drained, UnitError> {
    let Filled { archive, facts, monitor, parent } = filled;
    let store = |error| UnitError::Store(unit.member.unit.name.clone(), error);
    cx.check().map_err(|stop| UnitError::Items(unit.member.unit.name.clone(), stop.into()))?;
    let finished = archive.finish().await.map_err(store)?;
    let stats = finished.stats();
    let is_partial = monitor.has_problems() || unit.monitor.has_problems();
    let committed = if job.dry_run {
        None
    } else {
        let draft = draft(cx, job, &unit.member, &facts, is_partial);
        Some(finished.commit(draft).await.map_err(store)?)
    };
    unit.monitor.absorb(&monitor);
    Ok(Drained { committed, parent, facts, stats })
}

fn draft(cx: &Context, job: &Job<'_>, member: &Member<'_>, facts: &Facts, is_partial: bool) -> SnapshotDraft {
    let plan = member.plan;
    let shown = |path: &TreePath| format!("/{}", String::from_utf8_lossy(path.as_bytes()));
    let mut paths: Vec<String> = facts.roots.iter().map(shown).collect();
    if paths.is_empty() {
        paths.clone_from(&plan.paths);
    }
    if paths.is_empty() {
        paths.push("/".into());
    }
    SnapshotDraft {
        time: plan.time.unwrap_or(facts.taken_at),
        hostname: plan.hostname.clone(),
        paths,
        tags: tags::tags(member, &cx.run, facts, is_partial),
        excludes: plan.excludes.clone(),
        program_version: job.program_version.clone(),
    }
}
