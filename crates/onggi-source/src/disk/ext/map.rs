//! Where the content of an inode is: a tree of extents, or blocks of pointers. Both are walked in the order of the file;
//! one that goes back, or leads to an empty node, is damage, so that no walk is longer than its file.

use super::super::{EachStretch, Result, Stretch, damaged};
use super::Ext;
use super::inode::{Form, Inode};
use crate::openstack::image::{le_u16, le_u32};

const EXTENT_MAGIC: u16 = 0xf30a;
const EXTENT_BYTES: usize = 12;
const DEPTH_MAX: u16 = 5;
/// Longer ones are shorter by this, and not written yet.
const WRITTEN_MAX: u16 = 1 << 15;
/// Pointers in an inode that lead to content.
const DIRECT: usize = 12;
/// Blocks that a file can have.
const FILE_BLOCKS_MAX: u64 = 1 << 32;

/// Gives the stretches of an inode in the order of the file.
pub(super) fn each(ext: &Ext, inode: &Inode, each: &mut EachStretch<'_>) -> Result<()> {
    match inode.form() {
        Form::Inline => Ok(()),
        Form::Extents => {
            let depth = le_u16(inode.body(), 6);
            if depth > DEPTH_MAX {
                return Err(damaged(format!("the extents of inode {}", inode.number)));
            }
            Extents { ext, inode: inode.number, next: 0 }.node(inode.body(), depth, true, each)
        }
        Form::Pointers => {
            let blocks = inode.size.div_ceil(ext.block_bytes());
            let mut pointers = Pointers { ext, next: 0, blocks, open: None };
            for index in 0..15 {
                let depth = index.max(DIRECT - 1) - (DIRECT - 1);
                pointers.follow(le_u32(inode.body(), index * 4), depth as u32, each)?;
            }
            pointers.open.take().map_or(Ok(()), each)
        }
    }
}

struct Extents<'a> {
    ext: &'a Ext,
    inode: u64,
    /// No block before this one may come any more.
    next: u64,
}

impl Extents<'_> {
    fn node(&mut self, node: &[u8], depth: u16, is_root: bool, each: &mut EachStretch<'_>) -> Result<()> {
        let count = usize::from(le_u16(node, 2));
        let entries = node.get(EXTENT_BYTES..(count + 1) * EXTENT_BYTES);
        let holds = le_u16(node, 0) == EXTENT_MAGIC && le_u16(node, 6) == depth && (count > 0 || is_root);
        let Some(entries) = entries.filter(|_| holds) else { return Err(self.fault()) };
        for entry in entries.chunks_exact(EXTENT_BYTES) {
            let first = u64::from(le_u32(entry, 0));
            if first < self.next {
                return Err(self.fault());
            }
            if depth > 0 {
                self.next = first;
                let child = u64::from(le_u16(entry, 8)) << 32 | u64::from(le_u32(entry, 4));
                self.node(&self.ext.whole_block(child)?, depth - 1, false, each)?;
                continue;
            }
            let length = le_u16(entry, 4);
            let is_written = length <= WRITTEN_MAX;
            let blocks = u64::from(if is_written { length } else { length - WRITTEN_MAX });
            if blocks == 0 || first + blocks > FILE_BLOCKS_MAX {
                return Err(self.fault());
            }
            self.next = first + blocks;
            let at = u64::from(le_u16(entry, 6)) << 32 | u64::from(le_u32(entry, 8));
            each(Stretch { first, at, blocks, is_written })?;
        }
        Ok(())
    }

    fn fault(&self) -> super::super::DiskError {
        damaged(format!("the extents of inode {}", self.inode))
    }
}

struct Pointers<'a> {
    ext: &'a Ext,
    /// The block of the file that is next.
    next: u64,
    /// How many it has.
    blocks: u64,
    /// What was found last, and may go on.
    open: Option<Stretch>,
}

impl Pointers<'_> {
    fn follow(&mut self, pointer: u32, depth: u32, each: &mut EachStretch<'_>) -> Result<()> {
        let per_block = self.ext.block_bytes() / 4;
        if self.next >= self.blocks {
            return Ok(());
        }
        if pointer == 0 {
            self.next = self.next.saturating_add(per_block.saturating_pow(depth));
            return Ok(());
        }
        if depth > 0 {
            let block = self.ext.whole_block(u64::from(pointer))?;
            for entry in block.chunks_exact(4) {
                self.follow(le_u32(entry, 0), depth - 1, each)?;
            }
            return Ok(());
        }
        let (first, at) = (self.next, u64::from(pointer));
        self.next += 1;
        if let Some(open) = &mut self.open
            && (open.first + open.blocks, open.at + open.blocks) == (first, at)
        {
            open.blocks += 1;
            return Ok(());
        }
        let before = self.open.replace(Stretch { first, at, blocks: 1, is_written: true });
        before.map_or(Ok(()), each)
    }
}
