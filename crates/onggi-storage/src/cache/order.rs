//! Which entries there are, how large, and in which order they were used: what goes first when space is needed.

use super::entry::Key;
use crate::{FileId, FileType};
use std::collections::{BTreeMap, BTreeSet};

/// More entries than this are not kept, whatever their size: each costs about 150 bytes of memory.
pub(super) const ENTRIES_MAX: usize = 200_000;

/// The entries of a folder.
#[derive(Debug, Default)]
pub(super) struct Order {
    entries: BTreeMap<Key, Entry>,
    by_use: BTreeMap<u64, Key>,
    bytes: u64,
    uses: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    bytes: u64,
    used: u64,
    is_verified: bool,
    is_marked: bool,
}

/// An entry that is being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Use {
    /// Its bytes were checked by this process before.
    pub is_verified: bool,
    /// It is the first use by this process, which is to be marked on disk for the next one.
    pub is_first: bool,
}

impl Order {
    /// Bytes of all entries.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds an entry, or replaces it, as the one used last.
    pub(super) fn add(&mut self, key: Key, bytes: u64) {
        self.remove(&key);
        self.uses += 1;
        self.bytes += bytes;
        self.by_use.insert(self.uses, key.clone());
        self.entries.insert(key, Entry { bytes, used: self.uses, is_verified: false, is_marked: false });
    }

    /// Makes an entry the one used last.
    pub(super) fn touch(&mut self, key: &Key) -> Option<Use> {
        let entry = self.entries.get_mut(key)?;
        self.uses += 1;
        self.by_use.remove(&entry.used);
        self.by_use.insert(self.uses, key.clone());
        entry.used = self.uses;
        let is_first = !std::mem::replace(&mut entry.is_marked, true);
        Some(Use { is_verified: entry.is_verified, is_first })
    }

    pub(super) fn set_verified(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.is_verified = true;
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_use.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }

    /// Takes out the entries that must go for the rest to be within bounds, least recently used first.
    pub(super) fn evict(&mut self, bytes_max: u64, entries_max: usize) -> Vec<Key> {
        let mut evicted = Vec::new();
        while self.bytes > bytes_max || self.entries.len() > entries_max {
            let Some((_, key)) = self.by_use.pop_first() else { break };
            self.remove(&key);
            evicted.push(key);
        }
        evicted
    }

    /// The entries of one file, parts included.
    pub(super) fn keys_of(&self, file_type: FileType, id: FileId) -> Vec<Key> {
        let range = Key::whole(file_type, id)..=Key::last_of(file_type, id);
        self.entries.range(range).map(|(key, _)| key.clone()).collect()
    }

    /// The files of a type that have entries.
    pub(super) fn ids(&self, file_type: FileType) -> BTreeSet<FileId> {
        let first = Key::whole(file_type, FileId([0; 32]));
        let last = Key::last_of(file_type, FileId([u8::MAX; 32]));
        self.entries.range(first..=last).map(|(key, _)| key.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(number: u8) -> Key {
        Key::whole(FileType::Index, FileId([number; 32]))
    }

    #[test]
    fn what_was_used_least_recently_goes_first() {
        let mut order = Order::default();
        for number in 0..4 {
            order.add(key(number), 10);
        }
        assert!(order.touch(&key(0)).is_some_and(|entry| entry.is_first));
        assert!(order.touch(&key(0)).is_some_and(|entry| !entry.is_first));
        assert_eq!(order.evict(40, 9), []);
        assert_eq!(order.evict(25, 9), [key(1), key(2)]);
        assert_eq!(order.evict(40, 1), [key(3)]);
        assert_eq!((order.bytes(), order.touch(&key(1))), (10, None));
    }

    #[test]
    fn parts_belong_to_their_file() {
        let mut order = Order::default();
        let pack = |number| Key::whole(FileType::Pack, FileId([number; 32]));
        for key in [pack(1), pack(1).part(&(0..5)), pack(1).part(&(7..u64::MAX)), pack(2).part(&(0..5)), key(1)] {
            order.add(key, 1);
        }
        assert_eq!(order.keys_of(FileType::Pack, FileId([1; 32])).len(), 3);
        assert_eq!(order.ids(FileType::Pack).into_iter().collect::<Vec<_>>(), [FileId([1; 32]), FileId([2; 32])]);
    }

    proptest! {
        /// Against a list that is searched from the front.
        #[test]
        fn the_order_is_that_of_a_naive_list(steps in prop::collection::vec((0_u8..8, 0_u8..4, 1_u64..20), 0..60)) {
            let (mut order, mut naive) = (Order::default(), Vec::<(u8, u64)>::new());
            for (number, step, bytes) in steps {
                let at = naive.iter().position(|(name, _)| *name == number);
                match step {
                    0 | 1 => {
                        at.map(|at| naive.remove(at));
                        naive.push((number, bytes));
                        order.add(key(number), bytes);
                    }
                    2 => {
                        let entry = at.map(|at| naive.remove(at));
                        naive.extend(entry);
                        prop_assert_eq!(order.touch(&key(number)).is_some(), entry.is_some());
                    }
                    _ => {
                        let mut gone = Vec::new();
                        while naive.iter().map(|(_, bytes)| bytes).sum::<u64>() > 40 || naive.len() > 4 {
                            gone.push(key(naive.remove(0).0));
                        }
                        prop_assert_eq!(order.evict(40, 4), gone);
                    }
                }
                prop_assert_eq!(order.bytes(), naive.iter().map(|(_, bytes)| bytes).sum::<u64>());
            }
        }
    }
}
