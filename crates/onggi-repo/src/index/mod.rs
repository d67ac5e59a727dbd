//! Where every blob lies: an in-memory table of all index files, for look-ups by id.
//!
//! Look-ups come in two kinds. Reading takes any copy there is. Deduplication takes only copies that will stay: a pack
//! that is marked for deletion, or that no index file announces, does not count.

mod marks;
mod packs;
mod pending;
mod shard;

pub(crate) use marks::{Copies, Marked, Marks};
pub use packs::{PackInfo, PackState};
pub(crate) use pending::Pending;

use crate::format::{BlobId, BlobKind, IndexId, IndexPack, PackId, pack::PackEntry};
use packs::Packs;
use shard::{Record, Shard};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

const SHARDS: usize = 256;

/// Where one copy of a blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// In which pack.
    pub pack: PackId,
    /// First byte of the sealed blob.
    pub offset: u32,
    /// Bytes of the sealed blob.
    pub length: u32,
    /// Bytes of the plaintext if it was compressed.
    pub uncompressed_length: Option<u32>,
    /// Whether the pack may be deduplicated against.
    pub is_live: bool,
}

impl Location {
    /// Bytes of the plaintext.
    pub fn plaintext_length(&self) -> u32 {
        plaintext_length(self.length, self.uncompressed_length.unwrap_or(0))
    }
}

fn plaintext_length(length: u32, uncompressed: u32) -> u32 {
    if uncompressed == 0 { length.saturating_sub(crate::format::seal::OVERHEAD as u32) } else { uncompressed }
}

/// A number that stands for a pack inside one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PackNumber(pub u32);

/// The table: at most 64 bytes per blob. May be read and extended from many threads.
#[derive(Debug)]
pub struct Index {
    shards: Vec<RwLock<Shard>>,
    packs: RwLock<Packs>,
    /// Index files were unreadable, and packs that nobody announces were not looked for yet.
    incomplete: tokio::sync::Mutex<bool>,
    pending: Mutex<Pending>,
    /// Held while an index file is being written.
    announcing: tokio::sync::Mutex<()>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            packs: RwLock::default(),
            incomplete: tokio::sync::Mutex::default(),
            pending: Mutex::default(),
            announcing: tokio::sync::Mutex::default(),
        }
    }
}

impl Index {
    /// Adds a pack while many are loaded; `settle` must follow before the first look-up.
    pub(crate) fn load(&self, pack: PackId, state: PackState, index: Option<IndexId>, entries: &[PackEntry]) {
        if let Some(number) = self.packs_mut().insert(pack, state, index, entries) {
            for entry in entries {
                self.shard_mut(&entry.id).load(Record::new(number, entry));
            }
        }
    }

    /// Sorts what was loaded.
    pub(crate) fn settle(&self) {
        for shard in &self.shards {
            write(shard).settle();
        }
    }

    /// Adds a pack that was just found or written; look-ups find its blobs at once. Returns its number if it is new here.
    pub(crate) fn add(&self, pack: PackId, state: PackState, entries: &[PackEntry]) -> Option<PackNumber> {
        let number = self.packs_mut().insert(pack, state, None, entries)?;
        self.add_blobs(number, entries);
        Some(PackNumber(number))
    }

    fn add_blobs(&self, number: u32, entries: &[PackEntry]) {
        for entry in entries {
            self.shard_mut(&entry.id).add(Record::new(number, entry));
        }
    }

    /// Adds a pack that is stored and not announced; nobody may be told that something is stored that relies on it before
    /// [`Repository::announce`](crate::Repository::announce) did. Returns its number, and whether an index file is due.
    pub(crate) fn add_pending(&self, pack: PackId, entries: &[PackEntry]) -> Option<(PackNumber, bool)> {
        let number = self.packs_mut().insert(pack, PackState::Live, None, entries)?;
        self.packs_mut().written(number);
        // It waits before anybody can find its blobs: who relies on them announces it.
        let is_due = self.pending().add([IndexPack::new(pack, entries.to_vec())]);
        self.add_blobs(number, entries);
        Some((PackNumber(number), is_due))
    }

    /// Packs that wait for an index file.
    pub(crate) fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn announcing(&self) -> &tokio::sync::Mutex<()> {
        &self.announcing
    }

    /// Says that packs were read back.
    pub(crate) fn proved(&self, packs: impl IntoIterator<Item = PackId>) {
        self.packs_mut().proved(packs);
    }

    /// Whether blobs may be missing because index files were unreadable. Whoever finds `true` looks for packs that
    /// nobody announces, then sets `false`; others wait for that.
    pub(crate) fn incomplete(&self) -> &tokio::sync::Mutex<bool> {
        &self.incomplete
    }

    /// Says which index file announces these packs.
    pub(crate) fn announced(&self, index: IndexId, packs: impl IntoIterator<Item = PackId>) {
        self.packs_mut().announced(index, packs);
    }

    /// A copy of the blob that will stay, if there is one.
    pub fn live(&self, kind: BlobKind, id: &BlobId) -> Option<Location> {
        self.live_number(kind, id).map(|(_, location)| location)
    }

    /// The same with the pack's number.
    pub(crate) fn live_number(&self, kind: BlobKind, id: &BlobId) -> Option<(PackNumber, Location)> {
        let packs = self.packs();
        read(&self.shards[usize::from(id.0[0])]).find(kind, id).find_map(|record| {
            let location = packs.locate(record);
            location.is_live.then_some((PackNumber(record.number()), location))
        })
    }

    /// Every known copy of a blob, those that will stay first.
    pub fn all(&self, kind: BlobKind, id: &BlobId) -> Vec<Location> {
        let packs = self.packs();
        let shard = read(&self.shards[usize::from(id.0[0])]);
        let mut found: Vec<_> = shard.find(kind, id).map(|record| packs.locate(record)).collect();
        found.sort_by_key(|location| !location.is_live);
        found
    }

    /// Plaintext bytes of a blob, if any copy of it is known.
    pub fn plaintext_length(&self, kind: BlobKind, id: &BlobId) -> Option<u32> {
        read(&self.shards[usize::from(id.0[0])]).find(kind, id).next().map(Record::plaintext_length)
    }

    /// How many records there are; copies of a blob count each.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| read(shard).len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of a pack.
    pub fn pack(&self, id: &PackId) -> Option<PackInfo> {
        self.packs().get(id).cloned()
    }

    /// All packs.
    pub fn all_packs(&self) -> Vec<PackInfo> {
        self.packs().all().to_vec()
    }

    /// The packs of these numbers.
    pub(crate) fn numbered(&self, numbers: impl IntoIterator<Item = PackNumber>) -> Vec<PackInfo> {
        let packs = self.packs();
        numbers.into_iter().filter_map(|number| packs.all().get(number.0 as usize).cloned()).collect()
    }

    /// Calls back for every record, sorted by id within each shard of 1/256 of the ids.
    pub fn each(&self, mut visit: impl FnMut(BlobKind, BlobId, Location)) {
        let packs = self.packs();
        for shard in &self.shards {
            for record in read(shard).records() {
                visit(record.kind(), record.id(), packs.locate(record));
            }
        }
    }

    /// What the table knows of a pack's blobs, in their order. Looks at every record: for the rare pack whose own header
    /// cannot be read.
    pub(crate) fn entries_of(&self, pack: &PackId) -> Vec<PackEntry> {
        let mut entries = Vec::new();
        self.each(|kind, id, location| {
            if location.pack == *pack {
                let Location { offset, length, uncompressed_length, .. } = location;
                entries.push(PackEntry { kind, id, offset, length, uncompressed_length });
            }
        });
        entries.sort_by_key(|entry| entry.offset);
        entries
    }

    /// Bytes of memory that the records take.
    pub fn memory(&self) -> usize {
        self.shards.iter().map(|shard| read(shard).memory()).sum()
    }

    fn packs(&self) -> RwLockReadGuard<'_, Packs> {
        self.packs.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn packs_mut(&self) -> RwLockWriteGuard<'_, Packs> {
        self.packs.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard_mut(&self, id: &BlobId) -> RwLockWriteGuard<'_, Shard> {
        write(&self.shards[usize::from(id.0[0])])
    }
}

fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
