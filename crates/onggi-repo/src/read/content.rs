//! Random access to the content of one file.

use crate::{
    Repository, Result,
    error::RepoError,
    format::{BlobId, BlobKind},
};
use bytes::Bytes;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, PoisonError},
};

/// Blobs kept by one reader: the last ones of the last reads.
const KEPT: usize = 4;

/// A file's content, read anywhere. May be used from many tasks.
#[derive(Debug)]
pub struct ContentReader {
    repo: Repository,
    /// Of each blob: the offset in the file at which it ends.
    ends: Vec<(u64, BlobId)>,
    kept: Mutex<VecDeque<(BlobId, Bytes)>>,
}

impl Repository {
    /// Opens a file's content for reading anywhere. `Missing` if the index does not know one of its blobs.
    pub fn content_reader(&self, content: &[BlobId]) -> Result<ContentReader> {
        let index = self.index();
        let mut end = 0;
        let mut ends = Vec::with_capacity(content.len());
        for id in content {
            let length = index
                .plaintext_length(BlobKind::Data, id)
                .ok_or_else(|| RepoError::Missing(format!("data blob {}", id.short())))?;
            end += u64::from(length);
            ends.push((end, *id));
        }
        Ok(ContentReader { repo: self.clone(), ends, kept: Mutex::default() })
    }
}

impl ContentReader {
    /// Bytes of the whole content.
    pub fn len(&self) -> u64 {
        self.ends.last().map_or(0, |(end, _)| *end)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills the buffer from an offset; returns how many bytes there were before the end. In memory are the buffer's
    /// length once more and what of the first and the last blob lies outside.
    pub async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let wanted_end = offset + buffer.len() as u64;
        let first = self.ends.partition_point(|(end, _)| *end <= offset);
        let last = self.ends.partition_point(|(end, _)| *end < wanted_end);
        let wanted = &self.ends[first..self.ends.len().min(last + 1)];
        let mut start = if first == 0 { 0 } else { self.ends[first - 1].0 };
        let mut filled = 0;
        for ((end, _), blob) in wanted.iter().zip(self.blobs(wanted).await?) {
            let skip = (offset + filled as u64 - start) as usize;
            let part = blob.get(skip..).unwrap_or_default();
            let count = part.len().min(buffer.len() - filled);
            buffer[filled..filled + count].copy_from_slice(&part[..count]);
            (filled, start) = (filled + count, *end);
        }
        Ok(filled)
    }

    /// The plaintexts of these, each read once however often it is among them.
    async fn blobs(&self, wanted: &[(u64, BlobId)]) -> Result<Vec<Bytes>> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known: HashMap<BlobId, Bytes> = kept().iter().cloned().collect();
        let mut met = HashSet::new();
        let is_missing = |id: &BlobId| !known.contains_key(id) && met.insert(*id);
        let missing: Vec<BlobId> = wanted.iter().map(|(_, id)| *id).filter(is_missing).collect();
        let read = self.repo.blobs(BlobKind::Data, &missing).await?;
        known.extend(missing.into_iter().zip(read));
        // A next read may begin where this one ends.
        if let Some((id, blob)) = wanted.last().and_then(|(_, id)| Some((id, known.get(id)?))) {
            let mut kept = kept();
            kept.retain(|(kept, _)| kept != id);
            kept.truncate(KEPT - 1);
            kept.push_front((*id, blob.clone()));
        }
        Ok(wanted.iter().filter_map(|(_, id)| known.get(id).cloned()).collect())
    }
}
