//! Takes files back, below one directory, when an operator starts the program for that. No path leads out of it, and where
//! the kernel has Landlock, the kernel lets nothing else be written.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use onggi_node::frame::Decoder;
use onggi_node::put::{Put, Written};
use onggi_node::{Entry, EntryKind, Lost, Time};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::owners::Numbers;
use super::root::{lost, open_directory};
use super::{confine, policy};

/// Length of one read of steps, in bytes.
const STEP_BYTES: usize = 64 << 10;
/// The name that something has until it is finished.
const DRAFT: &str = ".onggi-restore-draft";

/// What everything goes below.
pub(super) struct Target<'a> {
    pub(super) root: &'a Path,
    /// What is there may be replaced.
    pub(super) in_place: bool,
}

/// Takes steps from stdin to the end, and answers what became of them.
pub(super) fn write(target: &Target<'_>) -> io::Result<()> {
    policy::allows_restore()?;
    let root = prepare(target)?;
    let numbers = Numbers::load();
    confine::to_writing_below(&root, target.root);
    let mut writer = Writer {
        root,
        in_place: target.in_place,
        numbers,
        is_root: rustix::process::geteuid().is_root(),
        above: None,
        open: None,
        written: Written::default(),
    };
    let (mut decoder, mut step, mut input) = (Decoder::default(), vec![0; STEP_BYTES], io::stdin().lock());
    loop {
        match input.read(&mut step)? {
            0 => return Err(io::Error::other("the hub ended before all came")),
            length => decoder.push(&step[..length]),
        }
        while let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
            if writer.take(&Put::decode(&frame).map_err(io::Error::other)?) {
                let mut out = io::stdout().lock();
                out.write_all(&writer.written.encode())?;
                return out.flush();
            }
        }
    }
}

/// A new or an empty directory, unless what is there may be replaced.
fn prepare(target: &Target<'_>) -> io::Result<OwnedFd> {
    let shown = target.root.display();
    match std::fs::create_dir(target.root) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(io::Error::other(format!("make {shown}: {error}")));
        }
        _ => {}
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(target.root, flags, Mode::empty())?;
    if !target.in_place && std::fs::read_dir(target.root)?.next().is_some() {
        return Err(io::Error::other(format!("{shown} is not empty")));
    }
    Ok(root)
}

struct Writer {
    root: OwnedFd,
    in_place: bool,
    numbers: Numbers,
    is_root: bool,
    /// The directory of the last step.
    above: Option<(Vec<u8>, OwnedFd)>,
    /// The file that takes bytes; an error: it could not be made, or took one amiss.
    open: Option<Result<OwnedFd, Errno>>,
    written: Written,
}

impl Writer {
    /// Does a step; `true`: it was the last.
    fn take(&mut self, put: &Put) -> bool {
        let (path, done) = match put {
            Put::Make { above, entry } => (join(above, &entry.name), self.make(above, entry)),
            Put::Fill { offset, bytes } => {
                self.fill(*offset, bytes);
                return false;
            }
            Put::Finish { above, entry, user, group } => {
                (join(above, &entry.name), self.finish(above, entry, (user, group)))
            }
            Put::Link { above, name, to } => (join(above, name), self.link(above, name, to)),
            Put::End => return true,
        };
        if let Err(error) = done {
            self.written.problem(path, if error == Errno::EXIST { Lost::REPLACED } else { lost(error) });
        }
        false
    }

    fn above(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, Errno> {
        if self.above.as_ref().is_none_or(|(known, _)| known != path) {
            self.above = Some((path.to_vec(), open_directory(&self.root, path)?));
        }
        self.above.as_ref().map(|(_, fd)| fd.as_fd()).ok_or(Errno::NOENT)
    }

    fn make(&mut self, above: &[u8], entry: &Entry) -> Result<(), Errno> {
        let in_place = self.in_place;
        let above = self.above(above)?;
        match &entry.kind {
            EntryKind::Directory(_) => match rustix::fs::mkdirat(above, &entry.name, Mode::RWXU) {
                Err(Errno::EXIST) if in_place => Ok(()),
                made => made,
            },
            EntryKind::File => {
                remove_draft(above);
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                self.open = Some(rustix::fs::openat(above, DRAFT, flags, Mode::RUSR | Mode::WUSR));
                Ok(()) // told when it is finished
            }
            EntryKind::Symlink(target) => {
                remove_draft(above);
                rustix::fs::symlinkat(target.as_slice(), above, DRAFT)
            }
            EntryKind::BlockDevice(number) => node(above, FileType::BlockDevice, *number),
            EntryKind::CharDevice(number) => node(above, FileType::CharacterDevice, *number),
            EntryKind::Fifo => node(above, FileType::Fifo, 0),
        }
    }

    /// The first fault of a file counts.
    fn fill(&mut self, mut offset: u64, mut bytes: &[u8]) {
        let Some(Ok(file)) = &self.open else { return };
        while !bytes.is_empty() {
            match rustix::io::retry_on_intr(|| rustix::io::pwrite(file, bytes, offset)) {
                Ok(length) => {
                    (offset, bytes) = (offset + length as u64, &bytes[length..]);
                    self.written.bytes += length as u64;
                }
                Err(error) => {
                    self.open = Some(Err(error));
                    return;
                }
            }
        }
    }

    fn finish(&mut self, above: &[u8], entry: &Entry, owner: (&[u8], &[u8])) -> Result<(), Errno> {
        let owner = self.is_root.then(|| self.numbers.of(owner, (entry.uid, entry.gid)));
        if owner.is_none() {
            self.written.owned += 1;
        }
        if let EntryKind::Directory(_) = entry.kind {
            let directory = open_directory(&self.root, &join(above, &entry.name))?;
            self.written.directories += 1;
            return dress(&directory, entry, owner);
        }
        let open = self.open.take();
        let is_new = !self.in_place;
        let above = self.above(above)?;
        let dressed = match open {
            Some(file) => file.and_then(|file| {
                rustix::fs::ftruncate(&file, entry.size)?;
                dress(&file, entry, owner)
            }),
            None => dress_at(above, entry, owner),
        };
        // what lacks an attribute is still better than nothing, what lacks bytes is not
        let is_whole = !matches!(dressed, Err(Errno::NOSPC | Errno::IO | Errno::DQUOT | Errno::FBIG));
        let flags = if is_new { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        let named = if is_whole { rename(above, &entry.name, flags) } else { dressed };
        if named.is_err() {
            remove_draft(above);
            return named;
        }
        match entry.kind {
            EntryKind::File => self.written.files += 1,
            _ => self.written.others += 1,
        }
        dressed
    }

    fn link(&mut self, above: &[u8], name: &[u8], to: &[u8]) -> Result<(), Errno> {
        let cut = to.iter().rposition(|byte| *byte == b'/');
        let (from, old) = cut.map_or((&b""[..], to), |at| (&to[..at], &to[at + 1..]));
        let from = open_directory(&self.root, from)?;
        let in_place = self.in_place;
        let above = self.above(above)?;
        if in_place {
            remove_draft(above);
            rustix::fs::linkat(&from, old, above, DRAFT, AtFlags::empty())?;
            // a rename between two names of one file does nothing at all
            let named = rename(above, name, RenameFlags::empty());
            remove_draft(above);
            named?;
        } else {
            rustix::fs::linkat(&from, old, above, name, AtFlags::empty())?;
        }
        self.written.files += 1;
        Ok(())
    }
}

fn join(above: &[u8], name: &[u8]) -> Vec<u8> {
    if above.is_empty() { name.to_vec() } else { [above, b"/", name].concat() }
}

fn remove_draft(above: BorrowedFd<'_>) {
    let _ = rustix::fs::unlinkat(above, DRAFT, AtFlags::empty()); // there is none
}

fn node(above: BorrowedFd<'_>, file_type: FileType, number: u64) -> Result<(), Errno> {
    remove_draft(above);
    rustix::fs::mknodat(above, DRAFT, file_type, Mode::RUSR | Mode::WUSR, number)
}

fn rename(above: BorrowedFd<'_>, name: &[u8], flags: RenameFlags) -> Result<(), Errno> {
    rustix::fs::renameat_with(above, DRAFT, above, name, flags)
}

type Owner = (Uid, Gid);

/// Owner, rights, attributes, times: each would undo what comes after it the other way round. The first fault is told.
fn dress(file: &OwnedFd, entry: &Entry, owner: Option<Owner>) -> Result<(), Errno> {
    let owned = owner.map_or(Ok(()), |(user, group)| rustix::fs::fchown(file, Some(user), Some(group)));
    let allowed = rustix::fs::fchmod(file, mode(entry, owner));
    let set = |(name, value): &(Vec<u8>, Vec<u8>)| rustix::fs::fsetxattr(file, name, value, XattrFlags::empty());
    let noted = entry.xattrs.iter().map(set).fold(Ok(()), Result::and);
    let timed = rustix::fs::futimens(file, &times(entry.mtime));
    owned.and(allowed).and(noted).and(timed)
}

/// The same for what is not opened: links, pipes, devices.
fn dress_at(above: BorrowedFd<'_>, entry: &Entry, owner: Option<Owner>) -> Result<(), Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let owned = owner.map_or(Ok(()), |(user, group)| rustix::fs::chownat(above, DRAFT, Some(user), Some(group), flags));
    let is_link = matches!(entry.kind, EntryKind::Symlink(_));
    let allowed =
        if is_link { Ok(()) } else { rustix::fs::chmodat(above, DRAFT, mode(entry, owner), AtFlags::empty()) };
    let path = format!("/proc/self/fd/{}/{DRAFT}", above.as_raw_fd());
    let set = |(name, value): &(Vec<u8>, Vec<u8>)| rustix::fs::lsetxattr(&path, name, value, XattrFlags::empty());
    let noted = entry.xattrs.iter().map(set).fold(Ok(()), Result::and);
    let timed = rustix::fs::utimensat(above, DRAFT, &times(entry.mtime), flags);
    owned.and(allowed).and(noted).and(timed)
}

/// Set-id bits of another owner would be ours.
fn mode(entry: &Entry, owner: Option<Owner>) -> Mode {
    Mode::from_raw_mode(if owner.is_some() { entry.mode } else { entry.mode & 0o1777 })
}

fn times(mtime: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
    }
}
