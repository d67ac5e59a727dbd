//! How far the reading of a long file came: noted in the run journal, so that an interrupted run goes on at the last cut.
//! A file whose source says nothing of its version leaves no trail, since nothing could tell that it is still the same.

use super::manifest::from_hex;
use onggi_repo::archive::{Archive, ContentWriter};
use onggi_source::hex::hexadecimal;
use onggi_source::{Item, TreePath, Version};

/// A checkpoint is noted each time so many bytes came in.
const CHECKPOINT_BYTES: u64 = 256 << 20;

pub(super) struct Trail<'a> {
    path: &'a TreePath,
    version: String,
    /// The next checkpoint is due when the content is so long.
    next: u64,
}

impl<'a> Trail<'a> {
    pub fn new(item: &'a Item) -> Option<Self> {
        Some(Self { path: &item.path, version: version(item)?, next: CHECKPOINT_BYTES })
    }

    /// Takes over what an interrupted run had read of the same version, at most `length` bytes, and returns where reading
    /// goes on.
    pub async fn resume(
        &mut self,
        archive: &Archive,
        writer: &mut ContentWriter,
        length: u64,
    ) -> onggi_repo::Result<u64> {
        let chunks = archive.resume(self.path.as_bytes(), &self.version);
        let offset = chunks.iter().map(|(_, length)| length).sum();
        if offset == 0 || offset > length {
            return Ok(0);
        }
        writer.keep(&chunks).await?;
        self.next = offset + CHECKPOINT_BYTES;
        tracing::info!(path = %self.path, offset, "an interrupted run had come so far");
        Ok(offset)
    }

    /// More came in.
    pub fn came(&mut self, archive: &Archive, writer: &mut ContentWriter) {
        if writer.len() >= self.next {
            self.note(archive, writer);
        }
    }

    /// Notes a checkpoint here.
    pub fn note(&mut self, archive: &Archive, writer: &mut ContentWriter) {
        self.next = writer.len() + CHECKPOINT_BYTES;
        archive.checkpoint(self.path.as_bytes(), &self.version, writer);
    }
}

const TOKEN: &str = "token ";

/// What a source says of the version of an item, as one text.
pub(super) fn version(item: &Item) -> Option<String> {
    match &item.version {
        Version::Unknown => None,
        Version::Token(token) => Some(format!("{TOKEN}{}", hexadecimal(token))),
        Version::Stat => {
            let metadata = &item.metadata;
            let nanoseconds = |time: jiff::Timestamp| time.as_nanosecond();
            let changed = metadata.ctime.map_or(0, nanoseconds);
            let inode = metadata.inode.unwrap_or(0);
            Some(format!("stat {} {} {changed} {inode}", metadata.size, nanoseconds(metadata.mtime)))
        }
    }
}

/// The token in such a text.
pub(super) fn token(version: &str) -> Option<Vec<u8>> {
    from_hex(version.strip_prefix(TOKEN)?)
}
