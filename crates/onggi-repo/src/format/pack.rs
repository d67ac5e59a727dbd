//! Pack files: sealed blobs without gaps, then the sealed header that names them, then the header's length.

use super::{
    blob,
    fault::{FormatError, Result},
    id::{BlobId, BlobKind},
    seal::{self, MasterKey, NONCE, OVERHEAD},
};

const WHAT: &str = "pack header";
/// Most bytes a header may have, sealed.
pub const HEADER_MAX: usize = 16 << 20;
/// Bytes to read from the end of a pack first: enough for the header of 15 blobs.
pub const FIRST_READ: u64 = 15 * (PLAIN_ENTRY + 4) as u64 + OVERHEAD as u64 + LENGTH as u64;
/// Bytes of the length at the very end.
const LENGTH: usize = 4;
const PLAIN_ENTRY: usize = 37;

/// Where a blob lies in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackEntry {
    /// What it holds.
    pub kind: BlobKind,
    /// Its name.
    pub id: BlobId,
    /// Where it starts, in bytes.
    pub offset: u32,
    /// Its sealed length in bytes.
    pub length: u32,
    /// The plaintext's length if it is compressed; never zero.
    pub uncompressed_length: Option<u32>,
}

impl PackEntry {
    /// Length of the plaintext in bytes.
    pub fn plaintext_length(&self) -> u32 {
        blob::plaintext_length(self.length, self.uncompressed_length)
    }

    /// Its bytes in the pack, as a range.
    pub fn range(&self) -> std::ops::Range<u64> {
        let start = u64::from(self.offset);
        start..start + u64::from(self.length)
    }

    /// What it costs in the header.
    fn header_length(&self) -> usize {
        if self.uncompressed_length.is_some() { PLAIN_ENTRY + 4 } else { PLAIN_ENTRY }
    }
}

/// Length in bytes of the pack that holds exactly these blobs.
pub fn pack_length(entries: &[PackEntry]) -> u64 {
    let entries: u64 = entries.iter().map(|entry| u64::from(entry.length) + entry.header_length() as u64).sum();
    entries + (OVERHEAD + LENGTH) as u64
}

/// Appends the sealed header and its length to the blobs, which completes the pack.
pub fn seal_header(key: &MasterKey, nonce: [u8; NONCE], entries: &[PackEntry], pack: &mut Vec<u8>) {
    let start = pack.len();
    pack.extend_from_slice(&[0; NONCE]);
    for entry in entries {
        let (tree, folded) = (u8::from(entry.kind == BlobKind::Tree), entry.uncompressed_length);
        pack.push(tree | u8::from(folded.is_some()) << 1);
        pack.extend_from_slice(&entry.length.to_le_bytes());
        if let Some(length) = folded {
            pack.extend_from_slice(&length.to_le_bytes());
        }
        pack.extend_from_slice(&entry.id.0);
    }
    seal::seal_tail(key, nonce, pack, start);
    let length = (pack.len() - start) as u32;
    pack.extend_from_slice(&length.to_le_bytes());
}

/// A header read from the last bytes of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderRead {
    /// The blobs, in the order of the file.
    Done(Vec<PackEntry>),
    /// Read so many bytes from the end of the pack and try again.
    Need(u64),
}

/// Reads the header out of `tail`, the last bytes of a pack that has `pack_length` bytes in all.
pub fn read_header(key: &MasterKey, tail: &[u8], pack_length: u64) -> Result<HeaderRead> {
    let (rest, length) =
        tail.split_last_chunk::<LENGTH>().ok_or_else(|| FormatError::invalid(WHAT, "the pack is cut short"))?;
    let length = u32::from_le_bytes(*length) as usize;
    if !(OVERHEAD + PLAIN_ENTRY..=HEADER_MAX).contains(&length) {
        return Err(FormatError::invalid(WHAT, format!("its length {length} is not possible")));
    }
    let needed = (length + LENGTH) as u64;
    if needed > pack_length {
        return Err(FormatError::invalid(WHAT, "longer than the pack"));
    }
    let Some(at) = rest.len().checked_sub(length) else { return Ok(HeaderRead::Need(needed)) };
    let mut plaintext = Vec::new();
    seal::open_into(key, &rest[at..], &mut plaintext)
        .map_err(|fault| FormatError { what: WHAT, reason: fault.reason })?;
    let entries = parse_entries(&plaintext)?;
    if self::pack_length(&entries) != pack_length {
        return Err(FormatError::invalid(WHAT, "the blobs it names do not fill the pack"));
    }
    Ok(HeaderRead::Done(entries))
}

/// Reads the entries of an opened header.
pub fn parse_entries(mut plaintext: &[u8]) -> Result<Vec<PackEntry>> {
    let mut entries = Vec::with_capacity(plaintext.len() / PLAIN_ENTRY);
    let mut offset = 0_u32;
    while let [kind, rest @ ..] = plaintext {
        let (entry, rest) = parse_entry(*kind, rest, offset)?;
        offset = offset
            .checked_add(entry.length)
            .ok_or_else(|| FormatError::invalid(WHAT, "its blobs are longer than 4 GiB"))?;
        entries.push(entry);
        plaintext = rest;
    }
    Ok(entries)
}

fn parse_entry(kind_byte: u8, bytes: &[u8], offset: u32) -> Result<(PackEntry, &[u8])> {
    let short = || FormatError::invalid(WHAT, "its last entry is cut short");
    let kind = match kind_byte {
        0 | 2 => BlobKind::Data,
        1 | 3 => BlobKind::Tree,
        _ => return Err(FormatError::invalid(WHAT, format!("unknown blob type {kind_byte}"))),
    };
    let (length, bytes) = bytes.split_first_chunk().ok_or_else(short)?;
    let length = u32::from_le_bytes(*length);
    let (uncompressed_length, bytes) = if kind_byte >= 2 {
        let (length, bytes) = bytes.split_first_chunk().ok_or_else(short)?;
        (Some(u32::from_le_bytes(*length)), bytes)
    } else {
        (None, bytes)
    };
    let (id, bytes) = bytes.split_first_chunk().ok_or_else(short)?;
    let entry = PackEntry { kind, id: BlobId(*id), offset, length, uncompressed_length };
    check_lengths(&entry).map_err(|reason| FormatError::invalid(WHAT, reason))?;
    Ok((entry, bytes))
}

/// What holds for every entry, in headers and indexes alike.
pub(super) fn check_lengths(entry: &PackEntry) -> Result<(), &'static str> {
    if (entry.length as usize) < OVERHEAD {
        Err("a blob is shorter than its seal")
    } else if entry.offset.checked_add(entry.length).is_none() {
        Err("a blob ends beyond 4 GiB")
    } else if entry.uncompressed_length == Some(0) {
        Err("a compressed blob of length zero")
    } else {
        Ok(())
    }
}

/// Whether blobs lie one after the other from the start, without gap or overlap. They may come in any order.
pub fn check_layout(entries: &[PackEntry]) -> Result<()> {
    let mut ordered: Vec<_> = entries.iter().map(|entry| (entry.offset, entry.length)).collect();
    ordered.sort_unstable();
    let mut end = 0_u64;
    for (offset, length) in ordered {
        if u64::from(offset) != end {
            let fault = if u64::from(offset) < end { "overlap" } else { "leave a gap" };
            return Err(FormatError::invalid("pack", format!("its blobs {fault} at byte {offset}")));
        }
        end += u64::from(length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Compression, blob::encode_blob};
    use proptest::prelude::*;

    fn key() -> MasterKey {
        MasterKey::from_random(&[3; 64])
    }

    fn pack(plaintexts: &[&[u8]], compression: Compression) -> (Vec<u8>, Vec<PackEntry>) {
        let (mut pack, mut entries) = (Vec::new(), Vec::new());
        for plaintext in plaintexts {
            let sealed = encode_blob(&key(), [1; 16], BlobKind::Data, plaintext, compression);
            entries.push(PackEntry {
                kind: BlobKind::Data,
                id: BlobId::of(plaintext),
                offset: pack.len() as u32,
                length: sealed.bytes.len() as u32,
                uncompressed_length: sealed.uncompressed_length,
            });
            pack.extend_from_slice(&sealed.bytes);
        }
        seal_header(&key(), [2; 16], &entries, &mut pack);
        (pack, entries)
    }

    #[test]
    fn hello_has_the_known_header_entry() {
        let mut out = Vec::new();
        let id = BlobId::of(b"hello");
        let entry = PackEntry { kind: BlobKind::Data, id, offset: 0, length: 46, uncompressed_length: Some(5) };
        seal_header(&key(), [2; 16], &[entry], &mut out);
        let header = seal::open(&key(), &mut out[..41 + OVERHEAD]).unwrap();
        assert_eq!(header[..9], [2, 0x2e, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!(header[9..], id.0);
    }

    #[test]
    fn the_header_is_read_back_from_the_end() {
        let (pack, entries) = pack(&[b"hello", &[b'a'; 4000], b""], Compression::DEFAULT);
        assert_eq!(pack_length(&entries), pack.len() as u64);
        let read = |tail: usize| read_header(&key(), &pack[pack.len() - tail..], pack.len() as u64).unwrap();
        assert_eq!(read(pack.len()), HeaderRead::Done(entries.clone()));
        let needed = 37 * 2 + 41 + OVERHEAD + 4;
        assert_eq!(read(4), HeaderRead::Need(needed as u64));
        assert_eq!(read(needed), HeaderRead::Done(entries));
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for length in [0_u32, 31, OVERHEAD as u32 + 36, (HEADER_MAX + 1) as u32, 200] {
            let mut tail = vec![0; 100];
            tail.extend_from_slice(&length.to_le_bytes());
            assert!(read_header(&key(), &tail, 104).is_err(), "{length}");
        }
        assert!(read_header(&key(), b"abc", 3).is_err());
    }

    #[test]
    fn a_truncated_pack_is_noticed_though_its_header_is_whole() {
        let (pack, _) = pack(&[b"hello", b"world"], Compression::Off);
        assert!(read_header(&key(), &pack[1..], pack.len() as u64 - 1).is_err());
    }

    #[test]
    fn gaps_and_overlaps_are_named() {
        let entry = |offset, length| PackEntry {
            kind: BlobKind::Data,
            id: BlobId([0; 32]),
            offset,
            length,
            uncompressed_length: None,
        };
        check_layout(&[entry(40, 50), entry(0, 40)]).unwrap();
        for bad in [[entry(1, 40), entry(41, 40)], [entry(0, 40), entry(41, 40)], [entry(0, 40), entry(39, 40)]] {
            assert!(check_layout(&bad).is_err());
        }
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = parse_entries(&bytes);
            let _ = read_header(&key(), &bytes, bytes.len() as u64);
        }

        #[test]
        fn a_flipped_bit_in_the_header_is_noticed(at in 0..150_usize, bit in 0..8_u8) {
            let (mut pack, entries) = pack(&[b"hello", b"world", b"!"], Compression::Off);
            let at = pack.len() - 1 - at % (pack.len() - entries.iter().map(|entry| entry.length as usize).sum::<usize>());
            pack[at] ^= 1 << bit;
            let length = pack.len() as u64;
            prop_assert!(!matches!(read_header(&key(), &pack, length), Ok(HeaderRead::Done(_))));
        }
    }
}
