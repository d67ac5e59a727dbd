//! Writing durably over SFTP: temporary file, bytes, sync, name, sync of the folder.
//!
//! The name is given by a link, which never replaces: of two writers one must lose. The rename of POSIX replaces by
//! definition, and the protocol's own one does so on some servers (rclone's), so that without links the name is looked
//! for first and [`Properties::exclusive_create`](crate::Properties::exclusive_create) promises nothing.

use super::{
    Sftp,
    error::RequestError,
    link::{Link, Outcome},
    modified_at,
};
use crate::{FileType, Handle, OwnFolder, Result, StorageError};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use russh_sftp::protocol::OpenFlags;
use std::{fmt::Write as _, sync::atomic::Ordering};

/// What separates a file's name from the random end of its temporary, as in local storages.
const TEMPORARY_INFIX: &str = ".tmp-";
const TEMPORARY_DIGITS: usize = 16;
/// Folders that are made at once: requests without data, so that only their way counts.
const FOLDERS_AT_ONCE: usize = 32;

impl Sftp {
    pub(super) async fn write(&self, link: &Link, handle: &Handle, content: &Bytes) -> Result<()> {
        let (path, temporary) = (self.path(&handle.path()), self.temporary(handle));
        let mut written = fill(link, &temporary, content).await;
        if matches!(&written, Err(error) if error.is_not_found()) {
            self.make_folders_of(link, handle).await?;
            written = fill(link, &temporary, content).await;
        }
        let named = match written {
            Ok(()) => self.name(link, &temporary, &path).await,
            Err(error) => Err(error),
        };
        match named {
            Ok(true) => self.sync_folder_of(link, handle, &path).await,
            Ok(false) => {
                self.discard(link, &temporary).await;
                match self.fetch(link, handle, None).await {
                    Ok(stored) if stored == *content => self.sync_folder_of(link, handle, &path).await,
                    Ok(_) => Err(StorageError::AlreadyExists(handle.clone())),
                    Err(error) => Err(error),
                }
            }
            Err(error) => {
                self.discard(link, &temporary).await;
                Err(self.judge(link, handle, error, content.len() as u64).await)
            }
        }
    }

    /// `Ok(false)`: the name is taken.
    async fn name(&self, link: &Link, temporary: &str, path: &str) -> Outcome<bool> {
        if link.can_link() {
            match link.link(temporary, path).await {
                Ok(()) => {
                    self.discard(link, temporary).await;
                    return Ok(true);
                }
                Err(error) if error.is_lost() => return Err(error),
                // The name is taken, or the file system has no links.
                Err(_) => {}
            }
        }
        if is_taken(link, path).await? {
            return Ok(false);
        }
        self.links.store(false, Ordering::Relaxed);
        match link.rename(temporary, path).await {
            Err(error) if error.is_failure() && is_taken(link, path).await? => Ok(false),
            renamed => renamed.map(|()| true),
        }
    }

    /// The version of the protocol has no word for "full".
    async fn judge(&self, link: &Link, handle: &Handle, error: RequestError, bytes: u64) -> StorageError {
        if error.is_failure() {
            let room = link.room(&self.path("")).await;
            if room.is_some_and(|room| room.bytes < bytes || !room.has_files) {
                return StorageError::Full(Box::new(error));
            }
        }
        self.absent(link, error.into_storage(handle)).await
    }

    /// What cannot be removed now is a leftover, which a later sweep finds.
    async fn discard(&self, link: &Link, temporary: &str) {
        if let Err(error) = link.remove(temporary).await {
            tracing::debug!(path = temporary, error = %error.cause, "leave a temporary behind");
        }
    }

    pub(super) async fn sync_folder_of(&self, link: &Link, handle: &Handle, path: &str) -> Result<()> {
        let folder = path.rsplit_once('/').map_or(".", |(folder, _)| if folder.is_empty() { "/" } else { folder });
        self.sync_folder(link, handle, folder).await
    }

    async fn sync_folder(&self, link: &Link, handle: &Handle, folder: &str) -> Result<()> {
        let synced = link.sync_folder(folder).await.map_err(|error| error.into_storage(handle))?;
        if !synced {
            self.can_sync.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    fn temporary(&self, handle: &Handle) -> String {
        let mut random = [0; TEMPORARY_DIGITS / 2];
        self.options.clock.fill_random(&mut random);
        let path = handle.path();
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let slash = if folder.is_empty() { "" } else { "/" };
        let mut temporary = format!("{folder}{slash}.{name}{TEMPORARY_INFIX}");
        for byte in random {
            let _ = write!(temporary, "{byte:02x}");
        }
        self.path(&temporary)
    }

    /// Makes the folders of a new repository, the 256 of packs included, as restic does.
    pub(super) async fn make_all_folders(&self, link: &Link) -> Result<()> {
        self.make_root(link).await?;
        let all = FileType::ALL.iter().map(|file_type| file_type.folder().to_owned());
        let (own, mut top): (Vec<_>, Vec<_>) = all.filter(|name| !name.is_empty()).partition(|name| name.contains('/'));
        top.push("onggi".into());
        let data = FileType::Pack.folder();
        let shards = (0..=u8::MAX).map(|shard| format!("{data}/{shard:02x}")).collect();
        self.make_folders(link, top, "").await?;
        self.make_folders(link, own, "onggi").await?;
        self.make_folders(link, shards, data).await
    }

    /// Makes the root and what is missing above it.
    async fn make_root(&self, link: &Link) -> Result<()> {
        let root = self.path("");
        let mut missing = Vec::new();
        let mut folder = root.as_str();
        while !matches!(folder, "" | "." | "/") {
            match link.stat(folder).await {
                Ok(_) => break,
                Err(error) if error.is_not_found() => missing.push(folder),
                Err(error) => return Err(error.into_storage(&Handle::Config)),
            }
            folder = folder.rsplit_once('/').map_or("", |(above, _)| above);
        }
        for folder in missing.into_iter().rev() {
            self.make_folder(link, folder).await?;
            self.sync_folder_of(link, &Handle::Config, folder).await?;
        }
        Ok(())
    }

    /// The folder of one file, if the repository's own is there.
    async fn make_folders_of(&self, link: &Link, handle: &Handle) -> Result<()> {
        let not_found = StorageError::NotFound(handle.clone());
        if let error @ StorageError::NoPlace(_) = self.absent(link, not_found).await {
            return Err(error);
        }
        let path = handle.path();
        let above: Vec<_> = path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect();
        for folder in above {
            let parent = folder.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
            self.make_folders(link, vec![folder], &parent).await?;
        }
        Ok(())
    }

    /// Makes folders that are all in `parent`, many at once, and syncs that.
    async fn make_folders(&self, link: &Link, folders: Vec<String>, parent: &str) -> Result<()> {
        let made = stream::iter(folders).map(|folder| async move { self.make_folder(link, &self.path(&folder)).await });
        made.buffer_unordered(FOLDERS_AT_ONCE).try_collect::<()>().await?;
        self.sync_folder(link, &Handle::Config, &self.path(parent)).await
    }

    async fn make_folder(&self, link: &Link, path: &str) -> Result<()> {
        match link.make_folder(path).await {
            // An existing one is a failure like any other.
            Err(error) if error.is_failure() && link.stat(path).await.is_ok_and(|found| found.is_dir()) => Ok(()),
            Err(error) => Err(self.judge(link, &Handle::Config, error, 1).await),
            Ok(()) => Ok(()),
        }
    }

    /// Removes the temporaries of a folder that are older than the instant.
    pub(super) async fn sweep(&self, link: &Link, folder: &str, before: Timestamp) -> Result<u64> {
        let mut removed = 0;
        for (name, found) in self.names(link, folder).await? {
            let is_old = modified_at(&found).is_some_and(|modified_at| modified_at < before);
            if !is_old || !found.is_regular() || !is_temporary(&name) {
                continue;
            }
            let slash = if folder.is_empty() { "" } else { "/" };
            match link.remove(&self.path(&format!("{folder}{slash}{name}"))).await {
                Ok(()) => removed += 1,
                // Its writer, or another sweep, was faster.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into_storage(&Handle::Config)),
            }
        }
        Ok(removed)
    }
}

async fn is_taken(link: &Link, path: &str) -> Outcome<bool> {
    match link.stat(path).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes and syncs a file that is not there yet.
async fn fill(link: &Link, path: &str, content: &Bytes) -> Outcome<()> {
    let file = link.open_file(path, OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE).await?;
    file.write(content).await?;
    if link.can_sync() {
        file.sync().await?;
    }
    file.close().await
}

/// Whether the name has exactly the form that [`Sftp::temporary`] gives.
fn is_temporary(name: &str) -> bool {
    let Some((name, random)) = name.strip_prefix('.').and_then(|name| name.rsplit_once(TEMPORARY_INFIX)) else {
        return false;
    };
    let is_random =
        random.len() == TEMPORARY_DIGITS && random.bytes().all(|digit| b"0123456789abcdef".contains(&digit));
    let is_ours = name == "config"
        || Handle::from_name(FileType::Pack, name).is_some()
        || Handle::from_name(FileType::Own(OwnFolder::Keys), name).is_some();
    is_random && is_ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_temporaries_are_swept() {
        let id = "ab".repeat(32);
        for (name, expected) in [
            (format!(".{id}.tmp-0123456789abcdef"), true),
            (".config.tmp-0123456789abcdef".into(), true),
            (".head-1.v1.tmp-0123456789abcdef".into(), true),
            (id, false),
            (".foreign.swp".into(), false),
            (".config.tmp-0123".into(), false),
            ("config.tmp-0123456789abcdef".into(), false),
            (".UPPER.tmp-0123456789abcdef".into(), false),
            (".tmp-0123456789abcdef".into(), false),
        ] {
            assert_eq!(is_temporary(&name), expected, "{name}");
        }
    }
}
