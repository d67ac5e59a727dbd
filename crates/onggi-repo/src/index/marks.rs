//! One bit for each blob of the table: which are in use. 100 million blobs take 12.5 MB.

use super::{Index, Location, read, shard::Record, write};
use crate::format::{BlobId, BlobKind};
use std::sync::atomic::{AtomicU64, Ordering};

/// The bits; of several copies of one blob, the first has it. Valid while nothing is added to the table.
#[derive(Debug)]
pub(crate) struct Marks(Vec<Box<[AtomicU64]>>);

/// What marking found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marked {
    /// It was not marked before.
    New,
    /// It was.
    Again,
    /// The table does not have this blob.
    Unknown,
}

/// All copies of one blob.
#[derive(Debug, Clone)]
pub(crate) struct Copies<'a> {
    pub kind: BlobKind,
    pub id: BlobId,
    pub is_marked: bool,
    pub locations: &'a [Location],
}

impl Index {
    /// No bit is set.
    pub(crate) fn marks(&self) -> Marks {
        let bits = |length: usize| (0..length.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Marks(
            self.shards
                .iter()
                .map(|shard| {
                    let mut shard = write(shard);
                    shard.settle();
                    bits(shard.len())
                })
                .collect(),
        )
    }

    /// Marks a blob.
    pub(crate) fn mark(&self, marks: &Marks, kind: BlobKind, id: &BlobId) -> Marked {
        let number = usize::from(id.0[0]);
        let Some(position) = read(&self.shards[number]).position(kind, id) else { return Marked::Unknown };
        let Some(word) = marks.0[number].get(position / 64) else { return Marked::Unknown };
        let bit = 1 << (position % 64);
        if word.fetch_or(bit, Ordering::Relaxed) & bit == 0 { Marked::New } else { Marked::Again }
    }

    /// Calls back for every blob, with all its copies.
    pub(crate) fn each_copies(&self, marks: &Marks, mut visit: impl FnMut(Copies<'_>)) {
        let packs = self.packs();
        let mut locations = Vec::new();
        for (shard, marks) in self.shards.iter().zip(&marks.0) {
            let shard = read(shard);
            let records = shard.sorted();
            let mut at = 0;
            for same in records.chunk_by(|a, b| a.id() == b.id() && a.kind() == b.kind()) {
                let is_marked = marks[at / 64].load(Ordering::Relaxed) >> (at % 64) & 1 == 1;
                at += same.len();
                locations.clear();
                locations.extend(same.iter().map(|record: &Record| packs.locate(record)));
                visit(Copies { kind: same[0].kind(), id: same[0].id(), is_marked, locations: &locations });
            }
        }
    }
}
