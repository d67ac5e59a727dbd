//! Partition tables: MBR with its chain of logical partitions, and GPT. Pure.

use serde::{Deserialize, Serialize};

use super::super::{le_u32, le_u64};
use super::{PARTITIONS_MAX, START_BYTES};

/// What an MBR counts in, in bytes.
pub(super) const SECTOR_BYTES: u64 = 512;
/// What a GPT may count in, in bytes.
const GPT_SECTORS: [u64; 2] = [512, 4096];
const MBR_ENTRIES: usize = 446;
const MBR_ENTRY_BYTES: usize = 16;
const TYPE_GPT: u8 = 0xee;
/// Holds logical partitions.
const TYPES_EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// The first number of a logical partition.
const FIRST_LOGICAL: u32 = 5;
const GPT_ENTRY_BYTES_MIN: u32 = 128;
const GPT_ENTRY_BYTES_MAX: u32 = 4096;

/// How a disk is divided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Table {
    /// Not at all, or in a way that is not known.
    #[default]
    None,
    /// By a master boot record.
    Mbr,
    /// By a GUID partition table.
    Gpt,
}

/// A part of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// As its system counts it.
    pub number: u32,
    /// Where it begins, in bytes of the disk.
    pub start: u64,
    /// Its length in bytes, as far as the disk goes.
    pub length: u64,
}

/// A link in the chain of logical partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    /// Where the link lies, in bytes of the disk.
    pub at: u64,
    /// Where the chain begins: from here links are counted.
    start: u64,
    number: u32,
}

/// An entry of an MBR, in bytes.
struct Entry {
    kind: u8,
    start: u64,
    length: u64,
}

impl Partition {
    fn new(number: u32, start: u64, length: u64, disk: u64) -> Option<Self> {
        let length = length.min(disk.checked_sub(start)?);
        (length > 0).then_some(Self { number, start, length })
    }
}

/// Reads the table from the start of a disk of this length.
pub(super) fn read(bytes: &[u8], disk: u64) -> (Table, Vec<Partition>, Option<Chain>) {
    let Some(entries) = mbr(bytes) else { return (Table::None, Vec::new(), None) };
    if entries.iter().any(|entry| entry.kind == TYPE_GPT)
        && let Some(partitions) = gpt(bytes, disk)
    {
        return (Table::Gpt, partitions, None);
    }
    let plausible = |entry: &Entry| entry.start > 0 && entry.length > 0 && entry.start < disk;
    let used = || (1..).zip(&entries).filter(|(_, entry)| entry.kind != 0);
    if used().next().is_none() || !used().all(|(_, entry)| plausible(entry)) {
        return (Table::None, Vec::new(), None);
    }
    let extended = used().find(|(_, entry)| TYPES_EXTENDED.contains(&entry.kind)).map(|(_, entry)| entry.start);
    let primary = used().filter(|(_, entry)| !TYPES_EXTENDED.contains(&entry.kind));
    let partitions = primary.filter_map(|(number, entry)| Partition::new(number, entry.start, entry.length, disk));
    (Table::Mbr, partitions.collect(), extended.map(|start| Chain { at: start, start, number: FIRST_LOGICAL }))
}

impl Chain {
    /// What a link says: its partition, and the next link, which must lie behind it.
    pub fn follow(self, bytes: &[u8], known: usize, disk: u64) -> (Option<Partition>, Option<Self>) {
        let Some([own, next, ..]) = mbr(bytes).filter(|_| known < PARTITIONS_MAX) else { return (None, None) };
        let start = self.at.saturating_add(own.start);
        let partition = Some(own).filter(|own| own.kind != 0 && own.start > 0);
        let partition = partition.and_then(|own| Partition::new(self.number, start, own.length, disk));
        let at = self.start.saturating_add(next.start);
        let follows = TYPES_EXTENDED.contains(&next.kind) && at > self.at && partition.is_some();
        (partition, follows.then_some(Self { at, number: self.number + 1, ..self }))
    }
}

fn mbr(bytes: &[u8]) -> Option<[Entry; 4]> {
    let entries = bytes.get(MBR_ENTRIES..510)?;
    let is_active = |index: usize| entries.get(index * MBR_ENTRY_BYTES).is_some_and(|flag| flag & 0x7f != 0);
    if bytes.get(510..512) != Some(&[0x55, 0xaa]) || (0..4).any(is_active) {
        return None;
    }
    Some([0, 1, 2, 3].map(|index: usize| {
        let entry = &entries[index * MBR_ENTRY_BYTES..];
        let sectors = |at| u64::from(le_u32(entry, at)) * SECTOR_BYTES;
        Entry { kind: entry[4], start: sectors(8), length: sectors(12) }
    }))
}

/// The table that lies at the disk's start; the copy at its end is not looked at.
fn gpt(bytes: &[u8], disk: u64) -> Option<Vec<Partition>> {
    let is_there = |sector: &u64| bytes.get(*sector as usize..).is_some_and(|rest| rest.starts_with(b"EFI PART"));
    let sector = GPT_SECTORS.into_iter().find(is_there)?;
    let header = Gpt::parse(bytes.get(sector as usize..)?, sector)?;
    let at = header.entries.start;
    Some(header.partitions(bytes.get(usize::try_from(at).ok().filter(|_| at < START_BYTES)?..)?, disk))
}

/// What the header of a GPT says.
pub(super) struct Gpt {
    /// Where its entries are, in bytes of the disk.
    pub entries: std::ops::Range<u64>,
    sector: u64,
    entry_bytes: u32,
}

impl Gpt {
    /// Of a disk with sectors of this length.
    fn parse(header: &[u8], sector: u64) -> Option<Self> {
        let entry_bytes = le_u32(header, 84);
        if !header.starts_with(b"EFI PART") || !(GPT_ENTRY_BYTES_MIN..=GPT_ENTRY_BYTES_MAX).contains(&entry_bytes) {
            return None;
        }
        let at = le_u64(header, 72).checked_mul(sector)?;
        let count = u64::from(le_u32(header, 80)).min(PARTITIONS_MAX as u64);
        Some(Self { entries: at..at.checked_add(count * u64::from(entry_bytes))?, sector, entry_bytes })
    }

    /// The copy at the end of a disk, from its last 4 KiB.
    pub fn backup(end: &[u8]) -> Option<Self> {
        GPT_SECTORS.into_iter().find_map(|sector| Self::parse(&end[end.len().checked_sub(sector as usize)?..], sector))
    }

    /// What its entries say.
    pub fn partitions(&self, entries: &[u8], disk: u64) -> Vec<Partition> {
        let Self { sector, entry_bytes, .. } = *self;
        let count = (self.entries.end - self.entries.start) / u64::from(entry_bytes);
        let entries = (1..).zip(entries.chunks_exact(entry_bytes as usize).take(count as usize));
        let used = entries.filter(|(_, entry)| entry[..16].iter().any(|byte| *byte != 0));
        let partitions = used.filter_map(|(number, entry)| {
            let (first, last) = (le_u64(entry, 32), le_u64(entry, 40));
            let length = last.checked_sub(first)?.checked_add(1)?.saturating_mul(sector);
            Partition::new(number, first.checked_mul(sector)?, length, disk)
        });
        partitions.collect()
    }
}
