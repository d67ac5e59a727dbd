//! 1/256 of the table: sorted records with a bucket array by the next bits of the id, and a small unsorted rest.

use super::{Location, plaintext_length};
use crate::format::{BlobId, BlobKind, PackId, pack::PackEntry};
use std::collections::HashMap;

/// One copy of a blob: 48 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Record {
    id: [u8; 32],
    /// Pack number, and the kind in the top bit.
    pack: u32,
    offset: u32,
    length: u32,
    /// 0: not compressed.
    uncompressed: u32,
}

const TREE: u32 = 1 << 31;

impl Record {
    pub const PACK_MAX: u32 = TREE - 1;

    pub fn new(number: u32, entry: &PackEntry) -> Self {
        let kind = if entry.kind == BlobKind::Tree { TREE } else { 0 };
        Self {
            id: entry.id.0,
            pack: number | kind,
            offset: entry.offset,
            length: entry.length,
            uncompressed: entry.uncompressed_length.unwrap_or(0),
        }
    }

    pub fn id(&self) -> BlobId {
        BlobId(self.id)
    }

    pub fn kind(&self) -> BlobKind {
        if self.pack & TREE == 0 { BlobKind::Data } else { BlobKind::Tree }
    }

    pub fn number(&self) -> u32 {
        self.pack & !TREE
    }

    pub fn plaintext_length(&self) -> u32 {
        plaintext_length(self.length, self.uncompressed)
    }

    pub fn locate(&self, pack: PackId, is_live: bool) -> Location {
        let uncompressed_length = (self.uncompressed != 0).then_some(self.uncompressed);
        Location { pack, offset: self.offset, length: self.length, uncompressed_length, is_live }
    }
}

/// Records whose id starts with one byte.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// Sorted by id, except between `load` and `settle`.
    sorted: Vec<Record>,
    /// Where the records of each bucket start; a bucket is a value of the bits after the first byte.
    starts: Vec<u32>,
    /// Those added since the last merge.
    fresh: HashMap<[u8; 32], Vec<Record>, IdHasher>,
    fresh_len: usize,
}

/// Records per bucket, on average.
const BUCKET: usize = 16;
/// Fresh records are merged when there are more than these plus an eighth of the sorted ones.
const FRESH_MIN: usize = 64;

impl Shard {
    pub fn load(&mut self, record: Record) {
        if self.sorted.len() == self.sorted.capacity() {
            // Grows by a quarter, not by doubling: the table is most of what a small machine holds.
            self.sorted.reserve_exact((self.sorted.len() / 4).max(FRESH_MIN));
        }
        self.sorted.push(record);
    }

    pub fn add(&mut self, record: Record) {
        self.fresh.entry(record.id).or_default().push(record);
        self.fresh_len += 1;
        if self.fresh_len > FRESH_MIN + self.sorted.len() / 8 {
            self.settle();
        }
    }

    pub fn settle(&mut self) {
        self.sorted.reserve_exact(self.fresh_len);
        self.sorted.extend(self.fresh.drain().flat_map(|(_, records)| records));
        self.fresh_len = 0;
        self.sorted.sort_unstable();
        self.sorted.shrink_to_fit();
        let buckets = (self.sorted.len() / BUCKET).clamp(1, 1 << 16).next_power_of_two();
        let mut starts = Vec::with_capacity(buckets + 1);
        let mut at = 0;
        for bucket in 0..buckets {
            while self.sorted.get(at).is_some_and(|record| bucket_of(&record.id, buckets) < bucket) {
                at += 1;
            }
            starts.push(at as u32);
        }
        starts.push(self.sorted.len() as u32);
        self.starts = starts;
    }

    /// Every copy of a blob.
    pub fn find(&self, kind: BlobKind, id: &BlobId) -> impl Iterator<Item = &Record> {
        let fresh = self.fresh.get(&id.0).map_or(&[][..], Vec::as_slice);
        self.find_sorted(id.0).chain(fresh).filter(move |record| record.kind() == kind)
    }

    fn find_sorted(&self, id: [u8; 32]) -> impl Iterator<Item = &Record> {
        let bucket = match self.starts.len() {
            0 => &[],
            len => {
                let bucket = bucket_of(&id, len - 1);
                &self.sorted[self.starts[bucket] as usize..self.starts[bucket + 1] as usize]
            }
        };
        let first = bucket.partition_point(|record| record.id < id);
        bucket[first..].iter().take_while(move |record| record.id == id)
    }

    /// Where the first copy of a blob is among the sorted records.
    pub fn position(&self, kind: BlobKind, id: &BlobId) -> Option<usize> {
        let buckets = self.starts.len().checked_sub(1)?;
        let bucket = bucket_of(&id.0, buckets);
        let (start, end) = (self.starts[bucket] as usize, self.starts[bucket + 1] as usize);
        let first = start + self.sorted[start..end].partition_point(|record| record.id < id.0);
        let same = self.sorted[first..end].iter().take_while(|record| record.id == id.0);
        same.clone().position(|record| record.kind() == kind).map(|offset| first + offset)
    }

    /// The sorted records: all of them after `settle`.
    pub fn sorted(&self) -> &[Record] {
        &self.sorted
    }

    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.sorted.iter().chain(self.fresh.values().flatten())
    }

    pub fn len(&self) -> usize {
        self.sorted.len() + self.fresh_len
    }

    pub fn memory(&self) -> usize {
        let fresh = self.fresh.capacity() * (32 + 24 + 1) + self.fresh_len * size_of::<Record>();
        self.sorted.capacity() * size_of::<Record>() + self.starts.capacity() * 4 + fresh
    }
}

/// The bits after the first byte; `buckets` is a power of two up to 2^16.
fn bucket_of(id: &[u8; 32], buckets: usize) -> usize {
    (usize::from(u16::from_be_bytes([id[1], id[2]])) * buckets) >> 16
}

/// Ids are random already: eight of their bytes are the hash.
type IdHasher = std::hash::BuildHasherDefault<IdHash>;

#[derive(Debug, Default)]
pub(super) struct IdHash(u64);

impl std::hash::Hasher for IdHash {
    fn write(&mut self, bytes: &[u8]) {
        // The first byte is the same in a whole shard.
        if let Some(eight) = bytes.last_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*eight);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 ^= number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
