//! The directory that a restore writes into, held as a descriptor: every path is a list of components that is walked
//! below it without following a link, so that nothing outside can be reached whatever the snapshot or the directory
//! holds (`docs/concepts/restore.md`).
//!
//! Nothing is written under its final name before it is whole: files, links and special files are made under a
//! temporary name and renamed, which replaces what stood there instead of following or opening it.

use super::confine;
use super::open::{OpenDirectories, SHORT};
use onggi_source::TreePath;
use rustix::fd::OwnedFd;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// How directories are opened: to be listed, written into and given metadata, never through a link.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory that nothing can be written outside of.
#[derive(Debug)]
pub struct Destination {
    root: Arc<OwnedFd>,
    /// Whether the kernel lacks `openat2`, so that paths are walked one component at a time.
    by_component: AtomicBool,
    open: Mutex<OpenDirectories>,
    /// Makes temporary names of this restore differ; their random part makes them differ from those of others.
    sequence: AtomicU64,
    tag: u64,
}

/// A file under a temporary name. Dropping it unfinished removes it.
#[derive(Debug)]
pub struct NewFile {
    directory: Arc<OwnedFd>,
    temporary: String,
    file: OwnedFd,
    is_finished: bool,
}

/// What stands at a place already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Existing {
    /// What it is; a symbolic link is not followed.
    pub file_type: FileType,
    /// Its length in bytes.
    pub size: u64,
    /// Its modification time: seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
}

impl Destination {
    /// Opens the directory, which must be there. `tag` is random, so that two restores at once do not collide.
    pub fn open(path: &Path, tag: u64) -> Result<Self, Errno> {
        let root = fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self {
            root: Arc::new(root),
            by_component: AtomicBool::new(false),
            open: Mutex::default(),
            sequence: AtomicU64::new(0),
            tag,
        })
    }

    /// Keeps the calling thread from writing anywhere else, for good. A kernel without Landlock does not; then this is the
    /// only wall.
    pub fn confine(&self) {
        if !confine::to(&self.root) {
            tracing::debug!("the kernel does not keep a restore from writing elsewhere");
        }
    }

    /// Whether nothing is in it. What cannot be listed is not empty.
    pub fn is_empty(&self) -> bool {
        let Ok(entries) = fs::Dir::read_from(&self.root) else { return false };
        entries.into_iter().all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")))
    }

    /// Opens a directory below the root; `ELOOP` or `ENOTDIR` where a component is a link or no directory.
    pub fn directory(&self, path: &TreePath) -> Result<Arc<OwnedFd>, Errno> {
        if path.is_root() {
            return Ok(self.root.clone());
        }
        let nearest = self.cached().nearest(path.as_bytes());
        match nearest {
            Some((length, open)) if length == path.as_bytes().len() => Ok(open),
            Some((length, open)) => self.walk(path, length, open),
            None => self.walk_from_root(path),
        }
    }

    /// What stands at a path; `None` where nothing does.
    pub fn existing(&self, path: &TreePath) -> Result<Option<Existing>, Errno> {
        let (parent, name) = self.place(path)?;
        match fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Existing {
                file_type: FileType::from_raw_mode(stat.st_mode),
                size: u64::try_from(stat.st_size).unwrap_or(0),
                mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a directory, private until its metadata is set. One that is there stays; anything else that stands there
    /// is removed first.
    pub fn make_directory(&self, path: &TreePath) -> Result<(), Errno> {
        let (parent, name) = self.place(path)?;
        match fs::mkdirat(&parent, name, Mode::RWXU) {
            Err(Errno::EXIST) => {}
            done => return done,
        }
        let stat = fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(());
        }
        fs::unlinkat(&parent, name, AtFlags::empty())?;
        fs::mkdirat(&parent, name, Mode::RWXU)
    }

    /// Opens what stands at a path for reading, if it is a regular file.
    pub fn open_file(&self, path: &TreePath) -> Result<OwnedFd, Errno> {
        let (parent, name) = self.place(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(&parent, name, flags, Mode::empty())?;
        match FileType::from_raw_mode(fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(file),
            _ => Err(Errno::INVAL),
        }
    }

    /// Makes a file under a temporary name beside the place it is meant for.
    pub fn create_file(&self, path: &TreePath) -> Result<NewFile, Errno> {
        let (directory, _) = self.place(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let temporary = self.temporary();
        let file = fs::openat(&directory, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(NewFile { directory, temporary, file, is_finished: false })
    }

    /// Makes a symbolic link, replacing what stands there.
    pub fn symlink(&self, path: &TreePath, target: &[u8]) -> Result<(), Errno> {
        self.replace(path, |parent, temporary| fs::symlinkat(target, parent, temporary))
    }

    /// Makes a further name of a file that was restored, replacing what stands there.
    pub fn hard_link(&self, path: &TreePath, to: &TreePath) -> Result<(), Errno> {
        let (other, name) = self.place(to)?;
        self.replace(path, |parent, temporary| fs::linkat(&other, name, parent, temporary, AtFlags::empty()))
    }

    /// Makes a named pipe or device, replacing what stands there. `device` is its number, 0 for a pipe.
    pub fn special(&self, path: &TreePath, file_type: FileType, device: u64) -> Result<(), Errno> {
        self.replace(path, |parent, temporary| {
            fs::mknodat(parent, temporary, file_type, Mode::RUSR | Mode::WUSR, device)
        })
    }

    /// A path's directory, open, and its name in it. The root itself has no place: `EINVAL`.
    pub fn place<'a>(&self, path: &'a TreePath) -> Result<(Arc<OwnedFd>, &'a [u8]), Errno> {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else { return Err(Errno::INVAL) };
        Ok((self.directory(&parent)?, name))
    }

    /// Makes something under a temporary name and renames it.
    fn replace(&self, path: &TreePath, make: impl FnOnce(&OwnedFd, &str) -> Result<(), Errno>) -> Result<(), Errno> {
        let (parent, name) = self.place(path)?;
        let temporary = self.temporary();
        make(&parent, &temporary)?;
        let renamed = fs::renameat(&parent, &*temporary, &parent, name);
        // A rename that failed leaves the temporary name; so does one between two names of one file, which does nothing.
        match fs::unlinkat(&parent, &*temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => renamed,
            Err(error) => renamed.and(Err(error)),
        }
    }

    fn temporary(&self) -> String {
        format!(".onggi-restore-{:016x}-{:x}", self.tag, self.sequence.fetch_add(1, Relaxed))
    }

    /// In one call where the kernel can.
    fn walk_from_root(&self, path: &TreePath) -> Result<Arc<OwnedFd>, Errno> {
        let depth = path.components().count();
        if depth <= SHORT && !self.by_component.load(Relaxed) {
            let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            if crate::sabotage::SYMLINK_FOLLOWED.is_on() {
                resolve = ResolveFlags::empty();
            }
            match fs::openat2(&self.root, path.as_bytes(), DIRECTORY, Mode::empty(), resolve) {
                // Kernels before 5.6, and sandboxes that forbid the call. A path beyond PATH_MAX is walked too.
                Err(Errno::NOSYS | Errno::PERM) => self.by_component.store(true, Relaxed),
                Err(Errno::NAMETOOLONG) => {}
                done => {
                    let directory = Arc::new(done?);
                    self.cached().keep(path.as_bytes(), (depth, depth), &directory);
                    return Ok(directory);
                }
            }
        }
        self.walk(path, 0, self.root.clone())
    }

    /// Component by component, from the open directory at the first `length` bytes of the path.
    fn walk(&self, path: &TreePath, length: usize, mut directory: Arc<OwnedFd>) -> Result<Arc<OwnedFd>, Errno> {
        let bytes = path.as_bytes();
        let depth = path.components().count();
        let below = bytes[length..].split(|byte| *byte == b'/').filter(|component| !component.is_empty());
        let (mut level, mut end) = (depth - below.clone().count(), length);
        for component in below {
            directory = Arc::new(fs::openat(&directory, component, DIRECTORY, Mode::empty())?);
            level += 1;
            end += component.len() + usize::from(end > 0);
            self.cached().keep(&bytes[..end], (level, depth), &directory);
        }
        Ok(directory)
    }

    fn cached(&self) -> std::sync::MutexGuard<'_, OpenDirectories> {
        self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl NewFile {
    /// Writes all bytes at an offset. Parts that are never written are holes.
    pub fn write_at(&self, mut offset: u64, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            match rustix::io::pwrite(&self.file, bytes, offset) {
                Ok(0) => return Err(Errno::IO),
                Ok(count) => (offset, bytes) = (offset + count as u64, &bytes[count..]),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sets the length, so that a hole at the end is kept.
    pub fn set_length(&self, length: u64) -> Result<(), Errno> {
        fs::ftruncate(&self.file, length)
    }

    /// The open file, for its metadata.
    pub fn descriptor(&self) -> &OwnedFd {
        &self.file
    }

    /// Gives the file a name, replacing what stands there. A directory is not replaced: `EISDIR`.
    pub fn finish(mut self, name: &[u8]) -> Result<(), Errno> {
        fs::renameat(&self.directory, &*self.temporary, &self.directory, name)?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_finished
            && let Err(error) = fs::unlinkat(&self.directory, &*self.temporary, AtFlags::empty())
        {
            tracing::debug!(name = self.temporary, %error, "cannot remove a temporary file");
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make and look at files")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Place {
        folder: tempfile::TempDir,
        destination: Destination,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        for name in ["in", "out"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("out/secret"), "outside").unwrap();
        let destination = Destination::open(&folder.path().join("in"), 7).unwrap();
        Place { folder, destination }
    }

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    impl Place {
        fn write(&self, at: &str, content: &str) -> Result<(), Errno> {
            let at = path(at);
            let file = self.destination.create_file(&at)?;
            file.write_at(0, content.as_bytes())?;
            file.finish(at.name().unwrap())
        }

        /// Nothing outside was changed, and no temporary name is left inside.
        fn check(&self) {
            let outside: Vec<_> = std::fs::read_dir(self.folder.path().join("out")).unwrap().collect();
            assert_eq!(outside.len(), 1);
            assert_eq!(std::fs::read_to_string(self.folder.path().join("out/secret")).unwrap(), "outside");
            for entry in std::fs::read_dir(self.folder.path().join("in")).unwrap() {
                let name = entry.unwrap().file_name();
                assert!(!name.to_string_lossy().starts_with(".onggi-restore-"), "{name:?}");
            }
        }
    }

    #[test]
    fn a_file_shows_only_when_it_is_finished() {
        let place = place();
        let file = place.destination.create_file(&path("a")).unwrap();
        file.write_at(3, b"x").unwrap();
        assert_eq!(place.destination.existing(&path("a")).unwrap(), None);
        file.finish(b"a").unwrap();
        assert_eq!(std::fs::read(place.folder.path().join("in/a")).unwrap(), b"\0\0\0x");
        drop(place.destination.create_file(&path("b")).unwrap());
        place.check();
    }

    #[test]
    fn a_link_at_the_place_is_replaced_and_not_followed() {
        let place = place();
        symlink("../out/secret", place.folder.path().join("in/a")).unwrap();
        place.write("a", "inside").unwrap();
        symlink("../out", place.folder.path().join("in/d")).unwrap();
        place.destination.make_directory(&path("d")).unwrap();
        place.write("d/secret", "inside").unwrap();
        place.check();
    }

    #[test]
    fn a_link_on_the_way_is_refused() {
        for by_component in [false, true] {
            let place = place();
            place.destination.by_component.store(by_component, Relaxed);
            symlink("../out", place.folder.path().join("in/d")).unwrap();
            for error in [
                place.write("d/new", "x").unwrap_err(),
                place.destination.make_directory(&path("d/sub")).unwrap_err(),
                place.destination.symlink(&path("d/l"), b"x").unwrap_err(),
                place.destination.existing(&path("d/secret")).unwrap_err(),
            ] {
                assert!(matches!(error, Errno::LOOP | Errno::NOTDIR), "{error}");
            }
            place.check();
        }
    }

    #[test]
    fn a_link_further_up_is_refused_too() {
        for by_component in [false, true] {
            let place = place();
            place.destination.by_component.store(by_component, Relaxed);
            std::fs::create_dir_all(place.folder.path().join("deep/sub")).unwrap();
            symlink("../deep", place.folder.path().join("in/e")).unwrap();
            let error = place.destination.directory(&path("e/sub")).unwrap_err();
            assert!(matches!(error, Errno::LOOP | Errno::NOTDIR | Errno::XDEV), "{error}");
            assert!(place.write("e/sub/new", "x").is_err());
            assert!(!place.folder.path().join("deep/sub/new").exists());
            place.check();
        }
    }

    #[test]
    fn a_pipe_at_the_place_is_replaced_and_never_opened() {
        let place = place();
        place.destination.special(&path("p"), FileType::Fifo, 0).unwrap();
        assert_eq!(place.destination.open_file(&path("p")).unwrap_err(), Errno::INVAL);
        place.write("p", "inside").unwrap();
        place.check();
    }

    #[test]
    fn a_hard_link_joins_two_names_and_can_be_repeated() {
        let place = place();
        place.write("a", "one").unwrap();
        for _ in 0..2 {
            place.destination.hard_link(&path("b"), &path("a")).unwrap();
        }
        let inode =
            |name| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(place.folder.path().join(name)).unwrap());
        assert_eq!(inode("in/a"), inode("in/b"));
        place.check();
    }

    #[test]
    fn a_directory_is_not_replaced_by_a_file() {
        let place = place();
        place.destination.make_directory(&path("d")).unwrap();
        assert_eq!(place.write("d", "x").unwrap_err(), Errno::ISDIR);
        place.check();
    }

    #[test]
    fn a_path_beyond_the_kernels_limit_is_walked() {
        let place = place();
        let mut deep = TreePath::root();
        for _ in 0..300 {
            deep = deep.join("d".repeat(200)).unwrap();
            place.destination.make_directory(&deep).unwrap();
        }
        let file = deep.join("f").unwrap();
        place.destination.create_file(&file).unwrap().finish(b"f").unwrap();
        assert!(place.destination.existing(&file).unwrap().is_some());
    }
}
