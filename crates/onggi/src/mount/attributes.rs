//! Stored metadata as the kernel wants it.

use std::time::SystemTime;

use fuser::{FileAttr, FileType, INodeNo};
use onggi_repo::format::{Node, NodeKind, Time};

use super::entry::Entry;

/// Whose the folders above the snapshots are, and since when.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    /// Numeric user.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Shown as the time of these folders.
    pub since: SystemTime,
}

/// The attributes of an entry.
pub fn of_entry(number: u64, entry: &Entry, owner: &Owner) -> FileAttr {
    let base = plain(number, owner);
    match entry {
        Entry::Folder(_) => base,
        Entry::Latest(target) => {
            FileAttr { kind: FileType::Symlink, perm: 0o777, nlink: 1, size: target.len() as u64, ..base }
        }
        Entry::Snapshot { time, .. } => {
            let at = system_time(*time);
            FileAttr { atime: at, mtime: at, ctime: at, ..base }
        }
        Entry::Node(node) => of_node(number, node, owner),
    }
}

/// How the kernel calls the kind of an entry.
pub fn kind(entry: &Entry) -> FileType {
    match entry {
        Entry::Folder(_) | Entry::Snapshot { .. } => FileType::Directory,
        Entry::Latest(_) => FileType::Symlink,
        Entry::Node(node) => kind_of_node(&node.kind),
    }
}

/// How the kernel calls the kind of a stored node.
pub fn kind_of_node(kind: &NodeKind) -> FileType {
    match kind {
        NodeKind::File | NodeKind::Other(_) => FileType::RegularFile,
        NodeKind::Dir => FileType::Directory,
        NodeKind::Symlink => FileType::Symlink,
        NodeKind::Dev => FileType::BlockDevice,
        NodeKind::CharDev => FileType::CharDevice,
        NodeKind::Fifo => FileType::NamedPipe,
        NodeKind::Socket => FileType::Socket,
    }
}

fn of_node(number: u64, node: &Node, owner: &Owner) -> FileAttr {
    let size = if node.kind == NodeKind::Symlink { node.link_target.len() as u64 } else { node.size };
    FileAttr {
        size,
        blocks: size.div_ceil(512),
        atime: system_time(node.atime),
        mtime: system_time(node.mtime),
        ctime: system_time(node.ctime),
        kind: kind_of_node(&node.kind),
        perm: node.permissions() as u16,
        nlink: u32::try_from(node.links).unwrap_or(u32::MAX).max(1),
        uid: node.uid,
        gid: node.gid,
        rdev: node.device as u32,
        ..plain(number, owner)
    }
}

/// A folder of the owner that nobody can write to.
fn plain(number: u64, owner: &Owner) -> FileAttr {
    FileAttr {
        ino: INodeNo(number),
        size: 0,
        blocks: 0,
        atime: owner.since,
        mtime: owner.since,
        ctime: owner.since,
        crtime: owner.since,
        kind: FileType::Directory,
        perm: 0o555,
        nlink: 2,
        uid: owner.uid,
        gid: owner.gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn system_time(time: Time) -> SystemTime {
    time.instant.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_file_looks_as_it_did() {
        let mut node = Node::new("x", NodeKind::File, 0o4755, "1969-12-31T23:59:59.5Z".parse().unwrap());
        (node.size, node.uid, node.links) = (1025, 7, 0);
        let owner = Owner { uid: 1, gid: 2, since: SystemTime::UNIX_EPOCH };
        let attributes = of_entry(9, &Entry::Node(Box::new(node)), &owner);
        assert_eq!((attributes.perm, attributes.uid, attributes.nlink, attributes.blocks), (0o4755, 7, 1, 3));
        assert!(attributes.mtime < SystemTime::UNIX_EPOCH);
    }
}
