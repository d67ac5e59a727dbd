//! The content of a disk out of the image that the cloud made of it.
//!
//! A qcow2 is read as the disk that it holds: holes stay holes. One whose tables cannot be had [first](super::arriving)
//! is fetched as a whole, since they may lie anywhere. A raw image flows through. What the image module refuses to decode
//! is stored as it came.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tokio::runtime::Handle;

use super::cloud::{Cloud, text};
use super::download::Download;
use super::image::{Format, ImageBytes, ImageError, Inspection, Inspector, Qcow2, inspect};
use crate::carrier::lost;
use crate::context::{Context, Spool};
use crate::item::{Chunking, Layout};
use crate::source::{ByteStream, Known, ReadAt, ReadError, Result, SourceError};

/// The smallest piece that a disk is cut into, in bytes.
const CHUNK_BYTES_MIN: u64 = 64 << 10;
/// The largest.
const CHUNK_BYTES_MAX: u64 = 8 << 20;
/// More pieces than these make lists (8 MiB of each disk and snapshot) and an index that do not pay.
const CHUNKS_MAX: u64 = 1 << 17;
/// Ranges with data that are told apart.
const RANGES_MAX: usize = 1 << 16;

/// Where a disk is cut: at multiples, because its content never moves; finely, as long as it is small.
pub(super) fn chunking(length: u64) -> Chunking {
    let wanted = length.div_ceil(CHUNKS_MAX).next_power_of_two();
    let bytes = wanted.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
    Chunking::Fixed(u32::try_from(bytes).expect("the largest piece has 8 MiB"))
}

/// A fetched image, ready to be stored.
pub(super) enum Fetched {
    /// The disk in it.
    Disk(Disk, Inspection),
    /// As it came, and why.
    File(Arc<dyn Spool>, String),
}

/// Fetches an image's file whole and looks what it is.
pub(super) async fn fetch(cx: &Context, cloud: Arc<dyn Cloud>, image: &Value) -> Result<Fetched> {
    let mut download = Download::new(cx, cloud, image);
    let spool = cx.world.spool(&cx.run, &format!("image-{}", text(image, "id"))).await?;
    spool.reserve(download.length()).await?;
    let mut came = download.next(cx).await.map_err(lost)?;
    while let Some(bytes) = came {
        // What comes is hashed while what came is written.
        let (written, next) = futures::join!(spool.append(bytes), download.next(cx));
        written?;
        came = next.map_err(lost)?;
    }
    let declared = Some(text(image, "disk_format")).filter(|format| !format.is_empty());
    look(cx, Arc::from(spool), declared).await
}

/// Looks what an image's file is; its cloud may have declared it.
pub(super) async fn look(cx: &Context, spool: Arc<dyn Spool>, declared: Option<&str>) -> Result<Fetched> {
    let length = spool.length();
    let mut start = vec![0; Format::START_BYTES.min(usize::try_from(length).unwrap_or(usize::MAX))];
    spool.read(cx, 0, &mut start).await.map_err(lost)?;
    match Format::of(declared, &start) {
        Ok(Format::Qcow2) => decoded(cx, spool, length).await,
        Ok(Format::Raw) => {
            let bytes = Spooled::new(cx, &spool);
            let inspection =
                blocking(move || inspect(length, |offset, buffer: &mut [u8]| bytes.read_exact_at(offset, buffer)));
            let inspection = inspection.await?.map_err(|error| unread(&error))?;
            Ok(Fetched::Disk(Disk::Raw(spool), inspection))
        }
        Ok(Format::Other(name)) => Ok(Fetched::File(spool, format!("its format is {name}"))),
        Err(error) => Ok(Fetched::File(spool, error.to_string())),
    }
}

async fn decoded(cx: &Context, spool: Arc<dyn Spool>, length: u64) -> Result<Fetched> {
    let bytes = Spooled::new(cx, &spool);
    let opened = blocking(move || {
        let image = Qcow2::open(bytes, length)?;
        let inspection =
            inspect(image.virtual_size(), |offset, buffer: &mut [u8]| image.read_exact_at(offset, buffer))?;
        Ok::<_, ImageError>((Arc::new(image), inspection))
    });
    match opened.await? {
        Ok((image, inspection)) => Ok(Fetched::Disk(Disk::Qcow2(image), inspection)),
        Err(error) if error.is_refusal() => Ok(Fetched::File(spool, error.to_string())),
        Err(error) => Err(SourceError::Incomplete(format!("its spool: {error}"))),
    }
}

fn unread(error: &io::Error) -> SourceError {
    SourceError::Incomplete(format!("its spool: {error}"))
}

/// Work that reads a file, away from the threads that carry bytes.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| SourceError::Incomplete(format!("read an image: {error}")))
}

/// A spool as bytes that are read without awaiting.
pub(super) struct Spooled {
    spool: Arc<dyn Spool>,
    cx: Context,
    runtime: Handle,
}

impl Spooled {
    fn new(cx: &Context, spool: &Arc<dyn Spool>) -> Self {
        Self { spool: Arc::clone(spool), cx: cx.clone(), runtime: Handle::current() }
    }
}

impl ImageBytes for Spooled {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.runtime
            .block_on(self.spool.read(&self.cx, offset, buffer))
            .map_err(|error| io::Error::other(error.to_string()))
    }
}

/// A disk whose image lies in the spool.
#[derive(Clone)]
pub(super) enum Disk {
    Qcow2(Arc<Qcow2<Spooled>>),
    Raw(Arc<dyn Spool>),
}

impl Disk {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Qcow2(image) => image.virtual_size(),
            Self::Raw(spool) => spool.length(),
        }
    }
}

#[async_trait]
impl ReadAt for Disk {
    async fn open(&self, cx: &Context, known: &Known<'_>) -> Result<Layout, ReadError> {
        match self {
            Self::Raw(spool) => spool.open(cx, known).await,
            Self::Qcow2(image) => layout_of(image).await,
        }
    }

    async fn read(&self, cx: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        match self {
            Self::Raw(spool) => spool.read(cx, offset, buffer).await,
            Self::Qcow2(image) => read_of(image, cx, offset, buffer).await,
        }
    }
}

/// Where the disk in an image has data.
pub(super) async fn layout_of<B: ImageBytes + 'static>(image: &Arc<Qcow2<B>>) -> Result<Layout, ReadError> {
    let (image, length) = (Arc::clone(image), image.virtual_size());
    let data = blocking(move || image.data(RANGES_MAX)).await?;
    let data = data.map_err(|error| SourceError::Incomplete(format!("its tables: {error}")))?;
    Ok(Layout { length, data, same: Vec::new() })
}

/// Bytes of the disk in an image.
pub(super) async fn read_of<B: ImageBytes + 'static>(
    image: &Arc<Qcow2<B>>,
    cx: &Context,
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), ReadError> {
    cx.check()?;
    let (image, mut own) = (Arc::clone(image), vec![0; buffer.len()]);
    let read = blocking(move || image.read_exact_at(offset, &mut own).map(|()| own)).await?;
    buffer.copy_from_slice(&read.map_err(|error| SourceError::Incomplete(format!("its content: {error}")))?);
    Ok(())
}

/// A raw image as it flows by, looked at on its way.
pub(super) struct Flowing {
    download: Download,
    inspector: Option<Inspector>,
    offset: u64,
}

impl Flowing {
    pub(super) fn new(download: Download) -> Self {
        let inspector = Some(Inspector::new(download.length()));
        Self { download, inspector, offset: 0 }
    }

    /// What was seen, at its end.
    pub(super) fn inspection(&mut self) -> Option<Inspection> {
        self.inspector.take().map(Inspector::finish)
    }
}

#[async_trait]
impl ByteStream for Flowing {
    async fn next(&mut self, cx: &Context) -> Result<Option<Bytes>, ReadError> {
        let bytes = self.download.next(cx).await?;
        if let (Some(bytes), Some(inspector)) = (&bytes, &mut self.inspector) {
            inspector.feed(self.offset, bytes);
            self.offset += bytes.len() as u64;
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_is_cut_finely_and_a_large_one_has_not_too_many_pieces() {
        for (length, bytes) in
            [(0, 64 << 10), (8 << 30, 64 << 10), (20 << 30, 256 << 10), (1 << 40, 8 << 20), (1 << 50, 8 << 20)]
        {
            assert_eq!(chunking(length), Chunking::Fixed(bytes), "{length}");
        }
    }
}
