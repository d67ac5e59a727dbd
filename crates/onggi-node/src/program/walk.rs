//! A walk: depth first, names in the order of their bytes, each directory announced before its entries and ended after all
//! below it. Memory is one list of names per level; no table of files is kept.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use onggi_node::pattern::{Asked, Case, Pattern, Patterns, clean};
use onggi_node::{
    Answer, DEPTH_MAX, ENTRIES_MAX, Entry, EntryKind, Lost, NAME_BYTES_MAX, PATH_BYTES_MAX, Time, Walk,
    XATTR_BYTES_MAX, XATTRS_BYTES_MAX,
};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::out::{Credit, Gone, Out};
use super::owners::{Owners, Told};
use super::policy::Policy;
use super::root::{lost, open_directory, open_root};

/// How long the file system of a root may take to say anything.
const ROOT_TIME: Duration = Duration::from_secs(15);
/// Bytes of names of one directory that fit into the program's memory.
const NAMES_BYTES_MAX: usize = 24 << 20;
/// With so many bytes of names and attributes a message is sent, however few entries it has.
const MESSAGE_BYTES: usize = 128 << 10;
/// File systems of other machines: when those do not answer, even a status hangs.
const REMOTE: &[&[u8]] = &[b"nfs", b"cifs", b"smb", b"fuse.", b"9p", b"ceph", b"afs", b"glusterfs", b"lustre"];
/// The beginning of every valid `CACHEDIR.TAG` (<https://bford.info/cachedir/>).
const CACHEDIR_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
const CACHEDIR_TAG: &[u8] = b"CACHEDIR.TAG";

/// Why something is passed over, by its number in [`Answer::Passed`].
const EXCLUDED: usize = 0;
const SOCKET: usize = 1;
const CROSSING: usize = 2;
const VANISHED: usize = 3;
const ELSEWHERE: usize = 4;

/// A walk ended early: nobody listens, or nobody wants the rest.
struct End;

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self
    }
}

/// Walks to the end, or until nobody wants the rest.
pub(super) fn walk(walk: Walk, mounts: Mounts, policy: &Policy, owners: &Owners, credit: &Credit, out: &Out) {
    let mut patterns = Patterns::default();
    walk.excludes.iter().filter_map(|text| Pattern::parse(text, Case::Exact).ok()).for_each(|one| patterns.push(one));
    let mut walker = Walker {
        mounts,
        walk,
        policy,
        owners,
        credit,
        out,
        patterns,
        has_own_place: unshare(CloneFlags::CLONE_FS).is_ok(),
        told: Told::default(),
        batch: Batch::default(),
        passed: [0; 5],
        number: 0,
        directories: 0,
        entries: 0,
    };
    drop(walker.run());
}

struct Walker<'a> {
    walk: Walk,
    policy: &'a Policy,
    owners: &'a Owners,
    credit: &'a Credit,
    out: &'a Out,
    patterns: Patterns,
    /// This thread's working directory is its own, and may be that which is looked at.
    has_own_place: bool,
    mounts: Mounts,
    told: Told,
    batch: Batch,
    passed: [u64; 5],
    /// The last number that was given to a directory.
    number: u64,
    directories: u64,
    entries: u64,
}

/// A directory whose entries are sent, and what of it is still to be entered.
struct Level {
    number: u64,
    entries: u64,
    /// Below the root.
    path: Vec<u8>,
    identity: (u64, u64),
    below: VecDeque<(Vec<u8>, u64, (u64, u64))>,
}

/// Entries that wait to be sent.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Walker<'_> {
    fn run(&mut self) -> Result<(), End> {
        self.walk.root = [b"/", clean(&self.walk.root).join(&b'/').as_slice()].concat();
        let mut levels: Vec<Level> = Vec::new();
        if let Some((root, first)) = self.enter_root()? {
            levels.push(first);
            while let Some(level) = levels.last_mut() {
                if let Some((name, number, identity)) = level.below.pop_front() {
                    let path = join(&level.path, &name);
                    let is_loop = levels.iter().any(|above| above.identity == identity);
                    let level = self.enter(&root, path, number, identity, (levels.len(), is_loop))?;
                    levels.push(level);
                } else {
                    let (directory, entries) = (level.number, level.entries);
                    levels.pop();
                    self.send(&Answer::DirectoryDone { stream: self.walk.stream, directory, entries })?;
                }
            }
        }
        for (reason, items) in self.passed.into_iter().enumerate().filter(|(_, items)| *items > 0) {
            self.send(&Answer::Passed { stream: self.walk.stream, reason: reason as u8, items })?;
        }
        let Self { directories, entries, .. } = *self;
        self.send(&Answer::WalkDone { stream: self.walk.stream, directories, entries })
    }

    /// Tells the chain from `/` to the root, and what lies directly in the root if it is a directory.
    fn enter_root(&mut self) -> Result<Option<(OwnedFd, Level)>, End> {
        let chain = match self.chain() {
            Ok(chain) => chain,
            Err(reason) => {
                self.problem(&[], reason)?;
                return Ok(None);
            }
        };
        let identity = chain.last().map(|root| (root.device, root.inode));
        let is_directory = chain.last().is_none_or(|root| matches!(root.kind, EntryKind::Directory(_)));
        if let Some(names) = self.told.untold(self.owners, &chain, self.walk.stream) {
            self.send(&names)?;
        }
        self.send(&Answer::Chain { stream: self.walk.stream, entries: chain })?;
        if !is_directory {
            return Ok(None);
        }
        (self.number, self.directories) = (1, 1);
        let opened = open_root(&self.walk.root, self.policy);
        let stat = opened.and_then(|root| rustix::fs::fstat(&root).map_err(lost).map(|stat| (root, stat)));
        let (root, stat) = match stat {
            Ok(opened) => opened,
            Err(reason) => {
                self.problem(&[], reason)?;
                self.send(&Answer::DirectoryDone { stream: self.walk.stream, directory: 1, entries: 0 })?;
                return Ok(None);
            }
        };
        self.mounts.root_device = stat.st_dev;
        let level = self.enter(&root, Vec::new(), 1, identity.unwrap_or((stat.st_dev, stat.st_ino)), (0, false))?;
        Ok(Some((root, level)))
    }

    /// The file system of a machine that is gone keeps whoever asks it: another thread is the one that is kept.
    fn await_root(&self) -> Result<(), Lost> {
        let (told, answer) = channel();
        let root = self.walk.root.clone();
        thread::spawn(move || {
            let _ = rustix::fs::lstat(root.as_slice()); // what is wrong with it is seen when it is opened
            told.send(())
        });
        answer.recv_timeout(ROOT_TIME).map_err(|_| lost(Errno::TIMEDOUT))
    }

    fn chain(&self) -> Result<Vec<Entry>, Lost> {
        if !self.policy.allows(&self.walk.root) {
            return Err(Lost::REFUSED);
        }
        self.await_root()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut at = rustix::fs::open("/", flags, Mode::empty()).map_err(lost)?;
        let names = clean(&self.walk.root);
        let mut chain = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let is_root = number + 1 == names.len();
            let mut entry =
                look(at.as_fd(), name, self.walk.xattrs.then_some(false)).map_err(lost)?.ok_or(Lost::REPLACED)?;
            if let EntryKind::Directory(number) = &mut entry.kind {
                *number = u64::from(is_root);
            }
            chain.push(entry);
            if !is_root {
                at = rustix::fs::openat(&at, name.as_slice(), flags, Mode::empty()).map_err(lost)?;
            }
        }
        Ok(chain)
    }

    /// Sends the entries of a directory, and keeps what is to be entered below it.
    fn enter(
        &mut self,
        root: &OwnedFd,
        path: Vec<u8>,
        number: u64,
        identity: (u64, u64),
        (depth, is_loop): (usize, bool),
    ) -> Result<Level, End> {
        let mut level = Level { number, entries: 0, path, identity, below: VecDeque::new() };
        let too_deep =
            depth >= DEPTH_MAX || self.walk.root.len() + level.path.len() > PATH_BYTES_MAX - NAME_BYTES_MAX - 2;
        let opened = match (is_loop, too_deep) {
            (true, _) => Err(Lost::LOOP),
            (_, true) => Err(Lost::TOO_DEEP),
            _ => open_directory(root, &level.path).map_err(lost),
        };
        let listed = opened.and_then(|directory| {
            let names = list(&directory)?;
            Ok((directory, names))
        });
        match listed {
            Ok((directory, names)) => self.look_all(directory.as_fd(), names, &mut level)?,
            Err(reason) => self.problem(&level.path, reason)?,
        }
        Ok(level)
    }

    fn look_all(&mut self, directory: BorrowedFd<'_>, names: Vec<Vec<u8>>, level: &mut Level) -> Result<(), End> {
        let is_here = self.has_own_place && rustix::process::fchdir(directory).is_ok();
        let only_tag = self.walk.exclude_caches && names.iter().any(|name| name == CACHEDIR_TAG) && is_cache(directory);
        for name in names {
            let path = join(&self.walk.root, &join(&level.path, &name));
            if self.walk.stops.contains(&path) {
                self.passed[ELSEWHERE] += 1;
                continue;
            }
            if only_tag && name != CACHEDIR_TAG || self.patterns.exclude(&path, Asked::Above) {
                self.passed[EXCLUDED] += 1;
                continue;
            }
            if self.mounts.may_hang(&path, &self.walk) {
                self.passed[CROSSING] += 1;
                continue;
            }
            match look(directory, &name, self.walk.xattrs.then_some(is_here)) {
                Ok(Some(entry)) => self.found(entry, level)?,
                Ok(None) => self.passed[SOCKET] += 1,
                Err(Errno::NOENT) => self.passed[VANISHED] += 1,
                Err(error) => self.problem(&join(&level.path, &name), lost(error))?,
            }
        }
        self.flush(level)
    }

    fn found(&mut self, mut entry: Entry, level: &mut Level) -> Result<(), End> {
        if let EntryKind::Directory(number) = &mut entry.kind {
            if self.mounts.is_crossing(entry.device, level.identity.0, &self.walk) {
                self.passed[CROSSING] += 1;
            } else {
                self.number += 1;
                self.directories += 1;
                *number = self.number;
                level.below.push_back((entry.name.clone(), self.number, (entry.device, entry.inode)));
            }
        }
        let xattrs: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.batch.bytes += entry.name.len() + xattrs;
        self.batch.entries.push(entry);
        if self.batch.entries.len() == ENTRIES_MAX || self.batch.bytes >= MESSAGE_BYTES {
            self.flush(level)
        } else {
            Ok(())
        }
    }

    fn flush(&mut self, level: &mut Level) -> Result<(), End> {
        let Batch { entries, .. } = std::mem::take(&mut self.batch);
        if entries.is_empty() {
            return Ok(());
        }
        level.entries += entries.len() as u64;
        self.entries += entries.len() as u64;
        if let Some(names) = self.told.untold(self.owners, &entries, self.walk.stream) {
            self.send(&names)?;
        }
        if !self.credit.take(entries.len() as u64) {
            return Err(End);
        }
        self.send(&Answer::Entries { stream: self.walk.stream, directory: level.number, entries })
    }

    fn problem(&mut self, path: &[u8], lost: Lost) -> Result<(), End> {
        let path = if path.is_empty() { self.walk.root.clone() } else { join(&self.walk.root, path) };
        self.send(&Answer::Problem { stream: self.walk.stream, path, lost })
    }

    fn send(&self, answer: &Answer) -> Result<(), End> {
        if self.credit.is_cancelled() {
            return Err(End);
        }
        Ok(self.out.send(answer, true)?)
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match (directory, name) {
        (b"" | b"/", name) => [directory, name].concat(),
        (directory, b"") => directory.to_vec(),
        _ => [directory, b"/", name].concat(),
    }
}

/// All names, sorted.
fn list(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Lost> {
    let (mut names, mut bytes) = (Vec::new(), 0);
    for entry in Dir::read_from(directory).map_err(lost)? {
        let name = entry.map_err(lost)?.file_name().to_bytes().to_vec();
        if matches!(name.as_slice(), b"." | b"..") {
            continue;
        }
        bytes += name.len() + size_of::<Vec<u8>>();
        if bytes > NAMES_BYTES_MAX {
            return Err(Lost::TOO_MANY);
        }
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}

/// One entry as it is now; `None`: a socket, which is never kept. `xattrs`: read them, and whether the directory is the
/// thread's own.
fn look(directory: BorrowedFd<'_>, name: &[u8], xattrs: Option<bool>) -> Result<Option<Entry>, Errno> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => EntryKind::Directory(0),
        FileType::Symlink => EntryKind::Symlink(rustix::fs::readlinkat(directory, name, Vec::new())?.into_bytes()),
        FileType::BlockDevice => EntryKind::BlockDevice(stat.st_rdev),
        FileType::CharacterDevice => EntryKind::CharDevice(stat.st_rdev),
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => return Ok(None),
        FileType::RegularFile | FileType::Unknown => EntryKind::File,
    };
    let mut entry = Entry { xattrs: Vec::new(), lost_xattrs: None, ..entry_of(name, kind, &stat) };
    if let Some(is_here) = xattrs {
        read_xattrs(directory, is_here, &mut entry);
    }
    Ok(Some(entry))
}

#[expect(clippy::useless_conversion, reason = "the width of these numbers differs between architectures")]
fn entry_of(name: &[u8], kind: EntryKind, stat: &Stat) -> Entry {
    let time = |seconds, nanoseconds: u64| Time { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or(0) };
    Entry {
        name: name.to_vec(),
        size: if kind == EntryKind::File { stat.st_size.cast_unsigned() } else { 0 },
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: time(stat.st_mtime, stat.st_mtime_nsec.into()),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec.into()),
        device: stat.st_dev,
        inode: stat.st_ino,
        links: stat.st_nlink.into(),
        xattrs: Vec::new(),
        lost_xattrs: None,
    }
}

/// No call takes a directory and a name, so the name goes through `/proc` where the thread is not in the directory itself;
/// that costs a walk two thirds more.
fn read_xattrs(directory: BorrowedFd<'_>, is_here: bool, entry: &mut Entry) {
    let through = || [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), &entry.name].concat();
    let path = if is_here { entry.name.clone() } else { through() };
    let code = |error: Errno| Some(error.raw_os_error().unsigned_abs());
    let names = match grow(|buffer| rustix::fs::llistxattr(&path, buffer)) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP | Errno::NOENT) => return,
        Err(error) => {
            entry.lost_xattrs = code(error);
            return;
        }
    };
    let mut bytes = 0;
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        match grow(|buffer| rustix::fs::lgetxattr(&path, name, buffer)) {
            Ok(value) if bytes + name.len() + value.len() > XATTRS_BYTES_MAX => entry.lost_xattrs = code(Errno::TOOBIG),
            Ok(value) => {
                bytes += name.len() + value.len();
                entry.xattrs.push((name.to_vec(), value));
            }
            Err(Errno::NODATA | Errno::NOENT) => {} // removed meanwhile
            Err(error) => entry.lost_xattrs = code(error),
        }
    }
}

/// Into a small buffer first, and into the largest one that makes sense if that is too small.
fn grow(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 256];
    match read(&mut small) {
        Ok(length) => Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; XATTR_BYTES_MAX];
            let length = read(&mut large)?;
            large.truncate(length);
            Ok(large)
        }
        Err(error) => Err(error),
    }
}

fn is_cache(directory: BorrowedFd<'_>) -> bool {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(directory, CACHEDIR_TAG, flags, Mode::empty()) else { return false };
    let mut beginning = vec![0; CACHEDIR_SIGNATURE.len()];
    rustix::io::pread(&file, &mut beginning, 0).is_ok() && beginning == CACHEDIR_SIGNATURE
}

/// What is mounted where, as the kernel says; without `/proc` nothing.
#[derive(Default)]
pub(super) struct Mounts {
    types: HashMap<u64, Vec<u8>>,
    places: HashMap<Vec<u8>, Vec<u8>>,
    root_device: u64,
}

impl Mounts {
    pub(super) fn load() -> Self {
        Self::parse(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    /// `id above major:minor root place options … - type source options` per line; blanks in a place are `\040`.
    fn parse(text: &[u8]) -> Self {
        let mut mounts = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
            let kind = words.iter().position(|word| *word == b"-").and_then(|dash| words.get(dash + 1));
            let (Some(device), Some(place), Some(kind)) = (words.get(2), words.get(4), kind) else { continue };
            let numbers = std::str::from_utf8(device).ok().and_then(|text| text.split_once(':'));
            let numbers = numbers.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
            if let Some((major, minor)) = numbers {
                mounts.types.insert(rustix::fs::makedev(major, minor), kind.to_vec());
            }
            let place = String::from_utf8_lossy(place).replace("\\040", " ").replace("\\134", "\\");
            mounts.places.insert(place.into_bytes(), kind.to_vec());
        }
        mounts
    }

    /// Whether a path is the place of a file system that is not entered anyway, and whose machine may be gone.
    fn may_hang(&self, path: &[u8], walk: &Walk) -> bool {
        self.places.get(path).is_some_and(|kind| {
            let is_remote = REMOTE.iter().any(|family| kind.starts_with(family));
            is_remote && (walk.one_file_system || is_skipped(kind, walk))
        })
    }

    fn is_crossing(&self, device: u64, above: u64, walk: &Walk) -> bool {
        let is_other = walk.one_file_system && device != self.root_device;
        is_other || device != above && self.types.get(&device).is_some_and(|kind| is_skipped(kind, walk))
    }
}

fn is_skipped(kind: &[u8], walk: &Walk) -> bool {
    let matches = |skipped: &Vec<u8>| match skipped.strip_suffix(b"*") {
        Some(family) => kind.starts_with(family),
        None => kind == skipped.as_slice(),
    };
    walk.skipped_types.iter().any(matches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_other_machines_are_known_by_their_place() {
        let text = b"36 35 98:0 / /srv/with\\040blank rw,noatime master:1 - nfs4 server:/x rw\n1 0 8:1 / / rw - ext4 /dev/sda1 rw\n";
        let mounts = Mounts::parse(text);
        assert_eq!(mounts.places.get(&b"/srv/with blank"[..]), Some(&b"nfs4".to_vec()));
        assert_eq!(mounts.types.get(&rustix::fs::makedev(8, 1)), Some(&b"ext4".to_vec()));
    }

    #[test]
    fn paths_are_joined_below_any_root() {
        for (directory, name, expected) in
            [("/", "a", "/a"), ("/a", "b", "/a/b"), ("", "b", "b"), ("/a", "", "/a"), ("/", "", "/")]
        {
            assert_eq!(join(directory.as_bytes(), name.as_bytes()), expected.as_bytes());
        }
    }
}
