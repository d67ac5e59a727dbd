//! A snapshot in which free pages are zeros: what was deleted is then not in it either. Its trailer is that of these
//! bytes, so that it restores as the other would.

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use super::bolt::{FileBytes as _, Reached, Slice};
use super::snapshot::TRAILER_BYTES;
use crate::context::Context;
use crate::item::Layout;
use crate::source::{Known, ReadAt, ReadError, Result};

/// How much is hashed at once, in bytes.
const STEP_BYTES: u64 = 64 << 10;

/// A snapshot without its free pages.
pub(super) struct Blanked<'a> {
    content: &'a dyn ReadAt,
    used: &'a Reached,
    page_bytes: u64,
    db_size: u64,
    trailer: [u8; TRAILER_BYTES as usize],
}

impl<'a> Blanked<'a> {
    /// Reads it once for its trailer.
    pub async fn new(
        cx: &Context,
        content: &'a dyn ReadAt,
        used: &'a Reached,
        page_bytes: u32,
        db_size: u64,
    ) -> Result<Self> {
        let trailer = [0; TRAILER_BYTES as usize];
        let mut blanked = Self { content, used, page_bytes: page_bytes.into(), db_size, trailer };
        let (bytes_of, mut hash, mut step) =
            (Slice::new(cx, content, db_size), Sha256::new(), vec![0; STEP_BYTES as usize]);
        for offset in (0..db_size).step_by(STEP_BYTES as usize) {
            let length = STEP_BYTES.min(db_size - offset) as usize;
            let bytes = &mut step[..length];
            bytes_of.read(offset, bytes).await?;
            blanked.blank(offset, bytes);
            hash.update(bytes);
        }
        blanked.trailer = hash.finalize().into();
        Ok(blanked)
    }

    /// Clears what of these bytes lies in free pages.
    fn blank(&self, offset: u64, bytes: &mut [u8]) {
        let end = offset + bytes.len() as u64;
        for page in offset / self.page_bytes..end.div_ceil(self.page_bytes) {
            if !self.used.has(page) {
                let from = (page * self.page_bytes).max(offset) - offset;
                let until = ((page + 1) * self.page_bytes).min(end) - offset;
                bytes[from as usize..until as usize].fill(0);
            }
        }
    }
}

#[async_trait]
impl ReadAt for Blanked<'_> {
    async fn open(&self, _cx: &Context, _known: &Known<'_>) -> Result<Layout, ReadError> {
        Ok(Layout::dense(self.db_size + TRAILER_BYTES))
    }

    async fn read(&self, cx: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let pages = self.db_size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let (database, trailer) = buffer.split_at_mut(pages);
        if !database.is_empty() {
            self.content.read(cx, offset, database).await?;
            self.blank(offset, database);
        }
        let from = (offset + pages as u64).saturating_sub(self.db_size) as usize;
        for (byte, own) in trailer.iter_mut().zip(self.trailer.iter().skip(from)) {
            *byte = *own;
        }
        Ok(())
    }
}
