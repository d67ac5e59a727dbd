//! What this archive does with blobs: those on their way into a pack, and the older packs it relies on.

use crate::{
    format::{BlobId, BlobKind},
    index::PackNumber,
};
use std::{
    collections::HashSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

const SHARDS: usize = 64;

type Ids = HashSet<(BlobKind, BlobId)>;

/// The blobs that were found new and whose pack is not stored yet: each is written once, however often it occurs.
///
/// A blob leaves this table after the index knows it, so that there is no moment at which neither does.
pub(super) struct RunTable(Vec<Mutex<Ids>>);

impl RunTable {
    pub fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    /// The part of the table for this id. Whoever holds it decides alone.
    pub fn shard(&self, id: &BlobId) -> MutexGuard<'_, Ids> {
        self.0[usize::from(id.0[31]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a blob that the index knows now.
    pub fn stored(&self, kind: BlobKind, id: &BlobId) {
        self.shard(id).remove(&(kind, *id));
    }
}

/// One bit for each pack that was there at the start.
pub(super) struct UsedPacks(Vec<AtomicU64>);

impl UsedPacks {
    pub fn new(packs: usize) -> Self {
        Self((0..packs.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Marks a pack. Those added later are this archive's own and need no mark.
    pub fn mark(&self, number: PackNumber) {
        let (word, bit) = (number.0 as usize / 64, number.0 % 64);
        if let Some(word) = self.0.get(word)
            && word.load(Ordering::Relaxed) & 1 << bit == 0
        {
            word.fetch_or(1 << bit, Ordering::Relaxed);
        }
    }

    /// The marked ones.
    pub fn numbers(&self) -> Vec<PackNumber> {
        let bits = |(index, word): (usize, &AtomicU64)| {
            let word = word.load(Ordering::Relaxed);
            (0..64).filter(move |bit| word & 1 << bit != 0).map(move |bit| PackNumber((index * 64 + bit) as u32))
        };
        self.0.iter().enumerate().flat_map(bits).collect()
    }
}
