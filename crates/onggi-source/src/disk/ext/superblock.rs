//! The superblock: sizes and features. Pure. What is accepted has sizes that the rest can rely on.

use super::super::{DiskError, Result, damaged};
use crate::openstack::image::{le_u16, le_u32};

/// Where it is, in bytes.
pub(super) const AT: u64 = 1024;
/// In bytes.
pub(super) const LENGTH: usize = 1024;

const COMPAT_JOURNAL: u32 = 0x4;
const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_META_GROUPS: u32 = 0x10;
const INCOMPAT_64: u32 = 0x80;
/// Extents, 64 bits, flexible groups: any of them makes it an ext4.
const INCOMPAT_EXT4: u32 = 0x40 | 0x80 | 0x200;
/// Types in directories, recovery, meta groups, extents, 64 bits, multiple mounts, flexible groups, attributes in
/// inodes, checksum seed, large directories, inline data, encryption, folded case.
const INCOMPAT_KNOWN: u32 =
    0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x3_0000;
const RO_COMPAT_SPARSE: u32 = 0x1;
const BLOCK_SHIFT_MAX: u32 = 6;

/// What is read of it.
#[derive(Debug)]
pub(super) struct Superblock {
    pub block_bytes: u64,
    pub blocks: u64,
    pub inodes: u64,
    pub group_inodes: u64,
    pub inode_bytes: u64,
    pub descriptor_bytes: u64,
    pub label: Vec<u8>,
    pub journal_inode: u64,
    first_block: u64,
    group_blocks: u64,
    first_meta_group: u64,
    has_journal: bool,
    incompat: u32,
    ro_compat: u32,
}

impl Superblock {
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let incompat = le_u32(bytes, 96);
        let unknown = incompat & !INCOMPAT_KNOWN;
        if unknown != 0 {
            return Err(DiskError::Unsupported(format!("it uses features of ext4 that are not read ({unknown:#x})")));
        }
        let shift = le_u32(bytes, 24);
        if shift > BLOCK_SHIFT_MAX {
            return Err(damaged("the size of its blocks"));
        }
        let block_bytes = 1024 << shift;
        let high = if incompat & INCOMPAT_64 != 0 { le_u32(bytes, 0x150) } else { 0 };
        let inode_bytes = if le_u32(bytes, 76) == 0 { 128 } else { u64::from(le_u16(bytes, 88)) };
        let descriptor_bytes = if incompat & INCOMPAT_64 != 0 { u64::from(le_u16(bytes, 0xfe)) } else { 32 };
        let superblock = Self {
            block_bytes,
            blocks: u64::from(high) << 32 | u64::from(le_u32(bytes, 4)),
            inodes: u64::from(le_u32(bytes, 0)),
            group_inodes: u64::from(le_u32(bytes, 40)),
            inode_bytes,
            descriptor_bytes,
            label: bytes[120..136].iter().copied().take_while(|byte| *byte != 0).collect(),
            journal_inode: u64::from(le_u32(bytes, 0xe0)),
            first_block: u64::from(le_u32(bytes, 20)),
            group_blocks: u64::from(le_u32(bytes, 32)),
            first_meta_group: u64::from(le_u32(bytes, 0x104)),
            has_journal: le_u32(bytes, 92) & COMPAT_JOURNAL != 0,
            incompat,
            ro_compat: le_u32(bytes, 100),
        };
        superblock.check()
    }

    fn check(self) -> Result<Self> {
        let sizes = [(self.inode_bytes, 128), (self.descriptor_bytes, 32)];
        let fits = |(size, least): (u64, u64)| size.is_power_of_two() && size >= least && size <= self.block_bytes;
        if !sizes.into_iter().all(fits) || self.group_inodes == 0 || self.group_blocks == 0 || self.first_block > 1 {
            return Err(damaged("the sizes in its superblock"));
        }
        if self.blocks.checked_mul(self.block_bytes).is_none() {
            return Err(damaged("the count of its blocks"));
        }
        Ok(self)
    }

    /// The block that the superblock is in.
    fn superblock_block(&self) -> u64 {
        AT / self.block_bytes
    }

    pub fn kind(&self) -> &'static str {
        match self.has_journal {
            _ if self.incompat & INCOMPAT_EXT4 != 0 => "ext4",
            true => "ext3",
            false => "ext2",
        }
    }

    /// Whether the journal has what its places have not.
    pub fn needs_recovery(&self) -> bool {
        self.has_journal && self.incompat & INCOMPAT_RECOVER != 0
    }

    /// The block of a group's descriptor, and the byte within it.
    pub fn descriptor(&self, group: u64) -> (u64, u64) {
        let per_block = self.block_bytes / self.descriptor_bytes;
        let (block, from) = (group / per_block, group % per_block * self.descriptor_bytes);
        if self.incompat & INCOMPAT_META_GROUPS == 0 || block < self.first_meta_group {
            return (self.superblock_block() + 1 + block, from);
        }
        let first = block * per_block;
        let place = self.first_block.saturating_add(first.saturating_mul(self.group_blocks));
        let skipped = u64::from(self.has_superblock(first));
        // The first group of a file system with clusters begins one block before its superblock.
        let skipped = if first == 0 { skipped.max(self.superblock_block() + 1 - self.first_block) } else { skipped };
        (place.saturating_add(skipped), from)
    }

    /// Whether a group begins with a copy of the superblock.
    fn has_superblock(&self, group: u64) -> bool {
        let is_power_of = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        self.ro_compat & RO_COMPAT_SPARSE == 0 || group <= 1 || [3, 5, 7].into_iter().any(is_power_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Vec<u8> {
        let mut bytes = vec![0; LENGTH];
        for (at, value) in [(0, 100_u32), (4, 1000), (20, 1), (32, 8192), (40, 100), (76, 1), (88, 256), (100, 1)] {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    #[track_caller]
    fn check(at: usize, value: u32, is_read: bool) {
        let mut bytes = plain();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert_eq!(Superblock::parse(&bytes).is_ok(), is_read);
    }

    #[test]
    fn sizes_that_cannot_be_are_damage() {
        check(4, 1000, true);
        for (at, value) in [(24, 7), (40, 0), (32, 0), (88, 0), (88, 100), (88, 2048), (96, 1), (20, 2)] {
            check(at, value, false);
        }
    }

    #[test]
    fn copies_of_the_superblock_are_where_they_are_kept() {
        let superblock = Superblock::parse(&plain()).unwrap();
        let kept: Vec<u64> = (0..60).filter(|group| superblock.has_superblock(*group)).collect();
        assert_eq!(kept, [0, 1, 3, 5, 7, 9, 25, 27, 49]);
    }
}
