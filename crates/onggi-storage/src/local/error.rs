//! From the kernel's error numbers to the decisions of a caller.

use crate::{Handle, StorageError};
use rustix::io::Errno;
use std::{io, path::Path, path::PathBuf};

/// A failed call to the file system.
#[derive(Debug, thiserror::Error)]
#[error("{act} {}", path.display())]
pub(super) struct DiskError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl DiskError {
    pub(super) fn new(act: &'static str, path: &Path, source: io::Error) -> Self {
        Self { act, path: path.into(), source }
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether writing the same file afresh may succeed: an error of the medium, not of space or permission.
    pub(super) fn may_pass(&self) -> bool {
        !matches!(self.errno(), Some(errno) if is_full(errno) || is_denied(errno)) && !self.is_not_found()
    }

    fn errno(&self) -> Option<Errno> {
        Errno::from_io_error(&self.source)
    }

    /// The error that a caller sees. Files that are not there are the caller's business: it knows what was asked.
    pub(super) fn into_storage_error(self) -> StorageError {
        match self.errno() {
            Some(errno) if is_full(errno) => StorageError::Full(self.into()),
            Some(errno) if is_denied(errno) => StorageError::Denied(self.into()),
            // Too many open files, no memory for the call: passes when other calls end.
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN) => StorageError::Busy(None, self.into()),
            // A network file system whose server is away.
            Some(Errno::STALE | Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::HOSTDOWN | Errno::NOTCONN) => {
                StorageError::Unreachable(self.into())
            }
            _ => StorageError::Faulty(self.into()),
        }
    }

    /// As above, but a file that is not there is `NotFound`, or `NoPlace` if the root is missing as well.
    pub(super) fn for_file(self, handle: &Handle, root: &Path) -> StorageError {
        if !self.is_not_found() {
            self.into_storage_error()
        } else if root.is_dir() {
            StorageError::NotFound(handle.clone())
        } else {
            StorageError::NoPlace(root.display().to_string())
        }
    }
}

/// `EFBIG` is the limit of the process or of the file system.
fn is_full(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::FBIG)
}

/// `ELOOP`: a link lies where a file should. `ENOTDIR`: a file lies where a folder should. The last two are what file
/// systems answer that can neither rename exclusively nor link.
fn is_denied(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ROFS | Errno::ACCESS | Errno::PERM | Errno::LOOP | Errno::NOTDIR | Errno::OPNOTSUPP | Errno::NOSYS
    )
}
