//! Entries of directories: those in an inode, and those in blocks. Pure.

use super::super::{Entries, Result, damaged};
use super::superblock::Superblock;
use crate::openstack::image::{be_u16, be_u32, be_u64};

/// Entries lie before this byte of a directory; behind it lie the trees that find them.
pub(super) const ENTRIES_END: u64 = 1 << 35;
/// Blocks that are a whole directory have entries at their end that find the others.
const MAGICS_WHOLE: [(u32, usize); 2] = [(0x5844_3242, 16), (0x5844_4233, 64)];
const MAGICS: [(u32, usize); 2] = [(0x5844_3244, 16), (0x5844_4433, 64)];
const UNUSED: u16 = 0xffff;

/// Reads the entries in an inode.
pub(super) fn short(bytes: &[u8], has_types: bool, entries: &mut Entries) -> Result<()> {
    let cut = || damaged("the entries of a directory");
    let [count, wide, ..] = *bytes else { return Err(cut()) };
    let number = if wide == 0 { 4 } else { 8 };
    let mut rest = bytes.get(2 + number..).ok_or_else(cut)?;
    for _ in 0..count {
        let length = usize::from(*rest.first().ok_or_else(cut)?);
        let name = rest.get(3..3 + length).ok_or_else(cut)?;
        let at = 3 + length + usize::from(has_types);
        let inode = rest.get(at..at + number).ok_or_else(cut)?;
        entries.push(name, if wide == 0 { u64::from(be_u32(inode, 0)) } else { be_u64(inode, 0) })?;
        rest = &rest[at + number..];
    }
    Ok(())
}

/// Collects the blocks that a directory's block consists of.
pub(super) struct Block {
    bytes: Vec<u8>,
    first: u64,
    blocks: u64,
    /// Length of each of them in bytes.
    step: usize,
    has_types: bool,
}

impl Block {
    pub fn new(superblock: &Superblock) -> Self {
        let (blocks, step) = (superblock.directory_blocks, superblock.block_bytes as usize);
        Self { bytes: Vec::new(), first: 0, blocks, step, has_types: superblock.has_types }
    }

    /// Takes the next block, and reads the entries when all of them are there.
    pub fn take(&mut self, number: u64, bytes: &[u8], entries: &mut Entries) -> Result<()> {
        if number.is_multiple_of(self.blocks) {
            self.first = number;
            self.bytes.clear();
        }
        if number != self.first + (self.bytes.len() / self.step) as u64 {
            return Err(damaged("a block of a directory is not there"));
        }
        self.bytes.extend_from_slice(bytes);
        if number % self.blocks == self.blocks - 1 { self.read(entries) } else { Ok(()) }
    }

    fn read(&self, entries: &mut Entries) -> Result<()> {
        let bytes = &self.bytes;
        let cut = || damaged("the entries of a directory");
        let of = |magics: [(u32, usize); 2]| magics.into_iter().find(|(magic, _)| *magic == be_u32(bytes, 0));
        let (head, end) = match (of(MAGICS), of(MAGICS_WHOLE)) {
            (Some((_, head)), _) => (head, bytes.len()),
            (None, Some((_, head))) => {
                let found_by = be_u32(bytes, bytes.len() - 8) as usize * 8 + 8;
                (head, bytes.len().checked_sub(found_by).ok_or_else(cut)?)
            }
            (None, None) => return Err(cut()),
        };
        let mut rest = bytes.get(head..end).ok_or_else(cut)?;
        while rest.len() >= 8 {
            let length = if be_u16(rest, 0) == UNUSED {
                usize::from(be_u16(rest, 2))
            } else {
                let name = rest.get(9..9 + usize::from(*rest.get(8).ok_or_else(cut)?)).ok_or_else(cut)?;
                entries.push(name, be_u64(rest, 0))?;
                (9 + name.len() + usize::from(self.has_types) + 2).next_multiple_of(8)
            };
            rest = rest.get(length..).filter(|_| length >= 8).ok_or_else(cut)?;
        }
        Ok(())
    }
}
