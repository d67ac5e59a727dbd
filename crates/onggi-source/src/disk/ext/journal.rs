//! The journal of ext3 and ext4: which blocks it has in a newer form than their places. It is walked as the kernel walks
//! it: whole transactions with ascending numbers, blocks that a later one revokes left out. Nothing is written.

use std::collections::BTreeMap;

use super::super::{Result, Stretch, damaged};
use super::Ext;
use super::inode::Inode;
use super::map;
use crate::openstack::image::{be_u16, be_u32, be_u64};

/// What each block of the journal's own begins with.
pub(super) const MAGIC: u32 = 0xc03b_3998;
/// The most blocks that are replayed: at 4 KiB each 1 GiB, as much as the largest journal of mkfs has.
const BLOCKS_MAX: usize = 1 << 18;
/// The most stretches that the journal itself may lie in.
const STRETCHES_MAX: usize = 1 << 14;
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;
const INCOMPAT_64: u32 = 0x2;
const INCOMPAT_CHECKSUM_2: u32 = 0x8;
const INCOMPAT_CHECKSUM_3: u32 = 0x10;
const INCOMPAT_FAST: u32 = 0x20;
/// Revocation, 64 bits, asynchronous commits, checksums, fast commits.
const INCOMPAT_KNOWN: u32 = 0x3f;
const TAG_ESCAPED: u32 = 1;
const TAG_SAME_ID: u32 = 2;
const TAG_LAST: u32 = 8;
/// How many blocks of fast commits there are, if the journal does not say.
const FAST_BLOCKS: u64 = 256;

/// Where the newer form of a block is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// The block of the file system.
    pub at: u64,
    /// Whether its first bytes are those of the journal's own blocks, and were taken out.
    pub is_escaped: bool,
}

/// A transaction as far as it was read.
#[derive(Default)]
struct Transaction {
    written: Vec<(u64, Written)>,
    revoked: Vec<u64>,
}

struct Log<'a> {
    ext: &'a Ext,
    stretches: Vec<Stretch>,
    incompat: u32,
    /// The blocks that it goes round in.
    first: u64,
    end: u64,
}

/// The blocks that only the journal has in their newest form.
pub(super) fn read(ext: &Ext) -> Result<BTreeMap<u64, Written>> {
    let inode = ext.inode(ext.superblock.journal_inode)?;
    let stretches = stretches(ext, &inode)?;
    let mut log = Log { ext, stretches, incompat: 0, first: 0, end: 0 };
    let head = log.block(0)?;
    if be_u32(&head, 0) != MAGIC || u64::from(be_u32(&head, 12)) != ext.block_bytes() {
        return Err(damaged("the journal does not begin with what it must"));
    }
    log.incompat = be_u32(&head, 40);
    if log.incompat & !INCOMPAT_KNOWN != 0 {
        return Err(damaged(format!("the journal uses features that are not read ({:#x})", log.incompat)));
    }
    let fast = match u64::from(be_u32(&head, 0x54)) {
        _ if log.incompat & INCOMPAT_FAST == 0 => 0,
        0 => FAST_BLOCKS,
        blocks => blocks,
    };
    (log.first, log.end) = (u64::from(be_u32(&head, 20)), u64::from(be_u32(&head, 16)).saturating_sub(fast));
    let start = u64::from(be_u32(&head, 28));
    if start == 0 {
        return Ok(BTreeMap::new());
    }
    if log.first == 0 || !(log.first..log.end).contains(&start) {
        return Err(damaged("the journal begins outside itself"));
    }
    log.replay(start, be_u32(&head, 24))
}

fn stretches(ext: &Ext, inode: &Inode) -> Result<Vec<Stretch>> {
    let mut stretches = Vec::new();
    map::each(ext, inode, &mut |stretch| {
        if stretches.len() >= STRETCHES_MAX {
            return Err(damaged("the journal is in too many pieces"));
        }
        stretches.push(stretch);
        Ok(())
    })?;
    Ok(stretches)
}

impl Log<'_> {
    /// The block of the file system that a block of the journal is.
    fn place(&self, block: u64) -> Result<u64> {
        let index = self.stretches.partition_point(|stretch| stretch.first + stretch.blocks <= block);
        let stretch = self.stretches.get(index).filter(|stretch| stretch.first <= block);
        stretch.map(|stretch| stretch.at + (block - stretch.first)).ok_or_else(|| damaged("the journal has holes"))
    }

    fn block(&self, block: u64) -> Result<Vec<u8>> {
        self.ext.whole_block(self.place(block)?)
    }

    /// Goes round once at most, to the first block that is not of the transaction that must come next.
    fn replay(&self, start: u64, first_number: u32) -> Result<BTreeMap<u64, Written>> {
        let (mut newer, mut open) = (BTreeMap::new(), Transaction::default());
        let (mut at, mut left, mut number) = (start, self.end - self.first, first_number);
        let step = |at: &mut u64, left: &mut u64| {
            *at = if *at + 1 >= self.end { self.first } else { *at + 1 };
            *left = left.saturating_sub(1);
        };
        while left > 0 {
            let block = self.block(at)?;
            if be_u32(&block, 0) != MAGIC || be_u32(&block, 8) != number {
                break;
            }
            step(&mut at, &mut left);
            match be_u32(&block, 4) {
                DESCRIPTOR => {
                    for (target, is_escaped) in self.tags(&block) {
                        if left == 0 || open.written.len() >= BLOCKS_MAX {
                            return Err(damaged("a transaction of the journal is too long"));
                        }
                        open.written.push((target, Written { at: self.place(at)?, is_escaped }));
                        step(&mut at, &mut left);
                    }
                }
                REVOKE if open.revoked.len() < BLOCKS_MAX => open.revoked.extend(self.revoked(&block)),
                COMMIT => {
                    let done = std::mem::take(&mut open);
                    newer.extend(done.written);
                    for block in done.revoked {
                        newer.remove(&block);
                    }
                    if newer.len() > BLOCKS_MAX {
                        return Err(damaged("the journal has too many blocks"));
                    }
                    number = number.wrapping_add(1);
                }
                _ => break,
            }
        }
        Ok(newer)
    }

    fn is_wide(&self) -> bool {
        self.incompat & INCOMPAT_64 != 0
    }

    /// Which blocks follow a descriptor.
    fn tags(&self, block: &[u8]) -> Vec<(u64, bool)> {
        let has_3 = self.incompat & INCOMPAT_CHECKSUM_3 != 0;
        let has_2 = self.incompat & INCOMPAT_CHECKSUM_2 != 0;
        let bytes = if has_3 { 16 } else { 8 + if has_2 { 2 } else { 0 } + if self.is_wide() { 4 } else { 0 } };
        let end = block.len() - if has_2 || has_3 { 4 } else { 0 };
        let (mut at, mut tags) = (12, Vec::new());
        while at + bytes <= end {
            let tag = &block[at..at + bytes];
            let flags = if has_3 { be_u32(tag, 4) } else { u32::from(be_u16(tag, 6)) };
            let high = if self.is_wide() { be_u32(tag, 8) } else { 0 };
            tags.push((u64::from(high) << 32 | u64::from(be_u32(tag, 0)), flags & TAG_ESCAPED != 0));
            if flags & TAG_LAST != 0 {
                break;
            }
            at += bytes + if flags & TAG_SAME_ID == 0 { 16 } else { 0 };
        }
        tags
    }

    fn revoked(&self, block: &[u8]) -> Vec<u64> {
        let used = (be_u32(block, 12) as usize).min(block.len());
        let entries = block.get(16..used).unwrap_or_default();
        if self.is_wide() {
            entries.chunks_exact(8).map(|entry| be_u64(entry, 0)).collect()
        } else {
            entries.chunks_exact(4).map(|entry| u64::from(be_u32(entry, 0))).collect()
        }
    }
}
