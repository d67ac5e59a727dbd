//! Repeats calls that failed for a reason that may pass, until they succeed or the budget of time is used up.
//!
//! Retrying lives here and nowhere else. What failed with an answer that will not change (not found, short, denied,
//! full, wrong identity) is not repeated.

use crate::{
    Advice, Clock, FileInfo, FileType, Handle, Properties, Result, Storage, StorageError, clock::random_below, sabotage,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt, TryStreamExt},
};
use jiff::Timestamp;
use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Repeats failed calls of an inner storage.
#[derive(Debug)]
pub struct Retry {
    inner: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    limits: RetryLimits,
    repeated: AtomicU64,
}

/// How long and how often to repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryLimits {
    /// From the first failure of a call to its last attempt.
    pub budget: Duration,
    /// Bound of the first wait; each further one is twice as long.
    pub first_wait: Duration,
    /// Bound that waits do not exceed, unless the storage asks for more.
    pub longest_wait: Duration,
}

impl RetryLimits {
    /// A quarter of an hour, waits from half a second to one minute.
    pub const STANDARD: Self = Self {
        budget: Duration::from_mins(15),
        first_wait: Duration::from_millis(500),
        longest_wait: Duration::from_mins(1),
    };
}

/// A disk of this machine that answers wrongly is broken or gone: what does not pass at once does not pass.
const LOCAL_FAULT_BUDGET: Duration = Duration::from_secs(10);

/// What earlier attempts of a call may have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing: this is the first, or the storage refused to begin.
    Nothing,
    /// Perhaps all of it: the answer was lost.
    Perhaps,
}

/// An answer contradicts the question or itself.
#[derive(Debug, thiserror::Error)]
enum WrongAnswer {
    #[error("{asked} bytes were asked for and {got} came")]
    Length { asked: u64, got: u64 },
    #[error("{0} is listed with two sizes")]
    TwoSizes(Handle),
}

impl Retry {
    /// Repeats calls of `inner` within limits.
    pub fn new(inner: Arc<dyn Storage>, limits: RetryLimits, clock: Arc<dyn Clock>) -> Self {
        Self { inner, clock, limits, repeated: AtomicU64::new(0) }
    }

    /// How many attempts were repeated so far.
    pub fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    async fn repeat<'a, T>(
        &'a self,
        act: &'static str,
        what: &(dyn fmt::Display + Sync),
        attempt: impl Fn(Before) -> BoxFuture<'a, Result<T>> + Send + Sync,
    ) -> Result<T> {
        let mut before = Before::Nothing;
        let mut attempts = Attempts::new(self.limits, &*self.clock);
        attempts.is_local = self.inner.properties().is_local;
        loop {
            let error = match attempt(before).await {
                Err(error) if error.is_transient() => error,
                answer => return answer,
            };
            if !matches!(error, StorageError::Busy(..)) {
                before = Before::Perhaps;
            }
            attempts.wait_after(error, act, what).await?;
            self.repeated.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Creates, unless an earlier attempt did: then the file is compared instead of being sent again. A local file is
    /// created again all the same, since that also makes the existing one durable.
    async fn create_unless_done(&self, handle: Handle, content: Bytes, before: Before) -> Result<()> {
        if before == Before::Perhaps && !self.inner.properties().is_local {
            match self.holds(&handle, &content).await {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(StorageError::AlreadyExists(handle)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        self.inner.create(handle, content).await
    }

    /// Whether a file that is there holds exactly this.
    async fn holds(&self, handle: &Handle, content: &Bytes) -> Result<bool> {
        let size = self.inner.stat(handle.clone()).await?.size;
        Ok(size == content.len() as u64 && self.inner.read(handle.clone(), None).await? == content)
    }

    async fn read_exactly(&self, handle: Handle, range: Option<Range<u64>>) -> Result<Bytes> {
        let asked = range.as_ref().map(|range| range.end.saturating_sub(range.start));
        let content = self.inner.read(handle, range).await?;
        match asked {
            Some(asked) if asked != content.len() as u64 && !sabotage::SHORT_BODY_ACCEPTED.is_on() => {
                let got = content.len() as u64;
                Err(StorageError::Faulty(WrongAnswer::Length { asked, got }.into()))
            }
            _ => Ok(content),
        }
    }

    /// Takes a list as a whole: one that broke off is thrown away and begun anew, never continued or taken for all.
    async fn list_whole(&self, file_type: FileType) -> Result<Vec<FileInfo>> {
        let listed = self.inner.list(file_type).try_collect().await;
        let mut files: Vec<FileInfo> = match listed {
            Err(_) if sabotage::FAILED_LIST_IS_EMPTY.is_on() => Vec::new(),
            listed => listed?,
        };
        files.sort_unstable_by(|one, two| one.handle.cmp(&two.handle));
        files.dedup();
        match files.windows(2).find(|pair| pair[0].handle == pair[1].handle) {
            Some(pair) => Err(StorageError::Faulty(WrongAnswer::TwoSizes(pair[0].handle.clone()).into())),
            None => Ok(files),
        }
    }
}

/// The attempts at one call.
struct Attempts<'a> {
    limits: RetryLimits,
    clock: &'a dyn Clock,
    number: u32,
    failed_first_at: Option<Duration>,
    is_local: bool,
}

impl<'a> Attempts<'a> {
    fn new(limits: RetryLimits, clock: &'a dyn Clock) -> Self {
        Self { limits, clock, number: 0, failed_first_at: None, is_local: false }
    }

    /// Waits before the next attempt; gives the error back if there is to be none.
    async fn wait_after(&mut self, error: StorageError, act: &str, what: &(dyn fmt::Display + Sync)) -> Result<()> {
        let now = self.clock.elapsed();
        let failed_first_at = *self.failed_first_at.get_or_insert(now);
        let wait = self.wait(&error);
        let budget = match &error {
            StorageError::Faulty(_) if self.is_local => self.limits.budget.min(LOCAL_FAULT_BUDGET),
            _ => self.limits.budget,
        };
        if !error.is_transient() || now.saturating_add(wait) > failed_first_at + budget {
            return Err(error);
        }
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(act, %what, %error, cause, wait_ms = wait.as_millis() as u64, "storage call is repeated");
        self.number += 1;
        self.clock.sleep(wait).await;
        Ok(())
    }

    /// Exponential with full jitter, so that many clients do not come back in step; at least what the storage asks.
    fn wait(&self, error: &StorageError) -> Duration {
        let doubled = self.limits.first_wait.saturating_mul(1_u32.checked_shl(self.number).unwrap_or(u32::MAX));
        let bound = doubled.min(self.limits.longest_wait);
        let jitter = Duration::from_millis(random_below(self.clock, bound.as_millis() as u64 + 1));
        match error {
            StorageError::Busy(Some(asked), _) => Duration::from_secs(*asked).saturating_add(jitter),
            _ => jitter,
        }
    }
}

/// Opens a storage, again and again within limits while it cannot be reached.
pub async fn open<T>(limits: RetryLimits, clock: &dyn Clock, open: impl AsyncFn() -> Result<T>) -> Result<T> {
    let mut attempts = Attempts::new(limits, clock);
    loop {
        match open().await {
            Err(error) => attempts.wait_after(error, "open", &"storage").await?,
            opened => return opened,
        }
    }
}

#[async_trait]
impl Storage for Retry {
    fn properties(&self) -> Properties {
        self.inner.properties()
    }

    async fn prepare(&self) -> Result<()> {
        self.repeat("prepare", &"place", |_| self.inner.prepare()).await
    }

    async fn create(&self, handle: Handle, content: Bytes) -> Result<()> {
        let attempt =
            |before| -> BoxFuture<'_, _> { Box::pin(self.create_unless_done(handle.clone(), content.clone(), before)) };
        self.repeat("create", &handle, attempt).await
    }

    async fn read(&self, handle: Handle, range: Option<Range<u64>>) -> Result<Bytes> {
        let attempt = |_| -> BoxFuture<'_, _> { Box::pin(self.read_exactly(handle.clone(), range.clone())) };
        self.repeat("read", &handle, attempt).await
    }

    async fn stat(&self, handle: Handle) -> Result<FileInfo> {
        self.repeat("stat", &handle, |_| self.inner.stat(handle.clone())).await
    }

    /// In order of names, each once; the first item is an error or the list is complete.
    fn list(&self, file_type: FileType) -> BoxStream<'_, Result<FileInfo>> {
        let whole = async move {
            self.repeat("list", &file_type.folder(), |_| -> BoxFuture<'_, _> { Box::pin(self.list_whole(file_type)) })
                .await
        };
        stream::once(whole).map_ok(|files| stream::iter(files).map(Ok)).try_flatten().boxed()
    }

    /// What an attempt whose answer was lost may have removed counts as removed.
    async fn remove(&self, handle: Handle) -> Result<()> {
        let attempt = |before| -> BoxFuture<'_, _> {
            let handle = handle.clone();
            Box::pin(async move {
                match self.inner.remove(handle).await {
                    Err(StorageError::NotFound(_)) if before == Before::Perhaps => Ok(()),
                    answer => answer,
                }
            })
        };
        self.repeat("remove", &handle, attempt).await
    }

    async fn remove_leftovers(&self, before: Timestamp) -> Result<u64> {
        self.repeat("remove", &"leftovers", |_| self.inner.remove_leftovers(before)).await
    }

    fn advise(&self, handle: &Handle, advice: Advice) {
        self.inner.advise(handle, advice);
    }
}

#[cfg(test)]
mod tests;
