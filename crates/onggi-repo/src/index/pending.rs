//! Packs that are in the storage and that no index file announces yet. They belong to the table, and not to whoever
//! wrote them: its blobs are found by everybody who looks, and must be announced before anybody relies on them.

use crate::format::IndexPack;

/// An index file is written when so much is waiting for one.
const BLOBS: usize = 50_000;
const BYTES: u64 = 1 << 30;

/// What waits for an index file.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    packs: Vec<IndexPack>,
    blobs: usize,
    bytes: u64,
}

impl Pending {
    /// Adds packs; `true` if an index file is due.
    pub fn add(&mut self, packs: impl IntoIterator<Item = IndexPack>) -> bool {
        for pack in packs {
            self.blobs += pack.blobs.len();
            self.bytes += pack.length();
            self.packs.push(pack);
        }
        self.blobs >= BLOBS || self.bytes >= BYTES
    }

    /// Takes all of them.
    pub fn take(&mut self) -> Vec<IndexPack> {
        std::mem::take(self).packs
    }
}
