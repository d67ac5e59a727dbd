//! Contents read lately, for those that read here and there: at most `LIMIT` bytes, the longest unused go first. Readers that
//! want the same blob at once, as the kernel's read-ahead does, wait for one read.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use onggi_repo::format::{BlobId, BlobKind};
use onggi_repo::{RepoError, Repository};
use tokio::sync::OnceCell;

/// Bytes of plaintext kept.
const LIMIT: u64 = 64 << 20;

/// The contents kept.
#[derive(Debug, Default)]
pub struct Blobs {
    kept: Mutex<Kept>,
}

type Cell = Arc<OnceCell<Bytes>>;

#[derive(Debug, Default)]
struct Kept {
    slots: HashMap<BlobId, Slot>,
    by_use: BTreeMap<u64, BlobId>,
    clock: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Slot {
    cell: Cell,
    length: u64,
    used: u64,
}

impl Blobs {
    /// A data blob of this length.
    pub async fn get(&self, repo: &Repository, id: BlobId, length: u64) -> Result<Bytes, RepoError> {
        let cell = self.kept().slot(id, length);
        let answer = cell.get_or_try_init(|| repo.blob(BlobKind::Data, id)).await.cloned();
        if answer.is_err() {
            self.kept().remove(id);
        }
        answer
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The place of a blob, which is now the one used last.
    fn slot(&mut self, id: BlobId, length: u64) -> Cell {
        self.clock += 1;
        let now = self.clock;
        if let Some(slot) = self.slots.get_mut(&id) {
            self.by_use.remove(&slot.used);
            self.by_use.insert(now, id);
            slot.used = now;
            return Arc::clone(&slot.cell);
        }
        let cell = Cell::default();
        self.slots.insert(id, Slot { cell: Arc::clone(&cell), length, used: now });
        self.by_use.insert(now, id);
        self.bytes += length;
        self.shrink(now);
        cell
    }

    /// Drops what was not used for longest, but never the one used now.
    fn shrink(&mut self, now: u64) {
        while self.bytes > LIMIT {
            match self.by_use.first_key_value() {
                Some((&used, &id)) if used != now => self.remove(id),
                _ => break,
            }
        }
    }

    fn remove(&mut self, id: BlobId) {
        if let Some(slot) = self.slots.remove(&id) {
            self.by_use.remove(&slot.used);
            self.bytes -= slot.length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut kept = Kept::default();
        let id = |n: u8| BlobId([n; 32]);
        (0..4).for_each(|n| drop(kept.slot(id(n), LIMIT / 4)));
        kept.slot(id(0), LIMIT / 4);
        kept.slot(id(9), 1);
        assert_eq!(kept.bytes, LIMIT / 4 * 3 + 1);
        assert!(kept.slots.contains_key(&id(0)) && !kept.slots.contains_key(&id(1)));
    }

    #[test]
    fn one_larger_than_all_is_still_served() {
        let mut kept = Kept::default();
        kept.slot(BlobId([1; 32]), LIMIT * 2);
        assert_eq!(kept.slots.len(), 1);
        kept.slot(BlobId([2; 32]), 1);
        assert_eq!((kept.slots.len(), kept.bytes), (1, 1));
    }
}
