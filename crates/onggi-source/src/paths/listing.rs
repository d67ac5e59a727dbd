//! The blocking part of the walk: reads directories and looks at entries, many in one go, and decides what is left out.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, RawDir};

use super::directory::Directory;
use super::inspect::{Found, Xattrs, identity, inspect, is_virtual};
use super::tags::Tag;
use super::targets::{Node, Root};
use crate::item::Kind;
use crate::path::TreePath;
use crate::sabotage;
use onggi_node::pattern::{Asked, Patterns};

/// Length of the buffer that the kernel fills with names, in bytes.
const NAMES_BYTES: usize = 64 << 10;

/// What the walk obeys.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) patterns: Patterns,
    pub(super) tags: Vec<Tag>,
    pub(super) larger_than: Option<u64>,
    pub(super) one_file_system: bool,
    pub(super) ignore_xattrs: bool,
    /// Directories that onggi itself writes to.
    pub(super) never: HashSet<super::inspect::Identity>,
}

/// The names of one directory, sorted, in two pieces of memory however many they are.
#[derive(Debug, Default)]
pub(super) struct NameList {
    bytes: Vec<u8>,
    spans: Vec<(u32, u32)>,
}

/// What was found behind some names.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) found: Vec<(Found, Entering)>,
    /// Entries that could not be looked at.
    pub(super) lost: Vec<(Vec<u8>, io::Error)>,
    /// Roots that are not there, or cannot be looked at, with their path.
    pub(super) absent: Vec<(Vec<u8>, io::Error, Root)>,
    pub(super) vanished: u64,
    pub(super) excluded: u64,
    pub(super) sockets: u64,
    pub(super) crossings: u64,
}

/// What becomes of an entry that was found.
#[derive(Debug, Clone)]
pub(super) enum Entering {
    /// It has neither content nor entries, or it is a directory above roots.
    Nothing,
    /// It is a file in this directory, to be read.
    Read(Arc<Directory>),
    /// It is walked.
    Enter(Arc<Directory>),
    /// Another file system begins there.
    Crossing,
    /// It is one of those above it.
    Loop,
}

/// A directory that was read.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) names: NameList,
    /// Left out by name.
    pub(super) excluded: u64,
    /// Reading it ended early.
    pub(super) broken: Option<io::Error>,
}

impl NameList {
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    fn name(&self, number: usize) -> &[u8] {
        let (start, length) = self.spans[number];
        &self.bytes[start as usize..][..length as usize]
    }

    /// A directory's names are shorter than 4 GiB together; what is beyond is not listed, and said to be so.
    fn push(&mut self, name: &[u8]) -> io::Result<()> {
        let start = u32::try_from(self.bytes.len()).map_err(|_| io::Error::other("too many names"))?;
        self.bytes.extend_from_slice(name);
        self.spans.push((start, name.len() as u32));
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        let name = |(start, length): (u32, u32)| &bytes[start as usize..][..length as usize];
        self.spans.sort_unstable_by(|one, other| name(*one).cmp(name(*other)));
    }
}

impl Rules {
    /// Reads the names of a directory, opened as `fd` and not read before, without those that are left out by name.
    pub(super) fn list(&self, directory: &Directory, fd: &OwnedFd) -> io::Result<Listing> {
        let mut all = NameList::default();
        let broken = read_names(fd, &mut all).err();
        let tagged = self.tags.iter().any(|tag| tag.marks(fd.as_fd()));
        let mut path = directory.path();
        path.push(b'/');
        let (stem, mut kept) = (path.len(), NameList::default());
        for number in 0..all.len() {
            let name = all.name(number);
            path.truncate(stem);
            path.extend_from_slice(name);
            let out = tagged && !self.tags.iter().any(|tag| tag.is_named(name));
            if !out && !self.patterns.exclude(&path, Asked::Above) {
                kept.push(name)?;
            }
        }
        kept.sort();
        let excluded = (all.len() - kept.len()) as u64;
        Ok(Listing { names: kept, excluded, broken })
    }

    /// Looks at some of the names. `node` has the roots below this directory: they are entered wherever they lie.
    pub(super) fn look(
        &self,
        (directory, fd): (&Arc<Directory>, &OwnedFd),
        names: &NameList,
        range: Range<usize>,
        node: Option<&Node>,
        batch: &mut Batch,
    ) -> io::Result<()> {
        for number in range {
            let name = names.name(number);
            let root = node.and_then(|node| node.children.get(name)).and_then(|child| child.root);
            match inspect(fd.as_fd(), name, self.xattrs()) {
                Ok(found) => self.sort_in(directory, fd, found, root, batch),
                Err(error) if error.kind() == io::ErrorKind::NotFound => batch.vanished += 1,
                Err(error) if sabotage::ENTRY_DROPS_DIRECTORY.is_on() => return Err(error),
                Err(error) => batch.lost.push((name.to_vec(), error)),
            }
        }
        Ok(())
    }

    /// Looks at roots and at directories above roots, by their tree names in `node`.
    pub(super) fn look_at_roots(&self, tree: &TreePath, node: &Node, names: &[Vec<u8>], batch: &mut Batch) {
        let mut last: Option<Arc<Directory>> = None;
        for tree_name in names {
            let Some(child) = node.children.get(tree_name) else { continue };
            let path = super::bytes_of(&child.path);
            let Some(root) = child.root else {
                match inspect_above(&child.path, tree_name) {
                    Ok(found) => batch.found.push((found, Entering::Nothing)),
                    Err(error) => lose_roots(child, error.raw_os_error(), batch),
                }
                continue;
            };
            if self.patterns.exclude(path, Asked::Nothing) {
                batch.excluded += 1;
                continue;
            }
            match self.look_at_root(tree, child, &mut last) {
                Ok((directory, fd, mut found)) => {
                    found.tree_name = (found.name != *tree_name).then(|| tree_name.clone());
                    self.sort_in(&directory, &fd, found, Some(root), batch);
                }
                Err(error) => batch.absent.push((path.to_vec(), error, root)),
            }
        }
    }

    fn look_at_root(
        &self,
        tree: &TreePath,
        child: &Node,
        last: &mut Option<Arc<Directory>>,
    ) -> io::Result<(Arc<Directory>, Arc<OwnedFd>, Found)> {
        let above = child.path.parent().unwrap_or(Path::new("/"));
        let directory = match last.take() {
            Some(directory) if directory.path() == trimmed(above) => directory,
            _ => Directory::top(above, tree.clone())?,
        };
        let fd = directory.open()?;
        let name = child.path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
        let found = inspect(fd.as_fd(), name, self.xattrs())?;
        *last = Some(directory.clone());
        Ok((directory, fd, found))
    }

    /// Puts what was found where it belongs.
    fn sort_in(&self, directory: &Arc<Directory>, fd: &OwnedFd, found: Found, root: Option<Root>, batch: &mut Batch) {
        let is_named = root.is_some_and(|root| root > Root::Listed);
        let crosses = found.stat.st_dev != directory.device() && !is_named;
        let entering = match found.kind {
            Kind::Socket => {
                batch.sockets += 1;
                return;
            }
            Kind::File if self.larger_than.is_some_and(|limit| found.stat.st_size.cast_unsigned() > limit) => {
                batch.excluded += 1;
                return;
            }
            Kind::Directory if self.never.contains(&identity(&found.stat)) => {
                batch.excluded += 1;
                return;
            }
            Kind::Directory if directory.is_within(identity(&found.stat)) => Entering::Loop,
            Kind::Directory if crosses && (self.one_file_system || begins_virtual(fd.as_fd(), &found.name)) => {
                batch.crossings += 1;
                Entering::Crossing
            }
            Kind::Directory => Entering::Enter(directory.entry(&found.name, found.tree_name.clone(), &found.stat)),
            _ if crosses && self.one_file_system => {
                batch.crossings += 1; // a file that is mounted over another one
                return;
            }
            Kind::File => Entering::Read(directory.clone()),
            _ => Entering::Nothing,
        };
        batch.found.push((found, entering));
    }

    pub(super) fn xattrs(&self) -> Xattrs {
        if self.ignore_xattrs { Xattrs::Ignore } else { Xattrs::Read }
    }
}

/// Without the directory above them none of these roots can be reached.
fn lose_roots(node: &Node, error: Option<i32>, batch: &mut Batch) {
    if let Some(root) = node.root {
        let error = error.map_or_else(|| io::ErrorKind::Other.into(), io::Error::from_raw_os_error);
        batch.absent.push((super::bytes_of(&node.path).to_vec(), error, root));
    }
    node.children.values().for_each(|child| lose_roots(child, error, batch));
}

/// A directory above a root: links are followed, since it is to be a directory.
fn inspect_above(path: &Path, tree_name: &[u8]) -> io::Result<Found> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::empty())?;
    let found = inspect(fd.as_fd(), b".", Xattrs::Read)?;
    Ok(Found { tree_name: Some(tree_name.to_vec()), ..found })
}

/// Asked without mounting anything.
fn begins_virtual(directory: BorrowedFd<'_>, name: &[u8]) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty()).is_ok_and(is_virtual)
}

fn trimmed(path: &Path) -> &[u8] {
    let bytes = super::bytes_of(path);
    bytes.strip_suffix(b"/").unwrap_or(bytes)
}

fn read_names(fd: &OwnedFd, names: &mut NameList) -> io::Result<()> {
    let mut buffer = Vec::<u8>::with_capacity(NAMES_BYTES);
    let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> NameList {
        let mut list = NameList::default();
        for name in names {
            list.push(name.as_bytes()).unwrap();
        }
        list
    }

    #[test]
    fn an_entry_that_cannot_be_looked_at_does_not_take_others_with_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::write(folder.path().join(name), "1").unwrap();
        }
        let too_long = "x".repeat(300); // ENAMETOOLONG, also for root
        let (names, mut batch) = (list(&["a", &too_long, "b", "gone"]), Batch::default());
        let directory = Directory::top(folder.path(), TreePath::root()).unwrap();
        let fd = directory.open().unwrap();
        Rules::default().look((&directory, &fd), &names, 0..names.len(), None, &mut batch).unwrap();
        let found: Vec<_> = batch.found.iter().map(|(found, _)| found.name.as_slice()).collect();
        assert_eq!((found, batch.vanished), (vec![&b"a"[..], b"b"], 1));
        assert_eq!(batch.lost.len(), 1);
        assert_eq!(super::super::inspect::class_of(&batch.lost[0].1), "io");
    }

    #[test]
    fn names_are_sorted_by_their_bytes() {
        let mut names = list(&["b", "a/", "a", "B", "\u{e9}"]);
        names.sort();
        let sorted: Vec<_> = (0..names.len()).map(|number| names.name(number).to_vec()).collect();
        assert_eq!(sorted, [&b"B"[..], b"a", b"a/", b"b", "\u{e9}".as_bytes()]);
    }
}
