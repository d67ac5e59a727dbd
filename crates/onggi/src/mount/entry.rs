//! What can be found under a name in the mounted file system.

use onggi_repo::format::{BlobId, Node, NodeKind, Time};

/// One entry.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A folder that no snapshot has: the way to the snapshots.
    Folder(Folder),
    /// A link to the newest snapshot beside it.
    Latest(Vec<u8>),
    /// The root of a snapshot.
    Snapshot {
        /// Its tree.
        tree: BlobId,
        /// When it was taken.
        time: Time,
    },
    /// Something that is stored.
    Node(Box<Node>),
}

/// The folders on the way to the snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Folder {
    /// The top.
    Root,
    /// By short id.
    Ids,
    /// All, by time.
    Snapshots,
    /// By host.
    Hosts,
    /// By tag.
    Tags,
    /// Of one host.
    Host(String),
    /// With one tag.
    Tag(String),
}

impl Entry {
    /// The tree that a folder of a snapshot is stored in.
    pub fn tree(&self) -> Option<BlobId> {
        match self {
            Self::Snapshot { tree, .. } => Some(*tree),
            Self::Node(node) if node.kind == NodeKind::Dir => node.subtree,
            _ => None,
        }
    }

    /// Whether names can be looked up in it.
    pub fn is_folder(&self) -> bool {
        match self {
            Self::Folder(_) | Self::Snapshot { .. } => true,
            Self::Latest(_) => false,
            Self::Node(node) => node.kind == NodeKind::Dir,
        }
    }
}
