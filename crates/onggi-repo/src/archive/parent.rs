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
    sync::{Arc, Mutex, PoisonError},
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

/// Of a parent's directory: its number, and its path.
type Key = (usize, Vec<u8>);
/// Filled by the first of those who ask at once; the others wait for it.
type Place = Arc<OnceCell<Option<Arc<Tree>>>>;

#[derive(Default)]
struct Directories {
    trees: HashMap<Key, Place>,
    order: VecDeque<Key>,
}

impl Parents {
    pub fn new(repo: &Repository, roots: Vec<BlobId>, earlier: Option<Earlier>) -> Self {
        Self { repo: repo.clone(), roots, earlier, directories: Mutex::default() }
    }

    /// The node at a path.
    pub async fn find(&self, path: &[u8]) -> Option<ParentNode> {
        if let Some(file) = self.earlier.as_ref().and_then(|earlier| earlier.find(path)) {
            return Some(ParentNode(Found::InJournal(Arc::new(file))));
        }
        let (directory, name) = split(path).ok()?;
        for root in 0..self.roots.len() {
            if let Some(tree) = self.tree(root, directory).await
                && let Some(index) = position(&tree, name)
            {
                return Some(ParentNode(Found::InTree(tree, index)));
            }
        }
        None
    }

    /// The chunks that an interrupted run came to in a long file.
    pub fn checkpoint(&self, path: &[u8], token: &str) -> Vec<(BlobId, u64)> {
        self.earlier.as_ref().map(|earlier| earlier.checkpoint(path, token)).unwrap_or_default()
    }

    /// The tree of a directory in one parent.
    async fn tree(&self, root: usize, path: &[u8]) -> Option<Arc<Tree>> {
        let place = self.directories().place((root, path));
        place.get_or_init(|| self.look_up(root, path)).await.clone()
    }

    async fn look_up(&self, root: usize, path: &[u8]) -> Option<Arc<Tree>> {
        let id = if path.is_empty() {
            self.roots[root]
        } else {
            let (parent, name) = split(path).ok()?;
            let above = Box::pin(self.tree(root, parent)).await?;
            above.nodes()[position(&above, name)?].subtree?
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
    fn place(&mut self, (root, path): (usize, &[u8])) -> Place {
        let key = (root, path.to_vec());
        if let Some(place) = self.trees.get(&key) {
            return Arc::clone(place);
        }
        let place = Place::default();
        self.trees.insert(key.clone(), Arc::clone(&place));
        self.order.push_back(key);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.trees.remove(&oldest);
        }
        place
    }
}

/// Foreign trees may be out of order; then nothing is found, and the file is read anew.
fn position(tree: &Tree, name: &[u8]) -> Option<usize> {
    tree.nodes().binary_search_by(|node| node.name.as_slice().cmp(name)).ok()
}
