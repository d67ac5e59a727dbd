//! Open packs. Four of each kind, and every blob goes into a random one of them: whoever sees the storage cannot tell
//! from the order of packs which chunks follow each other in a file.

use super::{
    upload::Upload,
    writer::{InHand, Writing},
};
use crate::{
    budget::{Buffer, Permit},
    format::{BlobId, BlobKind, PackEntry, PackId, pack},
    kernel::hash,
};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

/// Open packs of each kind.
const OPEN: usize = 4;
/// What a data pack should have, in bytes.
const TARGET_MAX: usize = 16 << 20;
/// Tree packs are read one by one by every command that looks at files.
const TREE_SHARE: usize = 4;
/// Buffers of packs begin at 1/16 of the target and grow so, since most open packs are far from full.
const GROWTH: usize = 4;
/// What a header takes for itself.
const HEADER: usize = 64;
/// What it takes for one blob.
const HEADER_ENTRY: usize = 41;

/// The open packs of all archives.
pub(super) struct Packer {
    open: [[Mutex<Option<OpenPack>>; OPEN]; 2],
    /// Bytes of permits that open packs hold.
    held: AtomicUsize,
    target: usize,
    budget: usize,
}

struct OpenPack {
    buffer: Buffer,
    entries: Vec<PackEntry>,
    permit: Permit,
    held: usize,
}

impl Packer {
    pub fn new(budget: u64) -> Self {
        let budget = usize::try_from(budget).unwrap_or(usize::MAX);
        let target = (budget / 6).clamp(1 << 16, TARGET_MAX);
        Self {
            open: std::array::from_fn(|_| std::array::from_fn(|_| Mutex::default())),
            held: AtomicUsize::new(0),
            target,
            budget,
        }
    }

    fn target(&self, kind: BlobKind) -> usize {
        if kind == BlobKind::Data { self.target } else { self.target / TREE_SHARE }
    }

    fn slots(&self) -> impl Iterator<Item = &Mutex<Option<OpenPack>>> {
        self.open.iter().flatten()
    }
}

/// Puts a sealed blob into the open pack that was drawn by lot, and sends packs on their way that are full. A byte of the
/// blob's nonce serves as the lot: it is random, and who sees the storage sees both.
pub(super) fn add(
    writing: &Arc<Writing>,
    (kind, id): (BlobKind, BlobId),
    (sealed, uncompressed_length): (&[u8], Option<u32>),
    draw: usize,
    permit: Permit,
) {
    let packer = &writing.packer;
    let target = packer.target(kind);
    let slot = &packer.open[usize::from(kind == BlobKind::Tree)][draw % OPEN];
    let mut open = lock(slot);
    let full = open.take_if(|pack| pack.room(target) < sealed.len() + HEADER_ENTRY);
    if let Some(pack) = &full {
        packer.held.fetch_sub(pack.held, Ordering::AcqRel);
    }
    packer.held.fetch_add(sealed.len(), Ordering::AcqRel);
    let entry = |offset| PackEntry { kind, id, offset, length: sealed.len() as u32, uncompressed_length };
    if let Some(pack) = &mut *open {
        pack.entries.push(entry(pack.buffer.len() as u32));
        pack.reserve(writing, sealed.len(), target);
        pack.buffer.extend_from_slice(sealed);
        pack.permit.merge(permit);
        pack.held += sealed.len();
    } else {
        let least = target / GROWTH.pow(2);
        let mut buffer = writing.pool.take(least.max(sealed.len() + HEADER + HEADER_ENTRY));
        buffer.extend_from_slice(sealed);
        *open = Some(OpenPack { buffer, entries: vec![entry(0)], permit, held: sealed.len() });
    }
    drop(open);
    if let Some(pack) = full {
        pack.finish(writing);
    }
}

/// Closes open packs, largest first, until so many bytes fit beside what they hold.
pub(super) fn make_room(writing: &Arc<Writing>, need: usize) {
    let packer = &writing.packer;
    while packer.held.load(Ordering::Acquire) + need > packer.budget {
        let size = |slot: &Mutex<Option<OpenPack>>| lock(slot).as_ref().map_or(0, |pack| pack.held);
        let largest = packer.slots().max_by_key(|slot| size(slot));
        let closed = largest.is_some_and(|slot| close(writing, slot));
        if !closed {
            return;
        }
    }
}

/// Closes all open packs.
pub(super) fn close_all(writing: &Arc<Writing>) {
    for slot in writing.packer.slots() {
        close(writing, slot);
    }
}

fn close(writing: &Arc<Writing>, slot: &Mutex<Option<OpenPack>>) -> bool {
    let Some(pack) = lock(slot).take() else { return false };
    writing.packer.held.fetch_sub(pack.held, Ordering::AcqRel);
    let owner = InHand(Arc::clone(writing));
    writing.repo.env().compute.spawn(move || pack.finish(&owner.0));
    true
}

fn lock(slot: &Mutex<Option<OpenPack>>) -> MutexGuard<'_, Option<OpenPack>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OpenPack {
    fn room(&self, target: usize) -> usize {
        target.saturating_sub(self.buffer.len() + HEADER + self.entries.len() * HEADER_ENTRY)
    }

    /// Moves to a larger buffer if the blob and the header do not fit.
    fn reserve(&mut self, writing: &Writing, length: usize, target: usize) {
        let needed = self.buffer.len() + length + HEADER + (self.entries.len() + 1) * HEADER_ENTRY;
        if needed > self.buffer.capacity() {
            let mut larger = writing.pool.take(needed.max((self.buffer.capacity() * GROWTH).min(target)));
            larger.extend_from_slice(&self.buffer);
            self.buffer = larger;
        }
    }

    /// Adds the header, names the pack and sends it to the storage.
    fn finish(mut self, writing: &Arc<Writing>) {
        pack::seal_header(writing.repo.master(), writing.repo.env().nonce(), &self.entries, &mut self.buffer);
        let id = PackId(hash::sha256(&self.buffer));
        let Self { buffer, entries, permit, .. } = self;
        // The task that receives it ends only with the last archive.
        drop(writing.uploads.send(Upload { id, buffer, entries, permit }));
    }
}
