//! What a path is: its status, the target of a link, its attributes, and the names of its owners.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use crate::item::{Kind, Metadata, Xattr};

/// A length that no list or value of attributes exceeds on Linux, in bytes.
const XATTR_BYTES_MAX: usize = 64 << 10;
/// A link's target is shorter than a path.
const LINK_BYTES: usize = 256;

/// An entry of a directory as it was when it was looked at.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: Vec<u8>,
    /// Its name in the tree, if that is another one.
    pub(super) tree_name: Option<Vec<u8>>,
    pub(super) stat: Stat,
    pub(super) kind: Kind,
    pub(super) xattrs: Vec<Xattr>,
    /// Attributes that could not be read: which, and why.
    pub(super) lost_xattrs: Option<(String, io::Error)>,
}

/// Looks at an entry of an open directory.
pub(super) fn inspect(directory: BorrowedFd<'_>, name: &[u8], xattrs: Xattrs) -> io::Result<Found> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = rustix::fs::statat(directory, name, flags)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(directory, name, Vec::with_capacity(LINK_BYTES))?;
            Kind::Symlink(target.into_bytes())
        }
        FileType::BlockDevice => Kind::BlockDevice(stat.st_rdev),
        FileType::CharacterDevice => Kind::CharDevice(stat.st_rdev),
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::RegularFile | FileType::Unknown => Kind::File,
    };
    let mut found = Found { name: name.to_vec(), tree_name: None, stat, kind, xattrs: Vec::new(), lost_xattrs: None };
    if xattrs == Xattrs::Read {
        read_xattrs(directory, &mut found);
    }
    Ok(found)
}

/// Whether extended attributes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Xattrs {
    Read,
    Ignore,
}

/// One call where there are none. In the kernel's order, as restic keeps it, so that the trees of both are equal. There is no call that takes a directory and a name, so the name goes through `/proc`,
/// which also works for paths that are longer than a path may be.
fn read_xattrs(directory: BorrowedFd<'_>, found: &mut Found) {
    let path = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), &found.name].concat();
    let mut names = Vec::new();
    if let Err(error) = grow(&mut names, |buffer| rustix::fs::llistxattr(&path, buffer)) {
        // NOENT: no /proc, or the entry is gone, which will be noticed when it is read
        if !matches!(error, Errno::OPNOTSUPP | Errno::NOENT) {
            found.lost_xattrs = Some(("extended attributes".to_owned(), error.into()));
        }
        return;
    }
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = Vec::new();
        match grow(&mut value, |buffer| rustix::fs::lgetxattr(&path, name, buffer)) {
            Ok(()) => found.xattrs.push(Xattr { name: name.to_vec(), value }),
            Err(Errno::NODATA | Errno::NOENT) => {} // removed meanwhile
            Err(error) => {
                let which = format!("extended attribute {}", String::from_utf8_lossy(name).escape_debug());
                found.lost_xattrs = Some((which, error.into()));
            }
        }
    }
}

/// Reads into a small buffer on the stack's scale first, and into the largest one that makes sense if that is too small.
fn grow(into: &mut Vec<u8>, read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<(), Errno> {
    let mut small = [0; 256];
    match read(&mut small) {
        Ok(length) => into.extend_from_slice(&small[..length]),
        Err(Errno::RANGE) => {
            into.resize(XATTR_BYTES_MAX, 0);
            let length = read(into)?;
            into.truncate(length);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

impl Found {
    /// Its name in the tree.
    pub(super) fn tree_name(&self) -> &[u8] {
        self.tree_name.as_ref().unwrap_or(&self.name)
    }

    /// As the repository has it. `links` counts where it can mean a hard link.
    pub(super) fn metadata(&self, names: &Names, atime: Atime) -> Metadata {
        let stat = &self.stat;
        let size = if self.kind.is_file() { stat.st_size.cast_unsigned() } else { 0 };
        let links = match self.kind {
            Kind::Directory | Kind::Fifo => 0,
            _ => wide(stat.st_nlink),
        };
        Metadata {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            user: names.user(stat.st_uid),
            group: names.group(stat.st_gid),
            mtime: timestamp(stat.st_mtime, wide(stat.st_mtime_nsec)),
            atime: (atime == Atime::Store).then(|| timestamp(stat.st_atime, wide(stat.st_atime_nsec))),
            ctime: Some(timestamp(stat.st_ctime, wide(stat.st_ctime_nsec))),
            inode: Some(stat.st_ino),
            device_id: stat.st_dev,
            links,
            size,
            xattrs: self.xattrs.clone(),
        }
    }
}

/// The width of these numbers differs between architectures.
fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

/// Whether the time of the last access is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Atime {
    Store,
    Ignore,
}

/// Clamped to what can be told: file systems know years beyond 9999.
fn timestamp(seconds: i64, nanoseconds: u64) -> Timestamp {
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or(0);
    let clamped = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::new(seconds, nanoseconds).unwrap_or(clamped)
}

/// Names of users and groups, from the machine's own files; those of a directory service are stored as numbers only.
#[derive(Debug, Default)]
pub(super) struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    /// Reads `/etc/passwd` and `/etc/group`; without them there are no names.
    pub(super) fn load() -> Self {
        let read = |path| std::fs::read(path).map(|bytes| parse_names(&bytes)).unwrap_or_default();
        Self { users: read("/etc/passwd"), groups: read("/etc/group") }
    }

    fn user(&self, id: u32) -> String {
        self.users.get(&id).cloned().unwrap_or_default()
    }

    fn group(&self, id: u32) -> String {
        self.groups.get(&id).cloned().unwrap_or_default()
    }
}

/// `name:password:number:…` per line; the first name of a number counts.
fn parse_names(file: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in String::from_utf8_lossy(file).lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(_), Some(Ok(id))) = (fields.next(), fields.next(), fields.next().map(str::parse)) {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// The stable class of a failed call on a path.
pub(super) fn class_of(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => "vanished",
        Some(Errno::ACCESS | Errno::PERM) => "denied",
        Some(Errno::LOOP | Errno::NOTDIR) => "changed", // another kind of thing has taken the name
        Some(Errno::STALE | Errno::NOTCONN | Errno::HOSTDOWN | Errno::HOSTUNREACH | Errno::TIMEDOUT) => "stale-mount",
        _ => "io",
    }
}

/// The number of the file system and in it: two names with equal ones are one thing.
pub(super) type Identity = (u64, u64);

pub(super) fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

/// What the kernel makes up: never backed up unless a root names it.
pub(super) fn is_virtual(directory: impl AsFd) -> bool {
    /// `f_type` of proc, sysfs, cgroup, cgroup2, devpts, debugfs, tracefs, securityfs, selinuxfs, pstore, bpf, configfs,
    /// binfmt_misc, mqueue, hugetlbfs, efivarfs, autofs, fusectl, rpc_pipefs, nsfs, smackfs (`linux/magic.h`).
    const VIRTUAL: &[i128] = &[
        0x9fa0,
        0x6265_6572,
        0x0027_e0eb,
        0x6367_7270,
        0x1cd1,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0xf97c_ff8c,
        0x6165_676c,
        0xcafe_4a11,
        0x6265_6570,
        0x4249_4e4d,
        0x1980_0202,
        0x9584_58f6,
        0xde5e_81e4,
        0x0187,
        0x6573_5543,
        0x6759_6969,
        0x6e73_6673,
        0x4341_5d53,
    ];
    rustix::fs::fstatfs(directory).is_ok_and(|status| VIRTUAL.contains(&status.f_type.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts() {
        let names = parse_names(b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:\n# comment\n\nbad:x:y\ndaemon:x:1:\n");
        assert_eq!((names.len(), names[&0].as_str(), names[&1].as_str()), (2, "root", "daemon"));
    }

    #[test]
    fn times_that_cannot_be_told_are_clamped() {
        assert_eq!(timestamp(i64::MAX, 0), Timestamp::MAX);
        assert_eq!(timestamp(i64::MIN, 0), Timestamp::MIN);
        assert_eq!(timestamp(-1, 999_999_999), Timestamp::new(-1, 999_999_999).unwrap());
    }
}
