//! Reading the locks that are there. A file that vanished meanwhile is no lock; an empty one is not yet written; one
//! that cannot be read is tried again, and then stands as a lock of unknown kind.

use super::Holder;
use crate::{
    Repository, Result,
    error::{Act, RepoError},
    format::{LockFile, LockId},
};
use futures::{StreamExt, TryStreamExt, stream};
use onggi_storage::{FileInfo, FileType};
use std::time::Duration;

/// Pauses before an unreadable lock is read again: one that is being written is whole by then.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];
/// Locks read at once.
const AT_ONCE: usize = 8;

impl Repository {
    /// Every lock that is there, unreadable ones included.
    pub async fn locks(&self) -> Result<Vec<Holder>> {
        let mut answer = self.locks_once().await?;
        for pause in PAUSES {
            if answer.iter().all(|holder| holder.file.is_some()) {
                break;
            }
            self.env().clock.sleep(pause).await;
            answer = self.locks_once().await?;
        }
        Ok(answer)
    }

    async fn locks_once(&self) -> Result<Vec<Holder>> {
        let listed = self.storage().list(FileType::Lock).try_collect::<Vec<_>>().await;
        let files = match listed {
            Err(error) if error.is_not_found() => Vec::new(),
            listed => listed.act(|| "list locks".into())?,
        };
        let holders: Vec<Option<Holder>> = stream::iter(files)
            .filter(|file| std::future::ready(file.size > 0))
            .map(|file| self.holder(file))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let mut holders: Vec<Holder> = holders.into_iter().flatten().collect();
        holders.sort_by_key(|holder| holder.id);
        Ok(holders)
    }

    async fn holder(&self, file: FileInfo) -> Result<Option<Holder>> {
        let Some(id) = file.handle.id() else { return Ok(None) };
        let parsed = match self.load_json(FileType::Lock, id).await {
            Ok(json) => LockFile::parse(&json).map_err(|fault| RepoError::format(&file.handle, fault)),
            Err(error) => Err(error),
        };
        match parsed {
            Ok(lock) => Ok(Some(Holder { id: LockId::from(id), file: Some(lock), modified_at: file.modified_at })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) if error.is_damage() => {
                Ok(Some(Holder { id: LockId::from(id), file: None, modified_at: file.modified_at }))
            }
            Err(error) => Err(error),
        }
    }
}
