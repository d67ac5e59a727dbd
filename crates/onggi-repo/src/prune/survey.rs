//! What is there, seen twice. A listing that errs by omission would make needed packs look unneeded, so two must agree,
//! and every index and snapshot must be readable.

use super::{PruneOptions, refuse};
use crate::{
    Problem, Repository, Result,
    error::Act,
    format::{BlobId, IndexId, PackId, SnapshotId},
};
use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use onggi_storage::{FileId, FileType, Handle, OwnFolder};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A run's heartbeat that is older was left by a run that died.
const HEARTBEAT_STALE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A consistent view of a repository.
#[derive(Debug)]
pub(super) struct Survey {
    /// Packs that are there, with their sizes.
    pub packs: HashMap<PackId, u64>,
    pub indexes: Vec<IndexId>,
    pub snapshots: Vec<SnapshotId>,
    /// Root trees with a name for people.
    pub roots: Vec<(BlobId, String)>,
    /// When the runs that are going on began, as far as they say.
    heartbeats: Vec<Timestamp>,
}

impl Survey {
    /// What tests of the decision need.
    #[cfg(test)]
    pub fn of_packs(packs: HashMap<PackId, u64>) -> Self {
        Self { packs, indexes: Vec::new(), snapshots: Vec::new(), roots: Vec::new(), heartbeats: Vec::new() }
    }

    /// Whether a run that began before this time may still be going on.
    pub fn has_run_since_before(&self, marked: Timestamp, now: Timestamp) -> bool {
        self.heartbeats.iter().any(|&start| start <= marked && now.duration_since(start) < HEARTBEAT_STALE)
    }
}

pub(super) async fn survey(repo: &Repository, options: &PruneOptions) -> Result<Survey> {
    let first = listings(repo).await?;
    let [snapshots, indexes, packs] = listings(repo).await?;
    if first != [snapshots.clone(), indexes.clone(), packs.clone()] {
        return refuse("listing", "two listings of the repository differ");
    }
    let ids = |files: &BTreeMap<FileId, u64>| files.keys().copied().collect::<Vec<_>>();
    let (snapshot_ids, index_ids) = (ids(&snapshots), ids(&indexes));
    check_expectations(options, &snapshot_ids, packs.len())?;
    let found = repo.snapshots().await?;
    refuse_problems("snapshot", &found.problems)?;
    if found.found.len() != snapshot_ids.len() {
        return refuse("snapshot", "a snapshot vanished while it was being read");
    }
    let loaded = repo.load_index().await?;
    refuse_problems("index", &loaded.problems)?;
    if loaded.indexes != index_ids.len() {
        return refuse("index", "an index vanished or appeared while it was being read");
    }
    Ok(Survey {
        packs: packs.into_iter().map(|(id, size)| (id.into(), size)).collect(),
        indexes: index_ids.into_iter().map(IndexId::from).collect(),
        snapshots: snapshot_ids.into_iter().map(SnapshotId::from).collect(),
        roots: found.found.iter().map(|(id, snapshot)| (snapshot.tree, id.short())).collect(),
        heartbeats: heartbeats(repo).await?,
    })
}

/// Snapshots, indexes and packs with their sizes. Snapshots first: what they need is then announced.
async fn listings(repo: &Repository) -> Result<[BTreeMap<FileId, u64>; 3]> {
    let mut listings = [BTreeMap::new(), BTreeMap::new(), BTreeMap::new()];
    for (file_type, files) in [FileType::Snapshot, FileType::Index, FileType::Pack].into_iter().zip(&mut listings) {
        let listed: Vec<_> =
            repo.fresh().list(file_type).try_collect().await.act(|| format!("list {}", file_type.folder()))?;
        *files = listed.iter().filter_map(|file| Some((file.handle.id()?, file.size))).collect();
    }
    Ok(listings)
}

fn check_expectations(options: &PruneOptions, snapshots: &[FileId], packs: usize) -> Result<()> {
    let there: HashSet<_> = snapshots.iter().map(|id| SnapshotId::from(*id)).collect();
    if let Some(absent) = options.expected_snapshots.iter().find(|id| !there.contains(id)) {
        return refuse("snapshot-absent", format!("snapshot {} is gone, and nobody forgot it", absent.short()));
    }
    match options.packs_before {
        Some(before) if packs * 2 < before => {
            refuse("listing", format!("only {packs} packs are there, the last run saw {before}"))
        }
        _ => Ok(()),
    }
}

pub(super) fn refuse_problems(guard: &'static str, problems: &[Problem]) -> Result<()> {
    match problems {
        [] => Ok(()),
        [one] => refuse(guard, one.to_string()),
        [first, rest @ ..] => refuse(guard, format!("{first}; and {} more", rest.len())),
    }
}

/// Start times of runs; probes of the clock are no runs.
async fn heartbeats(repo: &Repository) -> Result<Vec<Timestamp>> {
    let listed = repo.fresh().list(FileType::Own(OwnFolder::Runs)).try_collect::<Vec<_>>().await;
    let files = match listed {
        Err(error) if error.is_not_found() => Vec::new(),
        listed => listed.act(|| "list runs".into())?,
    };
    let is_run = |handle: &Handle| matches!(handle, Handle::Own(_, name) if !name.as_str().starts_with("probe-"));
    Ok(files.into_iter().filter(|file| is_run(&file.handle)).filter_map(|file| file.modified_at).collect())
}
