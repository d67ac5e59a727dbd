//! Files that say of the directory they lie in that its contents are not worth keeping.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};

/// The beginning of every valid `CACHEDIR.TAG` (<https://bford.info/cachedir/>).
const CACHEDIR_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// A file of this name, and with this beginning, marks its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    name: Vec<u8>,
    header: Vec<u8>,
}

impl Tag {
    /// `name` or `name:header`.
    pub(super) fn parse(text: &str) -> Self {
        let (name, header) = text.split_once(':').unwrap_or((text, ""));
        Self { name: name.into(), header: header.into() }
    }

    /// The tag of cache directories.
    pub(super) fn cache() -> Self {
        Self { name: b"CACHEDIR.TAG".into(), header: CACHEDIR_SIGNATURE.into() }
    }

    /// Whether an entry of this name is the tag itself, which is kept.
    pub(super) fn is_named(&self, name: &[u8]) -> bool {
        self.name == name
    }

    /// Whether it lies in the directory. A tag that cannot be read marks nothing: more is stored rather than less.
    pub(super) fn marks(&self, directory: BorrowedFd<'_>) -> bool {
        if self.header.is_empty() {
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            return rustix::fs::statat(directory, &self.name, flags).is_ok();
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::openat(directory, &self.name, flags, Mode::empty()).is_ok_and(|file| self.begins(&file))
    }

    fn begins(&self, file: &OwnedFd) -> bool {
        let is_file = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let mut beginning = vec![0; self.header.len()];
        let read = rustix::fs::fstat(file).is_ok_and(is_file)
            && rustix::io::pread(file, &mut beginning, 0).is_ok_and(|length| length == beginning.len());
        read && beginning == self.header
    }
}
