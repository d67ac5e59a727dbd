//! The calls to the file system that the durability protocol is made of, behind a trait: a test sees their order and
//! makes each of them fail.

use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use std::{
    fmt,
    fs::File,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// A file that is being written, and where.
#[derive(Debug)]
pub(super) struct Temporary {
    pub path: PathBuf,
    pub file: File,
}

/// The steps of the protocol, one system call each (but for `write`, which repeats short and interrupted ones).
pub(super) trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file that must not be there yet; never follows a link.
    fn open_new(&self, path: PathBuf) -> io::Result<Temporary>;
    /// Writes all of it.
    fn write(&self, temporary: &Temporary, content: &[u8]) -> io::Result<()>;
    /// Takes the right to write away from everybody.
    fn protect(&self, temporary: &Temporary) -> io::Result<()>;
    /// Returns when the bytes are on the medium.
    fn sync(&self, file: &File, path: &Path) -> io::Result<()>;
    /// Gives the file its name, unless that is taken.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives the file a second name, unless that is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Makes one folder that only its owner can enter.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Returns when the names in a folder are on the medium.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// The kernel.
#[derive(Debug)]
pub(super) struct Kernel;

impl Disk for Kernel {
    fn open_new(&self, path: PathBuf) -> io::Result<Temporary> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?.into();
        Ok(Temporary { path, file })
    }

    fn write(&self, temporary: &Temporary, content: &[u8]) -> io::Result<()> {
        (&temporary.file).write_all(content)
    }

    fn protect(&self, temporary: &Temporary) -> io::Result<()> {
        temporary.file.set_permissions(PermissionsExt::from_mode(0o400))
    }

    fn sync(&self, file: &File, _path: &Path) -> io::Result<()> {
        file.sync_all()
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new().mode(0o700).create(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let folder = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        File::from(folder).sync_all()
    }
}
