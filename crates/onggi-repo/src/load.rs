//! Loading the index: every index file into one table. A damaged file is a problem, not the end; packs that it alone
//! described are found by their headers when a blob is missing.

use crate::{
    Repository, Result,
    error::{Act, Problem, RepoError},
    format::{FormatError, IndexId, PackId, index::IndexFile, pack},
    index::{Index, PackState},
};
use futures::{StreamExt, TryStreamExt, stream};
use onggi_storage::FileType;
use std::sync::Arc;

/// What was loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Index files read.
    pub indexes: usize,
    /// Records in the table.
    pub blobs: usize,
    /// Unreadable index files.
    pub problems: Vec<Problem>,
}

impl Repository {
    /// Loads all index files anew. Where the snapshots matter, list them first: their blobs are then in the index.
    pub async fn load_index(&self) -> Result<Loaded> {
        let index = Arc::new(Index::default());
        let mut loaded = Loaded::default();
        let ids = self.list_ids(FileType::Index).await?;
        let mut files =
            stream::iter(ids).map(|id| self.load_one(Arc::clone(&index), id)).buffer_unordered(self.at_once());
        while let Some((id, answer)) = files.next().await {
            match answer {
                Ok(()) => loaded.indexes += 1,
                // Another process replaced it by a newer one since the listing.
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_damage() => {
                    loaded.problems.push(Problem::of("index-damaged", id.handle(), &error));
                }
                Err(error) => return Err(error),
            }
        }
        drop(files);
        *index.incomplete().lock().await = !loaded.problems.is_empty();
        let table = Arc::clone(&index);
        loaded.blobs = self
            .env()
            .compute
            .run(move || {
                table.settle();
                table.len()
            })
            .await;
        self.replace_index(index);
        Ok(loaded)
    }

    async fn load_one(&self, index: Arc<Index>, id: onggi_storage::FileId) -> (IndexId, Result<()>) {
        let index_id = IndexId::from(id);
        let answer = match self.load_json(FileType::Index, id).await {
            Err(error) => Err(error),
            Ok(json) => {
                let parsed = self.env().compute.run(move || take_in(&index, index_id, &json)).await;
                parsed.map_err(|fault| RepoError::format(index_id.handle(), fault))
            }
        };
        (index_id, answer)
    }

    /// Finds packs that no readable index file announces, reads their headers, and makes their blobs readable. Returns
    /// how many were found. They are never deduplicated against.
    pub(crate) async fn load_unlisted(&self) -> Result<usize> {
        let index = self.index();
        let listed: Vec<_> = self.fresh().list(FileType::Pack).try_collect().await.act(|| "list packs".into())?;
        let unknown = listed.into_iter().filter_map(|file| {
            let id = PackId::from(file.handle.id()?);
            index.pack(&id).is_none().then_some((id, file.size))
        });
        let unknown: Vec<_> = unknown.collect();
        let headers = stream::iter(unknown).map(|(id, size)| async move { (id, self.read_header(id, size).await) });
        let mut headers = headers.buffer_unordered(self.at_once());
        let mut found = 0;
        while let Some((id, answer)) = headers.next().await {
            match answer {
                Ok(entries) => {
                    index.add(id, PackState::Unlisted, &entries);
                    found += 1;
                }
                Err(error) if error.is_damage() || error.is_not_found() => {
                    tracing::warn!(pack = %id.handle(), error = crate::error::chain(&error), "pack header is not readable");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Reads what a pack says it holds.
    pub async fn read_header(&self, id: PackId, size: u64) -> Result<Vec<pack::PackEntry>> {
        let mut length = pack::FIRST_READ.min(size);
        loop {
            let handle = id.handle();
            let range = Some(size - length..size);
            let tail = self.fresh().read(handle.clone(), range).await.act(|| format!("read header of {handle}"))?;
            match pack::read_header(self.master(), &tail, size).map_err(|fault| RepoError::format(&handle, fault))? {
                pack::HeaderRead::Done(entries) => return Ok(entries),
                pack::HeaderRead::Need(more) if more > length && more <= size => length = more,
                pack::HeaderRead::Need(_) => {
                    return Err(RepoError::format(
                        &handle,
                        FormatError::invalid("pack header", "its length is not possible"),
                    ));
                }
            }
        }
    }

    /// The ids of all files of a type.
    pub(crate) async fn list_ids(&self, file_type: FileType) -> Result<Vec<onggi_storage::FileId>> {
        let files: Vec<_> =
            self.storage().list(file_type).try_collect().await.act(|| format!("list {}", file_type.folder()))?;
        let mut ids: Vec<_> = files.iter().filter_map(|file| file.handle.id()).collect();
        ids.sort();
        Ok(ids)
    }

    /// How many calls at once are useful.
    pub(crate) fn at_once(&self) -> usize {
        self.storage().properties().connections.max(1)
    }
}

/// Tombstones first: a pack that is in both lists of one file counts as marked.
fn take_in(index: &Index, id: IndexId, json: &[u8]) -> Result<(), FormatError> {
    let file = IndexFile::parse(json)?;
    for pack in &file.packs_to_delete {
        let state = PackState::Tombstoned(pack.time.map(|time| time.instant));
        index.load(pack.id, state, Some(id), &pack.blobs);
    }
    for pack in &file.packs {
        index.load(pack.id, PackState::Live, Some(id), &pack.blobs);
    }
    Ok(())
}
