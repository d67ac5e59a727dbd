//! The header of a qcow2 file, versions 2 and 3: what cannot be read without another file, a key or a feature that is
//! not known is refused before anything else is looked at. Pure.

use super::super::{ImageError, be_u32, be_u64, wrong};

const MAGIC: u32 = 0x5146_49fb;
const HEADER_BYTES_2: usize = 72;
const HEADER_BYTES_3: usize = 104;
/// 512 bytes, the least that the format allows.
const CLUSTER_BITS_MIN: u32 = 9;
/// 2 MiB, the most that QEMU makes and takes.
pub(in super::super) const CLUSTER_BITS_MAX: u32 = 21;
/// Subclusters of at least 512 bytes need clusters of this size.
const CLUSTER_BITS_MIN_EXTENDED: u32 = 14;
/// The longest first table that QEMU takes, in bytes: 2 PiB of disk with clusters of the usual size.
pub(in super::super) const L1_BYTES_MAX: u64 = 32 << 20;
/// Refcounts have 64 bits at most.
const REFCOUNT_ORDER_MAX: u32 = 6;
/// The longest name that is shown of a backing file, in bytes; the format allows no longer one.
const BACKING_NAME_BYTES_MAX: u32 = 1023;

/// Incompatible features. The first only says that refcounts may be wrong, which a reader does not use.
const FEATURE_DIRTY: u64 = 1;
const FEATURE_CORRUPT: u64 = 1 << 1;
const FEATURE_EXTERNAL_DATA: u64 = 1 << 2;
const FEATURE_COMPRESSION: u64 = 1 << 3;
const FEATURE_EXTENDED_L2: u64 = 1 << 4;

const EXTENSION_END: u32 = 0;
const EXTENSION_ENCRYPTION: u32 = 0x0537_be77;
const EXTENSION_EXTERNAL_DATA: u32 = 0x4441_5441;

/// How compressed clusters are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Deflate without a header.
    Deflate,
    /// One zstd frame for each cluster.
    Zstd,
}

/// What a qcow2 file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Length of the disk in bytes.
    pub virtual_size: u64,
    /// How compressed clusters are packed.
    pub compression: Compression,
    /// Whether clusters have parts that are allocated one by one.
    pub has_extended_l2: bool,
    /// Snapshots inside the file; they are not read.
    pub snapshots: u32,
    pub(super) cluster_bits: u32,
    pub(super) l1_offset: u64,
    pub(super) refcount_offset: u64,
    pub(super) refcount_clusters: u32,
}

impl Header {
    /// Reads a header from the first bytes of a file: its whole first cluster, or all of a shorter file.
    pub(super) fn parse(first: &[u8]) -> Result<Self, ImageError> {
        if first.len() < HEADER_BYTES_2 || be_u32(first, 0) != MAGIC {
            return Err(wrong("it does not begin as qcow2 does"));
        }
        let version = be_u32(first, 4);
        let features = match version {
            2 => 0,
            3 if first.len() < HEADER_BYTES_3 => return Err(wrong("it ends within its header")),
            3 => be_u64(first, 72),
            other => return Err(refused(format!("it is of version {other}, and only 2 and 3 are known"))),
        };
        refuse(first, features)?;
        let cluster_bits = be_u32(first, 20);
        let bits_min = if features & FEATURE_EXTENDED_L2 == 0 { CLUSTER_BITS_MIN } else { CLUSTER_BITS_MIN_EXTENDED };
        if !(bits_min..=CLUSTER_BITS_MAX).contains(&cluster_bits) {
            return Err(wrong(format!("clusters of 2^{cluster_bits} bytes")));
        }
        let header = Self {
            version,
            virtual_size: be_u64(first, 24),
            compression: Compression::Deflate,
            has_extended_l2: features & FEATURE_EXTENDED_L2 != 0,
            snapshots: be_u32(first, 60),
            cluster_bits,
            l1_offset: be_u64(first, 40),
            refcount_offset: be_u64(first, 48),
            refcount_clusters: be_u32(first, 56),
        };
        header.check_l1(be_u32(first, 36))?;
        let area = first.get(..header.cluster_bytes() as usize).unwrap_or(first);
        let length = if version == 2 { HEADER_BYTES_2 } else { header_length(area)? };
        extensions(area, length)?;
        let compression = compression(area, features & FEATURE_COMPRESSION != 0, length)?;
        Ok(Self { compression, ..header })
    }

    /// Length of a cluster in bytes.
    pub fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of an entry of a second table.
    pub(super) fn entry_bytes(&self) -> u64 {
        if self.has_extended_l2 { 16 } else { 8 }
    }

    /// Clusters of the disk that one second table tells of.
    pub(super) fn table_clusters(&self) -> u64 {
        self.cluster_bytes() / self.entry_bytes()
    }

    /// Clusters of the disk, the last one perhaps in part.
    pub(super) fn clusters(&self) -> u64 {
        self.virtual_size.div_ceil(self.cluster_bytes())
    }

    /// Entries of the first table that tell of the disk.
    pub(super) fn l1_entries(&self) -> u64 {
        self.clusters().div_ceil(self.table_clusters())
    }

    fn check_l1(&self, entries: u32) -> Result<(), ImageError> {
        if u64::from(entries) * 8 > L1_BYTES_MAX || self.l1_entries() * 8 > L1_BYTES_MAX {
            return Err(wrong(format!("its first table has over {L1_BYTES_MAX} bytes")));
        }
        if u64::from(entries) < self.l1_entries() {
            return Err(wrong(format!("its first table is too short for {} bytes of disk", self.virtual_size)));
        }
        Ok(())
    }
}

fn refused(what: impl Into<String>) -> ImageError {
    ImageError::Refused(what.into())
}

/// What can never be read, most telling first.
fn refuse(first: &[u8], features: u64) -> Result<(), ImageError> {
    let backing = be_u64(first, 8);
    if backing != 0 {
        let length = be_u32(first, 16).min(BACKING_NAME_BYTES_MAX) as usize;
        let name = usize::try_from(backing).ok().and_then(|at| first.get(at..)?.get(..length)).unwrap_or_default();
        return Err(refused(format!("it names a backing file, {:?}", String::from_utf8_lossy(name))));
    }
    if be_u32(first, 32) != 0 {
        return Err(refused("it is encrypted"));
    }
    if features & FEATURE_EXTERNAL_DATA != 0 {
        return Err(refused("its data lie in another file"));
    }
    if features & FEATURE_CORRUPT != 0 {
        return Err(wrong("it is marked as corrupt"));
    }
    let known = FEATURE_DIRTY | FEATURE_COMPRESSION | FEATURE_EXTENDED_L2;
    match features & !known {
        0 => Ok(()),
        unknown => Err(refused(format!("it needs features that are not known ({unknown:#x})"))),
    }
}

/// Version 3 says itself how long it is.
fn header_length(area: &[u8]) -> Result<usize, ImageError> {
    if be_u32(area, 96) > REFCOUNT_ORDER_MAX {
        return Err(wrong("its refcounts have more than 64 bits"));
    }
    let length = be_u32(area, 100) as usize;
    if length < HEADER_BYTES_3 || length > area.len() || !length.is_multiple_of(8) {
        return Err(wrong(format!("a header of {length} bytes")));
    }
    Ok(length)
}

fn compression(area: &[u8], is_named: bool, length: usize) -> Result<Compression, ImageError> {
    let named = if length > HEADER_BYTES_3 { area.get(HEADER_BYTES_3).copied().unwrap_or_default() } else { 0 };
    match (is_named, named) {
        (false, 0) => Ok(Compression::Deflate),
        (true, 1) => Ok(Compression::Zstd),
        (true, 2..) => Err(refused(format!("its clusters are packed in a way that is not known ({named})"))),
        _ => Err(wrong("it contradicts itself about how clusters are packed")),
    }
}

/// Walks the extensions behind the header: each must lie in the first cluster, and none may lead elsewhere.
fn extensions(area: &[u8], mut at: usize) -> Result<(), ImageError> {
    while let Some(head) = area.get(at..).and_then(|rest| rest.get(..8)) {
        let (kind, length) = (be_u32(head, 0), be_u32(head, 4) as usize);
        match kind {
            EXTENSION_END => return Ok(()),
            EXTENSION_ENCRYPTION => return Err(refused("it is encrypted")),
            EXTENSION_EXTERNAL_DATA => return Err(refused("its data lie in another file")),
            _ if length > area.len() - at - 8 => return Err(wrong("an extension of its header goes too far")),
            _ => at += 8 + length.next_multiple_of(8),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 3 for a disk of 1 GiB, with these fields changed.
    #[track_caller]
    fn check(changes: &[(usize, &[u8])], expected: &str) {
        let mut first = vec![0; 1 << 16];
        let fields: [(usize, &[u8]); 8] = [
            (0, b"QFI\xfb\0\0\0\x03"),
            (20, &16_u32.to_be_bytes()),
            (24, &(1_u64 << 30).to_be_bytes()),
            (36, &2_u32.to_be_bytes()),
            (40, &0x30000_u64.to_be_bytes()),
            (48, &0x10000_u64.to_be_bytes()),
            (96, &4_u32.to_be_bytes()),
            (100, &112_u32.to_be_bytes()),
        ];
        for (at, bytes) in fields.iter().chain(changes) {
            first[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        let found = Header::parse(&first).map_or_else(|error| error.to_string(), |header| format!("{header:?}"));
        assert!(found.contains(expected), "{found}");
    }

    #[test]
    fn a_plain_header_is_taken() {
        check(&[], "virtual_size: 1073741824, compression: Deflate");
        check(&[(79, &[FEATURE_DIRTY as u8])], "version: 3");
        check(&[(79, &[FEATURE_COMPRESSION as u8]), (104, &[1])], "compression: Zstd");
        check(&[(79, &[FEATURE_EXTENDED_L2 as u8]), (36, &4_u32.to_be_bytes())], "has_extended_l2: true");
        check(&[(4, &2_u32.to_be_bytes()), (100, &[0; 4])], "version: 2");
    }

    #[test]
    fn other_files_keys_and_unknown_features_are_refused_by_name() {
        let backing: [(usize, &[u8]); 3] = [(14, &[2, 0]), (16, &11_u32.to_be_bytes()), (512, b"/etc/shadow")];
        check(&backing, "not decoded: it names a backing file, \"/etc/shadow\"");
        check(&[(8, &[0xff; 8]), (16, &[0xff; 4])], "not decoded: it names a backing file, \"\"");
        check(&[(35, &[2])], "not decoded: it is encrypted");
        check(&[(112, &EXTENSION_ENCRYPTION.to_be_bytes())], "not decoded: it is encrypted");
        check(&[(79, &[FEATURE_EXTERNAL_DATA as u8])], "not decoded: its data lie in another file");
        check(&[(112, &EXTENSION_EXTERNAL_DATA.to_be_bytes())], "not decoded: its data lie in another file");
        check(&[(72, &[0x80])], "not decoded: it needs features that are not known (0x8000000000000000)");
        check(&[(7, &[4])], "not decoded: it is of version 4");
        check(&[(79, &[FEATURE_COMPRESSION as u8]), (104, &[2])], "not decoded: its clusters are packed");
    }

    #[test]
    fn impossible_geometry_is_damage() {
        check(&[(79, &[FEATURE_CORRUPT as u8])], "damaged: it is marked as corrupt");
        check(&[(23, &[8])], "damaged: clusters of 2^8 bytes");
        check(&[(20, &[0xff; 4])], "damaged: clusters of 2^4294967295 bytes");
        check(&[(79, &[FEATURE_EXTENDED_L2 as u8]), (23, &[13])], "damaged: clusters of 2^13 bytes");
        check(&[(36, &[0xff; 4])], "damaged: its first table has over");
        check(&[(24, &[0xff; 8])], "damaged: its first table has over");
        check(&[(36, &1_u32.to_be_bytes())], "damaged: its first table is too short");
        check(&[(99, &[7])], "damaged: its refcounts");
        check(&[(100, &[0xff; 4])], "damaged: a header of 4294967295 bytes");
        check(&[(112, &[1, 2, 3, 4, 0, 0xff, 0xff, 0xff])], "damaged: an extension of its header goes too far");
        check(&[(104, &[1])], "damaged: it contradicts itself");
    }

    #[test]
    fn a_file_that_ends_within_its_header_is_damage() {
        for length in [0, 4, 71] {
            assert!(Header::parse(&b"QFI\xfb\0\0\0\x03".repeat(9)[..length]).is_err());
        }
    }
}
