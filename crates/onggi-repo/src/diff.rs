//! What differs between two trees. Equal subtrees, told by their ids, are not read.

use crate::{
    Repository, Result,
    format::{BlobId, Node, NodeKind, Tree},
};
use std::{cmp::Ordering, sync::Arc};

/// What happened to an entry between the first tree and the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Only in the second.
    Added,
    /// Only in the first.
    Removed,
    /// Other content, link target or device.
    Content,
    /// The same content with other metadata.
    Metadata,
    /// Of another kind.
    Kind,
}

/// One entry that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its path, components joined by `/`.
    pub path: Vec<u8>,
    /// What happened.
    pub difference: Difference,
    /// What it is, in the second tree if it is there.
    pub kind: NodeKind,
    /// Bytes of file content in the first and the second tree.
    pub sizes: (u64, u64),
}

/// A pair of directories to compare; `None` where one side has none.
struct Pair {
    path: Vec<u8>,
    old: Option<BlobId>,
    new: Option<BlobId>,
}

impl Repository {
    /// Calls back for each entry that differs, directory by directory. The index must be loaded.
    pub async fn diff(&self, old: BlobId, new: BlobId, mut change: impl FnMut(Change)) -> Result<()> {
        let mut open = vec![Pair { path: Vec::new(), old: Some(old), new: Some(new) }];
        while let Some(Pair { path, old, new }) = open.pop() {
            if old == new {
                continue;
            }
            let (old, new) = (self.side(old).await?, self.side(new).await?);
            let mut below = Vec::new();
            for (old, new) in merge(old.nodes(), new.nodes()) {
                let name = old.or(new).map_or(&[][..], |node| &node.name);
                let path = if path.is_empty() { name.to_vec() } else { [&path, &b"/"[..], name].concat() };
                if let Some(found) = compare(path.clone(), old, new) {
                    change(found);
                }
                let subtree = |node: Option<&Node>| node.and_then(|node| node.subtree);
                below.push(Pair { path, old: subtree(old), new: subtree(new) });
            }
            open.extend(below.into_iter().rev());
        }
        Ok(())
    }

    async fn side(&self, id: Option<BlobId>) -> Result<Arc<Tree>> {
        match id {
            Some(id) => self.tree(id).await,
            None => Ok(Arc::default()),
        }
    }
}

/// Pairs of nodes with equal names, in the order of names.
fn merge<'a>(old: &'a [Node], new: &'a [Node]) -> Vec<(Option<&'a Node>, Option<&'a Node>)> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut pairs = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return pairs,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.name.cmp(&b.name),
        };
        let first = if order.is_le() { old.next() } else { None };
        let second = if order.is_ge() { new.next() } else { None };
        pairs.push((first, second));
    }
}

fn compare(path: Vec<u8>, old: Option<&Node>, new: Option<&Node>) -> Option<Change> {
    let difference = match (old, new) {
        (Some(old), Some(new)) => difference(old, new)?,
        (Some(_), None) => Difference::Removed,
        _ => Difference::Added,
    };
    let size = |node: Option<&Node>| node.map_or(0, |node| node.size);
    Some(Change { path, difference, kind: new.or(old)?.kind.clone(), sizes: (size(old), size(new)) })
}

fn difference(old: &Node, new: &Node) -> Option<Difference> {
    if old.kind != new.kind {
        return Some(Difference::Kind);
    }
    if old.chunks() != new.chunks() || old.link_target != new.link_target || old.device != new.device {
        return Some(Difference::Content);
    }
    // A directory's tree differs whenever anything below does, which is told where it is.
    let bare = |node: &Node| Node { subtree: None, content: None, ..node.clone() };
    (bare(old) != bare(new)).then_some(Difference::Metadata)
}
