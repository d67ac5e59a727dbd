//! Replacing index files. Every new one is durable and read back before any old one goes, so that at each moment every
//! pack is announced.

use crate::{
    Lock, Repository, Result,
    error::{Act, RepoError},
    format::{IndexFile, IndexId, IndexPack},
};
use onggi_storage::{FileType, Handle};

/// Blobs in one new index file.
const BLOBS_MAX: usize = 50_000;

impl Repository {
    /// Adds index files for new entries, then replaces those for which `edit` gives another content. Unreadable ones among
    /// `indexes` must not be there.
    pub(crate) async fn replace_indexes(
        &self,
        lock: &Lock,
        indexes: &[IndexId],
        added: Vec<IndexFile>,
        mut edit: impl FnMut(IndexFile) -> Option<IndexFile>,
    ) -> Result<()> {
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
        for id in old {
            self.remove_quietly(id.handle()).await?;
        }
        Ok(())
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
