//! One inode. Pure.

use jiff::Timestamp;
use rustix::fs::makedev;

use super::super::{Result, Stat, damaged, kind};
use crate::item::{Kind, Metadata};
use crate::openstack::image::{be_u16, be_u32, be_u64};

const MAGIC: u16 = 0x494e;
/// Length of the fields in versions 2 and 3.
const CORES: [usize; 2] = [100, 176];
const FLAG_REALTIME: u16 = 1;
const FLAG2_LARGE_TIMES: u64 = 0x8;
const FLAG2_WIDE_COUNTS: u64 = 0x10;
/// Large times are counted in nanoseconds from here, in seconds since 1970.
const LARGE_TIMES_FROM: i64 = -(1 << 31);
const NANOSECONDS: u64 = 1_000_000_000;

/// What a fork holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Device,
    Local,
    Extents,
    Tree,
}

impl Form {
    fn of(number: u8) -> Result<Self> {
        match number {
            0 => Ok(Self::Device),
            1 => Ok(Self::Local),
            2 => Ok(Self::Extents),
            3 => Ok(Self::Tree),
            _ => Err(damaged("an inode holds what no inode holds")),
        }
    }
}

/// An inode.
#[derive(Debug)]
pub(super) struct Inode {
    pub number: u64,
    pub size: u64,
    bytes: Vec<u8>,
    core: usize,
    /// Where the attributes begin.
    attributes: usize,
}

impl Inode {
    pub fn parse(number: u64, bytes: Vec<u8>) -> Result<Self> {
        let core = CORES[usize::from(bytes.get(4).is_some_and(|version| *version >= 3))];
        let fork = usize::from(bytes.get(82).copied().unwrap_or(0)) * 8;
        let attributes = if fork == 0 { bytes.len() } else { core + fork };
        let size = be_u64(&bytes, 56);
        if be_u16(&bytes, 0) != MAGIC || attributes > bytes.len() || i64::try_from(size).is_err() {
            return Err(damaged(format!("inode {number}")));
        }
        Ok(Self { number, size, bytes, core, attributes })
    }

    pub fn form(&self) -> Result<Form> {
        Form::of(self.bytes[5])
    }

    pub fn attribute_form(&self) -> Result<Form> {
        Form::of(self.bytes[83])
    }

    /// What the content is found by, or a small one itself.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.core..self.attributes]
    }

    /// The same of the attributes; empty if there are none.
    pub fn attributes(&self) -> &[u8] {
        &self.bytes[self.attributes..]
    }

    pub fn is_realtime(&self) -> bool {
        be_u16(&self.bytes, 90) & FLAG_REALTIME != 0
    }

    /// Extents of the content, and of the attributes.
    pub fn extents(&self) -> (u64, u64) {
        if self.has_flag(FLAG2_WIDE_COUNTS) {
            return (be_u64(&self.bytes, 24), u64::from(be_u32(&self.bytes, 76)));
        }
        (u64::from(be_u32(&self.bytes, 76)), u64::from(be_u16(&self.bytes, 80)))
    }

    /// All but the target of a link and the attributes.
    pub fn stat(&self, block_bytes: u64) -> Result<Stat> {
        let mode = be_u16(&self.bytes, 2);
        let kind = kind(self.number, mode, || self.device())?;
        let metadata = Metadata {
            mode: u32::from(mode) & 0o7777,
            uid: be_u32(&self.bytes, 8),
            gid: be_u32(&self.bytes, 12),
            mtime: self.time(40),
            atime: Some(self.time(32)),
            ctime: Some(self.time(48)),
            inode: Some(self.number),
            links: u64::from(be_u32(&self.bytes, 16)),
            size: if kind == Kind::File { self.size } else { 0 },
            ..Metadata::default()
        };
        Ok(Stat { kind, metadata, allocated: be_u64(&self.bytes, 64).saturating_mul(block_bytes) })
    }

    fn has_flag(&self, flag: u64) -> bool {
        self.core == CORES[1] && be_u64(&self.bytes, 120) & flag != 0
    }

    fn time(&self, at: usize) -> Timestamp {
        let (seconds, nanoseconds) = if self.has_flag(FLAG2_LARGE_TIMES) {
            let time = be_u64(&self.bytes, at);
            ((time / NANOSECONDS).cast_signed() + LARGE_TIMES_FROM, (time % NANOSECONDS) as i32)
        } else {
            let nanoseconds = u64::from(be_u32(&self.bytes, at + 4)) % NANOSECONDS;
            (i64::from(be_u32(&self.bytes, at).cast_signed()), nanoseconds as i32)
        };
        Timestamp::new(seconds, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn device(&self) -> u64 {
        let number = be_u32(self.data(), 0);
        makedev(number >> 18 & 0x3fff, number & 0x3_ffff)
    }
}
