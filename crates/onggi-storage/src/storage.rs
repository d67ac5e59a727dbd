//! The trait that every storage and every decorator implements.

use crate::{FileType, Handle, Result, StorageError};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use std::{fmt, ops::Range};

/// Where a repository keeps its files: whole, immutable, named by type and id.
///
/// Every implementation passes the suite in `conformance`. Decorators (`Retry`, `Limit`, `Cache`, `Faulty`) implement
/// this trait too and hold an inner `Arc<dyn Storage>`, so that a stack is plain composition.
///
/// All calls may be made from many tasks at once. A call that returned `Ok` is durable: it survives a power cut
/// as far as the storage keeps what it confirmed. (Only the removal of a pack or lock may be undone by it: nothing is
/// ordered after these, so that they may come back.) A dropped future may have had its effect or not.
#[async_trait]
pub trait Storage: fmt::Debug + Send + Sync {
    /// What this storage can do and where it is; pure.
    fn properties(&self) -> Properties;
    /// Makes the place ready for a new repository (folders, prefix); harmless if it is there already.
    async fn prepare(&self) -> Result<()>;
    /// Writes a new file; a reader sees all of it or nothing. An existing one is `AlreadyExists`, unless it holds
    /// exactly this content: then the call succeeds, so that a repeated call after a lost answer is harmless.
    async fn create(&self, handle: Handle, content: Bytes) -> Result<()>;
    /// Reads a range, or everything. A range past the end is `Short`, never fewer bytes.
    async fn read(&self, handle: Handle, range: Option<Range<u64>>) -> Result<Bytes>;
    /// Tells size and time of one file.
    async fn stat(&self, handle: Handle) -> Result<FileInfo>;
    /// Lists each file of the type at most once, in no order; foreign names are left out. A folder that is not there
    /// is empty if the place itself is there, `NoPlace` otherwise.
    fn list(&self, file_type: FileType) -> BoxStream<'_, Result<FileInfo>>;
    /// Removes a file; `NotFound` if it is not there.
    async fn remove(&self, handle: Handle) -> Result<()>;
    /// Removes what interrupted calls of [`create`](Self::create) left behind before that instant of the storage's
    /// own clock, and tells how many files that were. Storages that leave nothing keep this body.
    async fn remove_leftovers(&self, before: Timestamp) -> Result<u64> {
        let _ = before;
        Ok(0)
    }
    /// Tells decorators what the caller knows of a file; it never fails and changes no answer. Every decorator passes
    /// it on, storages ignore it.
    fn advise(&self, handle: &Handle, advice: Advice) {
        let _ = (handle, advice);
    }
}

/// What a caller knows of a file that the storage cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// It will be read again and again, and is worth a place in a cache: a pack of trees.
    ReadOften,
    /// What was read did not authenticate: copies of it must be forgotten, so that the next read asks the storage.
    Doubtful,
}

/// What a storage tells of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Which file.
    pub handle: Handle,
    /// Its length in bytes.
    pub size: u64,
    /// When it was written, by the storage's own clock, where the storage tells.
    pub modified_at: Option<Timestamp>,
}

/// What a storage can do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read by its name")]
pub struct Properties {
    /// For people: `/srv/onggi`, `s3:bucket/prefix`; never a secret.
    pub location: String,
    /// A listing shows every file whose `create` returned before it began.
    pub strong_listing: bool,
    /// `create` never replaces, even when two writers race.
    pub exclusive_create: bool,
    /// Confirmed writes survive a power cut; `false` where the protocol cannot say (SFTP without fsync).
    pub durable: bool,
    /// How many calls at once are useful.
    pub connections: usize,
    /// Reading costs little (local disk): no cache is worth its space.
    pub is_local: bool,
}

/// The asked range of a file of `size` bytes, whole if none was asked; `Short` if it ends past the file.
pub(crate) fn within(handle: &Handle, range: Option<Range<u64>>, size: u64) -> Result<Range<u64>> {
    match range {
        None => Ok(0..size),
        Some(range) if range.end.max(range.start) > size => {
            Err(StorageError::Short(handle.clone(), range.end.max(range.start)))
        }
        Some(range) => Ok(range.start..range.end.max(range.start)),
    }
}
