//! Mending the index: packs that are announced wrongly or not at all are read by their headers, packs that are gone are
//! dropped, index files that cannot be read are replaced.

use super::{check_alone, quarantine};
use crate::{
    Lock, Problem, Repository, Result,
    error::Act,
    format::{IndexFile, IndexId, IndexPack, PackId},
    reindex,
};
use futures::{StreamExt, TryStreamExt, stream};
use onggi_storage::FileType;
use std::{
    collections::{HashMap, HashSet},
    fmt,
};

/// What would change; to be shown, then carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexRepair {
    /// Packs whose header was read: announced newly, or in place of a wrong entry.
    pub announce: Vec<IndexPack>,
    /// Packs that are gone: their entries go.
    pub drop: Vec<PackId>,
    /// Index files that cannot be read: they move to the quarantine.
    pub damaged: Vec<IndexId>,
    /// Packs whose header cannot be read either; what the index says of them stays. Repair these packs next.
    pub problems: Vec<Problem>,
    readable: Vec<IndexId>,
}

impl IndexRepair {
    /// Whether the index is as it should be.
    pub fn is_empty(&self) -> bool {
        self.announce.is_empty() && self.drop.is_empty() && self.damaged.is_empty()
    }
}

impl fmt::Display for IndexRepair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>8} packs: announce from their headers", self.announce.len())?;
        writeln!(f, "{:>8} packs: drop, they are gone", self.drop.len())?;
        writeln!(f, "{:>8} packs: leave, their headers are damaged", self.problems.len())?;
        write!(f, "{:>8} index files: replace, they are damaged", self.damaged.len())
    }
}

impl Repository {
    /// Compares index and packs. Nothing is changed.
    pub async fn plan_repair_index(&self, lock: &Lock) -> Result<IndexRepair> {
        lock.check()?;
        let mut plan = IndexRepair::default();
        let announced = self.read_indexes(&mut plan).await?;
        let listed: Vec<_> = self.fresh().list(FileType::Pack).try_collect().await.act(|| "list packs".into())?;
        let there: HashMap<PackId, u64> =
            listed.iter().filter_map(|file| Some((PackId::from(file.handle.id()?), file.size))).collect();
        plan.drop = announced.keys().filter(|id| !there.contains_key(id)).copied().collect();
        plan.drop.sort_unstable();
        let mut odd: Vec<_> = there.into_iter().filter(|(id, size)| announced.get(id) != Some(size)).collect();
        odd.sort_unstable();
        let reads = odd.into_iter().map(|(id, size)| async move { (id, self.read_header(id, size).await) });
        let mut reads = stream::iter(reads).buffered(self.at_once());
        while let Some((id, read)) = reads.next().await {
            match read {
                Ok(entries) => plan.announce.push(IndexPack::new(id, entries)),
                Err(error) if error.is_damage() || error.is_not_found() => {
                    plan.problems.push(Problem::of("pack-header", id.handle(), &error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(plan)
    }

    /// The packs that readable index files announce, with the size they compute.
    async fn read_indexes(&self, plan: &mut IndexRepair) -> Result<HashMap<PackId, u64>> {
        let mut announced = HashMap::new();
        for id in self.list_ids(FileType::Index).await? {
            let id = IndexId::from(id);
            match self.index_file(id).await {
                Ok(file) => {
                    plan.readable.push(id);
                    // A marked pack that nobody announced before has no entries, but its size.
                    let marked = file.packs_to_delete.iter().map(|pack| {
                        let size = if pack.blobs.is_empty() { pack.size } else { None };
                        (pack.id, size.unwrap_or_else(|| pack.length()))
                    });
                    announced.extend(marked);
                    announced.extend(file.packs.iter().map(|pack| (pack.id, pack.length())));
                }
                Err(error) if error.is_damage() => plan.damaged.push(id),
                Err(error) => return Err(error),
            }
        }
        Ok(announced)
    }

    /// Carries the plan out, and loads the index anew.
    pub async fn repair_index(&self, lock: &Lock, plan: &IndexRepair) -> Result<()> {
        check_alone(self, lock)?;
        let replaced: HashSet<_> = plan.announce.iter().map(|pack| pack.id).collect();
        let dropped: HashSet<_> = plan.drop.iter().copied().collect();
        let added = reindex::files_of(plan.announce.clone());
        self.replace_indexes_all(lock, &plan.readable, added, |file| without(file, &replaced, &dropped)).await?;
        for id in &plan.damaged {
            lock.check()?;
            quarantine(self, id.handle()).await?;
        }
        self.load_index().await?;
        Ok(())
    }
}

/// The index file without these packs; `None` if it has none of them.
pub(super) fn without(file: IndexFile, replaced: &HashSet<PackId>, dropped: &HashSet<PackId>) -> Option<IndexFile> {
    let goes = |pack: &IndexPack| replaced.contains(&pack.id) || dropped.contains(&pack.id);
    if !file.packs.iter().chain(&file.packs_to_delete).any(goes) {
        return None;
    }
    let mut new = file;
    new.packs.retain(|pack| !goes(pack));
    new.packs_to_delete.retain(|pack| !goes(pack));
    Some(new)
}
