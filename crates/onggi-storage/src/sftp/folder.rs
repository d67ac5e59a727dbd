//! Plain files in a folder of another machine, under names that others gave: for trees that other tools keep, too.
//!
//! A file gets its name when all of its bytes are there. Nothing but what is named is read, replaced or removed.

use super::{
    SftpOptions,
    error::RequestError,
    link::{Link, OpenFile},
};
use crate::{Handle, Result, StorageError};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream::BoxStream};
use russh_sftp::protocol::OpenFlags;
use std::{fmt::Write as _, io, ops::Range, sync::Arc};
use tokio::sync::Mutex;

/// So much is sent at once, in bytes: several requests in flight hide the way.
const STEP_BYTES: usize = 1 << 20;
/// Random bytes at the end of a temporary's name.
const RANDOM_BYTES: usize = 8;

/// A file that lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainFile {
    /// Without its folder.
    pub name: String,
    /// Its length, in bytes.
    pub bytes: u64,
}

/// A folder of plain files. Paths are relative to it, with `/` between their parts.
pub struct PlainFolder {
    options: SftpOptions,
    root: String,
    link: Mutex<Option<Arc<Link>>>,
}

impl PlainFolder {
    /// Connects and logs in. The folder need not be there yet.
    ///
    /// # Errors
    /// As [`Sftp::open`](super::Sftp::open).
    pub async fn open(options: SftpOptions) -> Result<Self> {
        options.location()?;
        let folder = Self { root: options.root(), options, link: Mutex::new(None) };
        folder.link().await?;
        Ok(folder)
    }

    /// The connection, made anew if the last one broke.
    async fn link(&self) -> Result<Arc<Link>> {
        let mut current = self.link.lock().await;
        if let Some(link) = current.as_ref().filter(|link| !link.is_lost()) {
            return Ok(Arc::clone(link));
        }
        *current = None;
        let link = Arc::new(Link::open(&self.options).await?);
        *current = Some(Arc::clone(&link));
        Ok(link)
    }

    fn path(&self, below: &str) -> String {
        match below {
            "" if self.root.is_empty() => "/".into(),
            "" => self.root.clone(),
            _ => format!("{}/{below}", self.root),
        }
    }

    /// Writes a file, with the folders above it, and answers its length. One of this name is replaced when the new one
    /// is whole.
    ///
    /// # Errors
    /// `Faulty` when `content` fails; what was sent of it is removed.
    pub async fn put(&self, path: &str, content: BoxStream<'_, io::Result<Bytes>>) -> Result<u64> {
        let link = self.link().await?;
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.make_folders(&link, folder).await?;
        let (target, temporary) = (self.path(path), self.path(&self.temporary(folder, name)));
        let sent = match self.send(&link, &temporary, content).await {
            Ok(bytes) => self.name(&link, &temporary, &target).await.map(|()| bytes),
            Err(error) => Err(error),
        };
        if sent.is_err() {
            let removed = link.remove(&temporary).await;
            tracing::debug!(temporary, is_removed = removed.is_ok(), "a file was not sent whole");
        }
        sent
    }

    async fn send(&self, link: &Link, temporary: &str, mut content: BoxStream<'_, io::Result<Bytes>>) -> Result<u64> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
        let file = link.open_file(temporary, flags).await.map_err(|error| failed(temporary, error))?;
        let (mut at, mut held) = (0, BytesMut::new());
        while let Some(piece) = content.next().await {
            held.extend_from_slice(&piece.map_err(|error| StorageError::Faulty(Box::new(error)))?);
            if held.len() >= STEP_BYTES {
                at = self.flush(link, &file, temporary, at, &mut held).await?;
            }
        }
        at = self.flush(link, &file, temporary, at, &mut held).await?;
        if link.can_sync() {
            file.sync().await.map_err(|error| failed(temporary, error))?;
        }
        file.close().await.map_err(|error| failed(temporary, error))?;
        Ok(at)
    }

    async fn flush(
        &self,
        link: &Link,
        file: &OpenFile<'_>,
        temporary: &str,
        at: u64,
        held: &mut BytesMut,
    ) -> Result<u64> {
        let bytes = held.split().freeze();
        match file.write_at(at, &bytes).await {
            // The protocol's version has no word for "full".
            Err(error) if error.is_failure() => {
                let room = link.room(&self.path("")).await;
                let is_full = room.is_some_and(|room| room.bytes < bytes.len() as u64 || !room.has_files);
                Err(if is_full { StorageError::Full(Box::new(error)) } else { failed(temporary, error) })
            }
            written => written.map(|()| at + bytes.len() as u64).map_err(|error| failed(temporary, error)),
        }
    }

    async fn name(&self, link: &Link, temporary: &str, target: &str) -> Result<()> {
        // The protocol's rename does not replace, and POSIX's is an extension that few servers have.
        match link.remove(target).await {
            Err(error) if !error.is_not_found() => return Err(failed(target, error)),
            _ => {}
        }
        link.rename(temporary, target).await.map_err(|error| failed(target, error))?;
        let folder = target.rsplit_once('/').map_or(".", |(folder, _)| if folder.is_empty() { "/" } else { folder });
        link.sync_folder(folder).await.map(drop).map_err(|error| failed(folder, error))
    }

    /// A range of a file; shorter only where the file ends.
    ///
    /// # Errors
    /// `NoPlace` if it is not there.
    pub async fn read(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let (link, path) = (self.link().await?, self.path(path));
        let file = link.open_file(&path, OpenFlags::READ).await.map_err(|error| failed(&path, error))?;
        file.read(range).await.map_err(|error| failed(&path, error))
    }

    /// The length of a file; `None` if it is not there.
    ///
    /// # Errors
    /// Whatever keeps the server from telling.
    pub async fn bytes(&self, path: &str) -> Result<Option<u64>> {
        let (link, path) = (self.link().await?, self.path(path));
        match link.stat(&path).await {
            Ok(found) => Ok(found.size.filter(|_| found.is_regular())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(failed(&path, error)),
        }
    }

    /// The files in a folder below; none where there is no such folder. Sorted by name.
    ///
    /// # Errors
    /// Whatever keeps the server from telling.
    pub async fn files(&self, folder: &str) -> Result<Vec<PlainFile>> {
        let (link, path) = (self.link().await?, self.path(folder));
        let names = match link.names(&path).await {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            names => names.map_err(|error| failed(&path, error))?,
        };
        let files = names.into_iter().filter(|(_, found)| found.is_regular());
        let mut files: Vec<_> = files.map(|(name, found)| PlainFile { name, bytes: found.size.unwrap_or(0) }).collect();
        files.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(files)
    }

    /// Removes a file; one that is not there is removed.
    ///
    /// # Errors
    /// Whatever keeps the server from it.
    pub async fn remove(&self, path: &str) -> Result<()> {
        let (link, path) = (self.link().await?, self.path(path));
        match link.remove(&path).await {
            Err(error) if !error.is_not_found() => Err(failed(&path, error)),
            _ => Ok(()),
        }
    }

    async fn make_folders(&self, link: &Link, folder: &str) -> Result<()> {
        let whole = self.path(folder);
        let mut missing = Vec::new();
        let mut next = whole.as_str();
        while !matches!(next, "" | "." | "/") {
            match link.stat(next).await {
                Ok(_) => break,
                Err(error) if error.is_not_found() => missing.push(next),
                Err(error) => return Err(failed(next, error)),
            }
            next = next.rsplit_once('/').map_or("", |(above, _)| above);
        }
        for folder in missing.into_iter().rev() {
            match link.make_folder(folder).await {
                // Another one was faster.
                Err(error) if error.is_failure() && link.stat(folder).await.is_ok_and(|found| found.is_dir()) => {}
                made => made.map_err(|error| failed(folder, error))?,
            }
        }
        Ok(())
    }

    fn temporary(&self, folder: &str, name: &str) -> String {
        let mut random = [0; RANDOM_BYTES];
        self.options.clock.fill_random(&mut random);
        let slash = if folder.is_empty() { "" } else { "/" };
        let mut temporary = format!("{folder}{slash}.{name}.tmp-");
        for byte in random {
            let _ = write!(temporary, "{byte:02x}");
        }
        temporary
    }
}

/// No file of a repository is meant, so that what is missing is named by its path.
fn failed(path: &str, error: RequestError) -> StorageError {
    if error.is_not_found() { StorageError::NoPlace(path.to_owned()) } else { error.into_storage(&Handle::Config) }
}
