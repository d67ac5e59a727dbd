//! Where the content or the attributes of an inode are: a list of extents in it, or a tree of them. Both are walked in
//! the order of the file; one that goes back, or leads to an empty node, is damage, so that no walk is longer than its
//! file.

use super::super::{EachStretch, Result, Stretch, damaged};
use super::Xfs;
use super::inode::{Form, Inode};
use crate::openstack::image::{be_u16, be_u32, be_u64};

const EXTENT_BYTES: usize = 16;
/// A key and a pointer.
const PAIR_BYTES: usize = 16;
const NODE_MAGICS: [(u32, usize); 2] = [(0x424d_4150, 24), (0x424d_4133, 72)];
const DEPTH_MAX: u16 = 9;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fork {
    Data,
    Attributes,
}

/// Gives the stretches of a fork in the order of the file.
pub(super) fn each(xfs: &Xfs, inode: &Inode, fork: Fork, each: &mut EachStretch<'_>) -> Result<()> {
    let (content, attributes) = inode.extents();
    let (form, bytes, count) = match fork {
        Fork::Data => (inode.form()?, inode.data(), content),
        Fork::Attributes => (inode.attribute_form()?, inode.attributes(), attributes),
    };
    let mut walk = Walk { xfs, inode: inode.number, next: 0 };
    match form {
        Form::Device | Form::Local => Ok(()),
        Form::Extents => {
            let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(EXTENT_BYTES));
            let list = length.and_then(|length| bytes.get(..length));
            walk.leaf(list.ok_or_else(|| walk.fault())?, each)
        }
        Form::Tree => {
            let depth = be_u16(bytes, 0);
            if depth == 0 || depth > DEPTH_MAX {
                return Err(walk.fault());
            }
            walk.pointers(bytes.get(4..).unwrap_or_default(), be_u16(bytes, 2), depth, each)
        }
    }
}

struct Walk<'a> {
    xfs: &'a Xfs,
    inode: u64,
    /// No block before this one may come any more.
    next: u64,
}

impl Walk<'_> {
    /// Keys, then as much room for pointers.
    fn pointers(&mut self, pairs: &[u8], count: u16, depth: u16, each: &mut EachStretch<'_>) -> Result<()> {
        let room = pairs.len() / PAIR_BYTES;
        let count = usize::from(count);
        if count == 0 || count > room {
            return Err(self.fault());
        }
        for index in 0..count {
            if be_u64(pairs, index * 8) < self.next {
                return Err(self.fault());
            }
            let block = self.xfs.block(be_u64(pairs, (room + index) * 8))?;
            let head = NODE_MAGICS.iter().find(|(magic, _)| *magic == be_u32(&block, 0)).map(|(_, length)| *length);
            let (Some(head), count) = (head, be_u16(&block, 6)) else { return Err(self.fault()) };
            if be_u16(&block, 4) != depth - 1 || count == 0 {
                return Err(self.fault());
            }
            if depth > 1 {
                self.pointers(&block[head..], count, depth - 1, each)?;
            } else {
                let list = block.get(head..head + usize::from(count) * EXTENT_BYTES);
                self.leaf(list.ok_or_else(|| self.fault())?, each)?;
            }
        }
        Ok(())
    }

    fn leaf(&mut self, list: &[u8], each: &mut EachStretch<'_>) -> Result<()> {
        for extent in list.chunks_exact(EXTENT_BYTES) {
            let (high, low) = (be_u64(extent, 0), be_u64(extent, 8));
            let first = high >> 9 & ((1 << 54) - 1);
            let blocks = low & ((1 << 21) - 1);
            if first < self.next || blocks == 0 {
                return Err(self.fault());
            }
            self.next = first + blocks;
            // With the group in its high bits.
            let at = (high & 0x1ff) << 43 | low >> 21;
            each(Stretch { first, at, blocks, is_written: high >> 63 == 0 })?;
        }
        Ok(())
    }

    fn fault(&self) -> super::super::DiskError {
        damaged(format!("the extents of inode {}", self.inode))
    }
}
