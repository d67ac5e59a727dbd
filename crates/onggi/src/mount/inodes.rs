//! Numbers for what the kernel has seen. A number is the hash of parent and name, so it is the same each time; it is
//! forgotten when the kernel forgets it, so memory is bounded by the kernel's.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use super::entry::{Entry, Folder};

/// The root's number.
pub const ROOT: u64 = 1;

/// All entries that the kernel may ask for by number.
#[derive(Debug)]
pub struct Inodes {
    slots: HashMap<u64, Slot>,
}

#[derive(Debug)]
struct Slot {
    parent: u64,
    name: Vec<u8>,
    entry: Arc<Entry>,
    lookups: u64,
}

impl Inodes {
    /// Only the root.
    pub fn new() -> Self {
        let root = Slot { parent: ROOT, name: Vec::new(), entry: Arc::new(Entry::Folder(Folder::Root)), lookups: 1 };
        Self { slots: HashMap::from([(ROOT, root)]) }
    }

    /// What has this number.
    pub fn get(&self, number: u64) -> Option<Arc<Entry>> {
        self.slots.get(&number).map(|slot| Arc::clone(&slot.entry))
    }

    /// The number of the folder that this one is in.
    pub fn parent(&self, number: u64) -> u64 {
        self.slots.get(&number).map_or(ROOT, |slot| slot.parent)
    }

    /// Gives an entry its number for the kernel, which will forget it once for each time.
    pub fn look_up(&mut self, parent: u64, name: &[u8], entry: Arc<Entry>) -> u64 {
        let mut number = number_of(parent, name);
        while self.slots.get(&number).is_some_and(|slot| slot.parent != parent || slot.name != name) {
            number = number.wrapping_add(1).max(ROOT + 1);
        }
        let slot = self.slots.entry(number).or_insert_with(|| Slot {
            parent,
            name: name.to_vec(),
            entry: Arc::clone(&entry),
            lookups: 0,
        });
        slot.entry = entry;
        slot.lookups += 1;
        number
    }

    /// Takes back so many look-ups.
    pub fn forget(&mut self, number: u64, lookups: u64) {
        if number == ROOT {
            return;
        }
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.lookups = slot.lookups.saturating_sub(lookups);
            if slot.lookups == 0 {
                self.slots.remove(&number);
            }
        }
    }
}

/// The number that a name in a folder has, unless another has it already.
pub fn number_of(parent: u64, name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parent.hash(&mut hasher);
    name.hash(&mut hasher);
    hasher.finish().max(ROOT + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Arc<Entry> {
        Arc::new(Entry::Latest(Vec::new()))
    }

    #[test]
    fn a_number_lives_as_long_as_the_kernel_knows_it() {
        let mut inodes = Inodes::new();
        let number = inodes.look_up(ROOT, b"a", entry());
        assert_eq!(inodes.look_up(ROOT, b"a", entry()), number);
        inodes.forget(number, 1);
        assert!(inodes.get(number).is_some());
        inodes.forget(number, 1);
        assert!(inodes.get(number).is_none());
        inodes.forget(ROOT, u64::MAX);
        assert!(inodes.get(ROOT).is_some());
    }

    #[test]
    fn two_names_never_share_a_number() {
        let mut inodes = Inodes::new();
        let first = inodes.look_up(ROOT, b"a", entry());
        let slot = inodes.slots.remove(&first).unwrap();
        inodes.slots.insert(first, Slot { name: b"b".to_vec(), ..slot });
        assert_ne!(inodes.look_up(ROOT, b"a", entry()), first);
    }
}
