//! An open-able directory: reached from the one above it by name, so that neither a long path nor a directory that is
//! swapped for a link can lead astray. Few are kept open, however deep the tree is.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::inspect::{Identity, identity};
use crate::path::TreePath;

/// Of directories above the current one that many stay open, and beyond these each whose depth is a multiple of it: a
/// closed one is opened again in at most that many steps, and 4096 levels need 128 open files.
pub(super) const OPEN_LEVELS: usize = 64;

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory of the walk.
#[derive(Debug)]
pub(super) struct Directory {
    above: Above,
    identity: Identity,
    depth: usize,
    open: Mutex<Option<Arc<OwnedFd>>>,
}

#[derive(Debug)]
enum Above {
    /// It was opened by its path, through links; it lies above a root.
    Path { path: Vec<u8>, tree: TreePath },
    /// It is the entry `name` there; in the tree it may bear another name.
    Entry { directory: Arc<Directory>, name: Vec<u8>, tree_name: Option<Vec<u8>> },
}

impl Directory {
    /// Opens the directory that a root lies in; `tree` is its place in the tree.
    pub(super) fn top(path: &Path, tree: TreePath) -> io::Result<Arc<Self>> {
        let fd = rustix::fs::openat(CWD, path, FLAGS, Mode::empty())?;
        let identity = identity(&rustix::fs::fstat(&fd)?);
        let above = Above::Path { path: path.as_os_str().as_bytes().into(), tree };
        Ok(Arc::new(Self { above, identity, depth: 0, open: Mutex::new(Some(Arc::new(fd))) }))
    }

    /// An entry that is a directory; nothing is opened.
    pub(super) fn entry(self: &Arc<Self>, name: &[u8], tree_name: Option<Vec<u8>>, stat: &Stat) -> Arc<Self> {
        let above = Above::Entry { directory: self.clone(), name: name.into(), tree_name };
        Arc::new(Self { above, identity: identity(stat), depth: self.depth + 1, open: Mutex::default() })
    }

    /// The directory, opened if it is not, and kept open. If another one has taken its place, it has vanished.
    pub(super) fn open(&self) -> io::Result<Arc<OwnedFd>> {
        self.open_and_keep(true)
    }

    /// The same, not kept open itself; those above it are, because more of what lies in them is going to be opened.
    pub(super) fn open_briefly(&self) -> io::Result<Arc<OwnedFd>> {
        self.open_and_keep(false)
    }

    fn open_and_keep(&self, keep: bool) -> io::Result<Arc<OwnedFd>> {
        let (mut closed, mut current) = (Vec::new(), self);
        let mut opened = loop {
            if let Some(open) = &*current.slot() {
                break open.clone();
            }
            closed.push(current);
            match &current.above {
                Above::Entry { directory, .. } => current = directory,
                Above::Path { path, .. } => {
                    let fd = rustix::fs::openat(CWD, path, FLAGS, Mode::empty())?;
                    closed.pop();
                    break current.verified(fd)?;
                }
            }
        };
        for directory in closed.into_iter().rev() {
            let Above::Entry { name, .. } = &directory.above else { continue };
            opened = directory.verified(open_entry(&opened, name)?)?;
            if keep || !std::ptr::eq(directory, self) || directory.depth.is_multiple_of(OPEN_LEVELS) {
                *directory.slot() = Some(opened.clone());
            }
        }
        Ok(opened)
    }

    /// Closes it as far as nobody uses it just now, unless it is one of those that are to stay open.
    pub(super) fn close(&self) {
        if !self.depth.is_multiple_of(OPEN_LEVELS) {
            *self.slot() = None;
        }
    }

    fn verified(&self, fd: OwnedFd) -> io::Result<Arc<OwnedFd>> {
        if identity(&rustix::fs::fstat(&fd)?) == self.identity { Ok(Arc::new(fd)) } else { Err(Errno::NOENT.into()) }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<OwnedFd>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which file system it is on.
    pub(super) fn device(&self) -> u64 {
        self.identity.0
    }

    /// Whether this is the directory or one above it: entering it again would never end.
    pub(super) fn is_within(&self, wanted: Identity) -> bool {
        self.up().any(|directory| directory.identity == wanted)
    }

    /// The absolute path, without a trailing `/`; empty for the root of the file system.
    pub(super) fn path(&self) -> Vec<u8> {
        let mut names = Vec::new();
        for directory in self.up() {
            match &directory.above {
                Above::Entry { name, .. } => names.push(name.as_slice()),
                Above::Path { path, .. } => names.push(path.strip_suffix(b"/").unwrap_or(path)),
            }
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The place in the tree.
    pub(super) fn tree(&self) -> TreePath {
        let mut names = Vec::new();
        for directory in self.up() {
            match &directory.above {
                Above::Entry { name, tree_name, .. } => names.push(tree_name.as_ref().unwrap_or(name).as_slice()),
                Above::Path { tree, .. } if !tree.is_root() => names.push(tree.as_bytes()),
                Above::Path { .. } => {}
            }
        }
        names.reverse();
        TreePath::new(names.join(&b'/')).expect("names come from the kernel or a checked path")
    }

    /// This one and all above it.
    fn up(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |directory| match &directory.above {
            Above::Entry { directory, .. } => Some(&**directory),
            Above::Path { .. } => None,
        })
    }
}

/// Without touching its time of last access where that is allowed, and never through a link.
fn open_entry(directory: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = FLAGS | OFlags::NOFOLLOW;
    match rustix::fs::openat(directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?),
        opened => Ok(opened?),
    }
}
