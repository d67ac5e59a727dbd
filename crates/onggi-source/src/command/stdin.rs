//! Bytes that somebody else sends, as one file: `onggi backup --stdin`.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::capture::{Place, push_file, refuse_empty};
use crate::context::Context;
use crate::path::TreePath;
use crate::source::{
    Base, ByteStream, Capabilities, Capture, Facts, Image, Items, ReadError, Result, Source, SourceError, Unit,
};

/// Length of one read, in bytes.
const READ_BYTES: usize = 64 << 10;

type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// A source over a stream that is already flowing; it can be captured once.
///
/// The end of the stream is all there is to confirm it: whoever writes it and dies is not noticed unless nothing came at
/// all. A `command` is, so it is to be preferred.
pub struct Stdin {
    reader: Mutex<Option<Reader>>,
    file: TreePath,
    unit: Unit,
    allow_empty: bool,
}

impl Stdin {
    /// A source whose one unit is this and whose tree is this file. Nothing is read yet.
    pub fn new(reader: impl AsyncRead + Send + Unpin + 'static, file: TreePath, unit: Unit) -> Self {
        Self { reader: Mutex::new(Some(Box::new(reader))), file, unit, allow_empty: false }
    }

    /// The same, with an empty stream being a good one.
    #[must_use]
    pub fn allow_empty(self) -> Self {
        Self { allow_empty: true, ..self }
    }
}

#[async_trait]
impl Source for Stdin {
    fn capabilities(&self) -> Capabilities {
        Capabilities { freezes: false, image: Image::Fixed, chains: false, destinations: &[] }
    }

    async fn preflight(&self, cx: &Context) -> Result<()> {
        cx.check()?;
        Ok(())
    }

    async fn discover(&self, _cx: &Context) -> Result<Vec<Unit>> {
        Ok(vec![self.unit.clone()])
    }

    async fn capture<'a>(&'a self, cx: &Context, _unit: &Unit, _base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        cx.check()?;
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(already_read)?;
        Ok(Box::new(Flowing { source: self, reader: Some(reader), taken_at: cx.world.now() }))
    }
}

fn already_read() -> SourceError {
    SourceError::Incomplete("the input was already read once".to_owned())
}

struct Flowing<'a> {
    source: &'a Stdin,
    reader: Option<Reader>,
    taken_at: Timestamp,
}

#[async_trait]
impl Capture for Flowing<'_> {
    async fn items(&mut self, _cx: &Context, out: &dyn Items) -> Result<Facts> {
        let reader = self.reader.take().ok_or_else(already_read)?;
        let mut stream = UntilClosed { reader, length: 0, allow_empty: self.source.allow_empty };
        let place = Place { root: self.source.file.clone(), file: self.source.file.clone() };
        push_file(out, &place, self.taken_at, &mut stream).await?;
        Ok(Facts { roots: vec![place.root], ..Facts::new(self.taken_at) })
    }
}

struct UntilClosed {
    reader: Reader,
    length: u64,
    allow_empty: bool,
}

#[async_trait]
impl ByteStream for UntilClosed {
    async fn next(&mut self, cx: &Context) -> Result<Option<Bytes>, ReadError> {
        let mut piece = BytesMut::with_capacity(READ_BYTES);
        let read = cx.unless_stopped(self.reader.read_buf(&mut piece)).await?;
        let length = read.map_err(|error| SourceError::Incomplete(format!("read input: {error}")))?;
        self.length += length as u64;
        if length > 0 {
            return Ok(Some(piece.freeze()));
        }
        refuse_empty(self.length, self.allow_empty)?;
        Ok(None)
    }
}
