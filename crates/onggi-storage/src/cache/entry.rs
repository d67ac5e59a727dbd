//! What an entry of the cache is called, and how its bytes prove to be the right ones.

use crate::{FileId, FileType};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::{
    ops::Range,
    path::{Path, PathBuf},
};

/// The name of an entry: a file or a part of one. Parts lie behind the whole in the order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub file_type: FileType,
    pub id: FileId,
    /// Start and end of a range of a pack.
    part: Option<(u64, u64)>,
}

const DIGEST: usize = 32;

impl Key {
    pub(super) fn whole(file_type: FileType, id: FileId) -> Self {
        Self { file_type, id, part: None }
    }

    pub(super) fn part(&self, range: &Range<u64>) -> Self {
        Self { part: Some((range.start, range.end)), ..self.clone() }
    }

    /// Behind all keys of the same file.
    pub(super) fn last_of(file_type: FileType, id: FileId) -> Self {
        Self { file_type, id, part: Some((u64::MAX, u64::MAX)) }
    }

    /// `index/3f/3f2a…` or `data/3f/3f2a….100-200`, below the folder of the repository.
    pub(super) fn path(&self) -> PathBuf {
        let id = self.id.to_string();
        let folder = Path::new(self.file_type.folder()).join(&id[..2]);
        match self.part {
            None => folder.join(id),
            Some((start, end)) => folder.join(format!("{id}.{start}-{end}")),
        }
    }

    /// The key of a name in the folder of a type.
    pub(super) fn from_name(file_type: FileType, name: &str) -> Option<Self> {
        let (id, part) = match name.split_once('.') {
            None => (name, None),
            Some((id, part)) => {
                let (start, end) = part.split_once('-')?;
                (id, Some((start.parse().ok()?, end.parse().ok()?)))
            }
        };
        Some(Self { file_type, id: id.parse().ok()?, part })
    }

    /// What is written before some content; `None` if that is not what the name says, and so must not be kept.
    pub(super) fn head(&self, content: &[u8]) -> Option<Vec<u8>> {
        let digest = digest(content);
        match self.part {
            None => (digest == self.id.0).then(Vec::new),
            Some((start, end)) => (end.checked_sub(start) == Some(content.len() as u64)).then(|| digest.to_vec()),
        }
    }

    /// The content of an entry's bytes; `None` if they are not what was written.
    pub(super) fn open(&self, stored: Bytes) -> Option<Bytes> {
        let Some((start, end)) = self.part else { return (digest(&stored) == self.id.0).then_some(stored) };
        let content = stored.len().checked_sub(DIGEST).map(|_| stored.slice(DIGEST..))?;
        let is_right = end.checked_sub(start) == Some(content.len() as u64) && digest(&content) == stored[..DIGEST];
        is_right.then_some(content)
    }
}

fn digest(content: &[u8]) -> [u8; DIGEST] {
    Sha256::digest(content).into()
}
