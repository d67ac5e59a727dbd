//! Limits on what a storage is asked for: bytes per second in each direction, by time of day, and calls at once.

mod bucket;
mod rate;

#[cfg(test)]
mod tests;

pub use rate::{Rate, RatePlan, RateWindow};

use crate::{Advice, Clock, FileInfo, FileType, Handle, Properties, Result, Storage, StorageError};
use async_trait::async_trait;
use bucket::Bucket;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use std::{ops::Range, sync::Arc};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Slows down calls to an inner storage.
///
/// A call waits before it begins until the calls before it are paid for, then runs at the speed of the line. The mean
/// rate over more than a few files is therefore exact, while one file goes out in one go. It stands inside
/// [`Retry`](crate::retry::Retry), so that repeated bytes count too, and around [`Stall`](crate::stall::Stall).
#[derive(Debug)]
pub struct Limit {
    inner: Arc<dyn Storage>,
    up: Bucket,
    down: Bucket,
    permits: Semaphore,
    connections: usize,
}

/// How much is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Of bytes written.
    pub up: RatePlan,
    /// Of bytes read.
    pub down: RatePlan,
    /// Calls at once, at least one; `None` is as many as the storage finds useful.
    pub connections: Option<usize>,
}

impl Limit {
    /// Limits calls to `inner`.
    pub fn new(inner: Arc<dyn Storage>, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let connections = limits.connections.unwrap_or_else(|| inner.properties().connections).max(1);
        let (up, down) = (Bucket::new(limits.up, clock.clone()), Bucket::new(limits.down, clock));
        Self { inner, up, down, permits: Semaphore::new(connections.min(Semaphore::MAX_PERMITS)), connections }
    }

    async fn permit(&self) -> SemaphorePermit<'_> {
        self.permits.acquire().await.expect("never closed")
    }

    /// The next file of a list. The permit is held while it is waited for, not while the caller does other things:
    /// it may make other calls before it asks again.
    async fn next<'a>(&'a self, mut files: Files<'a>) -> Option<(Result<FileInfo>, Files<'a>)> {
        let permit = self.permit().await;
        let file = files.next().await?;
        drop(permit);
        Some((file, files))
    }
}

type Files<'a> = BoxStream<'a, Result<FileInfo>>;

#[async_trait]
impl Storage for Limit {
    fn properties(&self) -> Properties {
        Properties { connections: self.connections, ..self.inner.properties() }
    }

    async fn prepare(&self) -> Result<()> {
        let _permit = self.permit().await;
        self.inner.prepare().await
    }

    async fn create(&self, handle: Handle, content: Bytes) -> Result<()> {
        self.up.take(content.len() as u64).await;
        let _permit = self.permit().await;
        self.inner.create(handle, content).await
    }

    /// Whole files are paid for afterwards, by the next call: their length is not known before.
    async fn read(&self, handle: Handle, range: Option<Range<u64>>) -> Result<Bytes> {
        let known = range.as_ref().map(|range| range.end.saturating_sub(range.start));
        self.down.take(known.unwrap_or(1)).await;
        let _permit = self.permit().await;
        let answer = self.inner.read(handle, range).await;
        match (&answer, known) {
            (Ok(content), None) => self.down.charge(content.len() as u64),
            // The file was shorter than the range: nothing came.
            (Err(StorageError::Short(..) | StorageError::NotFound(_)), Some(bytes)) => self.down.give_back(bytes),
            _ => {}
        }
        answer
    }

    async fn stat(&self, handle: Handle) -> Result<FileInfo> {
        let _permit = self.permit().await;
        self.inner.stat(handle).await
    }

    fn list(&self, file_type: FileType) -> BoxStream<'_, Result<FileInfo>> {
        stream::unfold(self.inner.list(file_type), |files| self.next(files)).boxed()
    }

    async fn remove(&self, handle: Handle) -> Result<()> {
        let _permit = self.permit().await;
        self.inner.remove(handle).await
    }

    async fn remove_leftovers(&self, before: Timestamp) -> Result<u64> {
        let _permit = self.permit().await;
        self.inner.remove_leftovers(before).await
    }

    fn advise(&self, handle: &Handle, advice: Advice) {
        self.inner.advise(handle, advice);
    }
}
