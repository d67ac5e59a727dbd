//! Figures: what snapshots would restore, what they take in the storage, what the whole repository takes.

use crate::{
    Problem, Repository, Result,
    format::{BlobId, BlobKind, Node, NodeKind, Snapshot, SnapshotId, Tree},
    index::{Marked, PackState},
    walk::{self, Place},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Figures of some snapshots and of the repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Snapshots counted.
    pub snapshots: usize,
    /// Files that restoring each of them would write, together.
    pub files: u64,
    /// Their bytes.
    pub restore_bytes: u64,
    /// Different blobs that they need.
    pub blobs: u64,
    /// Plaintext bytes of these blobs.
    pub plaintext_bytes: u64,
    /// Stored bytes of these blobs.
    pub stored_bytes: u64,
    /// Packs in use in the whole repository.
    pub packs: usize,
    /// Their bytes.
    pub pack_bytes: u64,
}

/// What a tree holds itself, and the trees below it.
struct Own {
    files: u64,
    bytes: u64,
    below: Vec<BlobId>,
}

type Sums = HashMap<BlobId, (u64, u64)>;

impl Repository {
    /// Counts. The index must be loaded. Problems name what could not be read; the figures lack it.
    pub async fn stats(&self, snapshots: &[(SnapshotId, Snapshot)]) -> Result<(Stats, Vec<Problem>)> {
        self.complete_index().await?;
        let index = self.index();
        let marks = Arc::new(index.marks());
        let trees: Arc<Mutex<HashMap<BlobId, Own>>> = Arc::default();
        let roots = snapshots.iter().map(|(id, snapshot)| Place::root(snapshot.tree, id.short())).collect();
        let is_new = {
            let (index, marks) = (Arc::clone(&index), Arc::clone(&marks));
            move |id: &BlobId| index.mark(&marks, BlobKind::Tree, id) != Marked::Again
        };
        let inspect = {
            let (index, marks, trees) = (Arc::clone(&index), Arc::clone(&marks), Arc::clone(&trees));
            move |place: &Place, tree: &Tree, _: &mut Vec<Problem>| {
                tree.nodes().iter().flat_map(Node::chunks).for_each(|id| {
                    index.mark(&marks, BlobKind::Data, id);
                });
                trees.lock().unwrap_or_else(PoisonError::into_inner).insert(place.id, own(tree));
            }
        };
        let problems = walk::walk(self, roots, Arc::new(is_new), Arc::new(inspect)).await?;
        let trees = std::mem::take(&mut *trees.lock().unwrap_or_else(PoisonError::into_inner));
        let mut stats = Stats { snapshots: snapshots.len(), ..Stats::default() };
        let mut sums = Sums::new();
        for (_, snapshot) in snapshots {
            let (files, bytes) = sum(snapshot.tree, &trees, &mut sums);
            stats.files += files;
            stats.restore_bytes = stats.restore_bytes.saturating_add(bytes);
        }
        let _ = index.each_copies(&marks, |blob| {
            if let Some(copy) = blob.locations.first().filter(|_| blob.is_marked) {
                stats.blobs += 1;
                stats.plaintext_bytes += u64::from(copy.plaintext_length());
                stats.stored_bytes += u64::from(copy.length);
            }
        });
        let live = index.all_packs().into_iter().filter(|pack| pack.state == PackState::Live);
        (stats.packs, stats.pack_bytes) = live.fold((0, 0), |(packs, bytes), pack| (packs + 1, bytes + pack.size));
        Ok((stats, problems))
    }
}

fn own(tree: &Tree) -> Own {
    let files = tree.nodes().iter().filter(|node| node.kind == NodeKind::File);
    let (files, bytes) = files.fold((0, 0_u64), |(files, bytes), node| (files + 1, bytes.saturating_add(node.size)));
    Own { files, bytes, below: tree.nodes().iter().filter_map(|node| node.subtree).collect() }
}

/// Adds up a tree and all below it, each tree once, without recursion: trees may be thousands deep.
fn sum(root: BlobId, trees: &HashMap<BlobId, Own>, sums: &mut Sums) -> (u64, u64) {
    let mut open = vec![(root, false)];
    while let Some((id, is_ready)) = open.pop() {
        let Some(own) = trees.get(&id).filter(|_| !sums.contains_key(&id)) else { continue };
        if is_ready {
            let below = own.below.iter().filter_map(|id| sums.get(id));
            let total = below.fold((own.files, own.bytes), |(files, bytes), (more_files, more_bytes)| {
                (files + more_files, bytes.saturating_add(*more_bytes))
            });
            sums.insert(id, total);
        } else {
            open.push((id, true));
            open.extend(own.below.iter().map(|id| (*id, false)));
        }
    }
    sums.get(&root).copied().unwrap_or_default()
}
