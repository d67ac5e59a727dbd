//! One inode. Pure.

use jiff::Timestamp;
use rustix::fs::makedev;

use super::super::{DiskError, Result, Stat, damaged, kind};
use super::long;
use super::superblock::Superblock;
use crate::item::{Kind, Metadata};
use crate::openstack::image::{le_u16, le_u32};

/// Where the body is, and how long: the map of the content, or a small content itself.
const BODY: usize = 40;
pub(super) const BODY_BYTES: usize = 60;
/// What every inode has, in bytes.
const OLD_BYTES: usize = 128;

const FLAG_ENCRYPTED: u32 = 0x800;
const FLAG_HUGE: u32 = 0x4_0000;
const FLAG_EXTENTS: u32 = 0x8_0000;
const FLAG_INLINE: u32 = 0x1000_0000;

/// How the content is found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    Inline,
    Extents,
    Pointers,
}

/// An inode.
#[derive(Debug)]
pub(super) struct Inode {
    pub number: u64,
    pub size: u64,
    bytes: Vec<u8>,
    block_bytes: u64,
}

impl Inode {
    pub fn parse(number: u64, bytes: Vec<u8>, superblock: &Superblock) -> Result<Self> {
        let size = u64::from(le_u32(&bytes, 108)) << 32 | u64::from(le_u32(&bytes, 4));
        if i64::try_from(size).is_err() {
            return Err(damaged(format!("inode {number} has {size} bytes")));
        }
        Ok(Self { number, size, bytes, block_bytes: superblock.block_bytes })
    }

    fn flags(&self) -> u32 {
        le_u32(&self.bytes, 32)
    }

    pub fn form(&self) -> Form {
        match self.flags() {
            flags if flags & FLAG_INLINE != 0 => Form::Inline,
            flags if flags & FLAG_EXTENTS != 0 => Form::Extents,
            _ => Form::Pointers,
        }
    }

    pub fn refuse_encrypted(&self) -> Result<()> {
        if self.flags() & FLAG_ENCRYPTED != 0 {
            return Err(DiskError::Unsupported("it is encrypted, and cannot be read without its key".into()));
        }
        Ok(())
    }

    pub fn body(&self) -> &[u8] {
        &self.bytes[BODY..BODY + BODY_BYTES]
    }

    /// What lies behind the fields: attributes.
    pub fn extra(&self) -> &[u8] {
        let used = usize::from(le_u16(&self.bytes, OLD_BYTES));
        if self.bytes.len() > OLD_BYTES { self.bytes.get(OLD_BYTES + used..).unwrap_or_default() } else { &[] }
    }

    /// The block of further attributes; 0: none.
    pub fn attribute_block(&self) -> u64 {
        long(&self.bytes, 104, 118)
    }

    /// All but the target of a link and the attributes.
    pub fn stat(&self) -> Result<Stat> {
        let mode = le_u16(&self.bytes, 0);
        let kind = kind(self.number, mode, || self.device())?;
        let unit = if self.flags() & FLAG_HUGE != 0 { self.block_bytes } else { 512 };
        let wide = |low, high| u32::from(le_u16(&self.bytes, high)) << 16 | u32::from(le_u16(&self.bytes, low));
        let metadata = Metadata {
            mode: u32::from(mode) & 0o7777,
            uid: wide(2, 120),
            gid: wide(24, 122),
            mtime: self.time(16, 136),
            atime: Some(self.time(8, 140)),
            ctime: Some(self.time(12, 132)),
            inode: Some(self.number),
            links: u64::from(le_u16(&self.bytes, 26)),
            size: if kind == Kind::File { self.size } else { 0 },
            ..Metadata::default()
        };
        Ok(Stat { kind, metadata, allocated: long(&self.bytes, 28, 116).saturating_mul(unit) })
    }

    /// Seconds, and where the inode has room for them nanoseconds and the years after 2038.
    fn time(&self, at: usize, more: usize) -> Timestamp {
        let is_there = more + 4 <= OLD_BYTES + usize::from(le_u16(&self.bytes, OLD_BYTES));
        let more = if is_there { le_u32(&self.bytes, more) } else { 0 };
        let seconds = i64::from(le_u32(&self.bytes, at).cast_signed()) + (i64::from(more & 3) << 32);
        let nanoseconds = ((more >> 2) % 1_000_000_000).cast_signed();
        Timestamp::new(seconds, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn device(&self) -> u64 {
        let (old, new) = (le_u32(self.body(), 0), le_u32(self.body(), 4));
        if old != 0 {
            return makedev(old >> 8 & 0xff, old & 0xff);
        }
        makedev(new >> 8 & 0xfff, new & 0xff | new >> 12 & 0xf_ff00)
    }
}
