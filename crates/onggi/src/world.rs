//! Time, randomness and spool for sources.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use onggi_source::{Context, Known, Layout, ReadAt, ReadError, RunId, SourceError, Spool, World};
use onggi_storage::Clock;

/// The real one.
pub struct Machinery {
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
    /// The folder of spool files, made when first needed.
    pub spool: PathBuf,
}

#[async_trait]
impl World for Machinery {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        self.clock.fill_random(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    async fn spool(&self, run: &RunId, name: &str) -> Result<Box<dyn Spool>, SourceError> {
        let path = self.spool.join(format!("{run}-{:016x}", self.random()));
        let made = self.make(&path);
        let file = made.map_err(|error| SourceError::Incomplete(format!("spool {name} cannot be made: {error}")))?;
        Ok(Box::new(SpoolFile { file: Arc::new(file), length: 0 }))
    }
}

impl Machinery {
    /// A private file without a name: it goes with the process, whatever happens.
    fn make(&self, path: &std::path::Path) -> std::io::Result<File> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.spool)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        std::fs::remove_file(path)?;
        Ok(file)
    }
}

fn unwritten(error: &std::io::Error) -> SourceError {
    let text = format!("spool cannot be written: {error}");
    let is_full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    if is_full { SourceError::Full(text) } else { SourceError::Incomplete(text) }
}

struct SpoolFile {
    file: Arc<File>,
    length: u64,
}

#[async_trait]
impl Spool for SpoolFile {
    async fn reserve(&mut self, bytes: u64) -> Result<(), SourceError> {
        let found = rustix::fs::fstatvfs(&*self.file).map_err(|error| unwritten(&error.into()))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if bytes <= free {
            return Ok(());
        }
        Err(SourceError::Full(format!("the spool needs {bytes} bytes and its disk has {free}")))
    }

    async fn append(&mut self, bytes: Bytes) -> Result<(), SourceError> {
        let (file, at, length) = (Arc::clone(&self.file), self.length, bytes.len() as u64);
        let written = tokio::task::spawn_blocking(move || file.write_all_at(&bytes, at)).await;
        written.map_err(std::io::Error::other).flatten().map_err(|error| unwritten(&error))?;
        self.length += length;
        Ok(())
    }

    fn length(&self) -> u64 {
        self.length
    }
}

#[async_trait]
impl ReadAt for SpoolFile {
    async fn open(&self, _cx: &Context, _known: &Known<'_>) -> Result<Layout, ReadError> {
        Ok(Layout::dense(self.length))
    }

    async fn read(&self, cx: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        cx.check()?;
        let read = self.file.read_exact_at(buffer, offset);
        read.map_err(|error| SourceError::Incomplete(format!("spool cannot be read: {error}")).into())
    }
}
