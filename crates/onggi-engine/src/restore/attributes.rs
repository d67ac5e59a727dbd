//! Owner, mode, times and extended attributes of what is restored, set through descriptors only.
//!
//! What could give rights to somebody (owner, set-id bits, devices, `security.*` and `trusted.*` attributes) is set only
//! where the operator allowed it; what is left out is told, so that the report can count it.

use onggi_source::Metadata;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{self, AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// Whether rights may be given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// Owner, set-id bits, devices and protected attributes are left out, and counted.
    Plain,
    /// All of it is restored. Needs root.
    Full,
}

/// What of an item's metadata was not restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeftOut {
    /// Owner or group, which differ from the restoring user's.
    Owner,
    /// Set-user-id or set-group-id bit.
    SetId,
    /// An extended attribute that gives rights.
    ProtectedAttribute,
    /// An extended attribute that the file system does not take.
    Attribute,
    /// A device file.
    Device,
}

/// Whose rights the restore runs with.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
}

impl Owner {
    /// The user that this process acts as.
    pub fn current() -> Self {
        Self { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }
}

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// Sets the metadata of an open file or directory: owner, then attributes, then mode, which a change of owner would
/// cut, then the times, which everything else would change.
pub fn apply(file: impl AsFd, metadata: &Metadata, privilege: Privilege, owner: Owner) -> Result<Vec<LeftOut>, Errno> {
    let file = file.as_fd();
    let mut left_out = Vec::new();
    match privilege {
        Privilege::Full => {
            fs::fchown(file, Some(Uid::from_raw(metadata.uid)), Some(Gid::from_raw(metadata.gid)))?;
        }
        Privilege::Plain if (metadata.uid, metadata.gid) != (owner.uid, owner.gid) => left_out.push(LeftOut::Owner),
        Privilege::Plain => {}
    }
    set_attributes(file, metadata, privilege, &mut left_out)?;
    let mut mode = metadata.mode & 0o7777;
    if privilege == Privilege::Plain && mode & SET_ID != 0 {
        mode &= !SET_ID;
        left_out.push(LeftOut::SetId);
    }
    fs::fchmod(file, Mode::from_raw_mode(mode))?;
    fs::futimens(file, &times(metadata))?;
    Ok(left_out)
}

/// Sets what a symbolic link or special file has of its own: owner and times, and the mode of what is no link.
pub fn apply_at(
    directory: impl AsFd,
    name: &[u8],
    metadata: &Metadata,
    is_link: bool,
    privilege: Privilege,
    owner: Owner,
) -> Result<Vec<LeftOut>, Errno> {
    let directory = directory.as_fd();
    let mut left_out = Vec::new();
    match privilege {
        Privilege::Full => {
            let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
            fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Privilege::Plain if (metadata.uid, metadata.gid) != (owner.uid, owner.gid) => left_out.push(LeftOut::Owner),
        Privilege::Plain => {}
    }
    if !is_link {
        // The file was made by us in a directory that we hold open, and a special file cannot be opened for fchmod.
        fs::chmodat(directory, name, Mode::from_raw_mode(metadata.mode & 0o1777), AtFlags::empty())?;
    }
    fs::utimensat(directory, name, &times(metadata), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(left_out)
}

fn set_attributes(
    file: BorrowedFd<'_>,
    metadata: &Metadata,
    privilege: Privilege,
    left_out: &mut Vec<LeftOut>,
) -> Result<(), Errno> {
    for attribute in &metadata.xattrs {
        let is_protected = [&b"security."[..], b"trusted."].iter().any(|space| attribute.name.starts_with(space));
        if is_protected && privilege == Privilege::Plain {
            left_out.push(LeftOut::ProtectedAttribute);
            continue;
        }
        match fs::fsetxattr(file, &*attribute.name, &attribute.value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::RANGE | Errno::TOOBIG) => {
                left_out.push(LeftOut::Attribute);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn times(metadata: &Metadata) -> Timestamps {
    Timestamps {
        last_access: timespec(metadata.atime.unwrap_or(metadata.mtime)),
        last_modification: timespec(metadata.mtime),
    }
}

/// The kernel counts nanoseconds upwards from the second before, jiff towards zero.
fn timespec(time: jiff::Timestamp) -> Timespec {
    let (seconds, nanoseconds) = (time.as_second(), i64::from(time.subsec_nanosecond()));
    if nanoseconds < 0 {
        Timespec { tv_sec: seconds - 1, tv_nsec: nanoseconds + 1_000_000_000 }
    } else {
        Timespec { tv_sec: seconds, tv_nsec: nanoseconds }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and look at files")]
mod tests {
    use super::*;
    use onggi_source::Xattr;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    fn metadata(owner: Owner) -> Metadata {
        Metadata { mode: 0o640, uid: owner.uid, gid: owner.gid, ..Metadata::default() }
    }

    #[track_caller]
    fn check(metadata: &Metadata, privilege: Privilege, expected: &[LeftOut]) -> std::fs::Metadata {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(apply(&file, metadata, privilege, Owner::current()).unwrap(), expected);
        file.metadata().unwrap()
    }

    #[test]
    fn times_before_1970_keep_their_nanoseconds() {
        let mtime = "1969-12-31T23:59:58.25Z".parse().unwrap();
        let found = check(&Metadata { mtime, ..metadata(Owner::current()) }, Privilege::Plain, &[]);
        assert_eq!((found.mtime(), found.mtime_nsec()), (-2, 250_000_000));
        assert_eq!(found.mode() & 0o7777, 0o640);
    }

    #[test]
    fn rights_are_given_only_where_allowed() {
        let owner = Owner::current();
        let mut metadata = Metadata { mode: 0o6755, uid: owner.uid + 1, ..metadata(owner) };
        metadata.xattrs = vec![Xattr { name: b"security.onggi".to_vec(), value: b"x".to_vec() }];
        let expected = [LeftOut::Owner, LeftOut::ProtectedAttribute, LeftOut::SetId];
        let found = check(&metadata, Privilege::Plain, &expected);
        assert_eq!((found.uid(), found.mode() & 0o7777), (owner.uid, 0o755));
        if owner.uid == 0 {
            metadata.xattrs.clear();
            let found = check(&metadata, Privilege::Full, &[]);
            assert_eq!((found.uid(), found.mode() & 0o7777), (owner.uid + 1, 0o6755));
        }
    }

    #[test]
    fn a_link_has_its_own_times() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("l")).unwrap();
        let directory = File::open(folder.path()).unwrap();
        let mtime = "2001-02-03T04:05:06.000000007Z".parse().unwrap();
        let metadata = Metadata { mtime, ..metadata(Owner::current()) };
        apply_at(&directory, b"l", &metadata, true, Privilege::Plain, Owner::current()).unwrap();
        let found = folder.path().join("l").symlink_metadata().unwrap();
        assert_eq!((found.mtime(), found.mtime_nsec()), (981_173_106, 7));
    }
}
