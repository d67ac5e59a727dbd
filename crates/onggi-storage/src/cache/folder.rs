//! The folder of one repository in the cache: entries come and go whole, and whatever fails there is only counted.

use super::{
    CacheStatistics,
    entry::Key,
    order::{ENTRIES_MAX, Order},
};
use crate::{Clock, FileId, FileType, blocking, storage::within};
use bytes::Bytes;
use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    ops::Range,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// What marks a folder as a cache for all programs that care.
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This is a cache of onggi. It can be removed at any time; it is only faster to keep it.\n\
    # For information about cache directory tags see https://bford.info/cachedir/\n";

/// The types that have entries.
const CACHED: [FileType; 3] = [FileType::Snapshot, FileType::Index, FileType::Pack];

/// A temporary that is older was left behind.
const TEMPORARY_AGE_MAX: Duration = Duration::from_hours(24);

#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    path: PathBuf,
    bytes_max: u64,
    clock: Arc<dyn Clock>,
    /// `None` until the folder was looked through.
    order: Mutex<Option<Order>>,
    is_broken: AtomicBool,
    hits: AtomicU64,
    misses: AtomicU64,
    mismatches: AtomicU64,
    failures: AtomicU64,
}

/// What the cache has of a read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All of it.
    Bytes(Bytes),
    /// The whole file, which has this size and ends before the range does.
    Shorter(u64),
    /// It must be read from the storage.
    Nothing,
}

impl Folder {
    pub(super) fn new(root: &Path, repository: FileId, bytes_max: u64, clock: Arc<dyn Clock>) -> Self {
        Self {
            root: root.into(),
            path: root.join(repository.to_string()),
            bytes_max,
            clock,
            order: Mutex::new(None),
            is_broken: AtomicBool::new(false),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            mismatches: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    pub(super) fn statistics(&self) -> CacheStatistics {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStatistics {
            hits: count(&self.hits),
            misses: count(&self.misses),
            mismatches: count(&self.mismatches),
            failures: count(&self.failures),
            bytes: self.order.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, Order::bytes),
        }
    }

    /// Looks for a range of a file, or all of it.
    pub(super) async fn load(self: &Arc<Self>, whole: Key, range: Option<Range<u64>>) -> Found {
        let folder = self.clone();
        let found = blocking::run(move || folder.find(&whole, range.as_ref())).await.unwrap_or(Found::Nothing);
        let counter = if found == Found::Nothing { &self.misses } else { &self.hits };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Keeps an entry, if its content is what its name says.
    pub(super) async fn store(self: &Arc<Self>, key: Key, content: Bytes) {
        if self.is_broken.load(Ordering::Relaxed) || content.len() as u64 > self.bytes_max / 2 {
            return;
        }
        let folder = self.clone();
        blocking::run(move || folder.keep(key, &content)).await.ok();
    }

    /// Drops the entries of a file.
    pub(super) fn forget(&self, file_type: FileType, id: FileId) {
        let keys = self.order().keys_of(file_type, id);
        for key in &keys {
            self.drop_entry(key);
        }
    }

    /// The files of a type that have entries.
    pub(super) fn ids(&self, file_type: FileType) -> BTreeSet<FileId> {
        self.order().ids(file_type)
    }

    fn find(&self, whole: &Key, range: Option<&Range<u64>>) -> Found {
        match self.find_in_whole(whole, range) {
            Found::Nothing => {}
            found => return found,
        }
        let part = range.map(|range| whole.part(range));
        part.and_then(|part| self.load_checked(&part)).map_or(Found::Nothing, Found::Bytes)
    }

    fn find_in_whole(&self, whole: &Key, range: Option<&Range<u64>>) -> Found {
        let range_of_pack = range.filter(|_| whole.file_type == FileType::Pack);
        if let Some(found) = range_of_pack.and_then(|range| self.find_in_verified(whole, range)) {
            return found;
        }
        let Some(content) = self.load_checked(whole) else { return Found::Nothing };
        let size = content.len() as u64;
        match within(&crate::Handle::new(whole.file_type, whole.id), range.cloned(), size) {
            Ok(range) => Found::Bytes(content.slice(range.start as usize..range.end as usize)),
            Err(_) => Found::Shorter(size),
        }
    }

    /// A range of a pack that this process has checked as a whole: only the range is read. Its reader checks it again.
    fn find_in_verified(&self, whole: &Key, range: &Range<u64>) -> Option<Found> {
        self.order().touch(whole).filter(|entry| entry.is_verified)?;
        let read = || -> io::Result<Bytes> {
            let file = File::open(self.path_of(whole))?;
            let size = file.metadata()?.len();
            let length = if range.start <= range.end && range.end <= size { range.end - range.start } else { 0 };
            let mut content = vec![0; usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?];
            file.read_exact_at(&mut content, range.start)?;
            Ok(content.into())
        };
        match read() {
            Ok(content) if content.len() as u64 == range.end.saturating_sub(range.start) => Some(Found::Bytes(content)),
            // Past the end, or the entry has shrunk: the whole tells which.
            Ok(_) => None,
            Err(error) => {
                self.failed("read", whole, &error);
                None
            }
        }
    }

    /// An entry's content, if it is there and proves right.
    fn load_checked(&self, key: &Key) -> Option<Bytes> {
        let entry = self.order().touch(key)?;
        let path = self.path_of(key);
        let stored = match fs::read(&path) {
            Ok(stored) => stored,
            Err(error) => {
                self.failed("read", key, &error);
                return None;
            }
        };
        let Some(content) = key.open(stored.into()) else {
            self.mismatches.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(path = %path.display(), "cached file is damaged and dropped");
            self.drop_entry(key);
            return None;
        };
        if entry.is_first {
            self.mark_used(&path);
        }
        self.order().set_verified(key);
        Some(content)
    }

    fn keep(&self, key: Key, content: &Bytes) {
        let Some(head) = key.head(content) else { return };
        if let Err(error) = self.write(&key, &head, content) {
            // A full or read-only disk stays so: one message, and no more attempts.
            self.is_broken.store(true, Ordering::Relaxed);
            self.failed("write", &key, &error);
            return;
        }
        let mut order = self.order();
        order.add(key, (head.len() + content.len()) as u64);
        let evicted = order.evict(self.bytes_max, ENTRIES_MAX);
        drop(order);
        for key in &evicted {
            self.unlink(key);
        }
    }

    /// Writes beside and renames. It need not survive a power cut: what is torn does not prove right.
    fn write(&self, key: &Key, head: &[u8], content: &[u8]) -> io::Result<()> {
        let path = self.path_of(key);
        let parent = path.parent().expect("an entry lies in a folder");
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        let mut random = [0; 8];
        self.clock.fill_random(&mut random);
        let temporary = parent.join(format!(".tmp-{:016x}", u64::from_le_bytes(random)));
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(head)?;
            file.write_all(content)?;
            file.set_modified(SystemTime::from(self.clock.now()))?;
            fs::rename(&temporary, &path)
        };
        write().inspect_err(|_| fs::remove_file(&temporary).unwrap_or_default())
    }

    fn drop_entry(&self, key: &Key) {
        self.order().remove(key);
        self.unlink(key);
    }

    fn unlink(&self, key: &Key) {
        if let Err(error) = fs::remove_file(self.path_of(key)) {
            tracing::debug!(path = %self.path_of(key).display(), %error, "cached file stays");
        }
    }

    /// An entry that cannot be used is out of the order; another process may have removed it.
    fn failed(&self, act: &str, key: &Key, error: &io::Error) {
        self.order().remove(key);
        if error.kind() != io::ErrorKind::NotFound {
            self.failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(act, path = %self.path_of(key).display(), %error, "cache cannot be used");
        }
    }

    /// Remembers the use for the next process, as the file's time.
    fn mark_used(&self, path: &Path) {
        if let Ok(file) = File::options().append(true).open(path) {
            file.set_modified(SystemTime::from(self.clock.now())).unwrap_or_default();
        }
    }

    fn path_of(&self, key: &Key) -> PathBuf {
        self.path.join(key.path())
    }

    /// The order, after the folder was looked through the first time it is needed.
    fn order(&self) -> OrderGuard<'_> {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if order.is_none() {
            *order = Some(self.look_through());
        }
        OrderGuard(order)
    }

    fn look_through(&self) -> Order {
        if let Err(error) = self.tag() {
            tracing::warn!(path = %self.root.display(), %error, "cache cannot be used");
            self.failures.fetch_add(1, Ordering::Relaxed);
            self.is_broken.store(true, Ordering::Relaxed);
        }
        let mut found = Vec::new();
        for file_type in CACHED {
            for shard in names(&self.path.join(file_type.folder())) {
                for entry in names(&shard) {
                    found.extend(self.look_at(file_type, &entry));
                }
            }
        }
        found.sort_unstable_by_key(|(modified_at, ..)| *modified_at);
        let mut order = Order::default();
        for (_, key, bytes) in found {
            order.add(key, bytes);
        }
        for key in order.evict(self.bytes_max, ENTRIES_MAX) {
            self.unlink(&key);
        }
        order
    }

    fn look_at(&self, file_type: FileType, path: &Path) -> Option<(SystemTime, Key, u64)> {
        let metadata = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
        let modified_at = metadata.modified().ok()?;
        let name = path.file_name()?.to_str()?;
        let now = SystemTime::from(self.clock.now());
        if name.starts_with(".tmp-") && now.duration_since(modified_at).is_ok_and(|age| age > TEMPORARY_AGE_MAX) {
            fs::remove_file(path).unwrap_or_default();
        }
        Some((modified_at, Key::from_name(file_type, name)?, metadata.len()))
    }

    /// Makes the folder and marks it as a cache.
    fn tag(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        match OpenOptions::new().write(true).create_new(true).open(self.root.join("CACHEDIR.TAG")) {
            Ok(mut tag) => tag.write_all(CACHEDIR_TAG.as_bytes()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What a folder has; nothing if it cannot be read.
fn names(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

/// The order, which is there once it was asked for.
struct OrderGuard<'a>(MutexGuard<'a, Option<Order>>);

impl std::ops::Deref for OrderGuard<'_> {
    type Target = Order;

    fn deref(&self) -> &Order {
        self.0.as_ref().expect("looked through when it was locked")
    }
}

impl std::ops::DerefMut for OrderGuard<'_> {
    fn deref_mut(&mut self) -> &mut Order {
        self.0.as_mut().expect("looked through when it was locked")
    }
}
