//! A chunk between its cut and its id: bytes in up to a few windows, or in none.

use super::{
    claims::Claim,
    content::ContentState,
    cut::{Body, is_zero},
    seal::{Plain, store},
    shared::{Shared, Work},
    zeros::id_of_zeros,
};
use crate::{
    format::{BlobId, BlobKind},
    kernel::hash,
};
use std::{ops::Range, sync::Arc};

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

    /// The known id, if it is a piece of a hole that has one.
    pub fn id_of_hole(&self) -> Option<BlobId> {
        id_of_zeros(self.length).filter(|_| self.parts.iter().all(|(body, _)| matches!(body, Body::Zeros)))
    }

    fn id(&self) -> BlobId {
        let known = id_of_zeros(self.length).filter(|_| self.slices().all(is_zero));
        known.unwrap_or_else(|| BlobId(hash::sha256_parts(self.slices())))
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
            store(shared, BlobKind::Data, id, Plain::Chunk(self.chunk));
        }
        drop(self.work);
    }
}
