//! Random access to the content of one file.

use crate::{
    Repository, Result,
    error::RepoError,
    format::{BlobId, BlobKind},
};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// Blobs kept by one reader: neighbours of the last reads.
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

    /// Fills the buffer from an offset; returns how many bytes there were before the end.
    pub async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        let mut next = self.ends.partition_point(|(end, _)| *end <= offset);
        while filled < buffer.len() && next < self.ends.len() {
            let start = if next == 0 { 0 } else { self.ends[next - 1].0 };
            let blob = self.blob(self.ends[next].1).await?;
            let skip = (offset + filled as u64 - start) as usize;
            let part = blob.get(skip..).unwrap_or_default();
            let count = part.len().min(buffer.len() - filled);
            buffer[filled..filled + count].copy_from_slice(&part[..count]);
            filled += count;
            next += 1;
        }
        Ok(filled)
    }

    async fn blob(&self, id: BlobId) -> Result<Bytes> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, blob)) = kept().iter().find(|(kept, _)| *kept == id) {
            return Ok(blob.clone());
        }
        let blob = self.repo.blob(BlobKind::Data, id).await?;
        let mut kept = kept();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((id, blob.clone()));
        Ok(blob)
    }
}
