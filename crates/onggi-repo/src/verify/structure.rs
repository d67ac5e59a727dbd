//! Structure: every index loads; every announced pack is there with its computed size; every tree of every snapshot
//! loads, is well-formed, and all it names is announced in a pack that is there.

use super::{VerifyCounters, VerifyReport};
use crate::{
    Lock, Problem, Repository, Result,
    error::Act,
    format::{BlobKind, Node, NodeKind, PackId, Tree, node::is_safe_name},
    index::{Index, Marked, Marks, PackInfo, PackState},
    walk::{self, Place},
};
use futures::TryStreamExt;
use onggi_storage::FileType;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};

/// Checks the structure and returns the announced packs that are there, with their sizes.
pub(super) async fn verify(
    repo: &Repository,
    lock: &Lock,
    counters: &Arc<VerifyCounters>,
    report: &mut VerifyReport,
) -> Result<Vec<(PackId, u64)>> {
    let snapshots = repo.snapshots().await?;
    report.snapshots = snapshots.found.len();
    report.add(snapshots.problems);
    let loaded = repo.load_index().await?;
    report.add(loaded.problems);
    // What only a damaged index announced is found now: nothing may be added later.
    repo.complete_index().await?;
    let index = repo.index();
    lock.check()?;
    let (present, lost) = verify_packs(repo, &index, report).await?;
    let marks = Arc::new(index.marks());
    let roots = snapshots.found.iter().map(|(id, snapshot)| Place::root(snapshot.tree, id.short())).collect();
    let found = walk_trees(repo, roots, Arc::clone(&index), Arc::clone(&marks), lost, counters).await?;
    report.add(found);
    lock.check()?;
    tally(&index, &marks, report);
    Ok(present)
}

/// Compares announced packs with those that are there. Returns the good ones and the names of the others.
async fn verify_packs(
    repo: &Repository,
    index: &Index,
    report: &mut VerifyReport,
) -> Result<(Vec<(PackId, u64)>, HashSet<PackId>)> {
    let listed: Vec<_> = repo.fresh().list(FileType::Pack).try_collect().await.act(|| "list packs".into())?;
    let mut there: HashMap<PackId, u64> =
        listed.iter().filter_map(|file| Some((PackId::from(file.handle.id()?), file.size))).collect();
    let (mut present, mut lost) = (Vec::new(), HashSet::new());
    for pack in index.all_packs() {
        let size = there.remove(&pack.id);
        match pack_fault(&pack, size) {
            None => present.push((pack.id, pack.size)),
            Some(_) if matches!(pack.state, PackState::Tombstoned(_)) => drop(lost.insert(pack.id)),
            Some(fault) => {
                report.add([fault]);
                lost.insert(pack.id);
            }
        }
        if pack.kind.is_none() && pack.blobs > 0 {
            report.hint("pack-mixed", pack.id.handle().to_string(), "holds data and trees");
        }
    }
    let mut unknown: Vec<_> = there.into_keys().collect();
    unknown.sort();
    for id in unknown {
        report.hint("pack-unreferenced", id.handle().to_string(), "no index announces it");
    }
    report.packs = present.len() + lost.len();
    present.sort_unstable();
    Ok((present, lost))
}

fn pack_fault(pack: &PackInfo, size: Option<u64>) -> Option<Problem> {
    let what = pack.id.handle().to_string();
    match size {
        Some(size) if size == pack.size => None,
        Some(size) => {
            let text = format!("has {size} bytes, the index says {}", pack.size);
            Some(Problem { class: "pack-size", what, text })
        }
        None => Some(Problem { class: "pack-missing", what, text: "is announced but not there".into() }),
    }
}

async fn walk_trees(
    repo: &Repository,
    roots: Vec<Place>,
    index: Arc<Index>,
    marks: Arc<Marks>,
    lost: HashSet<PackId>,
    counters: &Arc<VerifyCounters>,
) -> Result<Vec<Problem>> {
    let inspector = Arc::new(Inspector { index, marks, lost });
    let is_new = {
        let inspector = Arc::clone(&inspector);
        // A tree that the table does not have is met again each time, and named each time.
        move |id: &_| inspector.index.mark(&inspector.marks, BlobKind::Tree, id) != Marked::Again
    };
    let counters = Arc::clone(counters);
    let inspect = move |place: &Place, tree: &Tree, problems: &mut Vec<Problem>| {
        counters.trees.fetch_add(1, Ordering::Relaxed);
        inspector.tree(place, tree, problems);
    };
    walk::walk(repo, roots, Arc::new(is_new), Arc::new(inspect)).await
}

struct Inspector {
    index: Arc<Index>,
    marks: Arc<Marks>,
    /// Announced packs that are not there or have another size.
    lost: HashSet<PackId>,
}

impl Inspector {
    fn tree(&self, place: &Place, tree: &Tree, problems: &mut Vec<Problem>) {
        if let Some(name) = tree.order_fault() {
            let text = format!("names are not in order or twice at {}", name.escape_ascii());
            problems.push(Problem { class: "tree-order", what: place.path.clone(), text });
        }
        for node in tree.nodes() {
            let faults = [name_fault(node), shape_fault(node), self.content_fault(node)];
            for (class, text) in faults.into_iter().flatten() {
                problems.push(Problem { class, what: place.path_of(node), text });
            }
        }
    }

    /// Whether every chunk is announced in a pack that is there, and all together have the file's size.
    fn content_fault(&self, node: &Node) -> Option<(&'static str, String)> {
        let mut size = 0;
        for id in node.chunks() {
            self.index.mark(&self.marks, BlobKind::Data, id);
            let is_there = self.lost.is_empty()
                || self.index.all(BlobKind::Data, id).iter().any(|copy| !self.lost.contains(&copy.pack));
            match self.index.plaintext_length(BlobKind::Data, id) {
                Some(length) if is_there => size += u64::from(length),
                _ => return Some(("blob-lost", format!("data blob {} is in no pack", id.short()))),
            }
        }
        (node.kind == NodeKind::File && size != node.size)
            .then(|| ("node-size", format!("its blobs have {size} bytes, the node says {}", node.size)))
    }
}

fn name_fault(node: &Node) -> Option<(&'static str, String)> {
    (!is_safe_name(&node.name)).then(|| ("node-name", "is not a name of a file".into()))
}

fn shape_fault(node: &Node) -> Option<(&'static str, String)> {
    let fault = match node.kind {
        NodeKind::Dir if node.subtree.is_none() => "is a directory without a tree",
        NodeKind::Dir if !node.chunks().is_empty() => "is a directory with content",
        NodeKind::File if node.content.is_none() => "is a file without a list of content",
        NodeKind::File if node.subtree.is_some() => "is a file with a tree",
        NodeKind::Other(_) => "is of an unknown kind and will not be restored",
        _ => return None,
    };
    Some(("node-shape", fault.into()))
}

/// Counts blobs, and those no snapshot needs.
fn tally(index: &Index, marks: &Marks, report: &mut VerifyReport) {
    let (mut copies, mut ends) = (0, HashMap::new());
    let _ = index.each_copies(marks, |blob| {
        report.blobs += blob.locations.len();
        report.unused_blobs += usize::from(!blob.is_marked);
        copies += blob.locations.len() - 1;
        for copy in blob.locations {
            let (sum, end) = ends.entry(copy.pack).or_insert((0, 0));
            *sum += u64::from(copy.length);
            *end = (u64::from(copy.offset) + u64::from(copy.length)).max(*end);
        }
    });
    let mut gapped: Vec<_> = ends.into_iter().filter(|(_, (sum, end))| sum != end).map(|(pack, _)| pack).collect();
    gapped.sort();
    report.add(gapped.into_iter().map(|pack| {
        let text = "the index says that its blobs overlap or leave gaps".into();
        Problem { class: "index-layout", what: pack.handle().to_string(), text }
    }));
    if copies > 0 {
        report.hint("duplicates", "index", format!("{copies} further copies of blobs"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{BlobId, PackEntry};

    fn layout_of(places: &[(u32, u32)]) -> Vec<Problem> {
        let entry = |(low, &(offset, length))| {
            let id = BlobId([low; 32]);
            PackEntry { kind: BlobKind::Data, id, offset, length, uncompressed_length: None }
        };
        let entries: Vec<_> = (0..).zip(places).map(entry).collect();
        let index = Index::default();
        index.load(PackId([7; 32]), PackState::Live, None, &entries);
        index.settle();
        let mut report = VerifyReport::default();
        tally(&index, &index.marks(), &mut report);
        report.problems
    }

    #[test]
    fn entries_that_overlap_or_end_beyond_every_pack_are_told() {
        assert_eq!(layout_of(&[(0, 100), (100, u32::MAX - 100)]), []);
        for places in [[(0, u32::MAX), (50, 100)], [(0, 100), (u32::MAX, u32::MAX)], [(0, 100), (50, u32::MAX)]] {
            let problems = layout_of(&places);
            assert!(matches!(&problems[..], [one] if one.class == "index-layout"), "{places:?}: {problems:?}");
        }
    }
}
