//! Writes down every call, so that a test can say what an operation costs and in which order it acts.

use crate::{Advice, FileInfo, FileType, Handle, Properties, Result, Storage};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Records the calls to an inner storage when they begin.
#[derive(Debug)]
pub struct Recording {
    inner: Arc<dyn Storage>,
    calls: Mutex<Vec<Call>>,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// `prepare`.
    Prepare,
    /// `create` of a file with so many bytes.
    Create(Handle, u64),
    /// `read` of a range or of all.
    Read(Handle, Option<Range<u64>>),
    /// `stat`.
    Stat(Handle),
    /// `list`.
    List(FileType),
    /// `remove`.
    Remove(Handle),
    /// `remove_leftovers`.
    RemoveLeftovers,
}

/// The kinds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// `prepare`.
    Prepare,
    /// `create`.
    Create,
    /// `read`.
    Read,
    /// `stat`.
    Stat,
    /// `list`.
    List,
    /// `remove`.
    Remove,
    /// `remove_leftovers`.
    RemoveLeftovers,
}

impl Call {
    /// Its kind.
    pub fn kind(&self) -> CallKind {
        match self {
            Self::Prepare => CallKind::Prepare,
            Self::Create(..) => CallKind::Create,
            Self::Read(..) => CallKind::Read,
            Self::Stat(_) => CallKind::Stat,
            Self::List(_) => CallKind::List,
            Self::Remove(_) => CallKind::Remove,
            Self::RemoveLeftovers => CallKind::RemoveLeftovers,
        }
    }

    /// The type of the files that it is about.
    pub fn file_type(&self) -> Option<FileType> {
        match self {
            Self::Create(handle, _) | Self::Read(handle, _) | Self::Stat(handle) | Self::Remove(handle) => {
                Some(handle.file_type())
            }
            Self::List(file_type) => Some(*file_type),
            Self::Prepare | Self::RemoveLeftovers => None,
        }
    }

    /// Whether it changes what is stored.
    pub fn is_mutating(&self) -> bool {
        matches!(self, Self::Prepare | Self::Create(..) | Self::Remove(_) | Self::RemoveLeftovers)
    }
}

impl fmt::Display for Call {
    /// `create pack 07070707 100`, `read config 0..10`, `list data`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare => f.write_str("prepare"),
            Self::Create(handle, bytes) => write!(f, "create {handle} {bytes}"),
            Self::Read(handle, None) => write!(f, "read {handle}"),
            Self::Read(handle, Some(range)) => write!(f, "read {handle} {}..{}", range.start, range.end),
            Self::Stat(handle) => write!(f, "stat {handle}"),
            Self::List(FileType::Config) => f.write_str("list config"),
            Self::List(file_type) => write!(f, "list {}", file_type.folder()),
            Self::Remove(handle) => write!(f, "remove {handle}"),
            Self::RemoveLeftovers => f.write_str("remove leftovers"),
        }
    }
}

impl Recording {
    /// Records what goes to `inner`.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, calls: Mutex::new(Vec::new()) }
    }

    /// The calls since the last time that this was asked.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.lock())
    }

    /// The same as texts.
    pub fn take_texts(&self) -> Vec<String> {
        self.take().iter().map(Call::to_string).collect()
    }

    /// How many calls of a kind there were since the last `take`.
    pub fn count(&self, kind: CallKind) -> usize {
        self.lock().iter().filter(|call| call.kind() == kind).count()
    }

    fn push(&self, call: Call) {
        self.lock().push(call);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Storage for Recording {
    fn properties(&self) -> Properties {
        self.inner.properties()
    }

    async fn prepare(&self) -> Result<()> {
        self.push(Call::Prepare);
        self.inner.prepare().await
    }

    async fn create(&self, handle: Handle, content: Bytes) -> Result<()> {
        self.push(Call::Create(handle.clone(), content.len() as u64));
        self.inner.create(handle, content).await
    }

    async fn read(&self, handle: Handle, range: Option<Range<u64>>) -> Result<Bytes> {
        self.push(Call::Read(handle.clone(), range.clone()));
        self.inner.read(handle, range).await
    }

    async fn stat(&self, handle: Handle) -> Result<FileInfo> {
        self.push(Call::Stat(handle.clone()));
        self.inner.stat(handle).await
    }

    fn list(&self, file_type: FileType) -> BoxStream<'_, Result<FileInfo>> {
        self.push(Call::List(file_type));
        self.inner.list(file_type)
    }

    async fn remove(&self, handle: Handle) -> Result<()> {
        self.push(Call::Remove(handle.clone()));
        self.inner.remove(handle).await
    }

    async fn remove_leftovers(&self, before: Timestamp) -> Result<u64> {
        self.push(Call::RemoveLeftovers);
        self.inner.remove_leftovers(before).await
    }

    fn advise(&self, handle: &Handle, advice: Advice) {
        self.inner.advise(handle, advice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FileId, conformance, memory::Memory};

    #[tokio::test]
    async fn a_recorded_storage_is_a_storage() {
        conformance::check(&Recording::new(Arc::new(Memory::new()))).await;
        conformance::check_absent(&Recording::new(Arc::new(Memory::absent()))).await;
    }

    #[tokio::test]
    async fn calls_are_written_down_in_order() {
        let recording = Recording::new(Arc::new(Memory::new()));
        let pack = Handle::new(FileType::Pack, FileId([7; 32]));
        recording.prepare().await.unwrap();
        recording.create(pack.clone(), "abc".into()).await.unwrap();
        recording.read(pack.clone(), Some(1..2)).await.unwrap();
        recording.read(pack.clone(), None).await.unwrap();
        recording.stat(Handle::Config).await.unwrap_err();
        drop(recording.list(FileType::Index));
        recording.remove(pack).await.unwrap();
        assert_eq!(recording.count(CallKind::Read), 2);
        let expected = [
            "prepare",
            "create pack 07070707 3",
            "read pack 07070707 1..2",
            "read pack 07070707",
            "stat config",
            "list index",
            "remove pack 07070707",
        ];
        assert_eq!(recording.take_texts(), expected);
        assert_eq!(recording.take(), []);
    }
}
