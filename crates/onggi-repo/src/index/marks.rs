//! One bit for each blob of the table: which are in use. 100 million blobs take 12.5 MB.

use super::{Index, Location, read, shard::Record, write};
use crate::format::{BlobId, BlobKind};
use std::sync::atomic::{AtomicU64, Ordering};

/// The bits; of several copies of one blob, the first has it. Once something is added to the table they mean nothing any
/// more: then no blob is found, which everyone who marks takes for damage.
#[derive(Debug)]
pub(crate) struct Marks(Vec<ShardMarks>);

#[derive(Debug)]
struct ShardMarks {
    /// Records that the shard had.
    length: usize,
    bits: Box<[AtomicU64]>,
}

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
        let of_shard = |shard| {
            let mut shard = write(shard);
            shard.settle();
            let length = shard.len();
            ShardMarks { length, bits: (0..length.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
        };
        Marks(self.shards.iter().map(of_shard).collect())
    }

    /// Marks a blob.
    pub(crate) fn mark(&self, marks: &Marks, kind: BlobKind, id: &BlobId) -> Marked {
        let number = usize::from(id.0[0]);
        let (shard, marks) = (read(&self.shards[number]), &marks.0[number]);
        let position = shard.position(kind, id).filter(|_| shard.len() == marks.length);
        let Some(position) = position else { return Marked::Unknown };
        let word = &marks.bits[position / 64];
        let bit = 1 << (position % 64);
        if word.fetch_or(bit, Ordering::Relaxed) & bit == 0 { Marked::New } else { Marked::Again }
    }

    /// Calls back for every blob, with all its copies. `false` if something was added since: then some were left out.
    pub(crate) fn each_copies(&self, marks: &Marks, mut visit: impl FnMut(Copies<'_>)) -> bool {
        let mut is_whole = true;
        let packs = self.packs();
        let mut locations = Vec::new();
        for (shard, marks) in self.shards.iter().zip(&marks.0) {
            let shard = read(shard);
            if shard.len() != marks.length {
                is_whole = false;
                continue;
            }
            let records = shard.sorted();
            let mut at = 0;
            for same in records.chunk_by(|a, b| a.id() == b.id() && a.kind() == b.kind()) {
                let is_marked = marks.bits[at / 64].load(Ordering::Relaxed) >> (at % 64) & 1 == 1;
                at += same.len();
                locations.clear();
                locations.extend(same.iter().map(|record: &Record| packs.locate(record)));
                visit(Copies { kind: same[0].kind(), id: same[0].id(), is_marked, locations: &locations });
            }
        }
        is_whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        format::{PackEntry, PackId},
        index::PackState,
    };

    fn entry(number: u32, kind: BlobKind) -> PackEntry {
        let id = BlobId::of(&number.to_le_bytes());
        PackEntry { kind, id, offset: number, length: 50, uncompressed_length: None }
    }

    /// 200 blobs, each kind under each id, the even ones in two packs.
    fn sample() -> Index {
        let index = Index::default();
        let both = |number| [BlobKind::Data, BlobKind::Tree].map(|kind| entry(number, kind));
        let (all, even): (Vec<_>, Vec<_>) =
            ((0..100).flat_map(both).collect(), (0..50).flat_map(|i| both(2 * i)).collect());
        index.load(PackId([1; 32]), PackState::Live, None, &all);
        index.load(PackId([2; 32]), PackState::Live, None, &even);
        index
    }

    #[test]
    fn a_blob_is_marked_once_with_all_its_copies() {
        let index = sample();
        let marks = index.marks();
        for number in 0..50 {
            let id = entry(number, BlobKind::Tree).id;
            assert_eq!(index.mark(&marks, BlobKind::Tree, &id), Marked::New);
            assert_eq!(index.mark(&marks, BlobKind::Tree, &id), Marked::Again);
        }
        assert_eq!(index.mark(&marks, BlobKind::Tree, &BlobId([9; 32])), Marked::Unknown);
        let (mut marked, mut blobs, mut copies) = (0, 0, 0);
        let is_whole = index.each_copies(&marks, |blob| {
            marked += usize::from(blob.is_marked);
            assert!(!blob.is_marked || blob.kind == BlobKind::Tree);
            (blobs, copies) = (blobs + 1, copies + blob.locations.len());
        });
        assert_eq!((is_whole, marked, blobs, copies), (true, 50, 200, 300));
    }

    #[test]
    fn marks_are_void_once_something_is_added() {
        let index = sample();
        let marks = index.marks();
        let id = entry(1, BlobKind::Data).id;
        index.add(PackId([3; 32]), PackState::Live, &[PackEntry { id, ..entry(7, BlobKind::Data) }]);
        assert_eq!(index.mark(&marks, BlobKind::Data, &id), Marked::Unknown);
        assert!(!index.each_copies(&marks, |_| {}));
    }
}
