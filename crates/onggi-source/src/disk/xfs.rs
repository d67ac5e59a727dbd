//! XFS, read: versions 4 and 5. Its log is not read: it tells of changes, not of blocks. So what was changed shortly
//! before a disk was copied in use may be missing or old, which [`Journal::Unread`] says.

mod attribute;
mod directory;
mod inode;
mod map;
mod superblock;

use super::{
    DIRECTORY_BYTES_MAX, DiskError, EachRun, Entries, FileSystem, Journal, Listing, Place, Result, Run, Stat, Stretch,
    Summary, Volume, damaged,
};
use crate::item::Kind;
use inode::{Form, Inode};
use superblock::Superblock;

/// The longest target of a link, in bytes.
const TARGET_MAX: u64 = 1024;
/// The head of what lies in blocks of its own in version 5, in bytes.
const REMOTE_HEAD_BYTES: usize = 56;

/// An open file system.
pub(super) struct Xfs {
    volume: Volume,
    superblock: Superblock,
    summary: Summary,
}

impl Xfs {
    pub fn open(volume: Volume) -> Result<Self> {
        let superblock = Superblock::parse(&volume.bytes(0, superblock::LENGTH)?)?;
        let journal = Journal::Unread("the log of xfs is not read".into());
        let summary = Summary { kind: "xfs", label: superblock.label.clone(), journal };
        Ok(Self { volume, superblock, summary })
    }

    fn block_bytes(&self) -> u64 {
        self.superblock.block_bytes
    }

    /// Where a block is, which counts groups in its high bits, in bytes.
    fn place(&self, block: u64) -> Result<u64> {
        self.superblock
            .place(block)
            .ok_or_else(|| damaged(format!("it leads to block {block}, which it does not have")))
    }

    fn block(&self, block: u64) -> Result<Vec<u8>> {
        self.volume.bytes(self.place(block)?, self.block_bytes() as usize)
    }

    fn inode(&self, number: u64) -> Result<Inode> {
        let at = self.superblock.inode(number).ok_or_else(|| damaged(format!("it leads to inode {number}")))?;
        Inode::parse(number, self.volume.bytes(at, self.superblock.inode_bytes as usize)?)
    }

    fn directory(&self, inode: &Inode, entries: &mut Entries) -> Result<()> {
        let has_types = self.superblock.has_types;
        match inode.form()? {
            Form::Local => directory::short(inode.data(), has_types, entries),
            Form::Device => Err(damaged(format!("inode {} is no directory", inode.number))),
            Form::Extents | Form::Tree => {
                if inode.size > DIRECTORY_BYTES_MAX {
                    return Err(damaged(format!("a directory has {} bytes", inode.size)));
                }
                let mut block = directory::Block::new(&self.superblock);
                map::each(self, inode, map::Fork::Data, &mut |stretch: Stretch| {
                    for index in 0..stretch.blocks {
                        // Behind the entries lie the trees that find them.
                        if stretch.first + index >= directory::ENTRIES_END / self.block_bytes() {
                            break;
                        }
                        let bytes = self.block(stretch.at + index)?;
                        block.take(stretch.first + index, &bytes, entries)?;
                    }
                    Ok(())
                })
            }
        }
    }

    fn target(&self, inode: &Inode) -> Result<Vec<u8>> {
        if inode.size > TARGET_MAX {
            return Err(damaged(format!("a link points to {} bytes", inode.size)));
        }
        let length = inode.size as usize;
        if let Form::Local = inode.form()? {
            let target = inode.data().get(..length);
            return target.map(<[u8]>::to_vec).ok_or_else(|| damaged("a link is longer than its inode"));
        }
        let target = self.remote(inode, map::Fork::Data, 0, length)?;
        if target.len() < length { Err(damaged("a link ends early")) } else { Ok(target) }
    }

    /// Bytes in blocks of their own, from a block of a fork on. In version 5 there is a head before each block of an
    /// attribute, and before each stretch of a link.
    fn remote(&self, inode: &Inode, fork: map::Fork, from: u64, length: usize) -> Result<Vec<u8>> {
        let head = if self.superblock.is_version_5 { REMOTE_HEAD_BYTES } else { 0 };
        let mut bytes = Vec::with_capacity(length);
        map::each(self, inode, fork, &mut |stretch| {
            let skip = from.saturating_sub(stretch.first);
            for index in skip..stretch.blocks {
                if bytes.len() >= length {
                    break;
                }
                let block = self.block(stretch.at + index)?;
                let has_head = index == skip || fork == map::Fork::Attributes;
                let part = block.get(if has_head { head } else { 0 }..).unwrap_or_default();
                bytes.extend_from_slice(&part[..part.len().min(length - bytes.len())]);
            }
            Ok(())
        })?;
        Ok(bytes)
    }
}

impl FileSystem for Xfs {
    fn summary(&self) -> &Summary {
        &self.summary
    }

    fn root(&self) -> u64 {
        self.superblock.root
    }

    fn stat(&self, inode: u64) -> Result<Stat> {
        let inode = self.inode(inode)?;
        let mut stat = inode.stat(self.block_bytes())?;
        if let Kind::Symlink(target) = &mut stat.kind {
            *target = self.target(&inode)?;
        }
        stat.metadata.xattrs = attribute::read(self, &inode)?;
        Ok(stat)
    }

    fn list(&self, directory: u64) -> Result<Listing> {
        let inode = self.inode(directory)?;
        if !matches!(inode.stat(self.block_bytes())?.kind, Kind::Directory) {
            return Err(damaged(format!("inode {directory} is no directory")));
        }
        let mut entries = Entries::default();
        match self.directory(&inode, &mut entries) {
            Err(DiskError::Read(error)) => Err(error.into()),
            read => Ok(entries.finish(read)),
        }
    }

    fn runs(&self, file: u64, each: &mut EachRun<'_>) -> Result<()> {
        let inode = self.inode(file)?;
        if inode.is_realtime() {
            return Err(DiskError::Unsupported("its content is on a realtime device, which is not read".into()));
        }
        if let Form::Local = inode.form()? {
            return Err(damaged(format!("the content of inode {file}")));
        }
        map::each(self, &inode, map::Fork::Data, &mut |stretch| {
            let offset = stretch.first.saturating_mul(self.block_bytes());
            if !stretch.is_written || offset >= inode.size {
                return Ok(());
            }
            let at = self.place(stretch.at)?;
            self.place(stretch.at + (stretch.blocks - 1))?;
            let length = (stretch.blocks * self.block_bytes()).min(inode.size - offset);
            each(Run { offset, length, place: Place::At(at) })
        })
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        self.volume.read(at, buffer)
    }
}
