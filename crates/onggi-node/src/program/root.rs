//! A root that is open, and everything below it: no path leads out of it, whatever lies there when it is opened.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use onggi_node::{Lost, check};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::policy::Policy;

/// What is opened to be looked through.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// What is opened to be read; a pipe or a device may have taken the name.
const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Why something was not opened, as the hub is told.
pub(super) fn lost(error: Errno) -> Lost {
    match error {
        // openat2 answers so for what would lead out
        Errno::XDEV | Errno::AGAIN => Lost::REPLACED,
        error => Lost(error.raw_os_error().unsigned_abs()),
    }
}

/// The directory at an absolute path, where no link is followed on the way.
pub(super) fn open_root(path: &[u8], policy: &Policy) -> Result<OwnedFd, Lost> {
    check::absolute(path).map_err(|_| Lost::REFUSED)?;
    if !policy.allows(path) {
        return Err(Lost::REFUSED);
    }
    open_absolute(path, DIRECTORY)
}

/// A root that is a file.
pub(super) fn open_root_file(path: &[u8], policy: &Policy) -> Result<OwnedFd, Lost> {
    check::absolute(path).map_err(|_| Lost::REFUSED)?;
    let slash = path.iter().rposition(|byte| *byte == b'/').ok_or(Lost::REFUSED)?;
    let (above, name) = (&path[..slash.max(1)], &path[slash + 1..]);
    if !policy.allows(path) || name.is_empty() {
        return Err(Lost::REFUSED);
    }
    open_file(open_absolute(above, DIRECTORY | OFlags::PATH)?, name).map_err(lost)
}

fn open_absolute(path: &[u8], flags: OFlags) -> Result<OwnedFd, Lost> {
    let top = rustix::fs::open("/", DIRECTORY | OFlags::PATH, Mode::empty()).map_err(lost)?;
    match path.strip_prefix(b"/").unwrap_or(path) {
        b"" => rustix::fs::open("/", flags, Mode::empty()).map_err(lost),
        below => open_below(top.as_fd(), below, flags).map_err(lost),
    }
}

/// A directory below an open one.
pub(super) fn open_directory(root: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    if path.is_empty() {
        return rustix::fs::openat(root, ".", DIRECTORY, Mode::empty());
    }
    open_quietly(root.as_fd(), path, DIRECTORY)
}

/// A file below an open directory, for reading.
pub(super) fn open_file(root: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    open_quietly(root.as_fd(), path, FILE)
}

/// Without leaving a trace, where that is allowed.
fn open_quietly(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    match open_below(&root, path, flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open_below(root, path, flags),
        opened => opened,
    }
}

fn open_below(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve) {
        Err(Errno::NOSYS) => open_by_component(root, path, flags), // before Linux 5.6
        opened => opened,
    }
}

fn open_by_component(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut components: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let last = components.pop().unwrap_or_default();
    let mut at = rustix::fs::openat(root, ".", DIRECTORY, Mode::empty())?;
    for component in components {
        at = rustix::fs::openat(&at, component, DIRECTORY, Mode::empty())?;
    }
    rustix::fs::openat(&at, last, flags, Mode::empty())
}

/// A failed call of the standard library, as the hub is told.
pub(super) fn lost_by(error: &io::Error) -> Lost {
    Errno::from_io_error(error).map_or(Lost(Errno::IO.raw_os_error().unsigned_abs()), lost)
}
