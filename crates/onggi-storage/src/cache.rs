//! A copy near by of what is read often and never changes: snapshots, indexes and packs of trees.
//!
//! The cache is never trusted over the storage: what exists is always asked there, cached bytes are checked against
//! their SHA-256 before they are used, and what does not match is dropped, counted and read from the storage.

mod entry;
mod folder;
mod order;

#[cfg(test)]
mod tests;

use crate::{
    Advice, Clock, FileId, FileInfo, FileType, Handle, Properties, Result, Storage, blocking, storage::within,
};
use async_trait::async_trait;
use bytes::Bytes;
use entry::Key;
use folder::{Folder, Found};
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use std::{
    collections::{BTreeSet, HashSet},
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// Serves repeated reads of an inner storage from a folder of this machine.
///
/// Until [`identify`](Self::identify) has told whose files these are, everything passes through. Snapshots and indexes
/// are kept whole when they are read whole or created. Of packs only those are kept that the caller advises to
/// ([`Advice::ReadOften`]): whole ones when they are read whole or created, ranges when they are read again as such.
/// A cache that cannot be written or read costs time, never an error.
#[derive(Debug)]
pub struct Cache {
    inner: Arc<dyn Storage>,
    root: PathBuf,
    bytes_max: u64,
    clock: Arc<dyn Clock>,
    folder: OnceLock<Arc<Folder>>,
    often: Mutex<HashSet<FileId>>,
}

/// How a cache did since the program started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStatistics {
    /// Reads served from the folder.
    pub hits: u64,
    /// Reads of what is worth caching that had to ask the storage.
    pub misses: u64,
    /// Entries that were dropped because their bytes were not what they should be.
    pub mismatches: u64,
    /// Entries that could not be written or read.
    pub failures: u64,
    /// Bytes in the folder.
    pub bytes: u64,
}

impl Cache {
    /// Caches `inner` in `root/<repository id>`, with at most `bytes_max` bytes.
    pub fn new(inner: Arc<dyn Storage>, root: PathBuf, bytes_max: u64, clock: Arc<dyn Clock>) -> Self {
        Self { inner, root, bytes_max, clock, folder: OnceLock::new(), often: Mutex::default() }
    }

    /// Tells which repository the storage holds; from now on the cache is used. Only the first time counts.
    pub fn identify(&self, repository: FileId) {
        let make = || Arc::new(Folder::new(&self.root, repository, self.bytes_max, self.clock.clone()));
        self.folder.get_or_init(make);
    }

    /// Drops everything that is cached of a file.
    pub fn forget(&self, handle: &Handle) {
        if let (Some(folder), Some(id)) = (self.folder.get(), handle.id()) {
            folder.forget(handle.file_type(), id);
        }
    }

    /// How it did.
    pub fn statistics(&self) -> CacheStatistics {
        self.folder.get().map(|folder| folder.statistics()).unwrap_or_default()
    }

    /// The key of a file that is worth caching, if the cache is in use.
    fn key(&self, handle: &Handle) -> Option<(Arc<Folder>, Key)> {
        let (folder, id) = (self.folder.get()?, handle.id()?);
        let worth_it = match handle.file_type() {
            FileType::Snapshot | FileType::Index => true,
            FileType::Pack => self.is_read_often(id),
            _ => false,
        };
        worth_it.then(|| (folder.clone(), Key::whole(handle.file_type(), id)))
    }

    fn is_read_often(&self, pack: FileId) -> bool {
        self.often.lock().unwrap_or_else(PoisonError::into_inner).contains(&pack)
    }

    /// What is cached of a type when a list begins.
    async fn cached(&self, file_type: FileType) -> Option<CachedFiles> {
        let is_cached = matches!(file_type, FileType::Snapshot | FileType::Index | FileType::Pack);
        let folder = self.folder.get().filter(|_| is_cached)?.clone();
        let look = move || CachedFiles { absent: folder.ids(file_type), folder, file_type };
        blocking::run(look).await.ok()
    }

    /// The next file of a list; at its end, what was not listed is dropped.
    async fn next<'a>(&'a self, (mut files, cached): Listing<'a>) -> Option<(Result<FileInfo>, Listing<'a>)> {
        match (files.next().await, cached) {
            (Some(Ok(info)), mut cached) => {
                if let Some((cached, id)) = cached.as_mut().zip(info.handle.id()) {
                    cached.absent.remove(&id);
                }
                Some((Ok(info), (files, cached)))
            }
            // Not a list: nothing is known to be absent.
            (Some(Err(error)), _) => Some((Err(error), (files, None))),
            (None, Some(CachedFiles { folder, file_type, absent })) => {
                blocking::run(move || absent.into_iter().for_each(|id| folder.forget(file_type, id))).await.ok();
                None
            }
            (None, None) => None,
        }
    }
}

type Listing<'a> = (BoxStream<'a, Result<FileInfo>>, Option<CachedFiles>);

/// What was cached when a list began and has not been seen in it yet.
struct CachedFiles {
    folder: Arc<Folder>,
    file_type: FileType,
    absent: BTreeSet<FileId>,
}

#[async_trait]
impl Storage for Cache {
    fn properties(&self) -> Properties {
        self.inner.properties()
    }

    async fn prepare(&self) -> Result<()> {
        self.inner.prepare().await
    }

    async fn create(&self, handle: Handle, content: Bytes) -> Result<()> {
        self.inner.create(handle.clone(), content.clone()).await?;
        if let Some((folder, key)) = self.key(&handle) {
            folder.store(key, content).await;
        }
        Ok(())
    }

    async fn read(&self, handle: Handle, range: Option<Range<u64>>) -> Result<Bytes> {
        let Some((folder, whole)) = self.key(&handle) else { return self.inner.read(handle, range).await };
        match folder.load(whole.clone(), range.clone()).await {
            Found::Bytes(content) => return Ok(content),
            Found::Shorter(size) => return within(&handle, range, size).map(|_| Bytes::new()),
            Found::Nothing => {}
        }
        let content = self.inner.read(handle.clone(), range.clone()).await?;
        match range {
            None => folder.store(whole, content.clone()).await,
            Some(range) if handle.file_type() == FileType::Pack => {
                folder.store(whole.part(&range), content.clone()).await;
            }
            Some(_) => {}
        }
        Ok(content)
    }

    async fn stat(&self, handle: Handle) -> Result<FileInfo> {
        self.inner.stat(handle).await
    }

    /// A list that came to its end also drops what is cached of files that are no more.
    fn list(&self, file_type: FileType) -> BoxStream<'_, Result<FileInfo>> {
        let begin = async move { (self.inner.list(file_type), self.cached(file_type).await) };
        stream::once(begin).flat_map(|listing| stream::unfold(listing, |listing| self.next(listing))).boxed()
    }

    async fn remove(&self, handle: Handle) -> Result<()> {
        if let (Some(folder), Some(id)) = (self.folder.get().cloned(), handle.id()) {
            let file_type = handle.file_type();
            blocking::run(move || folder.forget(file_type, id)).await.ok();
        }
        self.inner.remove(handle).await
    }

    async fn remove_leftovers(&self, before: Timestamp) -> Result<u64> {
        self.inner.remove_leftovers(before).await
    }

    fn advise(&self, handle: &Handle, advice: Advice) {
        match (advice, handle) {
            (Advice::ReadOften, Handle::File(FileType::Pack, id)) => {
                self.often.lock().unwrap_or_else(PoisonError::into_inner).insert(*id);
            }
            (Advice::ReadOften, _) => {}
            (Advice::Doubtful, _) => self.forget(handle),
        }
        self.inner.advise(handle, advice);
    }
}
