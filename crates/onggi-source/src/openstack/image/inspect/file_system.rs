//! Superblocks: what a file system is, and whether it says that it was at rest. Pure.

use serde::{Deserialize, Serialize};

use super::super::{le_u16, le_u32};

/// The superblock of ext2, ext3 and ext4 begins here, in bytes.
const EXT_AT: usize = 1024;
const EXT_MAGIC: u16 = 0xef53;
/// Of `s_state`: it was unmounted.
const EXT_VALID: u16 = 1;
const EXT_COMPAT_JOURNAL: u32 = 0x4;
const EXT_INCOMPAT_RECOVER: u32 = 0x4;
const EXT_INCOMPAT_JOURNAL_DEVICE: u32 = 0x8;
/// Extents, 64 bits, flexible groups: any of them makes it an ext4.
const EXT_INCOMPAT_EXT4: u32 = 0x40 | 0x80 | 0x200;
/// Of the state byte of FAT: it is mounted, or was not unmounted.
const FAT_DIRTY: u8 = 1;

/// Whether a file system was at rest. The order is from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It says that nothing is left to be done: it was frozen, or not mounted.
    Clean,
    /// It does not say. A frozen XFS leaves a record in its log on purpose, so that its log tells nothing.
    Unknown,
    /// Its journal must be replayed first: it was in use, and nobody had frozen it.
    JournalPending,
}

/// A file system, or what holds some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    /// The partition that it is in; none: it takes the whole disk.
    pub partition: Option<u32>,
    /// Where it begins, in bytes of the disk.
    pub offset: u64,
    /// How much room it has, in bytes.
    pub length: u64,
    /// What it is: `ext4`, `xfs`, `lvm`.
    pub kind: String,
    /// Whether it was at rest.
    pub state: State,
}

impl FileSystem {
    /// What begins with these bytes, if it is known.
    pub(super) fn known(bytes: &[u8], partition: Option<u32>, offset: u64, length: u64) -> Option<Self> {
        let (kind, state) = ext(bytes).or_else(|| fat(bytes)).or_else(|| other(bytes))?;
        Some(Self { partition, offset, length, kind: kind.to_owned(), state })
    }
}

fn ext(bytes: &[u8]) -> Option<(&'static str, State)> {
    let superblock = bytes.get(EXT_AT..EXT_AT + 1024)?;
    if le_u16(superblock, 56) != EXT_MAGIC {
        return None;
    }
    let (compat, incompat) = (le_u32(superblock, 92), le_u32(superblock, 96));
    if incompat & EXT_INCOMPAT_JOURNAL_DEVICE != 0 {
        return Some(("ext-journal", State::Unknown));
    }
    let has_journal = compat & EXT_COMPAT_JOURNAL != 0;
    let state = match has_journal {
        true if incompat & EXT_INCOMPAT_RECOVER != 0 => State::JournalPending,
        true => State::Clean,
        false if le_u16(superblock, 58) & EXT_VALID != 0 => State::Clean,
        false => State::Unknown,
    };
    let kind = match has_journal {
        _ if incompat & EXT_INCOMPAT_EXT4 != 0 => "ext4",
        true => "ext3",
        false => "ext2",
    };
    Some((kind, state))
}

fn fat(bytes: &[u8]) -> Option<(&'static str, State)> {
    let begins = |at: usize, magic: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(magic));
    let state_at = match () {
        () if begins(82, b"FAT32") => 65,
        () if begins(54, b"FAT1") => 37,
        () => return None,
    };
    let is_dirty = bytes.get(state_at).is_some_and(|state| state & FAT_DIRTY != 0);
    Some(("fat", if is_dirty { State::Unknown } else { State::Clean }))
}

fn other(bytes: &[u8]) -> Option<(&'static str, State)> {
    let begins = |at: usize, magic: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(magic));
    let kind = match () {
        () if begins(0, b"XFSB") => "xfs",
        () if begins(0, b"LUKS\xba\xbe") => "luks",
        () if begins(3, b"NTFS    ") => "ntfs",
        () if begins(65_600, b"_BHRfS_M") => "btrfs",
        // The label is in one of the first four sectors.
        () if (0..4).any(|sector| begins(sector * 512, b"LABELONE") && begins(sector * 512 + 24, b"LVM2")) => "lvm",
        () => return None,
    };
    Some((kind, State::Unknown))
}
