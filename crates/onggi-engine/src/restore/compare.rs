//! Whether a file on disk has the content that is stored, chunk by chunk, so that nothing is read from the repository.

use super::destination::Destination;
use onggi_repo::format::BlobId;
use onggi_source::TreePath;
use rustix::fd::AsFd;
use rustix::io::Errno;

/// A chunk of a stored file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub id: BlobId,
    /// In bytes.
    pub length: usize,
}

/// Whether the regular file at the path has exactly these pieces. What cannot be read has not.
pub(super) fn has_content(destination: &Destination, path: &TreePath, pieces: &[Piece]) -> bool {
    let Ok(file) = destination.open_file(path) else { return false };
    let mut buffer = vec![0; pieces.iter().map(|piece| piece.length).max().unwrap_or(0).max(1)];
    let mut offset = 0;
    for piece in pieces {
        let bytes = &mut buffer[..piece.length];
        if fill(&file, offset, bytes) != Ok(piece.length) || BlobId::of(bytes) != piece.id {
            return false;
        }
        offset += piece.length as u64;
    }
    fill(&file, offset, &mut buffer[..1]) == Ok(0)
}

/// Reads until the buffer is full or the file ends.
pub(super) fn fill(file: impl AsFd, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(&file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
