//! The superblock: sizes, features and where things are. Pure. What is accepted has sizes that the rest can rely on.

use super::super::{DiskError, Result, damaged};
use crate::openstack::image::{be_u16, be_u32, be_u64};

/// What is read of it, in bytes.
pub(super) const LENGTH: usize = 512;

const VERSION_DIRECTORIES_2: u16 = 0x2000;
const FEATURES2_TYPES: u32 = 0x200;
const INCOMPAT_TYPES: u32 = 0x1;
/// Types in directories, sparse inodes, another identifier, times after 2038, damage found, wide counts of extents,
/// exchanged ranges, names of parents, a directory of metadata.
const INCOMPAT_KNOWN: u32 = 0x1ff;

/// What is read of it.
#[derive(Debug)]
pub(super) struct Superblock {
    pub block_bytes: u64,
    pub inode_bytes: u64,
    pub root: u64,
    pub label: Vec<u8>,
    pub is_version_5: bool,
    pub has_types: bool,
    /// Of a directory's block, in blocks.
    pub directory_blocks: u64,
    blocks: u64,
    groups: u64,
    group_blocks: u64,
    /// Bits of a block's number within its group, and of an inode's within its block.
    group_bits: u32,
    inode_bits: u32,
}

impl Superblock {
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let version = be_u16(bytes, 100);
        let is_version_5 = match version & 0xf {
            4 if version & VERSION_DIRECTORIES_2 != 0 => false,
            5 => true,
            _ => return Err(DiskError::Unsupported("it is an xfs of before 2000, which is not read".into())),
        };
        let incompat = if is_version_5 { be_u32(bytes, 216) } else { 0 };
        let unknown = incompat & !INCOMPAT_KNOWN;
        if unknown != 0 {
            return Err(DiskError::Unsupported(format!("it uses features of xfs that are not read ({unknown:#x})")));
        }
        let bits = |at: usize| u32::from(bytes[at]);
        let superblock = Self {
            block_bytes: u64::from(be_u32(bytes, 4)),
            inode_bytes: u64::from(be_u16(bytes, 104)),
            root: be_u64(bytes, 56),
            label: bytes[108..120].iter().copied().take_while(|byte| *byte != 0).collect(),
            is_version_5,
            has_types: incompat & INCOMPAT_TYPES != 0 || !is_version_5 && be_u32(bytes, 200) & FEATURES2_TYPES != 0,
            directory_blocks: 1_u64.checked_shl(bits(192)).unwrap_or(0),
            blocks: be_u64(bytes, 8),
            groups: u64::from(be_u32(bytes, 88)),
            group_blocks: u64::from(be_u32(bytes, 84)),
            group_bits: bits(124),
            inode_bits: bits(123),
        };
        superblock.check()
    }

    fn check(self) -> Result<Self> {
        let fits = |size: u64, least: u64, most: u64| size.is_power_of_two() && (least..=most).contains(&size);
        let holds = fits(self.block_bytes, 512, 1 << 16)
            && fits(self.inode_bytes, 256, self.block_bytes.min(2048))
            && self.inode_bytes << self.inode_bits.min(16) == self.block_bytes
            && self.directory_blocks.checked_mul(self.block_bytes).is_some_and(|bytes| fits(bytes, 512, 1 << 16))
            && self.group_bits <= 32
            && (1..=1 << self.group_bits).contains(&self.group_blocks)
            && self.groups > 0
            && self.blocks.checked_mul(self.block_bytes).is_some();
        if holds { Ok(self) } else { Err(damaged("the sizes in its superblock")) }
    }

    /// Where a block is, in bytes; `None` for one that it does not have.
    pub fn place(&self, block: u64) -> Option<u64> {
        let (group, within) = (block >> self.group_bits, block & ((1 << self.group_bits) - 1));
        let block = group.checked_mul(self.group_blocks)?.checked_add(within)?;
        let is_there = group < self.groups && within < self.group_blocks && block < self.blocks;
        is_there.then(|| block * self.block_bytes)
    }

    /// Where an inode is, in bytes.
    pub fn inode(&self, number: u64) -> Option<u64> {
        let within = number & ((1 << self.inode_bits) - 1);
        Some(self.place(number >> self.inode_bits)? + within * self.inode_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Vec<u8> {
        let mut bytes = vec![0; LENGTH];
        for (at, value) in [(4, 4096_u32), (12, 7000), (84, 3000), (88, 3)] {
            bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        }
        bytes[100..102].copy_from_slice(&0xb4a5_u16.to_be_bytes());
        bytes[104..106].copy_from_slice(&512_u16.to_be_bytes());
        (bytes[123], bytes[124]) = (3, 12);
        bytes
    }

    #[test]
    fn a_block_is_counted_within_its_group() {
        let superblock = Superblock::parse(&plain()).unwrap();
        let place = |group: u64, within: u64| superblock.place(group << 12 | within);
        assert_eq!(place(1, 5), Some(3005 * 4096));
        assert_eq!((place(0, 3000), place(3, 0), place(2, 1000)), (None, None, None));
        assert_eq!(superblock.inode(128 + 3), Some(16 * 4096 + 3 * 512));
    }

    #[test]
    fn sizes_that_cannot_be_are_damage() {
        for (at, value) in [(4, 1), (84, 0), (84, 5000), (88, 0), (104, 0), (123, 9), (124, 60), (192, 40)] {
            let mut bytes = plain();
            let length = if at > 120 {
                1
            } else if at == 104 {
                2
            } else {
                4
            };
            bytes[at..at + length].copy_from_slice(&u32::to_be_bytes(value)[4 - length..]);
            assert!(Superblock::parse(&bytes).is_err(), "{at}");
        }
    }
}
