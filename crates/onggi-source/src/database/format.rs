//! Whether bytes are a whole dump: what each format promises of its start, its length and its end.

use super::config::Preset;
use crate::context::Context;
use crate::source::{Known, ReadAt, ReadError};

/// How much of the start is kept, in bytes: the magic of a tar archive ends at 262.
const HEAD_BYTES: usize = 512;
/// How much of the end is kept, in bytes: two blocks of zeros end a tar archive.
const TAIL_BYTES: usize = 1024;
const PAGE_SIZE_AT: usize = 16;
const PAGES_AT: usize = 28;

/// Looks at a dump that flows past.
pub(super) struct FormatCheck {
    preset: Preset,
    head: Vec<u8>,
    tail: Vec<u8>,
    length: u64,
}

impl FormatCheck {
    pub(super) fn new(preset: Preset) -> Self {
        Self { preset, head: Vec::new(), tail: Vec::new(), length: 0 }
    }

    /// Takes the next bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let wanted = HEAD_BYTES.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..wanted]);
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
        self.length += bytes.len() as u64;
    }

    /// Looks at a stored dump: at its start and its end only.
    pub(super) async fn of(preset: Preset, cx: &Context, content: &dyn ReadAt) -> Result<Self, ReadError> {
        let length = content.open(cx, &Known::default()).await?.length;
        let part = async |from: u64, most: usize| {
            let mut part = vec![0; (length - from).min(most as u64) as usize];
            if !part.is_empty() {
                content.read(cx, from, &mut part).await?;
            }
            Ok::<_, ReadError>(part)
        };
        let head = part(0, HEAD_BYTES).await?;
        let tail = part(length.saturating_sub(TAIL_BYTES as u64), TAIL_BYTES).await?;
        Ok(Self { preset, head, tail, length })
    }

    /// How many bytes there were.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether that was all of it.
    pub(super) fn finish(&self) -> Result<(), &'static str> {
        match self.preset {
            _ if self.length == 0 => Err("there was no output at all"),
            Preset::PostgresLogical => expect(self.head.starts_with(b"PGDMP"), "it is no custom dump of PostgreSQL"),
            Preset::PostgresPhysical => {
                let is_tar = self.head.get(257..262) == Some(b"ustar");
                expect(is_tar && self.length.is_multiple_of(512), "it is no archive")?;
                let ends = self.tail.len() == TAIL_BYTES && self.tail.iter().all(|byte| *byte == 0);
                expect(ends, "the archive has no end")
            }
            Preset::MysqlLogical => {
                let end = b"-- Dump completed";
                expect(self.tail.windows(end.len()).any(|window| window == end), "`-- Dump completed` is missing")
            }
            Preset::MysqlPhysical => expect(self.head.starts_with(b"XBSTCK01"), "it is no stream of mbstream"),
            Preset::Sqlite => {
                expect(self.head.starts_with(b"SQLite format 3\0"), "it is no database of SQLite")?;
                expect(self.sqlite_length() == Some(self.length), "its length is not what its header says")
            }
        }
    }

    fn sqlite_length(&self) -> Option<u64> {
        let size = u16::from_be_bytes(self.head.get(PAGE_SIZE_AT..PAGE_SIZE_AT + 2)?.try_into().ok()?);
        let pages = u32::from_be_bytes(self.head.get(PAGES_AT..PAGES_AT + 4)?.try_into().ok()?);
        let size = if size == 1 { 1 << 16 } else { u64::from(size) }; // 65536 does not fit
        Some(size * u64::from(pages))
    }
}

fn expect(is_so: bool, otherwise: &'static str) -> Result<(), &'static str> {
    if is_so { Ok(()) } else { Err(otherwise) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(preset: Preset, bytes: &[u8], whole: bool) {
        for step in [1, 100, bytes.len().max(1)] {
            let mut format = FormatCheck::new(preset);
            bytes.chunks(step).for_each(|piece| format.take(piece));
            assert_eq!(format.finish().is_ok(), whole, "{:?} in steps of {step}", format.finish());
        }
    }

    #[test]
    fn nothing_is_no_dump() {
        for preset in [Preset::PostgresLogical, Preset::MysqlLogical, Preset::Sqlite, Preset::PostgresPhysical] {
            check(preset, b"", false);
        }
    }

    #[test]
    fn each_format_is_known_by_its_start_and_its_end() {
        check(Preset::PostgresLogical, b"PGDMP\x01\x0e", true);
        check(Preset::PostgresLogical, b"-- PostgreSQL", false);
        check(Preset::MysqlLogical, b"-- MariaDB dump\nINSERT\n-- Dump completed\n", true);
        check(Preset::MysqlLogical, b"-- MariaDB dump\nINSERT\n", false);
        check(Preset::MysqlPhysical, b"XBSTCK01\0P", true);
        let mut archive = vec![0; 512 + 1024];
        archive[257..262].copy_from_slice(b"ustar");
        check(Preset::PostgresPhysical, &archive, true);
        check(Preset::PostgresPhysical, &archive[..1024], false);
        archive[1200] = 1;
        check(Preset::PostgresPhysical, &archive, false);
    }

    #[test]
    fn a_database_file_is_as_long_as_it_says() {
        let mut file = vec![0; 8192];
        file[..16].copy_from_slice(b"SQLite format 3\0");
        file[16..18].copy_from_slice(&4096_u16.to_be_bytes());
        file[28..32].copy_from_slice(&2_u32.to_be_bytes());
        check(Preset::Sqlite, &file, true);
        check(Preset::Sqlite, &file[..8191], false);
    }
}
