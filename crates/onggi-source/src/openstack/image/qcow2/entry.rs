//! One entry of the tables that say where the clusters of the disk lie in the file. Pure.

use super::header::Header;

/// Where an entry points, in bytes from the file's start.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Bits of a first table's entry that mean nothing and are zero.
const L1_RESERVED: u64 = 0x7f00_0000_0000_01ff;
/// The same of a second table's entry.
const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;
const COMPRESSED: u64 = 1 << 62;
/// Reads as zeros, whatever lies at the offset.
const ZERO: u64 = 1;
/// Compressed clusters are counted in these, in bytes.
const SECTOR_BYTES: u64 = 512;
/// Parts of a cluster with extended tables.
pub(super) const PARTS: u64 = 32;

/// Where one cluster of the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// Nowhere: it reads as zeros.
    Hole,
    /// It is zeros; the file may keep a place for it.
    Zero { host: Option<u64> },
    /// At this offset of the file.
    Data { host: u64 },
    /// Packed, in at most so many bytes from this offset on.
    Packed { at: u64, length: u64 },
    /// Each of 32 parts is at its place from this offset on, zeros, or nowhere.
    Parts { host: Option<u64>, data: u32, zero: u32 },
}

impl Entry {
    /// Reads the entry of a second table; extended ones have a second half.
    pub fn parse(header: &Header, entry: u64, parts: u64) -> Result<Self, &'static str> {
        if entry & COMPRESSED != 0 {
            return if parts == 0 { Ok(packed(header, entry)) } else { Err("a packed cluster has parts") };
        }
        if entry & L2_RESERVED != 0 || (header.has_extended_l2 && entry & ZERO != 0) {
            return Err("an entry has unknown bits");
        }
        let host = host(header, entry)?;
        if header.has_extended_l2 {
            let (data, zero) = (parts as u32, (parts >> 32) as u32);
            return match host {
                _ if data & zero != 0 => Err("a part of a cluster is both data and zeros"),
                None if data != 0 => Err("parts of a cluster are nowhere"),
                None if zero == 0 => Ok(Self::Hole),
                _ => Ok(Self::Parts { host, data, zero }),
            };
        }
        match host {
            _ if entry & ZERO != 0 && header.version < 3 => Err("version 2 knows no zero clusters"),
            _ if entry & ZERO != 0 => Ok(Self::Zero { host }),
            Some(host) => Ok(Self::Data { host }),
            None => Ok(Self::Hole),
        }
    }
}

/// Where a second table is; `None`: all of its clusters are holes.
pub(super) fn table(header: &Header, entry: u64) -> Result<Option<u64>, &'static str> {
    if entry & L1_RESERVED != 0 {
        return Err("an entry of the first table has unknown bits");
    }
    host(header, entry)
}

fn host(header: &Header, entry: u64) -> Result<Option<u64>, &'static str> {
    match entry & OFFSET_MASK {
        0 => Ok(None),
        host if !host.is_multiple_of(header.cluster_bytes()) => Err("an entry is not aligned"),
        host => Ok(Some(host)),
    }
}

/// The number of further sectors stands above the offset; both together fill 62 bits.
fn packed(header: &Header, entry: u64) -> Entry {
    let offset_bits = 62 - (header.cluster_bits - 8);
    let at = entry & ((1 << offset_bits) - 1);
    let sectors = (entry & (COMPRESSED - 1)) >> offset_bits;
    Entry::Packed { at, length: (sectors + 1) * SECTOR_BYTES - at % SECTOR_BYTES }
}
