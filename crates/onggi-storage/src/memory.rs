//! A storage in memory: the fake that tests and simulations stand on, and the shortest model of what a storage does.

use crate::{Clock, FileInfo, FileType, Handle, Properties, Result, Storage, StorageError, storage::within};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Keeps files in memory; clones share them.
#[derive(Clone)]
pub struct Memory {
    /// `None` while the place was not prepared.
    folders: Arc<Mutex<Option<Folders>>>,
    clock: Option<Arc<dyn Clock>>,
    is_local: bool,
}

type Folders = BTreeMap<FileType, BTreeMap<Handle, File>>;

struct File {
    content: Bytes,
    modified_at: Option<Timestamp>,
}

impl Memory {
    /// A place that is ready; it does not tell when files were written.
    pub fn new() -> Self {
        Self { folders: Arc::new(Mutex::new(Some(Folders::new()))), clock: None, is_local: true }
    }

    /// A place that is not there until it is prepared.
    pub fn absent() -> Self {
        Self { folders: Arc::new(Mutex::new(None)), clock: None, is_local: true }
    }

    /// The same place, which from now on notes when files are written.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The same place, which from now on says that reading from it is dear, as from a service over the network.
    #[must_use]
    pub fn far_away(mut self) -> Self {
        self.is_local = false;
        self
    }

    /// Puts content under a name, replacing what is there: what a broken disk or another program does.
    pub fn put(&self, handle: Handle, content: impl Into<Bytes>) {
        let file = self.file(content.into());
        self.lock().get_or_insert_default().entry(handle.file_type()).or_default().insert(handle, file);
    }

    /// An independent copy of the present content: what a copy of a disk would hold.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self { folders: Arc::default(), ..self.clone() };
        let ours = self.lock();
        *copy.lock() = ours.as_ref().map(|folders| {
            let files = |files: &BTreeMap<Handle, File>| {
                let file = |(handle, file): (&Handle, &File)| {
                    (handle.clone(), File { content: file.content.clone(), modified_at: file.modified_at })
                };
                files.iter().map(file).collect()
            };
            folders.iter().map(|(file_type, folder)| (*file_type, files(folder))).collect()
        });
        drop(ours);
        copy
    }

    /// Every file, in order of type and name.
    pub fn files(&self) -> Vec<(Handle, Bytes)> {
        let folders = self.lock();
        let files = folders.iter().flat_map(BTreeMap::values).flatten();
        files.map(|(handle, file)| (handle.clone(), file.content.clone())).collect()
    }

    fn file(&self, content: Bytes) -> File {
        File { content, modified_at: self.clock.as_ref().map(|clock| clock.now()) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Folders>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `act` on the folder of a type; `NoPlace` if the place is not there.
    fn with<T>(&self, file_type: FileType, act: impl FnOnce(&mut BTreeMap<Handle, File>) -> Result<T>) -> Result<T> {
        let mut folders = self.lock();
        let folders = folders.as_mut().ok_or_else(|| StorageError::NoPlace("memory".into()))?;
        act(folders.entry(file_type).or_default())
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.lock().as_ref().map(|folders| folders.values().map(BTreeMap::len).sum::<usize>());
        f.debug_struct("Memory").field("files", &files).finish_non_exhaustive()
    }
}

#[async_trait]
impl Storage for Memory {
    fn properties(&self) -> Properties {
        Properties {
            location: "memory".into(),
            strong_listing: true,
            exclusive_create: true,
            durable: false,
            connections: 8,
            is_local: self.is_local,
        }
    }

    async fn prepare(&self) -> Result<()> {
        self.lock().get_or_insert_default();
        Ok(())
    }

    async fn create(&self, handle: Handle, content: Bytes) -> Result<()> {
        let new = self.file(content);
        self.with(handle.file_type(), |files| match files.get(&handle) {
            Some(file) if file.content == new.content => Ok(()),
            Some(_) => Err(StorageError::AlreadyExists(handle)),
            None => {
                files.insert(handle, new);
                Ok(())
            }
        })
    }

    async fn read(&self, handle: Handle, range: Option<Range<u64>>) -> Result<Bytes> {
        self.with(handle.file_type(), |files| {
            let Some(file) = files.get(&handle) else { return Err(StorageError::NotFound(handle)) };
            let range = within(&handle, range, file.content.len() as u64)?;
            Ok(file.content.slice(range.start as usize..range.end as usize))
        })
    }

    async fn stat(&self, handle: Handle) -> Result<FileInfo> {
        self.with(handle.file_type(), |files| match files.get(&handle) {
            Some(file) => Ok(info(&handle, file)),
            None => Err(StorageError::NotFound(handle)),
        })
    }

    fn list(&self, file_type: FileType) -> BoxStream<'_, Result<FileInfo>> {
        let found =
            self.with(file_type, |files| Ok(files.iter().map(|(handle, file)| Ok(info(handle, file))).collect()));
        stream::iter(found.unwrap_or_else(|error| vec![Err(error)])).boxed()
    }

    async fn remove(&self, handle: Handle) -> Result<()> {
        self.with(handle.file_type(), |files| match files.remove(&handle) {
            Some(_) => Ok(()),
            None => Err(StorageError::NotFound(handle)),
        })
    }
}

fn info(handle: &Handle, file: &File) -> FileInfo {
    FileInfo { handle: handle.clone(), size: file.content.len() as u64, modified_at: file.modified_at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FileId, clock::TestClock, conformance};

    #[tokio::test]
    async fn memory_is_a_storage() {
        conformance::check(&Memory::new()).await;
        conformance::check_absent(&Memory::absent()).await;
    }

    #[tokio::test]
    async fn a_copy_does_not_follow_the_original() {
        let (one, handle) = (Memory::new(), Handle::new(FileType::Key, FileId([1; 32])));
        one.create(handle.clone(), "a".into()).await.unwrap();
        let two = one.copy();
        one.put(handle.clone(), "b");
        assert_eq!((one.files(), two.files()), (vec![(handle.clone(), "b".into())], vec![(handle, "a".into())]));
    }

    #[tokio::test]
    async fn the_clock_stamps_files() {
        let clock = Arc::new(TestClock::new(1));
        let memory = Memory::new().with_clock(clock.clone());
        memory.create(Handle::Config, "a".into()).await.unwrap();
        assert_eq!(memory.stat(Handle::Config).await.unwrap().modified_at, Some(clock.now()));
    }
}
