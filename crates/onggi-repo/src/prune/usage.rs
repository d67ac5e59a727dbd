//! Which blobs are needed, and what that means for each pack. Used blobs are one bit each; of several copies of a blob
//! one counts as needed, in the pack that is needed most anyway.

use super::{
    refuse,
    survey::{Survey, refuse_problems},
};
use crate::{
    Problem, Repository, Result,
    format::{BlobId, BlobKind, PackEntry, PackId, Tree},
    index::{Copies, Index, Location, Marked, Marks, PackInfo, PackState},
    walk::{self, Place},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// What one pack holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackUse {
    pub info: PackInfo,
    /// It is there with the size the index computes.
    pub is_good: bool,
    /// It is there at all.
    pub is_there: bool,
    /// Sealed bytes of needed blobs that only it holds, or that count as needed here.
    pub used_bytes: u64,
    pub used_blobs: u64,
    /// Sealed bytes of all else.
    pub unused_bytes: u64,
    pub plain: Plain,
}

/// What of needed blobs is not compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Plain {
    /// Trees, which restic's prune rewrites.
    pub trees: bool,
    pub data: bool,
}

/// The needed part of a repository.
pub(super) struct Usage {
    pub packs: Vec<PackUse>,
    numbers: HashMap<PackId, usize>,
    index: Arc<Index>,
    marks: Arc<Marks>,
}

pub(super) async fn measure(repo: &Repository, survey: &Survey) -> Result<Usage> {
    let index = repo.index();
    let marks = Arc::new(index.marks());
    mark(repo, &index, &marks, survey).await?;
    let packs: Vec<_> = index.all_packs().into_iter().map(|info| new_use(info, survey)).collect();
    let numbers = packs.iter().enumerate().map(|(number, pack)| (pack.info.id, number)).collect();
    let mut usage = Usage { packs, numbers, index: Arc::clone(&index), marks };
    usage.tally(&index)?;
    Ok(usage)
}

/// Marks everything that any snapshot needs. Refuses if a part of it cannot be read or is announced nowhere.
async fn mark(repo: &Repository, index: &Arc<Index>, marks: &Arc<Marks>, survey: &Survey) -> Result<()> {
    let is_new = {
        let (index, marks) = (Arc::clone(index), Arc::clone(marks));
        move |id: &BlobId| index.mark(&marks, BlobKind::Tree, id) != Marked::Again
    };
    let inspect = {
        let (index, marks) = (Arc::clone(index), Arc::clone(marks));
        move |place: &Place, tree: &Tree, problems: &mut Vec<Problem>| {
            for node in tree.nodes() {
                let mut lost = None;
                for id in node.chunks() {
                    if index.mark(&marks, BlobKind::Data, id) == Marked::Unknown {
                        lost = Some(id);
                    }
                }
                if let Some(id) = lost {
                    let text = format!("data blob {} is in no pack", id.short());
                    problems.push(Problem { class: "blob-lost", what: place.path_of(node), text });
                }
            }
        }
    };
    let roots = survey.roots.iter().map(|(id, name)| Place::root(*id, name.clone())).collect();
    let problems = walk::walk(repo, roots, Arc::new(is_new), Arc::new(inspect)).await?;
    refuse_problems("damaged", &problems)
}

fn new_use(info: PackInfo, survey: &Survey) -> PackUse {
    let size = survey.packs.get(&info.id);
    PackUse {
        is_good: size == Some(&info.size),
        is_there: size.is_some(),
        used_bytes: 0,
        used_blobs: 0,
        unused_bytes: 0,
        plain: Plain::default(),
        info,
    }
}

impl Usage {
    fn tally(&mut self, index: &Index) -> Result<()> {
        let marks = Arc::clone(&self.marks);
        let (mut several, mut lost) = (Vec::new(), None);
        let is_whole = index.each_copies(&marks, |blob| {
            let good = || blob.locations.iter().filter(|copy| self.is_good(copy));
            if !blob.is_marked {
                blob.locations.iter().for_each(|copy| self.add_unused(copy));
            } else if blob.locations.len() == 1 && good().count() == 1 {
                self.add_used(blob.kind, &blob.locations[0]);
            } else if good().next().is_none() {
                lost = Some((blob.kind, blob.id, blob.locations[0].pack));
            } else {
                several.push((blob.kind, blob.locations.to_vec()));
            }
        });
        if !is_whole {
            return refuse("index", "the index grew while the plan was made");
        }
        if let Some((kind, id, pack)) = lost {
            let reason =
                format!("{kind} blob {} is needed, but {} is lost or has a wrong size", id.short(), pack.handle());
            return refuse("pack-lost", reason);
        }
        for (kind, copies) in several {
            let chosen = self.choose(&copies);
            for (number, copy) in copies.iter().enumerate() {
                if number == chosen { self.add_used(kind, copy) } else { self.add_unused(copy) }
            }
        }
        Ok(())
    }

    /// The copy that counts: in a pack that stays and is needed most, among good ones.
    fn choose(&self, copies: &[Location]) -> usize {
        let rank = |copy: &Location| {
            let pack = &self.packs[self.numbers[&copy.pack]];
            (pack.is_good, pack.info.state == PackState::Live, pack.used_bytes, copy.pack)
        };
        (0..copies.len()).max_by_key(|&number| rank(&copies[number])).unwrap_or(0)
    }

    fn is_good(&self, copy: &Location) -> bool {
        self.packs[self.numbers[&copy.pack]].is_good
    }

    fn add_used(&mut self, kind: BlobKind, copy: &Location) {
        let pack = &mut self.packs[self.numbers[&copy.pack]];
        pack.used_bytes += u64::from(copy.length);
        pack.used_blobs += 1;
        let is_plain = copy.uncompressed_length.is_none();
        pack.plain.trees |= is_plain && kind == BlobKind::Tree;
        pack.plain.data |= is_plain && kind == BlobKind::Data;
    }

    fn add_unused(&mut self, copy: &Location) {
        self.packs[self.numbers[&copy.pack]].unused_bytes += u64::from(copy.length);
    }

    /// The needed blobs of packs to be repacked, but for those of which a good copy stays elsewhere.
    pub fn moved(&self, repack: &[PackId]) -> Result<HashMap<PackId, Vec<PackEntry>>> {
        let repack: HashSet<_> = repack.iter().copied().collect();
        let mut moved: HashMap<PackId, Vec<PackEntry>> = repack.iter().map(|id| (*id, Vec::new())).collect();
        if repack.is_empty() {
            return Ok(moved);
        }
        let stays = |copy: &&Location| {
            let pack = &self.packs[self.numbers[&copy.pack]];
            pack.is_good && pack.used_bytes > 0 && pack.info.state == PackState::Live && !repack.contains(&copy.pack)
        };
        let is_whole = self.index.each_copies(&self.marks, |Copies { kind, id, is_marked, locations }| {
            if !is_marked || locations.iter().any(|copy| stays(&copy)) {
                return;
            }
            let source = locations.iter().find(|copy| repack.contains(&copy.pack) && self.is_good(copy));
            if let Some(Location { pack, offset, length, uncompressed_length, .. }) = source {
                let entry =
                    PackEntry { kind, id, offset: *offset, length: *length, uncompressed_length: *uncompressed_length };
                moved.entry(*pack).or_default().push(entry);
            }
        });
        if is_whole { Ok(moved) } else { refuse("index", "the index grew while the plan was made") }
    }
}
