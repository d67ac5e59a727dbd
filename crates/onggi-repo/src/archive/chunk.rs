//! A chunk between its cut and its id: bytes in up to a few windows, or in none.

use super::{
    content::ContentState,
    cut::{Body, is_zero},
    seal::{Plain, store},
    shared::{Claim, Shared, Work},
};
use crate::{
    format::{BlobId, BlobKind},
    kernel::hash,
};
use std::{ops::Range, sync::Arc};

/// What a hole of any repository with restic's chunk sizes is cut into.
pub const ZERO_LENGTH: u64 = 512 << 10;
/// The id of so many zeros.
pub const ZERO_ID: BlobId = BlobId([
    0x07, 0x85, 0x4d, 0x2f, 0xef, 0x29, 0x7a, 0x06, 0xba, 0x81, 0x68, 0x5e, 0x66, 0x0c, 0x33, 0x2d, 0xe3, 0x6d, 0x5d,
    0x18, 0xd5, 0x46, 0x92, 0x7d, 0x30, 0xda, 0xad, 0x6d, 0x7f, 0xda, 0x15, 0x41,
]);
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The bytes of one chunk where they lie.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    parts: Vec<(Body, Range<usize>)>,
    length: u64,
}

impl Chunk {
    pub fn push(&mut self, body: Body, range: Range<usize>) {
        self.length += range.len() as u64;
        self.parts.push((body, range));
    }

    pub fn len(&self) -> u64 {
        self.length
    }

    /// The bytes, piece by piece.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().flat_map(|(body, range)| {
            let (window, zeros) = match body {
                Body::Window(window) => (Some(&window[range.clone()]), 0),
                Body::Zeros => (None, range.len()),
            };
            let whole = std::iter::repeat_n(&ZEROS[..], zeros / ZEROS.len());
            let rest = Some(&ZEROS[..zeros % ZEROS.len()]).filter(|rest| !rest.is_empty());
            window.into_iter().chain(whole).chain(rest)
        })
    }

    /// The bytes, if they lie in one piece.
    pub fn contiguous(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [(Body::Window(window), range)] => Some(&window[range.clone()]),
            _ => None,
        }
    }

    /// Whether it is a piece of a hole with the known id.
    pub fn is_hole(&self) -> bool {
        self.length == ZERO_LENGTH && self.parts.iter().all(|(body, _)| matches!(body, Body::Zeros))
    }

    fn id(&self) -> BlobId {
        if self.length == ZERO_LENGTH && self.slices().all(is_zero) {
            return ZERO_ID;
        }
        BlobId(hash::sha256_parts(self.slices()))
    }
}

/// A chunk on its way to its id and, if that is new, into a pack.
pub(super) struct ChunkJob {
    pub content: Arc<ContentState>,
    /// Its place in the content.
    pub place: usize,
    pub chunk: Chunk,
    pub work: Work,
}

impl ChunkJob {
    /// Hashes the chunk, tells the content, and stores it if nobody has.
    pub fn run(self, shared: &Arc<Shared>) {
        if shared.is_failed() {
            return;
        }
        let id = self.chunk.id();
        self.content.resolve(shared, self.place, id);
        if shared.claim(BlobKind::Data, &id) == Claim::New {
            store(shared, BlobKind::Data, id, Plain::Chunk(self.chunk), self.work);
        }
    }
}
