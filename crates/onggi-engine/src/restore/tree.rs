//! What is stored of a unit as one tree with random access: one snapshot, or a chain from the full to a delta in which
//! the later one wins.

use crate::{node, report::causes};
use async_trait::async_trait;
use onggi_repo::{
    ContentReader, RepoError, Repository,
    format::{BlobId, Node, NodeKind},
};
use onggi_source::{
    Context, Entry, Facts, Known, Layout, Problem, ReadAt, ReadError, Result as SourceResult, SourceError, Stored,
    TreePath,
};
use std::collections::BTreeMap;

/// The tree of a snapshot, or of a chain of them.
#[derive(Debug, Clone)]
pub struct SnapshotTree {
    repo: Repository,
    /// Root trees, the full first.
    roots: Vec<BlobId>,
    facts: Vec<Facts>,
}

/// One entry of a directory: its node and, of a directory, its trees in the order of the chain.
#[derive(Debug, Clone)]
pub struct TreeEntry {
    /// The node of the latest snapshot that has it.
    pub node: Node,
    /// Trees whose entries are this directory's.
    pub trees: Vec<BlobId>,
}

impl SnapshotTree {
    /// The trees of a chain, the full first, with what each capture knew of itself.
    pub fn new(repo: Repository, roots: Vec<BlobId>, facts: Vec<Facts>) -> Self {
        Self { repo, roots, facts }
    }

    /// Where the blobs are.
    pub fn repository(&self) -> &Repository {
        &self.repo
    }

    /// The trees of the root directory.
    pub fn roots(&self) -> &[BlobId] {
        &self.roots
    }

    /// The entries of a directory, sorted by name. Of trees that cannot be read the error is given beside the entries
    /// of the others.
    pub async fn entries(&self, trees: &[BlobId]) -> (Vec<TreeEntry>, Option<RepoError>) {
        let mut entries: BTreeMap<Vec<u8>, TreeEntry> = BTreeMap::new();
        let mut lost = None;
        for tree in trees {
            match self.repo.tree(*tree).await {
                Ok(tree) => tree.nodes().iter().for_each(|node| add(&mut entries, node)),
                Err(error) => lost = Some(error),
            }
        }
        (entries.into_values().collect(), lost)
    }

    /// One entry of a directory: every file that is opened is found, so that others of a large one must not be touched.
    async fn entry(&self, trees: &[BlobId], name: &[u8]) -> (Option<TreeEntry>, Option<RepoError>) {
        let mut entries = BTreeMap::new();
        let mut lost = None;
        for tree in trees {
            match self.repo.tree(*tree).await {
                Ok(tree) => tree.find(name).into_iter().for_each(|node| add(&mut entries, node)),
                Err(error) => lost = Some(error),
            }
        }
        (entries.into_values().next(), lost)
    }

    /// The entry at a path; the root has none and gives `None`, as does what is not stored.
    pub async fn find(&self, path: &TreePath) -> Result<Option<TreeEntry>, RepoError> {
        let (mut trees, mut found) = (self.roots.clone(), None);
        for component in path.components() {
            let (entry, lost) = self.entry(&trees, component).await;
            found = entry;
            match (&found, lost) {
                (Some(entry), _) => trees.clone_from(&entry.trees),
                (None, Some(error)) => return Err(error),
                (None, None) => return Ok(None),
            }
        }
        Ok(found)
    }
}

fn add(entries: &mut BTreeMap<Vec<u8>, TreeEntry>, node: &Node) {
    let is_directory = node.kind == NodeKind::Dir;
    let earlier = entries.remove(&node.name).filter(|earlier| is_directory && earlier.node.kind == NodeKind::Dir);
    let mut trees = earlier.map_or_else(Vec::new, |earlier| earlier.trees);
    trees.extend(node.subtree);
    entries.insert(node.name.clone(), TreeEntry { node: node.clone(), trees });
}

#[async_trait]
impl Stored for SnapshotTree {
    fn facts(&self) -> &[Facts] {
        &self.facts
    }

    async fn list(&self, directory: &TreePath) -> SourceResult<Vec<Entry>> {
        let trees = if directory.is_root() {
            self.roots.clone()
        } else {
            let found = self.find(directory).await.map_err(unreadable)?;
            found.ok_or_else(|| SourceError::Incomplete(format!("{directory} is not stored")))?.trees
        };
        let (entries, lost) = self.entries(&trees).await;
        lost.map_or(Ok(()), |error| Err(unreadable(error)))?;
        Ok(entries.iter().filter_map(|entry| listed(directory, &entry.node)).collect())
    }

    async fn open(&self, path: &TreePath) -> SourceResult<Box<dyn ReadAt + '_>> {
        let found = self.find(path).await.map_err(unreadable)?;
        let entry = found.ok_or_else(|| SourceError::Incomplete(format!("{path} is not stored")))?;
        let reader = self.repo.content_reader(entry.node.chunks()).map_err(unreadable)?;
        Ok(Box::new(StoredFile { path: path.clone(), reader }))
    }
}

/// `None` for names that no path may have and kinds that are not restored.
fn listed(directory: &TreePath, node: &Node) -> Option<Entry> {
    let path = directory.join(&node.name).ok()?;
    Some(Entry { path, kind: node::kind(node)?, metadata: node::metadata(node), length: node.size })
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: RepoError) -> SourceError {
    SourceError::Incomplete(causes(&error).join(": "))
}

struct StoredFile {
    path: TreePath,
    reader: ContentReader,
}

#[async_trait]
impl ReadAt for StoredFile {
    async fn open(&self, _cx: &Context, _known: &Known<'_>) -> Result<Layout, ReadError> {
        Ok(Layout::dense(self.reader.len()))
    }

    async fn read(&self, cx: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        cx.check()?;
        let lost = |text| ReadError::Item(Problem { class: "damaged", path: Some(self.path.clone()), text });
        match self.reader.read_at(offset, buffer).await {
            Ok(count) if count == buffer.len() => Ok(()),
            Ok(_) => Err(lost("the content ends early".into())),
            Err(error) => Err(lost(causes(&error).join(": "))),
        }
    }
}
