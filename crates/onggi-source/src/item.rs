//! One path with its metadata; the content is handed over beside it, because it is borrowed.

use std::ops::Range;

use bytes::Bytes;
use jiff::Timestamp;

use crate::path::TreePath;
use crate::source::{ByteStream, ReadAt};

/// One path of a unit's tree, as [`Items::push`](crate::Items::push) takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Where it lies in the tree.
    pub path: TreePath,
    /// What it is.
    pub kind: Kind,
    /// What is known of it beside its content.
    pub metadata: Metadata,
    /// When the parent's content may stand for this one, unread.
    pub version: Version,
    /// Where its content is cut.
    pub chunking: Chunking,
    /// Whether its content may be shown.
    pub secrecy: Secrecy,
}

/// What a path is. Only a [`Kind::File`] has content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory; its entries are items of their own.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link and where it points, byte for byte.
    Symlink(Vec<u8>),
    /// A block device and its number (`st_rdev`).
    BlockDevice(u64),
    /// A character device and its number (`st_rdev`).
    CharDevice(u64),
    /// A named pipe.
    Fifo,
    /// A socket. Sources count sockets rather than push them; the kind exists to read what other tools wrote.
    Socket,
}

/// The content of an item, borrowed from the capture: `push` returns when it is done with it.
pub enum Content<'a> {
    /// Of all that is no file.
    None,
    /// A small content that is in memory anyway.
    Inline(Bytes),
    /// Bytes that come in one go.
    Stream(&'a mut dyn ByteStream),
    /// Bytes at any offset, read in parallel and without holes.
    At(&'a dyn ReadAt),
}

/// When the parent's content may stand for this one, unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// Never: the content is always read.
    Unknown,
    /// Equal size, mtime and, where both have them, ctime and inode. Works with a parent written by restic.
    Stat,
    /// Equal bytes: a resource version, an image id, the generation of a block map.
    Token(Vec<u8>),
}

/// Where content is cut into chunks. Lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunking {
    /// As the repository cuts.
    Default,
    /// By content, with this mean length.
    Content(u32),
    /// At multiples of this length.
    Fixed(u32),
    /// Each piece that the stream yields is one chunk, at most 8 MiB.
    AsGiven,
}

/// Whether content may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// Nothing special.
    Normal,
    /// Keys, passwords: refused by an unencrypted export, never previewed.
    Secret,
}

/// What is known of an item beside its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits, set-id and sticky bits: `mode & 0o7777`, without the type.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Name of the owner; empty where there is none.
    pub user: String,
    /// Name of the group; empty where there is none.
    pub group: String,
    /// When the content last changed.
    pub mtime: Timestamp,
    /// When it was last read; `None` stores the `mtime`, as restic does.
    pub atime: Option<Timestamp>,
    /// When content or metadata last changed; `None` where the system does not say.
    pub ctime: Option<Timestamp>,
    /// Number within its file system; `None` in synthetic trees.
    pub inode: Option<u64>,
    /// Number of the file system (`st_dev`); 0 in synthetic trees.
    pub device_id: u64,
    /// Names of the same file; files with equal `inode` and `device_id` and more than one are hard links.
    pub links: u64,
    /// Length of a file's content in bytes as far as it is known before reading; 0 for all else.
    pub size: u64,
    /// Extended attributes, sorted by name; ACLs are those named `system.posix_acl_*`.
    pub xattrs: Vec<Xattr>,
}

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// Name with its namespace: `user.comment`.
    pub name: Vec<u8>,
    /// Its value, byte for byte.
    pub value: Vec<u8>,
}

/// Answer to [`ReadAt::open`]. Ranges are in bytes, sorted, disjoint and end at `length` or before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// Length of the content.
    pub length: u64,
    /// Where data is; the rest is zeros and is not read.
    pub data: Vec<Range<u64>>,
    /// Ranges that surely equal the parent's bytes at the same offsets.
    pub same: Vec<Range<u64>>,
}

impl Layout {
    /// A content without holes, of which nothing is known to be unchanged.
    pub fn dense(length: u64) -> Self {
        let data = std::iter::once(0..length).filter(|range| !range.is_empty()).collect();
        Self { length, data, same: Vec::new() }
    }
}

impl Item {
    /// An item of any kind: no metadata, always read, cut as the repository cuts, not secret.
    pub fn new(path: TreePath, kind: Kind) -> Self {
        Self {
            path,
            kind,
            metadata: Metadata::default(),
            version: Version::Unknown,
            chunking: Chunking::Default,
            secrecy: Secrecy::Normal,
        }
    }

    /// A file.
    pub fn file(path: TreePath) -> Self {
        Self::new(path, Kind::File)
    }

    /// A directory.
    pub fn directory(path: TreePath) -> Self {
        Self::new(path, Kind::Directory)
    }

    /// The same item with this metadata.
    #[must_use]
    pub fn with_metadata(self, metadata: Metadata) -> Self {
        Self { metadata, ..self }
    }

    /// The same item with this version.
    #[must_use]
    pub fn with_version(self, version: Version) -> Self {
        Self { version, ..self }
    }

    /// The same item, cut like this.
    #[must_use]
    pub fn with_chunking(self, chunking: Chunking) -> Self {
        Self { chunking, ..self }
    }

    /// The same item as a secret.
    #[must_use]
    pub fn secret(self) -> Self {
        Self { secrecy: Secrecy::Secret, ..self }
    }
}

impl Kind {
    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory)
    }

    /// Whether this is a regular file.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::File)
    }
}
