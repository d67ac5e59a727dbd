//! ext2, ext3 and ext4, read. What only the journal has yet is read from it, as the kernel would have put it in its
//! place. Files that are encrypted, or whose attributes lie in inodes of their own, are told.

mod attribute;
mod directory;
mod inode;
mod journal;
mod map;
mod superblock;

use std::collections::BTreeMap;

use super::{
    DIRECTORY_BYTES_MAX, DiskError, EachRun, Entries, FileSystem, Journal, Listing, Place, Result, Run, Stat, Stretch,
    Summary, TARGET_MAX, Volume, damaged,
};
use crate::item::Kind;
use crate::openstack::image::{le_u16, le_u32};
use inode::{Form, Inode};
use journal::Written;
use superblock::Superblock;

const ROOT: u64 = 2;

/// An open file system.
pub(super) struct Ext {
    volume: Volume,
    superblock: Superblock,
    /// Blocks that the journal has in a newer form.
    newer: BTreeMap<u64, Written>,
    summary: Summary,
}

impl Ext {
    pub fn open(volume: Volume) -> Result<Self> {
        let superblock = Superblock::parse(&volume.bytes(superblock::AT, superblock::LENGTH)?)?;
        let summary = Summary { kind: superblock.kind(), label: superblock.label.clone(), journal: Journal::Empty };
        let mut ext = Self { volume, superblock, newer: BTreeMap::new(), summary };
        if ext.superblock.needs_recovery() {
            match journal::read(&ext) {
                Ok(newer) => {
                    ext.summary.journal = Journal::Replayed(newer.len());
                    ext.newer = newer;
                }
                Err(DiskError::Read(error)) => return Err(error.into()),
                Err(error) => ext.summary.journal = Journal::Unread(error.to_string()),
            }
        }
        Ok(ext)
    }

    fn block_bytes(&self) -> u64 {
        self.superblock.block_bytes
    }

    /// Fills the buffer from a byte within a block, as the journal has it.
    fn read_block(&self, block: u64, from: u64, buffer: &mut [u8]) -> Result<()> {
        if block >= self.superblock.blocks || from + buffer.len() as u64 > self.block_bytes() {
            return Err(damaged(format!("it leads to block {block}, which it does not have")));
        }
        let newer = self.newer.get(&block);
        let at = newer.map_or(block, |newer| newer.at) * self.block_bytes() + from;
        self.volume.read(at, buffer)?;
        if newer.is_some_and(|newer| newer.is_escaped) && from < 4 {
            let start = &journal::MAGIC.to_be_bytes()[from as usize..];
            buffer.iter_mut().zip(start).for_each(|(byte, magic)| *byte = *magic);
        }
        Ok(())
    }

    fn whole_block(&self, block: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.block_bytes() as usize];
        self.read_block(block, 0, &mut bytes)?;
        Ok(bytes)
    }

    fn inode(&self, number: u64) -> Result<Inode> {
        let superblock = &self.superblock;
        if number == 0 || number > superblock.inodes {
            return Err(damaged(format!("it leads to inode {number}, which it does not have")));
        }
        let (group, index) = ((number - 1) / superblock.group_inodes, (number - 1) % superblock.group_inodes);
        let (block, from) = superblock.descriptor(group);
        let mut descriptor = vec![0; superblock.descriptor_bytes as usize];
        self.read_block(block, from, &mut descriptor)?;
        let high = if descriptor.len() >= 64 { le_u32(&descriptor, 40) } else { 0 };
        let table = u64::from(high) << 32 | u64::from(le_u32(&descriptor, 8));
        let at = index * superblock.inode_bytes;
        let mut bytes = vec![0; superblock.inode_bytes as usize];
        let block = table.saturating_add(at / self.block_bytes());
        self.read_block(block, at % self.block_bytes(), &mut bytes)?;
        Inode::parse(number, bytes, superblock)
    }

    /// A directory's blocks, or what of it is in the inode.
    fn directory(&self, inode: &Inode, entries: &mut Entries) -> Result<()> {
        if let Form::Inline = inode.form() {
            let content = inline(inode);
            // The first four bytes are the directory above.
            let (first, rest) = content.split_at(content.len().min(inode::BODY_BYTES));
            directory::read(first.get(4..).unwrap_or_default(), 0, entries)?;
            return directory::read(rest, 0, entries);
        }
        if inode.size > DIRECTORY_BYTES_MAX {
            return Err(damaged(format!("a directory has {} bytes", inode.size)));
        }
        let blocks = inode.size.div_ceil(self.block_bytes());
        map::each(self, inode, &mut |stretch: Stretch| {
            for index in 0..stretch.blocks.min(blocks.saturating_sub(stretch.first)) {
                if stretch.is_written {
                    directory::read(&self.whole_block(stretch.at + index)?, self.block_bytes(), entries)?;
                }
            }
            Ok(())
        })
    }

    fn target(&self, inode: &Inode) -> Result<Vec<u8>> {
        if inode.size > TARGET_MAX {
            return Err(damaged(format!("a link points to {} bytes", inode.size)));
        }
        let length = inode.size as usize;
        if length < inode::BODY_BYTES && !matches!(inode.form(), Form::Inline) {
            return Ok(inode.body()[..length].to_vec());
        }
        let mut target = vec![0; length];
        self.each_run(inode, &mut |run| {
            let range = run.offset as usize..(run.offset + run.length) as usize;
            match run.place {
                Place::Here(bytes) => target[range].copy_from_slice(&bytes),
                Place::At(at) => self.volume.read(at, &mut target[range])?,
            }
            Ok(())
        })?;
        Ok(target)
    }

    fn each_run(&self, inode: &Inode, each: &mut EachRun<'_>) -> Result<()> {
        if matches!(inode.form(), Form::Inline) {
            let bytes = inline(inode);
            let length = bytes.len() as u64;
            return if length == 0 { Ok(()) } else { each(Run { offset: 0, length, place: Place::Here(bytes) }) };
        }
        map::each(self, inode, &mut |stretch| {
            let offset = stretch.first.saturating_mul(self.block_bytes());
            if !stretch.is_written || offset >= inode.size {
                return Ok(());
            }
            if stretch.at.checked_add(stretch.blocks).is_none_or(|end| end > self.superblock.blocks) {
                return Err(damaged(format!("it leads to block {}, which it does not have", stretch.at)));
            }
            self.each_piece(stretch, &mut |first, at, blocks, is_escaped| {
                let offset = first * self.block_bytes();
                let length = (blocks * self.block_bytes()).min(inode.size.saturating_sub(offset));
                let place = if is_escaped {
                    let mut bytes = self.volume.bytes(at * self.block_bytes(), length as usize)?;
                    bytes.iter_mut().zip(journal::MAGIC.to_be_bytes()).for_each(|(byte, magic)| *byte = magic);
                    Place::Here(bytes)
                } else {
                    Place::At(at * self.block_bytes())
                };
                if length == 0 { Ok(()) } else { each(Run { offset, length, place }) }
            })
        })
    }

    /// A stretch in pieces, of which those that the journal has are one block each.
    fn each_piece(&self, stretch: Stretch, each: &mut dyn FnMut(u64, u64, u64, bool) -> Result<()>) -> Result<()> {
        let (mut done, end) = (0, stretch.blocks);
        for (block, newer) in self.newer.range(stretch.at..stretch.at + end) {
            let until = block - stretch.at;
            if until > done {
                each(stretch.first + done, stretch.at + done, until - done, false)?;
            }
            each(stretch.first + until, newer.at, 1, newer.is_escaped)?;
            done = until + 1;
        }
        if end > done { each(stretch.first + done, stretch.at + done, end - done, false) } else { Ok(()) }
    }
}

impl FileSystem for Ext {
    fn summary(&self) -> &Summary {
        &self.summary
    }

    fn root(&self) -> u64 {
        ROOT
    }

    fn stat(&self, inode: u64) -> Result<Stat> {
        let inode = self.inode(inode)?;
        let mut stat = inode.stat()?;
        if let Kind::Symlink(target) = &mut stat.kind {
            *target = self.target(&inode)?;
        }
        stat.metadata.xattrs = attribute::read(self, &inode)?;
        Ok(stat)
    }

    fn list(&self, directory: u64) -> Result<Listing> {
        let inode = self.inode(directory)?;
        inode.refuse_encrypted()?;
        if !matches!(inode.stat()?.kind, Kind::Directory) {
            return Err(damaged(format!("inode {directory} is no directory")));
        }
        let mut entries = Entries::default();
        let read = self.directory(&inode, &mut entries);
        match read {
            Err(DiskError::Read(error)) => Err(error.into()),
            read => Ok(entries.finish(read)),
        }
    }

    fn runs(&self, file: u64, each: &mut EachRun<'_>) -> Result<()> {
        let inode = self.inode(file)?;
        inode.refuse_encrypted()?;
        self.each_run(&inode, each)
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        self.volume.read(at, buffer)
    }
}

fn long(bytes: &[u8], low: usize, high: usize) -> u64 {
    u64::from(le_u16(bytes, high)) << 32 | u64::from(le_u32(bytes, low))
}

/// What of a small file or directory is in its inode.
fn inline(inode: &Inode) -> Vec<u8> {
    let mut bytes = inode.body().to_vec();
    bytes.extend(attribute::inline_rest(inode));
    bytes.truncate(inode.size as usize);
    bytes
}
