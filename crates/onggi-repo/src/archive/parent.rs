//! What earlier runs stored at a path: the run journal first, then the parent snapshots in their order. A parent that
//! cannot be read is no parent; nothing depends on it but speed.

use super::{
    builder::split,
    journal::{Earlier, FinishedFile},
};
use crate::{
    Repository,
    error::chain,
    format::{BlobId, Node, Tree},
};
use std::{
    collections::{HashMap, VecDeque},
    ops::Deref,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::OnceCell;

/// Directories remembered with their trees.
const REMEMBERED: usize = 64;

/// A node of a parent; its tree stays in memory with it.
#[derive(Debug, Clone)]
pub struct ParentNode(Found);

#[derive(Debug, Clone)]
enum Found {
    InTree(Arc<Tree>, usize),
    InJournal(Arc<FinishedFile>),
}

/// Where a parent's node comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A snapshot.
    Snapshot,
    /// An interrupted run, with the source's token for the content, if it had one.
    Interrupted(Option<&'a str>),
}

impl ParentNode {
    /// Where it comes from.
    pub fn origin(&self) -> Origin<'_> {
        match &self.0 {
            Found::InTree(..) => Origin::Snapshot,
            Found::InJournal(file) => Origin::Interrupted(file.token.as_deref()),
        }
    }
}

impl Deref for ParentNode {
    type Target = Node;

    fn deref(&self) -> &Node {
        match &self.0 {
            Found::InTree(tree, index) => &tree.nodes()[*index],
            Found::InJournal(file) => &file.node,
        }
    }
}

/// Whether a file's content may be taken over from a parent without reading it: equal size and time of the last change
/// and, where both have them, equal time of the last metadata change and equal inode.
///
/// `has_ctime`: whether the node's `ctime` means anything.
pub fn is_unchanged(node: &Node, parent: &Node, has_ctime: bool) -> bool {
    node.kind == parent.kind
        && parent.content.is_some()
        && node.size == parent.size
        && node.mtime == parent.mtime
        && (!has_ctime || node.ctime == parent.ctime)
        && (node.inode == 0 || parent.inode == 0 || node.inode == parent.inode)
}

/// The parents of one archive.
pub(super) struct Parents {
    repo: Repository,
    roots: Vec<BlobId>,
    earlier: Option<Earlier>,
    directories: Mutex<Directories>,
}

/// A directory of a parent.
#[derive(Default)]
struct Place {
    /// Filled by the first of those who ask at once; the others wait for it.
    tree: OnceCell<Option<Arc<Tree>>>,
    /// Behind the node that was found last: a walk asks for all names in their order.
    next: AtomicUsize,
}

#[derive(Default)]
struct Directories {
    /// Of each parent, by path.
    trees: Vec<HashMap<Vec<u8>, Arc<Place>>>,
    order: VecDeque<(usize, Vec<u8>)>,
}

impl Parents {
    pub fn new(repo: &Repository, roots: Vec<BlobId>, earlier: Option<Earlier>) -> Self {
        let trees = roots.iter().map(|_| HashMap::new()).collect();
        let directories = Mutex::new(Directories { trees, order: VecDeque::new() });
        Self { repo: repo.clone(), roots, earlier, directories }
    }

    /// The node at a path.
    pub async fn find(&self, path: &[u8]) -> Option<ParentNode> {
        if let Some(file) = self.earlier.as_ref().and_then(|earlier| earlier.find(path)) {
            return Some(ParentNode(Found::InJournal(Arc::new(file))));
        }
        let (directory, name) = split(path).ok()?;
        for root in 0..self.roots.len() {
            let place = self.place(root, directory).await;
            if let Some(Some(tree)) = place.tree.get()
                && let Some(index) = position(tree, name, place.next.load(Ordering::Relaxed))
            {
                place.next.store(index + 1, Ordering::Relaxed);
                return Some(ParentNode(Found::InTree(Arc::clone(tree), index)));
            }
        }
        None
    }

    /// The chunks that an interrupted run came to in a long file.
    pub fn checkpoint(&self, path: &[u8], token: &str) -> Vec<(BlobId, u64)> {
        self.earlier.as_ref().map(|earlier| earlier.checkpoint(path, token)).unwrap_or_default()
    }

    /// A directory in one parent, with its tree.
    async fn place(&self, root: usize, path: &[u8]) -> Arc<Place> {
        let place = self.directories().place(root, path);
        place.tree.get_or_init(|| self.look_up(root, path)).await;
        place
    }

    async fn look_up(&self, root: usize, path: &[u8]) -> Option<Arc<Tree>> {
        let id = if path.is_empty() {
            self.roots[root]
        } else {
            let (parent, name) = split(path).ok()?;
            let above = Box::pin(self.place(root, parent)).await;
            let above = above.tree.get()?.as_ref()?;
            above.nodes()[position(above, name, 0)?].subtree?
        };
        self.load(id).await
    }

    async fn load(&self, id: BlobId) -> Option<Arc<Tree>> {
        match self.repo.tree(id).await {
            Ok(tree) => Some(tree),
            Err(error) => {
                tracing::warn!(
                    tree = id.short(),
                    error = chain(&error),
                    "parent is not readable; its files are read anew"
                );
                None
            }
        }
    }

    fn directories(&self) -> std::sync::MutexGuard<'_, Directories> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directories {
    /// Where a directory's tree is or will be.
    fn place(&mut self, root: usize, path: &[u8]) -> Arc<Place> {
        if let Some(place) = self.trees[root].get(path) {
            return Arc::clone(place);
        }
        let place = Arc::<Place>::default();
        self.trees[root].insert(path.to_vec(), Arc::clone(&place));
        self.order.push_back((root, path.to_vec()));
        if self.order.len() > REMEMBERED
            && let Some((root, oldest)) = self.order.pop_front()
        {
            self.trees[root].remove(&oldest);
        }
        place
    }
}

/// Looked for at `likely` first. Foreign trees may be out of order; then nothing is found, and the file is read anew.
fn position(tree: &Tree, name: &[u8], likely: usize) -> Option<usize> {
    if tree.nodes().get(likely).is_some_and(|node| node.name == name) {
        return Some(likely);
    }
    tree.nodes().binary_search_by(|node| node.name.as_slice().cmp(name)).ok()
}
