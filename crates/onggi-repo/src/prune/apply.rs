//! Carrying a plan out. New packs, then new indexes, then old indexes go, then packs go: whoever reads at any moment, and
//! whoever finds the repository after a crash, finds every needed blob announced and there.

use super::{PrunePlan, refuse, repack};
use crate::{
    Lock, Repository, Result,
    format::{IndexFile, IndexId, IndexPack, PackId, SnapshotId, Time},
    reindex::Removal,
    sabotage,
};
use onggi_storage::FileType;
use std::collections::HashSet;

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Packs marked for deletion.
    pub marked: usize,
    /// Packs removed.
    pub removed: usize,
    /// Packs announced again.
    pub recovered: usize,
    /// Packs whose needed blobs were moved.
    pub repacked: usize,
    /// Bytes written anew.
    pub written_bytes: u64,
    /// Packs that stay because an object lock holds them, or holds an index file that announces them.
    pub held: usize,
    /// Replaced index files that stay because an object lock holds them.
    pub held_indexes: usize,
}

pub(super) async fn apply(repo: &Repository, lock: &Lock, plan: &PrunePlan) -> Result<Pruned> {
    lock.check()?;
    refuse_if_stale(repo, plan).await?;
    let written = repack::repack(repo, lock, &plan.state.moved, plan.state.care).await?;
    let change = Change::of(plan);
    if sabotage::PACKS_BEFORE_INDEX.is_on() {
        remove_packs(repo, lock, &change.remove).await?;
    }
    let held_indexes = rewrite_indexes(repo, lock, plan, &change).await?;
    let announced = announced_by(repo, &held_indexes).await?;
    let (removed, held) = remove_packs(repo, lock, &(&change.remove - &announced)).await?;
    repo.load_index().await?;
    Ok(Pruned {
        marked: change.mark.len(),
        removed,
        held: held + (&change.remove & &announced).len(),
        held_indexes: held_indexes.len(),
        recovered: change.recover.len(),
        repacked: plan.repack.len(),
        written_bytes: written.bytes,
    })
}

/// A plan is made under a lock that keeps others away; this notices those who do not ask for locks.
async fn refuse_if_stale(repo: &Repository, plan: &PrunePlan) -> Result<()> {
    let snapshots: Vec<SnapshotId> =
        repo.list_ids(FileType::Snapshot).await?.into_iter().map(SnapshotId::from).collect();
    let indexes: Vec<IndexId> = repo.list_ids(FileType::Index).await?.into_iter().map(IndexId::from).collect();
    if snapshots != plan.state.snapshots || indexes != plan.state.indexes {
        return refuse("stale-plan", "snapshots or indexes changed since the plan was made");
    }
    Ok(())
}

/// What changes in the index.
struct Change {
    /// Packs that get a mark.
    mark: HashSet<PackId>,
    /// Packs that lose it.
    recover: HashSet<PackId>,
    /// Packs that leave the index and the storage.
    remove: HashSet<PackId>,
    /// Packs that leave the index.
    drop: HashSet<PackId>,
    /// Packs to mark that no index has.
    unreferenced: Vec<PackId>,
}

impl Change {
    fn of(plan: &PrunePlan) -> Self {
        let set = |packs: &[PackId]| packs.iter().copied().collect::<HashSet<_>>();
        let mut change = Self {
            mark: &set(&plan.mark) | &set(&plan.repack),
            recover: set(&plan.recover),
            remove: set(&plan.remove),
            drop: set(&plan.drop),
            unreferenced: plan.unreferenced.clone(),
        };
        if plan.state.is_instant {
            change.remove.extend(change.mark.drain());
            change.remove.extend(change.unreferenced.drain(..));
        }
        change
    }

    fn touches(&self, pack: PackId) -> bool {
        [&self.mark, &self.recover, &self.remove, &self.drop].iter().any(|set| set.contains(&pack))
    }

    /// The index file as it will be; `None` if it stays as it is.
    fn rewritten(&self, file: IndexFile, plan: &PrunePlan) -> Option<IndexFile> {
        if !file.packs.iter().chain(&file.packs_to_delete).any(|pack| self.touches(pack.id)) {
            return None;
        }
        let mut new = IndexFile { unknown: file.unknown, ..IndexFile::default() };
        for pack in file.packs.into_iter().filter(|pack| !self.leaves(pack.id)) {
            if self.mark.contains(&pack.id) {
                new.packs_to_delete.push(marked(pack, plan));
            } else {
                new.packs.push(pack);
            }
        }
        for pack in file.packs_to_delete.into_iter().filter(|pack| !self.leaves(pack.id)) {
            if self.recover.contains(&pack.id) {
                new.packs.push(IndexPack { time: None, size: None, ..pack });
            } else if self.mark.contains(&pack.id) {
                new.packs_to_delete.push(marked(pack, plan));
            } else {
                new.packs_to_delete.push(pack);
            }
        }
        for pack in new.packs.iter_mut().filter(|_| sabotage::ENTRIES_LOST.is_on()) {
            let half = pack.blobs.len().div_ceil(2);
            pack.blobs.truncate(half);
        }
        Some(new)
    }

    fn leaves(&self, pack: PackId) -> bool {
        self.remove.contains(&pack) || self.drop.contains(&pack)
    }
}

fn marked(pack: IndexPack, plan: &PrunePlan) -> IndexPack {
    let size = plan.state.sizes.get(&pack.id).copied();
    IndexPack { time: Some(Time::utc(plan.state.now)), size, ..pack }
}

/// Returns the replaced index files that an object lock holds.
async fn rewrite_indexes(repo: &Repository, lock: &Lock, plan: &PrunePlan, change: &Change) -> Result<Vec<IndexId>> {
    let mut added = Vec::new();
    if !change.unreferenced.is_empty() {
        let packs = change.unreferenced.iter().map(|id| marked(IndexPack::new(*id, Vec::new()), plan));
        added.push(IndexFile { packs_to_delete: packs.collect(), ..IndexFile::default() });
    }
    repo.replace_indexes(lock, &plan.state.indexes, added, |file| change.rewritten(file, plan)).await
}

/// What index files that stay go on announcing: a pack must be there as long as one of them says so, since a writer would
/// build upon it.
async fn announced_by(repo: &Repository, indexes: &[IndexId]) -> Result<HashSet<PackId>> {
    let mut announced = HashSet::new();
    for id in indexes {
        let file = repo.index_file(*id).await?;
        announced.extend(file.packs.iter().chain(&file.packs_to_delete).map(|pack| pack.id));
    }
    Ok(announced)
}

/// Removes packs that no index announces any more. Returns how many went, and how many the storage holds back.
async fn remove_packs(repo: &Repository, lock: &Lock, packs: &HashSet<PackId>) -> Result<(usize, usize)> {
    let (mut removed, mut held) = (0, 0);
    let mut packs: Vec<_> = packs.iter().copied().collect();
    packs.sort_unstable();
    for id in packs {
        lock.check()?;
        match repo.remove_or_leave(id.handle()).await? {
            Removal::Gone => removed += 1,
            Removal::Held => held += 1,
        }
    }
    Ok((removed, held))
}
