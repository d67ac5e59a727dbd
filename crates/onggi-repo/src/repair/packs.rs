//! Mending damaged packs: every blob that is still good moves into a new pack, the damaged file into the quarantine.

use super::{check_alone, index::without, quarantine};
use crate::{
    Lock, Repository, Result,
    error::Act,
    format::{BlobId, BlobKind, IndexId, MasterKey, PackEntry, PackId, blob, pack},
    pack_writer::PackWriter,
};
use bytes::Bytes;
use onggi_storage::FileType;
use std::{
    collections::{HashMap, HashSet},
    fmt,
};

/// What can be saved of one pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackSalvage {
    /// The damaged pack.
    pub id: PackId,
    /// Blobs that are good.
    pub good: Vec<PackEntry>,
    /// Blobs that are damaged here but good in another pack.
    pub elsewhere: Vec<(BlobKind, BlobId)>,
    /// Blobs that are lost.
    pub lost: Vec<(BlobKind, BlobId)>,
}

/// What would be done; to be shown, then carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackRepair {
    /// Each pack asked for that is there.
    pub packs: Vec<PackSalvage>,
}

impl fmt::Display for PackRepair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, pack) in self.packs.iter().enumerate() {
            let PackSalvage { id, good, elsewhere, lost } = pack;
            let end = if position + 1 < self.packs.len() { "\n" } else { "" };
            let counts = (good.len(), elsewhere.len(), lost.len());
            write!(
                f,
                "{}: {} blobs saved, {} good elsewhere, {} lost{end}",
                id.handle(),
                counts.0,
                counts.1,
                counts.2
            )?;
        }
        Ok(())
    }
}

impl Repository {
    /// Reads the packs and sorts out what is good. The index must be loaded. Nothing is changed.
    pub async fn plan_repair_packs(&self, lock: &Lock, packs: &[PackId]) -> Result<PackRepair> {
        let mut plan = PackRepair::default();
        for id in packs {
            lock.check()?;
            let handle = id.handle();
            let content = match self.fresh().read(handle.clone(), None).await {
                // Its blobs are announced and gone: nothing to save, but its entries must go.
                Err(error) if error.is_not_found() => Bytes::new(),
                content => content.act(|| format!("read {handle}"))?,
            };
            let announced = self.index().entries_of(id);
            let (master, id) = (self.master().clone(), *id);
            let (good, bad) = self.env().compute.run(move || sort_out(&master, &content, announced)).await;
            let mut salvage = PackSalvage { id, good, elsewhere: Vec::new(), lost: Vec::new() };
            for entry in bad {
                if self.is_good_elsewhere(&entry, packs).await? {
                    salvage.elsewhere.push((entry.kind, entry.id));
                } else {
                    salvage.lost.push((entry.kind, entry.id));
                }
            }
            plan.packs.push(salvage);
        }
        Ok(plan)
    }

    async fn is_good_elsewhere(&self, entry: &PackEntry, packs: &[PackId]) -> Result<bool> {
        let copies = self.index().all(entry.kind, &entry.id);
        if copies.iter().all(|copy| packs.contains(&copy.pack)) {
            return Ok(false);
        }
        match self.blob(entry.kind, entry.id).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_damage() || error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Carries the plan out, and loads the index anew.
    pub async fn repair_packs(&self, lock: &Lock, plan: &PackRepair) -> Result<()> {
        check_alone(self, lock)?;
        let indexes: Vec<_> = self.list_ids(FileType::Index).await?.into_iter().map(IndexId::from).collect();
        let mut writer = PackWriter::new(self);
        for salvage in plan.packs.iter().filter(|salvage| !salvage.good.is_empty()) {
            lock.check()?;
            let handle = salvage.id.handle();
            let content = self.fresh().read(handle.clone(), None).await.act(|| format!("read {handle}"))?;
            for entry in &salvage.good {
                let Some(sealed) = sealed(&content, entry) else { continue };
                writer.add(entry.kind, entry.id, sealed, entry.uncompressed_length).await?;
            }
        }
        writer.finish().await?;
        let repaired: HashSet<_> = plan.packs.iter().map(|salvage| salvage.id).collect();
        self.replace_indexes_all(lock, &indexes, Vec::new(), |file| without(file, &repaired, &HashSet::new())).await?;
        for id in &repaired {
            lock.check()?;
            quarantine(self, id.handle()).await?;
        }
        self.load_index().await?;
        Ok(())
    }
}

fn sealed<'a>(content: &'a [u8], entry: &PackEntry) -> Option<&'a [u8]> {
    let range = entry.range();
    content.get(range.start as usize..range.end as usize)
}

/// Blobs that prove good, and the others. What the header says counts as well as what the index says.
fn sort_out(master: &MasterKey, content: &[u8], announced: Vec<PackEntry>) -> (Vec<PackEntry>, Vec<PackEntry>) {
    let header = match pack::read_header(master, content, content.len() as u64) {
        Ok(pack::HeaderRead::Done(entries)) => entries,
        _ => Vec::new(),
    };
    let mut known: HashMap<_, Vec<PackEntry>> = HashMap::new();
    for entry in announced.into_iter().chain(header) {
        known.entry((entry.kind, entry.id)).or_default().push(entry);
    }
    let (mut scratch, mut plaintext) = (Vec::new(), Vec::new());
    let mut is_good = |entry: &&PackEntry| {
        sealed(content, entry).is_some_and(|sealed| {
            let length = entry.uncompressed_length;
            blob::prove_blob(master, sealed, length, entry.id, &mut scratch, &mut plaintext).is_ok()
        })
    };
    let (mut good, mut bad): (Vec<PackEntry>, Vec<PackEntry>) = Default::default();
    for places in known.values() {
        match places.iter().find(&mut is_good) {
            Some(entry) => good.push(*entry),
            None => bad.extend(places.first()),
        }
    }
    good.sort_by_key(|entry| entry.offset);
    bad.sort_by_key(|entry| entry.offset);
    (good, bad)
}
