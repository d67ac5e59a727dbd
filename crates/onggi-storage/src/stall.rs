//! A limit on the silence of a storage: a call that does not end in time fails as unreachable, and can be repeated.

use crate::{Advice, Clock, FileInfo, FileType, Handle, Properties, Result, Storage, StorageError};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    future::{self, Either, Future},
    pin_mut,
    stream::{self, BoxStream, StreamExt},
};
use jiff::Timestamp;
use std::{ops::Range, sync::Arc, time::Duration};

/// How long a storage may say nothing.
pub const STALL_LIMIT: Duration = Duration::from_mins(2);

/// A transfer is given one more second for each of these bytes: 256 kbit/s, below which no backup ends.
const SLOWEST_BYTES_PER_SECOND: u64 = 32 * 1024;

/// What a whole file is taken to have at most, where its length is not known before: control files have far less.
const WHOLE_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Ends calls that take too long.
///
/// It stands directly around the connection, below [`Limit`](crate::limit::Limit): waiting for one's turn is no stall.
#[derive(Debug)]
pub struct Stall {
    inner: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    limit: Duration,
}

type Files<'a> = BoxStream<'a, Result<FileInfo>>;

/// A call did not end in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
struct NoAnswer(Duration);

impl Stall {
    /// Limits the silence of `inner` to `limit`, besides the time that its bytes take.
    pub fn new(inner: Arc<dyn Storage>, limit: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { inner, clock, limit }
    }

    async fn within<T>(&self, bytes: u64, call: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = self.limit + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND);
        let end = self.clock.reach(self.clock.elapsed() + limit);
        pin_mut!(call);
        match future::select(call, end).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => Err(StorageError::Unreachable(NoAnswer(limit).into())),
        }
    }

    /// The next item of a list and what follows it; nothing follows an error.
    async fn next<'a>(&'a self, files: Option<Files<'a>>) -> Option<(Result<FileInfo>, Option<Files<'a>>)> {
        let mut files = files?;
        let item = self.within(0, async { files.next().await.transpose() }).await.transpose()?;
        let rest = item.is_ok().then_some(files);
        Some((item, rest))
    }
}

#[async_trait]
impl Storage for Stall {
    fn properties(&self) -> Properties {
        self.inner.properties()
    }

    async fn prepare(&self) -> Result<()> {
        self.within(0, self.inner.prepare()).await
    }

    async fn create(&self, handle: Handle, content: Bytes) -> Result<()> {
        self.within(content.len() as u64, self.inner.create(handle, content)).await
    }

    async fn read(&self, handle: Handle, range: Option<Range<u64>>) -> Result<Bytes> {
        let bytes = range.as_ref().map_or(WHOLE_FILE_BYTES, |range| range.end.saturating_sub(range.start));
        self.within(bytes, self.inner.read(handle, range)).await
    }

    async fn stat(&self, handle: Handle) -> Result<FileInfo> {
        self.within(0, self.inner.stat(handle)).await
    }

    /// Limits the silence before each file, not the whole list. After it the list ends.
    fn list(&self, file_type: FileType) -> BoxStream<'_, Result<FileInfo>> {
        stream::unfold(Some(self.inner.list(file_type)), |files| self.next(files)).boxed()
    }

    async fn remove(&self, handle: Handle) -> Result<()> {
        self.within(0, self.inner.remove(handle)).await
    }

    async fn remove_leftovers(&self, before: Timestamp) -> Result<u64> {
        // A walk through every folder, which sends nothing while it goes on.
        self.inner.remove_leftovers(before).await
    }

    fn advise(&self, handle: &Handle, advice: Advice) {
        self.inner.advise(handle, advice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        FileId,
        clock::TestClock,
        conformance,
        faulty::{Fault, Faulty, Rule},
        memory::Memory,
        recording::CallKind,
    };

    fn silent(rule: Rule) -> (TestClock, Stall) {
        let clock = TestClock::new(1);
        let faulty = Faulty::new(Arc::new(Memory::new())).with(rule);
        (clock.clone(), Stall::new(Arc::new(faulty), STALL_LIMIT, Arc::new(clock)))
    }

    #[tokio::test]
    async fn a_storage_that_answers_is_a_storage() {
        let clock = Arc::new(TestClock::new(1));
        conformance::check(&Stall::new(Arc::new(Memory::new()), STALL_LIMIT, clock.clone())).await;
        conformance::check_absent(&Stall::new(Arc::new(Memory::absent()), STALL_LIMIT, clock)).await;
    }

    #[tokio::test]
    async fn silence_ends_as_unreachable() {
        let (clock, stall) = silent(Rule::new(Fault::Hang).always());
        let call = stall.stat(Handle::Config);
        pin_mut!(call);
        assert!(futures::poll!(&mut call).is_pending());
        clock.advance(STALL_LIMIT / 2);
        assert!(futures::poll!(&mut call).is_pending());
        clock.advance(STALL_LIMIT / 2);
        assert!(matches!(call.await, Err(StorageError::Unreachable(_))));
    }

    #[tokio::test]
    async fn many_bytes_are_given_more_time() {
        let (clock, stall) = silent(Rule::new(Fault::Hang).on(CallKind::Create));
        let call = stall.create(Handle::new(FileType::Pack, FileId([1; 32])), vec![0; 1024 * 1024].into());
        pin_mut!(call);
        assert!(futures::poll!(&mut call).is_pending());
        clock.advance(STALL_LIMIT + Duration::from_secs(31));
        assert!(futures::poll!(&mut call).is_pending());
        clock.advance(Duration::from_secs(1));
        assert!(call.await.unwrap_err().is_transient());
    }

    #[tokio::test]
    async fn a_list_that_falls_silent_ends_with_an_error() {
        let (clock, stall) = silent(Rule::new(Fault::Hang).on(CallKind::List));
        let mut list = stall.list(FileType::Pack);
        {
            let next = list.next();
            pin_mut!(next);
            assert!(futures::poll!(&mut next).is_pending());
            clock.advance(STALL_LIMIT);
            assert!(matches!(next.await, Some(Err(StorageError::Unreachable(_)))));
        }
        assert!(list.next().await.is_none());
    }
}
