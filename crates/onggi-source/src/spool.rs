//! A spool in a file of this machine.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use crate::context::{Context, Spool};
use crate::item::Layout;
use crate::source::{Known, ReadAt, ReadError, Result, SourceError};

/// Bytes in a file, from its beginning. Best one without a name: it goes with the process, whatever happens.
pub struct FileSpool {
    file: Arc<File>,
    /// Written by one, read by several.
    length: AtomicU64,
}

impl FileSpool {
    /// Over an empty file that can be read and written.
    pub fn new(file: File) -> Self {
        Self { file: Arc::new(file), length: AtomicU64::new(0) }
    }

    /// Over a file that has its content already, which is only read.
    pub fn filled(file: File) -> io::Result<Self> {
        let length = AtomicU64::new(file.metadata()?.len());
        Ok(Self { file: Arc::new(file), length })
    }
}

fn unwritten(error: &io::Error) -> SourceError {
    SourceError::unwritten("spool cannot be written", error)
}

#[async_trait]
impl Spool for FileSpool {
    async fn reserve(&self, bytes: u64) -> Result<()> {
        let found = rustix::fs::fstatvfs(&*self.file).map_err(|error| unwritten(&error.into()))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if bytes <= free {
            return Ok(());
        }
        Err(SourceError::Full(format!("the spool needs {bytes} bytes and its disk has {free}")))
    }

    async fn append(&self, bytes: Bytes) -> Result<()> {
        let (file, at, length) = (Arc::clone(&self.file), self.length(), bytes.len() as u64);
        let written = tokio::task::spawn_blocking(move || file.write_all_at(&bytes, at)).await;
        written.map_err(io::Error::other).flatten().map_err(|error| unwritten(&error))?;
        self.length.store(at + length, Ordering::Release);
        Ok(())
    }

    fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }
}

#[async_trait]
impl ReadAt for FileSpool {
    async fn open(&self, _cx: &Context, _known: &Known<'_>) -> Result<Layout, ReadError> {
        Ok(Layout::dense(self.length()))
    }

    async fn read(&self, cx: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        cx.check()?;
        let read = self.file.read_exact_at(buffer, offset);
        read.map_err(|error| SourceError::Incomplete(format!("spool cannot be read: {error}")).into())
    }
}
