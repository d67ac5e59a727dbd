//! A repository on another machine that offers SFTP.
//!
//! One SSH connection carries all calls, many at once, each with many packets in flight. A connection that broke fails
//! the calls which it carried; the next call makes a new one. A file gets its name after its bytes are synced, where
//! the server can sync; where it cannot, [`Properties::durable`] says so.

mod error;
mod folder;
mod link;
mod options;
mod write;

pub use folder::{PlainFile, PlainFolder};
pub use options::SftpOptions;

use crate::{FileInfo, FileType, Handle, Properties, Result, Storage, StorageError, storage::within};
use async_trait::async_trait;
use bytes::Bytes;
use error::RequestError;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use jiff::Timestamp;
use link::Link;
use russh_sftp::protocol::{FileAttributes, OpenFlags};
use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{Mutex, Semaphore};

/// Calls at once; each holds at most two of the server's handles (it has about a hundred for a session).
const CALLS_MAX: usize = 16;
/// Folders of packs that are listed at once.
const FOLDERS_AT_ONCE: usize = 8;
const CONNECTIONS: usize = 8;
/// No file of a repository is larger.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// A folder on another machine.
pub struct Sftp {
    options: SftpOptions,
    root: String,
    location: String,
    link: Mutex<Option<Arc<Link>>>,
    calls: Semaphore,
    can_sync: AtomicBool,
    /// Names are given by links.
    links: AtomicBool,
}

impl Sftp {
    /// Connects and logs in. The folder need not be there yet.
    ///
    /// # Errors
    /// `Address` names an option that is wrong; `Identity` says why the host is not trusted and what to do; `Denied`
    /// tells what was offered to it in vain; `Unreachable`.
    pub async fn open(options: SftpOptions) -> Result<Self> {
        let storage = Self {
            location: options.location()?,
            root: options.root(),
            options,
            link: Mutex::new(None),
            calls: Semaphore::new(CALLS_MAX),
            can_sync: AtomicBool::new(false),
            links: AtomicBool::new(false),
        };
        storage.link().await?;
        Ok(storage)
    }

    /// The connection, made anew if the last one broke.
    async fn link(&self) -> Result<Arc<Link>> {
        let mut current = self.link.lock().await;
        if let Some(link) = current.as_ref().filter(|link| !link.is_lost()) {
            return Ok(link.clone());
        }
        *current = None;
        let link = Arc::new(Link::open(&self.options).await?);
        self.can_sync.store(link.can_sync(), Ordering::Relaxed);
        self.links.store(link.can_link(), Ordering::Relaxed);
        *current = Some(link.clone());
        Ok(link)
    }

    /// Runs a call when its turn has come.
    async fn call<T>(&self, act: impl AsyncFnOnce(&Link) -> Result<T>) -> Result<T> {
        let _turn = self.calls.acquire().await.expect("the semaphore is never closed");
        let link = self.link().await?;
        act(&link).await
    }

    fn path(&self, below: &str) -> String {
        match below {
            "" if self.root.is_empty() => "/".into(),
            "" => self.root.clone(),
            _ => format!("{}/{below}", self.root),
        }
    }

    /// `NotFound`, or `NoPlace` if it is the whole folder that is missing.
    async fn absent(&self, link: &Link, error: StorageError) -> StorageError {
        match &error {
            StorageError::NotFound(_) => match link.stat(&self.path("")).await {
                Err(failed) if failed.is_not_found() => StorageError::NoPlace(self.location.clone()),
                _ => error,
            },
            _ => error,
        }
    }

    async fn named<T>(&self, link: &Link, handle: &Handle, result: Result<T, RequestError>) -> Result<T> {
        match result {
            Ok(value) => Ok(value),
            Err(error) => Err(self.absent(link, error.into_storage(handle)).await),
        }
    }

    async fn fetch(&self, link: &Link, handle: &Handle, range: Option<Range<u64>>) -> Result<Bytes> {
        let path = self.path(&handle.path());
        let opened = link.open_file(&path, OpenFlags::READ).await;
        let file = self.named(link, handle, opened).await?;
        let failed = |error: RequestError| error.into_storage(handle);
        // The file's size is asked for only where the range does not bound the answer.
        let range = match range {
            Some(range) if !range.is_empty() && range.end - range.start <= FILE_BYTES_MAX => range,
            range => within(handle, range, file.size().await.map_err(failed)?)?,
        };
        if range.end - range.start > FILE_BYTES_MAX {
            return Err(StorageError::Faulty(format!("{handle} is larger than a file of a repository").into()));
        }
        let content = file.read(range.clone()).await.map_err(failed)?;
        if (content.len() as u64) < range.end - range.start {
            return Err(StorageError::Short(handle.clone(), range.end));
        }
        Ok(content.into())
    }

    /// The files of one folder; none if it is not there.
    async fn folder(&self, file_type: FileType, folder: String) -> Result<Vec<FileInfo>> {
        self.call(async |link: &Link| {
            let names = self.names(link, &folder).await?;
            let file = |(name, found): (String, FileAttributes)| {
                let handle = Handle::from_name(file_type, &name)?;
                let is_ours = handle.path() == format!("{folder}/{name}") && found.is_regular();
                is_ours.then(|| info(handle, &found)).flatten()
            };
            Ok(names.into_iter().filter_map(file).collect())
        })
        .await
    }

    async fn names(&self, link: &Link, folder: &str) -> Result<Vec<(String, FileAttributes)>> {
        match link.names(&self.path(folder)).await {
            Ok(names) => Ok(names.into_iter().collect()),
            // Any handle does: only whether the place is there counts.
            Err(error) => match self.absent(link, error.into_storage(&Handle::Config)).await {
                StorageError::NotFound(_) => Ok(Vec::new()),
                error => Err(error),
            },
        }
    }

    /// The folders in which files of the type are.
    async fn folders(&self, file_type: FileType) -> Result<Vec<String>> {
        let folder = file_type.folder();
        if file_type != FileType::Pack {
            return Ok(vec![folder.into()]);
        }
        let names = self.call(async |link: &Link| self.names(link, folder).await).await?;
        let is_shard = |name: &str| name.len() == 2 && name.bytes().all(|digit| b"0123456789abcdef".contains(&digit));
        Ok(names.into_iter().filter(|(name, _)| is_shard(name)).map(|(name, _)| format!("{folder}/{name}")).collect())
    }

    async fn config(&self) -> Result<Vec<FileInfo>> {
        match self.stat(Handle::Config).await {
            Ok(found) => Ok(vec![found]),
            Err(StorageError::NotFound(_)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Storage for Sftp {
    fn properties(&self) -> Properties {
        Properties {
            location: self.location.clone(),
            strong_listing: true,
            exclusive_create: self.links.load(Ordering::Relaxed),
            durable: self.can_sync.load(Ordering::Relaxed),
            connections: CONNECTIONS,
            is_local: false,
        }
    }

    async fn prepare(&self) -> Result<()> {
        self.call(async |link: &Link| self.make_all_folders(link).await).await
    }

    async fn create(&self, handle: Handle, content: Bytes) -> Result<()> {
        self.call(async |link: &Link| self.write(link, &handle, &content).await).await
    }

    async fn read(&self, handle: Handle, range: Option<Range<u64>>) -> Result<Bytes> {
        self.call(async |link: &Link| self.fetch(link, &handle, range).await).await
    }

    async fn stat(&self, handle: Handle) -> Result<FileInfo> {
        self.call(async |link: &Link| {
            let found = link.stat(&self.path(&handle.path())).await;
            let found = self.named(link, &handle, found).await?;
            let info = if found.is_regular() { info(handle.clone(), &found) } else { None };
            info.ok_or_else(|| StorageError::Faulty(format!("{handle} is no file with a size").into()))
        })
        .await
    }

    fn list(&self, file_type: FileType) -> BoxStream<'_, Result<FileInfo>> {
        let files = |found: Vec<FileInfo>| stream::iter(found).map(Ok);
        if file_type == FileType::Config {
            return stream::once(self.config()).map_ok(files).try_flatten().boxed();
        }
        let folders = stream::once(self.folders(file_type)).map_ok(|folders| stream::iter(folders).map(Ok));
        let found = folders.try_flatten().map_ok(move |folder| self.folder(file_type, folder));
        found.try_buffer_unordered(FOLDERS_AT_ONCE).map_ok(files).try_flatten().boxed()
    }

    async fn remove(&self, handle: Handle) -> Result<()> {
        self.call(async |link: &Link| {
            let path = self.path(&handle.path());
            let removed = link.remove(&path).await;
            self.named(link, &handle, removed).await?;
            // A pack or lock that comes back after a power cut is found and removed again.
            if !matches!(handle.file_type(), FileType::Pack | FileType::Lock) {
                self.sync_folder_of(link, &handle, &path).await?;
            }
            Ok(())
        })
        .await
    }

    async fn remove_leftovers(&self, before: Timestamp) -> Result<u64> {
        let mut removed = 0;
        for file_type in FileType::ALL {
            for folder in self.folders(file_type).await? {
                removed += self.call(async |link: &Link| self.sweep(link, &folder, before).await).await?;
            }
        }
        Ok(removed)
    }
}

/// What the server tells of a file; nothing if it does not tell the size.
fn info(handle: Handle, found: &FileAttributes) -> Option<FileInfo> {
    Some(FileInfo { handle, size: found.size?, modified_at: modified_at(found) })
}

fn modified_at(found: &FileAttributes) -> Option<Timestamp> {
    Timestamp::from_second(found.mtime?.into()).ok()
}

impl fmt::Debug for Sftp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sftp").field("location", &self.location).finish_non_exhaustive()
    }
}
