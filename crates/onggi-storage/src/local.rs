//! A storage on a file system of this machine. A file has its name only when all its bytes are on the medium.

mod buffers;
mod disk;
mod error;
mod read;
mod write;

#[cfg(test)]
mod tests;

use crate::{FileInfo, FileType, Handle, Properties, Result, Storage, StorageError, blocking};
use async_trait::async_trait;
use buffers::Buffers;
use bytes::Bytes;
use disk::{Disk, Kernel};
use error::DiskError;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};
use write::{Writer, Written};

/// Calls that keep a disk busy without queueing for it.
const CONNECTIONS: usize = 8;

/// The folders of a new repository besides those of packs.
const FOLDERS: [FileType; 4] = [FileType::Key, FileType::Snapshot, FileType::Index, FileType::Lock];

/// Keeps files in a folder of this machine, laid out as restic does.
#[derive(Debug, Clone)]
pub struct Local {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    writer: Writer,
    buffers: Arc<Buffers>,
}

impl Local {
    /// The storage in a folder, which need not be there before `prepare`.
    pub fn new(path: PathBuf) -> Self {
        Self::on(Box::new(Kernel), path)
    }

    fn on(disk: Box<dyn Disk>, root: PathBuf) -> Self {
        Self { inner: Arc::new(Inner { root, writer: Writer::new(disk), buffers: Arc::default() }) }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.inner.root
    }

    /// Runs file system calls, which block, away from the threads that serve tasks.
    async fn blocking<T: Send + 'static>(&self, act: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = self.inner.clone();
        let answer = blocking::run(move || act(&inner)).await;
        answer.unwrap_or_else(|cancelled| Err(StorageError::Unreachable(cancelled.into())))
    }
}

#[async_trait]
impl Storage for Local {
    fn properties(&self) -> Properties {
        Properties {
            location: self.inner.root.display().to_string(),
            strong_listing: true,
            exclusive_create: true,
            durable: !self.inner.writer.cannot_sync(),
            connections: CONNECTIONS,
            is_local: true,
        }
    }

    async fn prepare(&self) -> Result<()> {
        self.blocking(Inner::prepare).await
    }

    async fn create(&self, handle: Handle, content: Bytes) -> Result<()> {
        self.blocking(move |inner| inner.create(&handle, &content)).await
    }

    async fn read(&self, handle: Handle, range: Option<Range<u64>>) -> Result<Bytes> {
        self.blocking(move |inner| read::read(&inner.root, &handle, range, &inner.buffers)).await
    }

    async fn stat(&self, handle: Handle) -> Result<FileInfo> {
        self.blocking(move |inner| read::stat(&inner.root, &handle)).await
    }

    /// Reads one folder at a time, so that a list of many packs is bounded by the largest folder.
    fn list(&self, file_type: FileType) -> BoxStream<'_, Result<FileInfo>> {
        if file_type == FileType::Config {
            return stream::once(self.blocking(Inner::list_config)).map_ok(stream_of).try_flatten().boxed();
        }
        let folders = self.blocking(move |inner| read::folders(&inner.root, file_type));
        stream::once(folders)
            .map_ok(|folders| stream::iter(folders).map(Ok))
            .try_flatten()
            .and_then(move |folder| self.blocking(move |inner| read::list(&inner.root, file_type, &folder)))
            .map_ok(stream_of)
            .try_flatten()
            .boxed()
    }

    async fn remove(&self, handle: Handle) -> Result<()> {
        self.blocking(move |inner| inner.remove(&handle)).await
    }

    async fn remove_leftovers(&self, before: Timestamp) -> Result<u64> {
        self.blocking(move |inner| inner.remove_leftovers(before)).await
    }
}

impl Inner {
    fn prepare(&self) -> Result<()> {
        let make = || {
            self.writer.make_folder_and_parents(&self.root)?;
            let folders = FOLDERS.map(FileType::folder).into_iter().chain([FileType::Pack.folder()]);
            self.writer.make_folders(&self.root, folders)?;
            let shards = (0..=u8::MAX).map(|shard| format!("{shard:02x}"));
            self.writer.make_folders(&self.root.join(FileType::Pack.folder()), shards)
        };
        make().map_err(DiskError::into_storage_error)
    }

    fn create(&self, handle: &Handle, content: &[u8]) -> Result<()> {
        let target = self.root.join(handle.path());
        let written = match self.writer.write(&target, content) {
            Err(error) if error.is_not_found() => {
                self.make_folders_below_root(handle)?;
                self.writer.write(&target, content)
            }
            written => written,
        };
        match written {
            Ok(Written::Durable) => Ok(()),
            Ok(Written::Different) => Err(StorageError::AlreadyExists(handle.clone())),
            Err(error) => Err(error.for_file(handle, &self.root)),
        }
    }

    /// Makes the folders above a file; never the root, since a place that vanished (a disk that is not mounted) must
    /// not be made anew.
    fn make_folders_below_root(&self, handle: &Handle) -> Result<()> {
        let path = handle.path();
        let folder = Path::new(&path).parent().unwrap_or(Path::new(""));
        let mut above = self.root.clone();
        for name in folder {
            let made = self.writer.make_folders(&above, [name]);
            made.map_err(|error| error.for_file(handle, &self.root))?;
            above.push(name);
        }
        Ok(())
    }

    fn list_config(&self) -> Result<Vec<FileInfo>> {
        match read::stat(&self.root, &Handle::Config) {
            Ok(info) => Ok(vec![info]),
            Err(StorageError::NotFound(_)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// A pack or lock may come back after a power cut: nothing is ordered after its removal.
    fn remove(&self, handle: &Handle) -> Result<()> {
        let durably = !matches!(handle.file_type(), FileType::Pack | FileType::Lock);
        let removed = self.writer.remove(&self.root.join(handle.path()), durably);
        removed.map_err(|error| error.for_file(handle, &self.root))
    }

    fn remove_leftovers(&self, before: Timestamp) -> Result<u64> {
        let mut removed = 0;
        for file_type in FileType::ALL {
            for folder in read::folders(&self.root, file_type)? {
                removed += read::remove_temporaries(&self.root, &folder, before)?;
            }
        }
        Ok(removed)
    }
}

fn stream_of(found: Vec<FileInfo>) -> impl futures::Stream<Item = Result<FileInfo>> {
    stream::iter(found).map(Ok)
}
