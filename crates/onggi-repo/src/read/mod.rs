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

    /// The plaintexts of several blobs. Neighbours in a pack are read and opened together; one that fails there is read
    /// alone, as any other copy.
    pub(crate) async fn blobs(&self, kind: BlobKind, ids: &[BlobId]) -> Result<Vec<Bytes>> {
        let index = self.index();
        let located = ids.iter().map(|id| (*id, index.all(kind, id).into_iter().next()));
        let located: Vec<(BlobId, Option<Location>)> = located.collect();
        let mut blobs = Vec::with_capacity(ids.len());
        for run in located.chunk_by(|(_, one), (_, next)| are_neighbours(one.as_ref(), next.as_ref())) {
            let together = if run.len() > 1 { self.neighbours(run).await } else { Vec::new() };
            let mut together = together.into_iter();
            for (id, _) in run {
                blobs.push(match together.next().flatten() {
                    Some(plaintext) => plaintext,
                    None => self.blob(kind, *id).await?,
                });
            }
        }
        Ok(blobs)
    }

    /// Blobs that lie one behind the other in a pack; nothing for those that cannot be read or opened.
    async fn neighbours(&self, run: &[(BlobId, Option<Location>)]) -> Vec<Option<Bytes>> {
        let wanted: Vec<(BlobId, Location)> =
            run.iter().filter_map(|(id, location)| Some((*id, (*location)?))).collect();
        let (Some((_, first)), Some((_, last))) = (wanted.first(), wanted.last()) else { return Vec::new() };
        let (start, end) = (first.offset, u64::from(last.offset) + u64::from(last.length));
        let read = self.storage().read(first.pack.handle(), Some(u64::from(start)..end)).await;
        let Ok(sealed) = read else { return Vec::new() };
        let key = self.master().clone();
        let decode = move || {
            let open = |(id, location): &(BlobId, Location)| {
                let from = (location.offset - start) as usize;
                let sealed = sealed.get(from..from + location.length as usize)?;
                blob::decode_blob(&key, sealed, location.uncompressed_length, *id).ok().map(Bytes::from)
            };
            wanted.iter().map(open).collect()
        };
        self.env().compute.run(decode).await
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

/// Whether the second lies right behind the first.
fn are_neighbours(one: Option<&Location>, next: Option<&Location>) -> bool {
    let (Some(one), Some(next)) = (one, next) else { return false };
    one.pack == next.pack && one.offset.checked_add(one.length) == Some(next.offset)
}
