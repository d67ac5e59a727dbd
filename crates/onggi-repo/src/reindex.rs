//! Replacing index files. Every new one is durable and read back before any old one goes, so that at each moment every
//! pack is announced.

use crate::{
    Lock, Repository, Result,
    error::{Act, RepoError},
    format::{IndexFile, IndexId, IndexPack},
};
use onggi_storage::{FileType, Handle, StorageError};

/// Blobs in one new index file.
const BLOBS_MAX: usize = 50_000;

/// What became of a file that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It is not there any more.
    Gone,
    /// The storage holds it back for a time.
    Held,
}

impl Repository {
    /// Adds index files for new entries, then replaces those for which `edit` gives another content. Unreadable ones among
    /// `indexes` must not be there. Returns the replaced files whose removal the storage refuses for a time: what they
    /// announce stays announced.
    pub(crate) async fn replace_indexes(
        &self,
        lock: &Lock,
        indexes: &[IndexId],
        added: Vec<IndexFile>,
        mut edit: impl FnMut(IndexFile) -> Option<IndexFile>,
    ) -> Result<Vec<IndexId>> {
        for file in added {
            lock.check()?;
            self.save_index(file).await?;
        }
        let mut old = Vec::new();
        for id in indexes {
            lock.check()?;
            let Some(new) = edit(self.index_file(*id).await?) else { continue };
            let is_empty = new.packs.is_empty() && new.packs_to_delete.is_empty() && new.unknown.is_empty();
            if !is_empty && self.save_index(new).await? == *id {
                continue;
            }
            old.push(*id);
        }
        lock.check()?;
        let mut held = Vec::new();
        for id in old {
            if self.remove_or_leave(id.handle()).await? == Removal::Held {
                held.push(id);
            }
        }
        Ok(held)
    }

    /// Replaces index files as [`Self::replace_indexes`] does, for callers whose work is undone by a file that stays.
    pub(crate) async fn replace_indexes_all(
        &self,
        lock: &Lock,
        indexes: &[IndexId],
        added: Vec<IndexFile>,
        edit: impl FnMut(IndexFile) -> Option<IndexFile>,
    ) -> Result<()> {
        match self.replace_indexes(lock, indexes, added, edit).await?.first() {
            None => Ok(()),
            Some(id) => Err(StorageError::Immutable(id.handle())).act(|| format!("remove {}", id.handle())),
        }
    }

    /// One index file.
    pub(crate) async fn index_file(&self, id: IndexId) -> Result<IndexFile> {
        let json = self.load_json(FileType::Index, id.into()).await?;
        let parsed = self.env().compute.run(move || IndexFile::parse(&json)).await;
        parsed.map_err(|fault| RepoError::format(id.handle(), fault))
    }

    /// Removes a file; one that is gone is no fault.
    pub(crate) async fn remove_quietly(&self, handle: Handle) -> Result<()> {
        match self.storage().remove(handle.clone()).await {
            Err(error) if error.is_not_found() => Ok(()),
            answer => answer.act(|| format!("remove {handle}")),
        }
    }

    /// Removes a file, unless an object lock holds it.
    pub(crate) async fn remove_or_leave(&self, handle: Handle) -> Result<Removal> {
        match self.remove_quietly(handle).await {
            Ok(()) => Ok(Removal::Gone),
            Err(RepoError::Storage(_, StorageError::Immutable(_))) => Ok(Removal::Held),
            Err(error) => Err(error),
        }
    }
}

/// Packs in index files of bounded size.
pub(crate) fn files_of(packs: Vec<IndexPack>) -> Vec<IndexFile> {
    let mut files: Vec<IndexFile> = Vec::new();
    let mut blobs = usize::MAX;
    for pack in packs {
        blobs = blobs.saturating_add(pack.blobs.len());
        if blobs > BLOBS_MAX {
            files.push(IndexFile::default());
            blobs = pack.blobs.len();
        }
        if let Some(file) = files.last_mut() {
            file.packs.push(pack);
        }
    }
    files
}
