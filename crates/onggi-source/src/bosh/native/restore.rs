//! The way home: each artifact is put together again on the way to its machine, hashed there, and restored by the scripts
//! of its job.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::archive::{Builder, STEP_BYTES};
use super::capture::{join, path_of, place_of};
use super::config::ARTIFACTS_DEFAULT;
use super::mark::Phase;
use super::site::{Made, Of};
use super::{Active, Bosh};
use crate::bosh::Artifact;
use crate::bosh::record::Record;
use crate::bosh::tar::Checksums;
use crate::carrier::lost;
use crate::context::Context;
use crate::path::TreePath;
use crate::source::{
    Entry, Known, Outcome, Proof, Restore, RestorePlan, RestoreRequest, Result, Source as _, SourceError, Step, Stored,
};

/// Pieces between the repository and a connection.
const PIECES_MAX: usize = 8;
/// How long unlocking may take after a restore that was stopped.
const UNLOCK: Duration = Duration::from_mins(10);
/// The largest file that says what was stored, in bytes.
const TEXT_BYTES_MAX: u64 = 256 << 20;

/// What an operator may say of a restore.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RestoreOptions {
    /// Only these; all without one.
    pub jobs: Vec<String>,
    /// Instances that take what another one gave: `db/1: db/0`.
    pub instances: BTreeMap<String, String>,
}

impl RestoreOptions {
    fn wants(&self, artifact: &Artifact) -> bool {
        self.jobs.is_empty() || self.jobs.iter().any(|job| is_of(artifact, job))
    }
}

/// Whether an artifact is of this job; that of all instances has the job's name first, then the release's.
fn is_of(artifact: &Artifact, job: &str) -> bool {
    match artifact {
        Artifact::Instance { job: own, .. } => own == job,
        Artifact::Custom(name) => name.strip_prefix(job).is_some_and(|rest| rest.starts_with('-')),
    }
}

pub(super) struct IntoPlatform<'a> {
    source: &'a Bosh,
    request: &'a RestoreRequest,
    from: &'a dyn Stored,
    plan: RestorePlan,
    wanted: Vec<Wanted>,
    is_done: bool,
}

/// What a machine takes.
struct Wanted {
    made: Made,
    place: TreePath,
    sums: Checksums,
}

impl<'a> IntoPlatform<'a> {
    /// Enters the platform, looks, and leaves it again.
    pub(super) async fn plan(
        source: &'a Bosh,
        cx: &Context,
        request: &'a RestoreRequest,
        from: &'a dyn Stored,
    ) -> Result<Self> {
        let mut planned =
            Self { source, request, from, plan: RestorePlan::default(), wanted: Vec::new(), is_done: false };
        let compared = match source.active(cx, &request.unit).await {
            Ok(active) => planned.compare(cx, &active).await,
            Err(error) => Err(error),
        };
        let left = source.release(cx, &request.unit, Outcome::Dropped).await;
        compared?;
        left.map(|()| planned)
    }

    async fn compare(&mut self, cx: &Context, active: &Active) -> Result<()> {
        let root = match self.from.facts().last().and_then(|facts| facts.roots.first()) {
            Some(root) => root.clone(),
            None => path_of(&self.request.unit)?,
        };
        let options: RestoreOptions = self.request.options()?;
        let reader = Reader { cx, from: self.from };
        let record = reader.record(&root).await?;
        let (site, mut taken) = (active.site(), Vec::new());
        for made in site.artifacts(Of::Restore) {
            let stored = stored_for(&made.artifact, &options.instances);
            let name = shown(&made.artifact);
            if !options.wants(&made.artifact) {
                self.plan.steps.push(Step::Leave(name));
                continue;
            }
            let place = place_of(&root, &stored)?;
            taken.push(stored.clone());
            match record.checksums(&stored) {
                Some(sums) if reader.has(&place).await? => {
                    self.plan.steps.push(Step::Replace(format!("{name}, {} files", sums.len())));
                    self.wanted.push(Wanted { made, place, sums: sums.clone() });
                }
                _ => self.plan.steps.push(Step::Cannot(format!("{name}: nothing of it is stored"))),
            }
        }
        let wanted = |artifact: &Artifact| options.wants(artifact) && !taken.contains(artifact);
        for (artifact, _) in record.artifacts().iter().filter(|(artifact, _)| wanted(artifact)) {
            // Its place takes something else, as the operator wants it.
            let is_replaced = matches!(artifact, Artifact::Instance { group, index, .. }
                if options.instances.contains_key(&format!("{group}/{index}")));
            self.plan.steps.push(if is_replaced {
                Step::Leave(format!("what is stored of {}", shown(artifact)))
            } else {
                Step::Cannot(format!("{}: nothing there restores it", shown(artifact)))
            });
        }
        let is_meant = |job: &&String| taken.iter().any(|artifact| is_of(artifact, job));
        for job in options.jobs.iter().filter(|job| !is_meant(job)) {
            self.plan.steps.push(Step::Cannot(format!("job {job}: nothing there restores it")));
        }
        Ok(())
    }

    async fn bring(&self, cx: &Context, active: &Active, wanted: &Wanted) -> Result<()> {
        let (sender, receiver) = mpsc::channel(PIECES_MAX);
        let builder = Builder { cx, from: self.from, to: sender };
        let build = async {
            let top = Entry {
                path: wanted.place.clone(),
                kind: crate::Kind::Directory,
                metadata: crate::Metadata { mode: 0o755, ..crate::Metadata::default() },
                length: 0,
            };
            builder.add(b"", &self.entry(&wanted.place).await?.unwrap_or(top)).await?;
            let mut folders = vec![wanted.place.clone()];
            while let Some(folder) = folders.pop() {
                for entry in self.from.list(&folder).await? {
                    let name = below(&wanted.place, &entry.path);
                    builder.add(&name, &entry).await?;
                    if entry.kind.is_directory() {
                        folders.push(entry.path);
                    }
                }
            }
            builder.end().await
        };
        let (built, unpacked) = tokio::join!(build, active.site().unpack(cx, &wanted.made, receiver));
        // A machine that takes no more says itself why.
        match built {
            Err(SourceError::Incomplete(_)) if unpacked.is_err() => {}
            built => built?,
        }
        unpacked?;
        self.compare_sums(cx, active, wanted).await
    }

    async fn entry(&self, path: &TreePath) -> Result<Option<Entry>> {
        let above = path.parent().unwrap_or_else(TreePath::root);
        Ok(self.from.list(&above).await?.into_iter().find(|entry| entry.path == *path))
    }

    async fn compare_sums(&self, cx: &Context, active: &Active, wanted: &Wanted) -> Result<()> {
        let names: Vec<Vec<u8>> = wanted.sums.keys().map(|name| name.as_bytes()[2..].to_vec()).collect();
        let there =
            if names.is_empty() { Checksums::new() } else { active.site().sums(cx, &wanted.made, &names).await? };
        match wanted.sums.iter().find(|(name, sum)| there.get(*name) != Some(sum)) {
            None => Ok(()),
            Some((name, _)) => {
                let text = format!("checksums don't match for {name} of {}", wanted.made.artifact.name());
                Err(SourceError::Damaged(text))
            }
        }
    }
}

/// Reads what is said of artifacts in a snapshot.
pub(super) struct Reader<'a> {
    pub(super) cx: &'a Context,
    pub(super) from: &'a dyn Stored,
}

impl Reader<'_> {
    /// What was stored, with the hash of every file.
    pub(super) async fn record(&self, root: &TreePath) -> Result<Record> {
        let text = self.text(&join(&join(root, b"_meta")?, b"metadata")?).await?;
        let record = Record::parse(&String::from_utf8_lossy(&text));
        record.map_err(|error| SourceError::Damaged(format!("its metadata: {error}")))
    }

    pub(super) async fn text(&self, path: &TreePath) -> Result<Vec<u8>> {
        let content = self.from.open(path).await?;
        let length = content.open(self.cx, &Known::default()).await.map_err(lost)?.length;
        if length > TEXT_BYTES_MAX {
            return Err(SourceError::Damaged(format!("{path} is too long")));
        }
        let mut text = vec![0; length as usize];
        for (number, step) in text.chunks_mut(STEP_BYTES).enumerate() {
            content.read(self.cx, (number * STEP_BYTES) as u64, step).await.map_err(lost)?;
        }
        Ok(text)
    }

    pub(super) async fn has(&self, path: &TreePath) -> Result<bool> {
        let mut above = TreePath::root();
        for name in path.components() {
            let path = join(&above, name)?;
            if !self.from.list(&above).await?.iter().any(|entry| entry.path == path) {
                return Ok(false);
            }
            above = path;
        }
        Ok(true)
    }
}

#[async_trait]
impl Restore for IntoPlatform<'_> {
    fn plan(&self) -> &RestorePlan {
        &self.plan
    }

    async fn apply(&mut self, cx: &Context) -> Result<()> {
        self.source.alive(cx, &self.request.unit, Box::pin(self.carry_out(cx))).await?;
        self.is_done = true;
        Ok(())
    }

    async fn prove(&mut self, cx: &Context) -> Result<Proof> {
        cx.check()?;
        if !self.is_done {
            return Err(SourceError::Incomplete("nothing was restored".to_owned()));
        }
        let check = |wanted: &Wanted| {
            let count = wanted.sums.len();
            format!("{}: {count} files arrived whole, and its job restored them", shown(&wanted.made.artifact))
        };
        Ok(Proof { checks: self.wanted.iter().map(check).collect() })
    }
}

impl IntoPlatform<'_> {
    async fn carry_out(&self, cx: &Context) -> Result<()> {
        let unit = &self.request.unit;
        let active = self.source.prepare(cx, unit, Of::Restore).await?;
        let bring = async |wanted: &Wanted| self.bring(cx, &active, wanted).await;
        crate::context::each(usize::from(ARTIFACTS_DEFAULT), &self.wanted, bring).await?;
        let site = active.site();
        let wanted: Vec<Made> = self.wanted.iter().map(|wanted| wanted.made.clone()).collect();
        let restored = match site.lock(cx, Of::Restore).await {
            Ok(()) => site.work(cx, Of::Restore, &wanted).await,
            Err(error) => Err(error),
        };
        let restored = match restored {
            Ok(()) => active.is_still_held(cx).await,
            Err(error) => Err(error),
        };
        let cleanup = cx.for_cleanup(UNLOCK);
        let unlocked = site.unlock(&cleanup, Of::Restore, restored.is_ok()).await;
        if unlocked.is_ok() {
            active.dismiss(&cleanup, self.source.config.lock_deadman()).await?;
            active.write(&cleanup, unit, Phase { is_whole: restored.is_ok(), is_thawed: true }).await?;
        }
        restored?;
        unlocked
    }
}

/// What is stored for an artifact: that of the same place, or of the one that the operator named.
fn stored_for(artifact: &Artifact, instances: &BTreeMap<String, String>) -> Artifact {
    let Artifact::Instance { group, index, job } = artifact else { return artifact.clone() };
    let other = instances.get(&format!("{group}/{index}")).and_then(|other| other.split_once('/'));
    let (group, index) = other.unwrap_or((group, index));
    Artifact::Instance { group: group.to_owned(), index: index.to_owned(), job: job.clone() }
}

pub(super) fn shown(artifact: &Artifact) -> String {
    match artifact {
        Artifact::Custom(name) => name.clone(),
        Artifact::Instance { group, index, job } => format!("{group}/{index}/{job}"),
    }
}

pub(super) fn below(place: &TreePath, path: &TreePath) -> Vec<u8> {
    let skipped = place.components().count();
    path.components().skip(skipped).collect::<Vec<_>>().join(&b'/')
}
