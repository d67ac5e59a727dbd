//! Which file systems a disk has, and whether they were at rest when it was copied: read from their own superblocks,
//! since no cloud says whether a guest was really frozen.
//!
//! An [`Inspector`] is fed the disk from its start to its end, as it comes, and keeps of it only the places that it
//! wants: the first 66 KiB of the disk and of each partition. So one that streams by is looked at like one that can be
//! read anywhere. What the disk says is a stranger's word: partitions are counted, and no link leads back.

mod file_system;
mod partition;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use partition::{Chain, Gpt};

pub use file_system::{FileSystem, State};
pub use partition::{Partition, Table};

/// The start of a disk or a partition, in bytes: the superblock that lies farthest in, that of btrfs, ends before.
const START_BYTES: u64 = 66 << 10;
/// The most partitions that are looked at.
const PARTITIONS_MAX: usize = 128;

/// What a disk was found to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// How it is divided.
    pub table: Table,
    /// Its parts, in the order of the table.
    pub partitions: Vec<Partition>,
    /// What was known by its superblock, in the order of the disk.
    pub file_systems: Vec<FileSystem>,
}

impl Inspection {
    /// The worst state of all file systems; `None` where there are none.
    pub fn state(&self) -> Option<State> {
        self.file_systems.iter().map(|file_system| file_system.state).max()
    }
}

/// A place of the disk that is to be kept.
#[derive(Debug)]
struct Want {
    range: Range<u64>,
    purpose: Purpose,
    /// What is there already.
    bytes: Vec<u8>,
}

#[derive(Debug)]
enum Purpose {
    /// A partition table, or a file system without one.
    Disk,
    /// A link in the chain of logical partitions.
    Link(Chain),
    /// The superblock of a partition.
    Partition(Partition),
}

/// Looks at a disk that comes by.
#[derive(Debug)]
pub struct Inspector {
    length: u64,
    wants: Vec<Want>,
    found: Inspection,
}

impl Inspector {
    /// Of a disk of this length.
    pub fn new(length: u64) -> Self {
        let mut inspector = Self { length, wants: Vec::new(), found: Inspection::default() };
        inspector.want(0, START_BYTES, Purpose::Disk);
        inspector
    }

    /// What is wanted next, for who can read anywhere.
    pub fn wants(&self) -> Option<Range<u64>> {
        self.wants.iter().map(|want| want.at()..want.range.end).min_by_key(|range| range.start)
    }

    /// Takes the next bytes of the disk. Offsets ascend; what is left out is zeros.
    pub fn feed(&mut self, offset: u64, bytes: &[u8]) {
        let mut index = 0;
        while let Some(want) = self.wants.get_mut(index) {
            want.take(offset, bytes);
            if want.at() < want.range.end {
                index += 1;
            } else {
                let want = self.wants.swap_remove(index);
                self.understand(&want);
            }
        }
    }

    /// What was found, once all of the disk has come by.
    pub fn finish(mut self) -> Inspection {
        let length = self.length;
        self.feed(length, &[]);
        self.found.file_systems.sort_by_key(|file_system| file_system.offset);
        self.found
    }

    fn want(&mut self, start: u64, length: u64, purpose: Purpose) {
        let range = start..start.saturating_add(length).min(self.length);
        if !range.is_empty() {
            self.wants.push(Want { range, purpose, bytes: Vec::new() });
        }
    }

    fn understand(&mut self, want: &Want) {
        let known = self.wants.len();
        match want.purpose {
            Purpose::Disk => self.start(&want.bytes),
            Purpose::Link(chain) => {
                let (partition, next) = chain.follow(&want.bytes, self.found.partitions.len(), self.length);
                if let Some(partition) = partition {
                    self.partition(partition);
                }
                self.link(next);
            }
            Purpose::Partition(partition) => {
                let found = FileSystem::known(&want.bytes, Some(partition.number), partition.start, partition.length);
                self.found.file_systems.extend(found);
            }
        }
        // What was just found may begin within what was kept, which does not come by again.
        for later in &mut self.wants[known..] {
            later.take(want.range.start, &want.bytes);
        }
    }

    fn start(&mut self, bytes: &[u8]) {
        let (table, partitions, chain) = partition::read(bytes, self.length);
        self.found.table = table;
        for partition in partitions {
            self.partition(partition);
        }
        self.link(chain);
        if table == Table::None {
            self.found.file_systems.extend(FileSystem::known(bytes, None, 0, self.length));
        }
    }

    fn link(&mut self, chain: Option<Chain>) {
        if let Some(chain) = chain {
            self.want(chain.at, partition::SECTOR_BYTES, Purpose::Link(chain));
        }
    }

    fn partition(&mut self, partition: Partition) {
        if self.found.partitions.len() < PARTITIONS_MAX {
            self.found.partitions.push(partition);
            self.want(partition.start, START_BYTES.min(partition.length), Purpose::Partition(partition));
        }
    }
}

impl Want {
    /// Up to where it is there.
    fn at(&self) -> u64 {
        self.range.start + self.bytes.len() as u64
    }

    fn take(&mut self, offset: u64, bytes: &[u8]) {
        let gap_end = offset.min(self.range.end);
        if gap_end > self.at() {
            self.bytes.resize((gap_end - self.range.start) as usize, 0);
        }
        let missing = (self.range.end - self.at()) as usize;
        let known = self.at().checked_sub(offset).and_then(|known| usize::try_from(known).ok());
        if let Some(new) = known.and_then(|known| bytes.get(known..)) {
            self.bytes.extend_from_slice(&new[..new.len().min(missing)]);
        }
    }
}

/// The same by the copy of a GPT at the disk's end, if there is one: for a disk whose start is gone.
pub fn inspect_backup<E>(
    length: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
) -> Result<Option<Inspection>, E> {
    let mut end = vec![0; length.min(4096) as usize];
    read(length - end.len() as u64, &mut end)?;
    let Some(table) = Gpt::backup(&end).filter(|table| table.entries.end <= length) else { return Ok(None) };
    let mut entries = vec![0; (table.entries.end - table.entries.start) as usize];
    read(table.entries.start, &mut entries)?;
    let mut found =
        Inspection { table: Table::Gpt, partitions: table.partitions(&entries, length), file_systems: Vec::new() };
    for partition in &found.partitions {
        let mut start = vec![0; START_BYTES.min(partition.length) as usize];
        read(partition.start, &mut start)?;
        let known = FileSystem::known(&start, Some(partition.number), partition.start, partition.length);
        found.file_systems.extend(known);
    }
    Ok(Some(found))
}

/// Looks at a disk that can be read anywhere.
pub fn inspect<E>(length: u64, mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>) -> Result<Inspection, E> {
    let mut inspector = Inspector::new(length);
    let mut buffer = Vec::new();
    while let Some(range) = inspector.wants() {
        buffer.resize((range.end - range.start) as usize, 0);
        read(range.start, &mut buffer)?;
        inspector.feed(range.start, &buffer);
    }
    Ok(inspector.finish())
}
