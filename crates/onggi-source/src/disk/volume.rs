//! The bytes of one part of a disk. Nothing is read beyond its end.

use std::sync::Arc;

use super::{Result, damaged};
use crate::openstack::image::ImageBytes;

/// A part of a disk.
#[derive(Clone)]
pub(crate) struct Volume {
    pub bytes: Arc<dyn ImageBytes>,
    /// Where it begins, in bytes of the disk.
    pub start: u64,
    /// In bytes.
    pub length: u64,
}

impl Volume {
    /// Fills the buffer from a byte of the part.
    pub fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        let end = at.checked_add(buffer.len() as u64).filter(|end| *end <= self.length);
        let Some(from) = end.and_then(|_| self.start.checked_add(at)) else {
            return Err(damaged(format!("it leads to byte {at}, beyond its end")));
        };
        self.bytes.read_exact_at(from, buffer)?;
        Ok(())
    }

    /// So many bytes from a byte of the part.
    pub fn bytes(&self, at: u64, length: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; length];
        self.read(at, &mut buffer)?;
        Ok(buffer)
    }
}
