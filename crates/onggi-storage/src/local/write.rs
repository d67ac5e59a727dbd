//! Writing durably: a file gets its name when its bytes are on the medium, and the call returns when the name is.
//!
//! The order is temporary file, bytes, sync, name, sync of the folder. After a failed sync the kernel may have dropped
//! the bytes and forgotten the error, so that such a descriptor is thrown away and all is written afresh, once.

use super::{disk::Disk, disk::Temporary, error::DiskError, read};
use crate::{Clock, clock::SystemClock, sabotage};
use rustix::io::Errno;
use std::{
    fmt::Write,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// What separates a file's name from the random end of its temporary.
pub(super) const TEMPORARY_INFIX: &str = ".tmp-";

/// Follows the protocol on a disk.
#[derive(Debug)]
pub(super) struct Writer {
    disk: Box<dyn Disk>,
    cannot_sync: AtomicBool,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It has its name, now or before, with exactly these bytes.
    Durable,
    /// The name holds other bytes.
    Different,
}

type Result<T> = std::result::Result<T, DiskError>;

impl Writer {
    pub(super) fn new(disk: Box<dyn Disk>) -> Self {
        Self { disk, cannot_sync: AtomicBool::new(false) }
    }

    /// Whether the file system was seen to refuse syncing at all.
    pub(super) fn cannot_sync(&self) -> bool {
        self.cannot_sync.load(Ordering::Relaxed)
    }

    /// Writes a file into a folder that is there.
    pub(super) fn write(&self, target: &Path, content: &[u8]) -> Result<Written> {
        if sabotage::FINAL_NAME_FIRST.is_on() {
            let written = sabotage::write_under_final_name(target, content);
            return written.map(|()| Written::Durable).map_err(|error| DiskError::new("write", target, error));
        }
        let temporary = match self.write_temporary(target, content) {
            Err(error) if error.may_pass() => self.write_temporary(target, content)?,
            other => other?,
        };
        self.name(&temporary.path, target, content)
    }

    /// Removes a file's name; `durably` if it must not come back after a power cut.
    pub(super) fn remove(&self, target: &Path, durably: bool) -> Result<()> {
        self.disk.unlink(target).map_err(|error| DiskError::new("remove", target, error))?;
        if durably { self.sync_folder_of(target) } else { Ok(()) }
    }

    /// Makes the folders `names` in `parent`, where they are not there yet.
    pub(super) fn make_folders(&self, parent: &Path, names: impl IntoIterator<Item: AsRef<Path>>) -> Result<()> {
        for name in names {
            let path = parent.join(name);
            match self.disk.make_folder(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(DiskError::new("create folder", &path, error));
                }
                _ => {}
            }
        }
        self.sync_folder(parent)
    }

    /// Makes a folder and those above it; each that is new is durable in the one above.
    pub(super) fn make_folder_and_parents(&self, path: &Path) -> Result<()> {
        let missing: Vec<&Path> = path.ancestors().take_while(|folder| !is_folder(folder)).collect();
        for folder in missing.into_iter().rev() {
            self.make_folders(parent(folder), [folder.file_name().unwrap_or_default()])?;
        }
        Ok(())
    }

    /// Writes and syncs a temporary beside the target; leaves none behind if that fails.
    fn write_temporary(&self, target: &Path, content: &[u8]) -> Result<Temporary> {
        let path = temporary_path(target);
        let temporary = self.disk.open_new(path).map_err(|error| DiskError::new("create", target, error))?;
        match self.fill(&temporary, content) {
            Ok(()) => Ok(temporary),
            Err(error) => {
                self.discard(&temporary.path);
                Err(error)
            }
        }
    }

    fn fill(&self, temporary: &Temporary, content: &[u8]) -> Result<()> {
        let failed = |act| move |error| DiskError::new(act, &temporary.path, error);
        self.disk.write(temporary, content).map_err(failed("write"))?;
        match self.disk.protect(temporary) {
            // Some file systems have no modes.
            Err(error) if !is_unsupported(&error) && errno(&error) != Some(Errno::PERM) => {
                return Err(failed("protect")(error));
            }
            _ => {}
        }
        self.sync(&temporary.file, &temporary.path)
    }

    /// Gives the temporary its name; if that is taken, compares.
    fn name(&self, temporary: &Path, target: &Path, content: &[u8]) -> Result<Written> {
        let named = match self.disk.rename_new(temporary, target) {
            Err(error) if is_unsupported(&error) => {
                let linked = self.disk.link(temporary, target);
                self.discard(temporary);
                linked
            }
            Err(error) => {
                self.discard(temporary);
                Err(error)
            }
            Ok(()) => Ok(()),
        };
        match named {
            Ok(()) => self.sync_folder_of(target).map(|()| Written::Durable),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.compare(target, content),
            Err(error) => Err(DiskError::new("name", target, error)),
        }
    }

    /// Compares an existing file with what it should hold. If equal, it is synced: who wrote it may have been stopped
    /// before.
    fn compare(&self, target: &Path, content: &[u8]) -> Result<Written> {
        let failed = |error| DiskError::new("compare", target, error);
        let file = read::open(target).map_err(failed)?;
        if !read::equals(&file, content).map_err(failed)? {
            return Ok(Written::Different);
        }
        self.sync(&file, target)?;
        self.sync_folder_of(target)?;
        Ok(Written::Durable)
    }

    fn sync(&self, file: &File, path: &Path) -> Result<()> {
        if sabotage::NO_FILE_SYNC.is_on() {
            return Ok(());
        }
        self.synced(self.disk.sync(file, path), path)
    }

    fn sync_folder_of(&self, target: &Path) -> Result<()> {
        self.sync_folder(parent(target))
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        if sabotage::NO_FOLDER_SYNC.is_on() {
            return Ok(());
        }
        self.synced(self.disk.sync_folder(folder), folder)
    }

    /// A file system that knows no syncing is told of once and then accepted; `Properties::durable` says so.
    fn synced(&self, answer: io::Result<()>, path: &Path) -> Result<()> {
        match answer {
            Err(error) if is_unsupported(&error) => {
                if !self.cannot_sync.swap(true, Ordering::Relaxed) {
                    tracing::warn!(path = %path.display(), %error, "file system cannot sync: a power cut may lose data");
                }
                Ok(())
            }
            answer => answer.map_err(|error| DiskError::new("sync", path, error)),
        }
    }

    /// A temporary that stays is harmless: lists leave it out, and prune removes it when it is old.
    fn discard(&self, temporary: &Path) {
        if let Err(error) = self.disk.unlink(temporary) {
            tracing::debug!(path = %temporary.display(), %error, "temporary stays");
        }
    }
}

/// `.<name>.tmp-<random>` in the target's folder.
fn temporary_path(target: &Path) -> PathBuf {
    let mut random = [0; 8];
    SystemClock.fill_random(&mut random);
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let mut temporary = format!(".{name}{TEMPORARY_INFIX}");
    write!(temporary, "{:016x}", u64::from_le_bytes(random)).expect("a text takes any text");
    target.with_file_name(temporary)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn is_folder(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.is_dir()
}

fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(errno(error), Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
}
