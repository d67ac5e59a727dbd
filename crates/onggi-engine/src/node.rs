//! Items as the repository's nodes, and back: the one place that knows both shapes.

use onggi_repo::format::{Node, NodeKind, Time, Xattr as NodeXattr, mode_of};
use onggi_source::{Item, Kind, Metadata, Xattr};

/// An item as a node without content: the archive adds chunks and size, or the subtree.
pub fn of_item(item: &Item) -> Node {
    let Item { kind, metadata, .. } = item;
    let (node_kind, link_target, device) = match kind {
        Kind::Directory => (NodeKind::Dir, Vec::new(), 0),
        Kind::File => (NodeKind::File, Vec::new(), 0),
        Kind::Symlink(target) => (NodeKind::Symlink, target.clone(), 0),
        Kind::BlockDevice(device) => (NodeKind::Dev, Vec::new(), *device),
        Kind::CharDevice(device) => (NodeKind::CharDev, Vec::new(), *device),
        Kind::Fifo => (NodeKind::Fifo, Vec::new(), 0),
        Kind::Socket => (NodeKind::Socket, Vec::new(), 0),
    };
    let mtime = Time::utc(metadata.mtime);
    Node {
        mode: mode_of(&node_kind, metadata.mode),
        atime: metadata.atime.map_or(mtime, Time::utc),
        ctime: metadata.ctime.map_or(mtime, Time::utc),
        uid: metadata.uid,
        gid: metadata.gid,
        user: metadata.user.clone(),
        group: metadata.group.clone(),
        inode: metadata.inode.unwrap_or(0),
        device_id: metadata.device_id,
        // restic leaves the count of links out of directories and pipes.
        links: if matches!(kind, Kind::Directory | Kind::Fifo) { 0 } else { metadata.links },
        link_target,
        device,
        xattrs: metadata.xattrs.iter().map(node_xattr).collect(),
        ..Node::new(item.path.name().unwrap_or_default(), node_kind, metadata.mode, mtime)
    }
}

/// What a node is, to a source; `None` for kinds of other programs, which are kept and never restored.
pub fn kind(node: &Node) -> Option<Kind> {
    Some(match node.kind {
        NodeKind::Dir => Kind::Directory,
        NodeKind::File => Kind::File,
        NodeKind::Symlink => Kind::Symlink(node.link_target.clone()),
        NodeKind::Dev => Kind::BlockDevice(node.device),
        NodeKind::CharDev => Kind::CharDevice(node.device),
        NodeKind::Fifo => Kind::Fifo,
        NodeKind::Socket => Kind::Socket,
        NodeKind::Other(_) => return None,
    })
}

/// A node's metadata, to a source.
pub fn metadata(node: &Node) -> Metadata {
    Metadata {
        mode: node.permissions(),
        uid: node.uid,
        gid: node.gid,
        user: node.user.clone(),
        group: node.group.clone(),
        mtime: node.mtime.instant,
        atime: Some(node.atime.instant),
        ctime: Some(node.ctime.instant),
        inode: (node.inode != 0).then_some(node.inode),
        device_id: node.device_id,
        links: node.links,
        size: node.size,
        xattrs: node.xattrs.iter().map(xattr).collect(),
    }
}

/// Linux lets names of attributes be any bytes, the format only text.
fn node_xattr(xattr: &Xattr) -> NodeXattr {
    NodeXattr { name: String::from_utf8_lossy(&xattr.name).into_owned(), value: xattr.value.clone() }
}

fn xattr(xattr: &NodeXattr) -> Xattr {
    Xattr { name: xattr.name.clone().into_bytes(), value: xattr.value.clone() }
}
