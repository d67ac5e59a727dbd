//! Mending snapshots that lost blobs: directories that cannot be read become empty, files that miss chunks keep the rest
//! under a name that says so. The mended snapshot stands beside the old one, or takes its place on request.

use super::check_alone;
use crate::{
    Lock, Problem, Repository, Result,
    error::RepoError,
    forget::PARTIAL,
    format::{BlobId, BlobKind, Compression, Node, NodeKind, Snapshot, SnapshotId, Tree, blob},
    index::Index,
    pack_writer::PackWriter,
    walk::{self, Place},
};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Tag of a mended snapshot, beside `partial`.
pub const REPAIRED: &str = "repaired";
/// What a file's name ends with when chunks of it are lost.
pub const DAMAGED_SUFFIX: &[u8] = b".onggi-damaged";

/// What would be done; to be shown, then carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotRepair {
    /// Snapshots of which a part is lost, but not the root.
    pub snapshots: Vec<(SnapshotId, Snapshot)>,
    /// Snapshots of which nothing can be saved: their root tree is lost.
    pub hopeless: Vec<SnapshotId>,
    /// What is lost, by path.
    pub lost: Vec<Problem>,
    state: Damage,
}

/// What is wrong, by tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Damage {
    /// Trees that cannot be read.
    unreadable: HashSet<BlobId>,
    /// Trees that must be written anew, each after those below it.
    rewrite: Vec<BlobId>,
}

impl fmt::Display for SnapshotRepair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>8} snapshots: write anew without what is lost", self.snapshots.len())?;
        writeln!(f, "{:>8} snapshots: their root is lost", self.hopeless.len())?;
        write!(f, "{:>8} files and directories: lost in whole or in part", self.lost.len())
    }
}

/// A tree as it was found.
struct Found {
    below: Vec<BlobId>,
    misses_chunks: bool,
}

impl Repository {
    /// Walks the snapshots and finds what is lost. The index must be loaded. Nothing is changed.
    pub async fn plan_repair_snapshots(
        &self,
        lock: &Lock,
        snapshots: Vec<(SnapshotId, Snapshot)>,
    ) -> Result<SnapshotRepair> {
        lock.check()?;
        let found: Arc<Mutex<HashMap<BlobId, Found>>> = Arc::default();
        let met: Arc<Mutex<HashSet<BlobId>>> = Arc::default();
        let roots = snapshots.iter().map(|(id, snapshot)| Place::root(snapshot.tree, id.short())).collect();
        let is_new = {
            let met = Arc::clone(&met);
            move |id: &BlobId| met.lock().unwrap_or_else(PoisonError::into_inner).insert(*id)
        };
        let inspect = {
            let (index, found) = (self.index(), Arc::clone(&found));
            move |place: &Place, tree: &Tree, problems: &mut Vec<Problem>| {
                let inspected = inspect(&index, place, tree, problems);
                found.lock().unwrap_or_else(PoisonError::into_inner).insert(place.id, inspected);
            }
        };
        let lost = walk::walk(self, roots, Arc::new(is_new), Arc::new(inspect)).await?;
        let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        let met = std::mem::take(&mut *met.lock().unwrap_or_else(PoisonError::into_inner));
        let unreadable: HashSet<_> = met.into_iter().filter(|id| !found.contains_key(id)).collect();
        let rewrite = affected(snapshots.iter().map(|(_, snapshot)| snapshot.tree), &found, &unreadable);
        let affected: HashSet<_> = rewrite.iter().copied().collect();
        let mut plan = SnapshotRepair { lost, state: Damage { unreadable, rewrite }, ..SnapshotRepair::default() };
        for (id, snapshot) in snapshots {
            if plan.state.unreadable.contains(&snapshot.tree) {
                plan.hopeless.push(id);
            } else if affected.contains(&snapshot.tree) {
                plan.snapshots.push((id, snapshot));
            }
        }
        Ok(plan)
    }

    /// Carries the plan out; returns old and new names. With `replace` the old snapshots go.
    pub async fn repair_snapshots(
        &self,
        lock: &Lock,
        plan: &SnapshotRepair,
        replace: bool,
    ) -> Result<Vec<(SnapshotId, SnapshotId)>> {
        check_alone(self, lock)?;
        let new_trees = self.rewrite_trees(lock, &plan.state).await?;
        let mut repaired = Vec::new();
        for (id, snapshot) in &plan.snapshots {
            let Some(tree) = new_trees.get(&snapshot.tree) else { continue };
            let mut new = Snapshot { tree: *tree, ..snapshot.clone() };
            for tag in [PARTIAL, REPAIRED].into_iter().filter(|tag| !snapshot.has_tag(tag)) {
                new.tags.push(tag.into());
            }
            let new = if replace {
                self.replace_snapshot(lock, *id, new).await?
            } else {
                self.derive_snapshot(lock, *id, new).await?
            };
            repaired.push((*id, new));
        }
        Ok(repaired)
    }

    /// Writes the affected trees anew; returns their new names.
    async fn rewrite_trees(&self, lock: &Lock, damage: &Damage) -> Result<HashMap<BlobId, BlobId>> {
        let mut writer = PackWriter::new(self);
        let mut renamed = HashMap::new();
        let empty = self.add_tree(&mut writer, &Tree::default()).await?;
        for id in &damage.rewrite {
            lock.check()?;
            let tree = self.tree(*id).await?;
            let mut nodes = Vec::with_capacity(tree.nodes().len());
            for node in tree.nodes() {
                nodes.push(mend(&self.index(), node, damage, &renamed, empty));
            }
            let new = Tree::new(without_clashes(nodes)).map_err(|fault| RepoError::format("mended tree", fault))?;
            renamed.insert(*id, self.add_tree(&mut writer, &new).await?);
        }
        writer.finish().await?;
        Ok(renamed)
    }

    /// Stores a tree unless it is there.
    async fn add_tree(&self, writer: &mut PackWriter, tree: &Tree) -> Result<BlobId> {
        let json = tree.print();
        let id = BlobId::of(&json);
        if !self.has(BlobKind::Tree, &id) {
            let (key, nonce) = (self.master().clone(), self.env().nonce());
            let seal = move || blob::encode_blob(&key, nonce, BlobKind::Tree, &json, Compression::DEFAULT);
            let sealed = self.env().compute.run(seal).await;
            writer.add(BlobKind::Tree, id, &sealed.bytes, sealed.uncompressed_length).await?;
        }
        Ok(id)
    }
}

fn is_there(index: &Index, id: &BlobId) -> bool {
    index.plaintext_length(BlobKind::Data, id).is_some()
}

fn inspect(index: &Index, place: &Place, tree: &Tree, problems: &mut Vec<Problem>) -> Found {
    let mut misses_chunks = false;
    for node in tree.nodes() {
        let missing = node.chunks().iter().filter(|id| !is_there(index, id)).count();
        if missing > 0 {
            misses_chunks = true;
            let text = format!("{missing} of its {} chunks are lost", node.chunks().len());
            problems.push(Problem { class: "blob-lost", what: place.path_of(node), text });
        }
    }
    Found { below: tree.nodes().iter().filter_map(|node| node.subtree).collect(), misses_chunks }
}

/// The readable trees that are damaged or have something damaged below them, each after those below it.
fn affected(
    roots: impl Iterator<Item = BlobId>,
    found: &HashMap<BlobId, Found>,
    unreadable: &HashSet<BlobId>,
) -> Vec<BlobId> {
    let mut open: Vec<_> = roots.map(|root| (root, false)).collect();
    let (mut done, mut affected, mut order) = (HashSet::new(), unreadable.clone(), Vec::new());
    while let Some((id, is_ready)) = open.pop() {
        let Some(tree) = found.get(&id).filter(|_| !done.contains(&id)) else { continue };
        if !is_ready {
            open.push((id, true));
            open.extend(tree.below.iter().map(|below| (*below, false)));
            continue;
        }
        done.insert(id);
        if tree.misses_chunks || tree.below.iter().any(|below| affected.contains(below)) {
            affected.insert(id);
            order.push(id);
        }
    }
    order
}

/// The node without what is lost.
fn mend(index: &Index, node: &Node, damage: &Damage, renamed: &HashMap<BlobId, BlobId>, empty: BlobId) -> Node {
    let mut node = node.clone();
    if let Some(subtree) = node.subtree {
        let lost = damage.unreadable.contains(&subtree).then_some(empty);
        node.subtree = lost.or(renamed.get(&subtree).copied()).or(Some(subtree));
    }
    if node.kind == NodeKind::File && !node.chunks().iter().all(|id| is_there(index, id)) {
        let kept: Vec<_> = node.chunks().iter().filter(|id| is_there(index, id)).copied().collect();
        let lengths = kept.iter().filter_map(|id| index.plaintext_length(BlobKind::Data, id));
        node.size = lengths.map(u64::from).sum();
        node.content = Some(kept);
        node.name.extend_from_slice(DAMAGED_SUFFIX);
    }
    node
}

/// A damaged file whose new name another file has already gets a number.
fn without_clashes(mut nodes: Vec<Node>) -> Vec<Node> {
    let mut names = HashSet::new();
    for node in &mut nodes {
        let bare = node.name.clone();
        let mut number = 1;
        while !names.insert(node.name.clone()) {
            number += 1;
            node.name = [&bare, format!(".{number}").as_bytes()].concat();
        }
    }
    nodes
}
