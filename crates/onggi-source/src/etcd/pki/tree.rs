//! Small files in memory, with the folders above them: read from the node, or from a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::listing::{FILE_BYTES_MAX, at};
use crate::item::Metadata;
use crate::path::TreePath;

/// Files by their path on the node.
#[derive(Default)]
pub(super) struct Tree {
    /// All folders above the files.
    pub directories: BTreeMap<TreePath, Metadata>,
    pub files: BTreeMap<TreePath, FileInMemory>,
    /// What could not be had.
    pub missed: Vec<Missed>,
}

/// One file. What it holds is wiped when it is dropped.
pub(super) struct FileInMemory {
    pub metadata: Metadata,
    pub content: Bytes,
}

/// A file that is not in the set, and why.
pub(super) struct Missed {
    pub path: String,
    pub reason: String,
}

impl Tree {
    /// Reads files below the node's root. A link is followed: what counts is what the API server would read.
    pub fn read(root: &Path, files: &BTreeSet<TreePath>, missed: Vec<Missed>) -> Self {
        let mut tree = Self { missed, ..Self::default() };
        for path in files {
            match read(&root.join(at(path))) {
                Ok(file) => {
                    tree.files.insert(path.clone(), file);
                    tree.take_folders(root, path);
                }
                Err(error) => tree.missed.push(Missed { path: format!("/{path}"), reason: error.to_string() }),
            }
        }
        tree
    }

    /// The content of a file, if it is there.
    pub fn content(&self, path: &TreePath) -> Option<&[u8]> {
        self.files.get(path).map(|file| &*file.content)
    }

    fn take_folders(&mut self, root: &Path, path: &TreePath) {
        let mut folder = path.parent();
        while let Some(path) = folder.filter(|path| !path.is_root() && !self.directories.contains_key(path)) {
            let metadata = fs::metadata(root.join(at(&path))).map(|metadata| metadata_of(&metadata));
            // It was there a moment ago.
            self.directories.insert(path.clone(), metadata.unwrap_or_default());
            folder = path.parent();
        }
    }
}

fn read(path: &Path) -> io::Result<FileInMemory> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    // Room for one byte more, so that reading to the end never moves the content and leaves a copy behind.
    let room = metadata.len().min(FILE_BYTES_MAX) + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(room as usize));
    file.by_ref().take(room).read_to_end(&mut content)?;
    if content.len() as u64 == room {
        return Err(io::Error::other("it grew while it was read"));
    }
    let metadata = Metadata { links: 1, size: content.len() as u64, ..metadata_of(&metadata) };
    Ok(FileInMemory { metadata, content: in_memory(content) })
}

/// A content that is wiped with its last holder.
pub(super) fn in_memory(content: Zeroizing<Vec<u8>>) -> Bytes {
    Bytes::from_owner(Wiped(content))
}

struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn metadata_of(metadata: &fs::Metadata) -> Metadata {
    let nanoseconds = i32::try_from(metadata.mtime_nsec()).unwrap_or_default();
    Metadata {
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: Timestamp::new(metadata.mtime(), nanoseconds).unwrap_or_default(),
        ..Metadata::default()
    }
}
