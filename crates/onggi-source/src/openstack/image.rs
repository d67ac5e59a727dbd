//! Disk images as clouds hand them out: what format a file has, what it says of its disk, and which file systems are on
//! it. An image is written by a stranger: nothing in it is believed, no other file that it names is opened, and what is
//! held does not grow with what it claims.
//!
//! [`Format`] says how a file is to be stored, [`Qcow2`] reads the disk inside a qcow2 file, [`Qcow2Plan`] writes one in
//! a single pass, and [`Inspector`] finds the file systems of a disk and whether they were at rest.

mod format;
mod inspect;
mod qcow2;
mod write;

use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::source::SourceError;

pub use format::Format;
pub use inspect::{FileSystem, Inspection, Inspector, Partition, State, Table, inspect, inspect_backup};
pub use qcow2::{Compression, Extent, ExtentKind, Extents, Header, Place, Qcow2};
pub use write::{Piece, Qcow2Plan};

/// Why an image is not read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It asks for something that is never done: it is kept as it came.
    #[error("the image is not decoded: {0}")]
    Refused(String),
    /// It is damaged, or made to do damage.
    #[error("the image is damaged: {0}")]
    Structure(String),
    /// Its bytes cannot be had.
    #[error("the image cannot be read: {0}")]
    Read(#[from] io::Error),
}

impl ImageError {
    /// Whether it is the image's own doing: it is kept as it came, and another attempt ends alike.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Read(_))
    }
}

impl From<ImageError> for SourceError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Refused(_) => Self::Refused(error.to_string()),
            ImageError::Structure(_) => Self::Damaged(error.to_string()),
            ImageError::Read(_) => Self::Incomplete(error.to_string()),
        }
    }
}

fn wrong(what: impl Into<String>) -> ImageError {
    ImageError::Structure(what.into())
}

/// The bytes of a file at any offset.
pub trait ImageBytes: Send + Sync {
    /// Fills the buffer completely.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ImageBytes for File {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ImageBytes for [u8] {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)?.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl ImageBytes for Vec<u8> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_exact_at(offset, buffer)
    }
}

impl<T: ImageBytes + ?Sized> ImageBytes for &T {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, buffer)
    }
}

impl<T: ImageBytes + ?Sized> ImageBytes for Arc<T> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, buffer)
    }
}

/// Big-endian numbers, as qcow2 and XFS write them; 0 where the bytes end before.
pub(crate) fn be_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(field(bytes, at))
}

pub(crate) fn be_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(field(bytes, at))
}

pub(crate) fn be_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(field(bytes, at))
}

/// Little-endian numbers, as partition tables and ext4 write them; 0 where the bytes end before.
pub(crate) fn le_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(bytes, at))
}

pub(crate) fn le_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}

pub(crate) fn le_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}
