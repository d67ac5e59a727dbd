//! Who stores which blob, and who relies on that: each blob that is new is written once, however often it occurs and in
//! however many archives at once.

use super::journal::Journal;
use crate::{
    format::{BlobId, BlobKind, PackEntry, PackId},
    index::{Index, PackNumber},
};
use std::{
    collections::{HashMap, hash_map},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};
use tokio::sync::Notify;

const SHARDS: usize = 64;

/// Whether a blob must be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is stored, or on its way.
    Known,
    /// It is not, and the asker must store it: nobody else will.
    New,
}

type Underway = HashMap<(BlobKind, BlobId), Blob>;

/// The blobs that were found new and whose pack is not stored yet.
///
/// A blob leaves this table after the index knows it, so that there is no moment at which neither does.
pub(super) struct Claims(Vec<Mutex<Underway>>);

/// A blob on its way.
struct Blob {
    /// It is in a pack, which is perhaps still open.
    is_packed: bool,
    first: Arc<Reliance>,
    /// Archives that found it new too.
    others: Vec<Arc<Reliance>>,
}

impl Blob {
    fn all(&self) -> impl Iterator<Item = &Arc<Reliance>> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl Claims {
    pub fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    /// The part of the table for this id. Whoever holds it decides alone.
    fn shard(&self, id: &BlobId) -> MutexGuard<'_, Underway> {
        self.0[usize::from(id.0[31]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whether a blob is new, and if so claims it for the asker, who relies on it from now on in any case.
    pub fn claim(&self, who: &Arc<Reliance>, index: &Index, kind: BlobKind, id: &BlobId) -> Claim {
        match self.shard(id).entry((kind, *id)) {
            hash_map::Entry::Occupied(mut entry) => {
                let blob = entry.get_mut();
                if !blob.all().any(|known| Arc::ptr_eq(known, who)) {
                    who.await_blob(blob.is_packed);
                    blob.others.push(Arc::clone(who));
                }
                Claim::Known
            }
            hash_map::Entry::Vacant(_) if who.use_stored(index, kind, id) => Claim::Known,
            hash_map::Entry::Vacant(entry) => {
                who.await_blob(false);
                entry.insert(Blob { is_packed: false, first: Arc::clone(who), others: Vec::new() });
                Claim::New
            }
        }
    }

    /// A blob is in a pack.
    pub fn packed(&self, kind: BlobKind, id: &BlobId) {
        if let Some(blob) = self.shard(id).get_mut(&(kind, *id)) {
            blob.is_packed = true;
            blob.all().for_each(|who| who.packed());
        }
    }

    /// A pack is stored and the index knows it: forgets its blobs, and tells those who rely on them.
    pub fn stored(&self, (pack, number): (PackId, Option<PackNumber>), entries: &[PackEntry]) {
        let mut relying: Vec<(Arc<Reliance>, usize)> = Vec::new();
        for entry in entries {
            let Some(blob) = self.shard(&entry.id).remove(&(entry.kind, entry.id)) else { continue };
            for who in std::iter::once(blob.first).chain(blob.others) {
                match relying.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &who)) {
                    Some((_, blobs)) => *blobs += 1,
                    None => relying.push((who, 1)),
                }
            }
        }
        for (who, blobs) in relying {
            who.stored(pack, number, blobs);
        }
    }
}

/// What one archive relies on: packs, and blobs on their way into one.
pub(super) struct Reliance {
    packs: PackSet,
    unpacked: AtomicUsize,
    unstored: AtomicUsize,
    journal: Option<Arc<Journal>>,
    changed: Arc<Notify>,
}

impl Reliance {
    /// `packs`: how many the index has. `changed` is told when all that was waited for is packed or stored.
    pub fn new(packs: usize, journal: Option<Arc<Journal>>, changed: Arc<Notify>) -> Self {
        Self {
            packs: PackSet::new(packs),
            unpacked: AtomicUsize::new(0),
            unstored: AtomicUsize::new(0),
            journal,
            changed,
        }
    }

    /// Whether the index has a copy that will stay; its pack is then one that the archive relies on.
    pub fn use_stored(&self, index: &Index, kind: BlobKind, id: &BlobId) -> bool {
        let found = index.live_number(kind, id);
        if let Some((number, _)) = found {
            self.packs.add(number);
        }
        found.is_some()
    }

    /// Relies on a pack.
    pub fn use_pack(&self, number: PackNumber) {
        self.packs.add(number);
    }

    /// The packs relied on.
    pub fn packs(&self) -> Vec<PackNumber> {
        self.packs.numbers()
    }

    /// Whether every blob relied on is in a pack.
    pub fn is_packed(&self) -> bool {
        self.unpacked.load(Ordering::Acquire) == 0
    }

    /// Whether every blob relied on is stored.
    pub fn is_stored(&self) -> bool {
        self.unstored.load(Ordering::Acquire) == 0
    }

    fn await_blob(&self, is_packed: bool) {
        self.unpacked.fetch_add(usize::from(!is_packed), Ordering::AcqRel);
        self.unstored.fetch_add(1, Ordering::AcqRel);
    }

    fn packed(&self) {
        if self.unpacked.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.changed.notify_waiters();
        }
    }

    fn stored(&self, pack: PackId, number: Option<PackNumber>, blobs: usize) {
        if let Some(journal) = &self.journal {
            journal.pack(pack);
        }
        if let Some(number) = number {
            self.packs.add(number);
        }
        if self.unstored.fetch_sub(blobs, Ordering::AcqRel) == blobs {
            self.changed.notify_waiters();
        }
    }
}

/// Packs of one index, a bit for each.
struct PackSet(RwLock<Vec<AtomicU64>>);

impl PackSet {
    fn new(packs: usize) -> Self {
        Self(RwLock::new((0..packs.div_ceil(64)).map(|_| AtomicU64::new(0)).collect()))
    }

    fn add(&self, number: PackNumber) {
        let (word, bit) = (number.0 as usize / 64, number.0 % 64);
        let words = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(word) = words.get(word) {
            if word.load(Ordering::Relaxed) & 1 << bit == 0 {
                word.fetch_or(1 << bit, Ordering::Relaxed);
            }
            return;
        }
        drop(words);
        let mut words = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let length = words.len().max(word + 1);
        words.resize_with(length, AtomicU64::default);
        *words[word].get_mut() |= 1 << bit;
    }

    fn numbers(&self) -> Vec<PackNumber> {
        let bits = |(index, word): (usize, &AtomicU64)| {
            let word = word.load(Ordering::Relaxed);
            (0..64).filter(move |bit| word & 1 << bit != 0).map(move |bit| PackNumber((index * 64 + bit) as u32))
        };
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().enumerate().flat_map(bits).collect()
    }
}
