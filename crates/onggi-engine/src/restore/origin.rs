//! What a restore takes from: the tree of a snapshot, or that of a disk image in one. Both give nodes; the contents of
//! the one are chunks, those of the other pieces of the image.

use super::compare::{Piece, has_content};
use super::destination::Destination;
use super::directory::RestoreError;
use super::disk::{DiskEntries, DiskTree};
use super::tree::{SnapshotTree, TreeEntry};
use onggi_repo::{
    Compute, Environment, Fetch, FetchOptions, FetchSink,
    format::{BlobId, BlobKind, Node},
    length_of_zeros,
};
use onggi_source::TreePath;
use std::collections::HashSet;
use std::sync::Arc;

/// Directories of a disk that one walk enters, at 16 bytes each. A directory has one name; one that has two leads to itself.
const ENTERED_MAX: usize = 1 << 22;
/// Entries of a disk's directories that a walk holds, at about 64 bytes each.
const HELD_MAX: usize = 1 << 21;

/// Where entries come from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A snapshot, or a chain of them.
    Snapshot(SnapshotTree),
    /// A disk in an image that a snapshot has.
    Disk(DiskTree),
}

impl From<SnapshotTree> for Origin {
    fn from(tree: SnapshotTree) -> Self {
        Self::Snapshot(tree)
    }
}

impl From<DiskTree> for Origin {
    fn from(tree: DiskTree) -> Self {
        Self::Disk(tree)
    }
}

/// The entries of a directory, one after the other.
#[derive(Debug)]
pub enum Entries {
    /// Of a snapshot.
    Snapshot(std::vec::IntoIter<TreeEntry>),
    /// Of a disk: looked at when it is their turn.
    Disk(DiskEntries),
}

impl Entries {
    /// The next entry.
    pub async fn next(&mut self) -> Option<TreeEntry> {
        match self {
            Self::Snapshot(entries) => entries.next(),
            Self::Disk(entries) => entries.next().await,
        }
    }

    fn held(&self) -> usize {
        match self {
            Self::Snapshot(_) => 0,
            Self::Disk(entries) => entries.left(),
        }
    }
}

/// Keeps a walk over a disk from going on for ever: a hostile one has directories that lead to themselves.
#[derive(Debug)]
pub struct Guard {
    is_disk: bool,
    entered: HashSet<(u64, u64)>,
}

impl Guard {
    /// For one walk.
    pub fn new(origin: &Origin) -> Self {
        Self { is_disk: matches!(origin, Origin::Disk(_)), entered: HashSet::new() }
    }

    /// Whether a directory may be entered; the text says why not. `open` are the directories above it.
    pub fn enter<'a>(
        &mut self,
        entry: &TreeEntry,
        open: impl Iterator<Item = &'a Entries>,
    ) -> Result<(), &'static str> {
        // Directories of snapshots are named by what is in them and cannot lead to themselves.
        if !self.is_disk {
            return Ok(());
        }
        if open.map(Entries::held).sum::<usize>() > HELD_MAX {
            return Err("the directories above it have too many entries");
        }
        if self.entered.len() >= ENTERED_MAX {
            return Err("the disk has too many directories");
        }
        if !self.entered.insert((entry.node.device_id, entry.node.inode)) {
            return Err("this directory has another name already: the file system is damaged");
        }
        Ok(())
    }
}

/// The content of a file: its chunks, or its inode.
#[derive(Debug, Clone)]
pub(super) struct Content {
    pub chunks: Vec<BlobId>,
    /// Partition and inode.
    pub inode: (u64, u64),
    /// In bytes.
    pub length: u64,
}

/// What a file is compared with.
pub(super) enum Expected {
    Pieces(Vec<Piece>),
    OnDisk(Content),
}

impl Origin {
    /// Threads, time and randomness.
    pub(super) fn environment(&self) -> &Environment {
        match self {
            Self::Snapshot(tree) => tree.repository().env(),
            Self::Disk(tree) => tree.repository().env(),
        }
    }

    /// What contents are lost in, for people.
    pub(super) fn place(&self) -> &'static str {
        match self {
            Self::Snapshot(_) => "in the repository",
            Self::Disk(_) => "on the disk",
        }
    }

    /// The entry at a path; the root has none and gives `None`, as does what is not there.
    pub async fn find(&self, path: &TreePath) -> Result<Option<TreeEntry>, RestoreError> {
        match self {
            Self::Snapshot(tree) => Ok(tree.find(path).await?),
            Self::Disk(tree) => Ok(tree.find(path).await?),
        }
    }

    /// The entries of a directory, of the root without one; and why there may be more.
    pub async fn list(&self, directory: Option<&TreeEntry>) -> (Entries, Option<RestoreError>) {
        match self {
            Self::Snapshot(tree) => {
                let trees = directory.map_or_else(|| tree.roots().to_vec(), |entry| entry.trees.clone());
                let (entries, lost) = tree.entries(&trees).await;
                (Entries::Snapshot(entries.into_iter()), lost.map(Into::into))
            }
            Self::Disk(tree) => {
                let (entries, lost) = tree.list(directory).await;
                (Entries::Disk(entries), lost.map(Into::into))
            }
        }
    }

    /// Bytes of a file's content; `None` if the index does not know one of its chunks.
    pub(super) fn content_length(&self, node: &Node) -> Option<u64> {
        match self {
            Self::Snapshot(tree) => {
                let repo = tree.repository();
                node.chunks().iter().map(|id| repo.blob_length(BlobKind::Data, id).map(u64::from)).sum()
            }
            Self::Disk(_) => Some(node.size),
        }
    }

    /// Bytes of a content of this length that are no holes, as far as it is known without reading it.
    pub(super) fn dense(&self, node: &Node, length: u64) -> u64 {
        match self {
            Self::Snapshot(_) => length.saturating_sub(node.chunks().iter().filter_map(length_of_zeros).sum()),
            Self::Disk(tree) => tree.allocated(node).min(length),
        }
    }

    /// What a file with this content is compared with.
    pub(super) fn expected(&self, content: &Content) -> Expected {
        match self {
            Self::Snapshot(tree) => {
                let length = |id: &BlobId| tree.repository().blob_length(BlobKind::Data, id).unwrap_or(0);
                let piece = |id: &BlobId| Piece { id: *id, length: length(id) as usize };
                Expected::Pieces(content.chunks.iter().map(piece).collect())
            }
            Self::Disk(_) => Expected::OnDisk(content.clone()),
        }
    }

    /// Whether the regular file at a path has that content.
    pub(super) async fn is_same(
        &self,
        threads: &Compute,
        destination: Arc<Destination>,
        path: TreePath,
        expected: Expected,
    ) -> bool {
        match (self, expected) {
            (_, Expected::Pieces(pieces)) => threads.run(move || has_content(&destination, &path, &pieces)).await,
            (Self::Disk(tree), Expected::OnDisk(content)) => tree.is_same(destination, path, content).await,
            (Self::Snapshot(_), Expected::OnDisk(_)) => false,
        }
    }

    /// Brings contents to a sink, which is called from `hands` only. Contents are named by their index.
    pub(super) async fn fetch(
        &self,
        contents: Vec<Content>,
        sink: Arc<dyn FetchSink>,
        hands: Compute,
    ) -> Result<(), RestoreError> {
        match self {
            Self::Snapshot(tree) => {
                let files = contents.into_iter().enumerate();
                let files = files.map(|(key, content)| Fetch { key, content: content.chunks }).collect();
                let options = FetchOptions { threads: Some(hands), ..FetchOptions::default() };
                tree.repository().fetch(files, sink, options).await?;
            }
            Self::Disk(tree) => tree.fetch(contents, sink, hands).await,
        }
        Ok(())
    }
}
