//! Reading blobs and trees. Every plaintext that leaves here was authenticated and hashed to its id. A copy that is
//! damaged or gone makes room for the next one; only when none is left is a blob lost.

mod cache;
mod content;
pub(crate) mod fetch;

pub(crate) use cache::TreeCache;
pub use content::ContentReader;

use crate::{
    Repository, Result,
    error::{Act, RepoError},
    format::{BlobId, BlobKind, Tree, blob},
    index::Location,
};
use bytes::Bytes;
use onggi_storage::Storage;
use std::sync::{Arc, PoisonError};

impl Repository {
    /// Whether the index knows a copy of a blob that will stay.
    pub fn has(&self, kind: BlobKind, id: &BlobId) -> bool {
        self.index().live(kind, id).is_some()
    }

    /// Plaintext bytes of a blob, if the index knows it.
    pub fn blob_length(&self, kind: BlobKind, id: &BlobId) -> Option<u32> {
        self.index().plaintext_length(kind, id)
    }

    /// The plaintext of a blob.
    pub async fn blob(&self, kind: BlobKind, id: BlobId) -> Result<Bytes> {
        let mut last = None;
        for location in self.index().all(kind, &id) {
            match self.copy(id, location).await {
                Ok(plaintext) => return Ok(plaintext),
                Err(error) => last = Some(error),
            }
        }
        self.complete_index().await?;
        for location in self.index().all(kind, &id).into_iter().filter(|location| !location.is_live) {
            match self.copy(id, location).await {
                Ok(plaintext) => return Ok(plaintext),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| RepoError::Missing(format!("{kind} blob {}", id.short()))))
    }

    /// Looks once for packs that only an unreadable index file announced.
    pub(crate) async fn complete_index(&self) -> Result<()> {
        let index = self.index();
        let mut incomplete = index.incomplete().lock().await;
        if std::mem::take(&mut *incomplete) {
            self.load_unlisted().await?;
        }
        Ok(())
    }

    /// One copy; wrong bytes are read once more past all caches.
    async fn copy(&self, id: BlobId, location: Location) -> Result<Bytes> {
        match self.copy_from(&**self.storage(), id, location).await {
            Err(error) if error.is_damage() => self.copy_from(&**self.fresh(), id, location).await,
            answer => answer,
        }
    }

    async fn copy_from(&self, storage: &dyn Storage, id: BlobId, location: Location) -> Result<Bytes> {
        let handle = location.pack.handle();
        let start = u64::from(location.offset);
        let range = start..start + u64::from(location.length);
        let sealed = storage.read(handle.clone(), Some(range)).await.act(|| format!("read {handle}"))?;
        let key = self.master().clone();
        let decode = move || blob::decode_blob(&key, &sealed, location.uncompressed_length, id);
        let plaintext = self.env().compute.run(decode).await;
        let what = || format!("blob {} in {handle}", id.short());
        plaintext.map(Bytes::from).map_err(|fault| RepoError::format(what(), fault))
    }

    /// A directory. Those read lately are kept.
    pub async fn tree(&self, id: BlobId) -> Result<Arc<Tree>> {
        let cache = || self.trees().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tree) = cache().get(&id) {
            return Ok(tree);
        }
        let json = self.blob(BlobKind::Tree, id).await?;
        let length = json.len();
        let parsed = self.env().compute.run(move || Tree::parse(&json)).await;
        let tree = Arc::new(parsed.map_err(|fault| RepoError::format(format!("tree {}", id.short()), fault))?);
        cache().insert(id, Arc::clone(&tree), length);
        Ok(tree)
    }
}
