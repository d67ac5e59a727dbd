//! A blob on its way into a pack and back: compressed where it pays, sealed; opened, unfolded, compared with its id.

use super::{
    compression::{self, Compression},
    fault::{FormatError, Reason, Result},
    id::{BlobId, BlobKind},
    seal::{self, MasterKey, NONCE, OVERHEAD},
};
use crate::kernel::{checksum::Checksum, hash::Hasher};

const WHAT: &str = "blob";
/// The largest plaintext a reader takes; restic's own chunks have at most 8 MiB.
pub const PLAINTEXT_MAX: usize = 512 << 20;
/// Data is stored as it is when compression saves less than one part in this many.
const GAIN_MIN: usize = 33;
/// Above this level a sample is tried first, because the level itself is slow on what does not shrink.
const SAMPLED_ABOVE: i32 = 4;
const SAMPLE: usize = 64 << 10;

/// A blob as it lies in a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBlob {
    /// The sealed bytes.
    pub bytes: Vec<u8>,
    /// The plaintext's length if it is compressed.
    pub uncompressed_length: Option<u32>,
}

/// Compresses as far as it pays, then seals. Trees are always compressed, empty plaintexts never.
pub fn encode_blob(
    key: &MasterKey,
    nonce: [u8; NONCE],
    kind: BlobKind,
    plaintext: &[u8],
    compression: Compression,
) -> SealedBlob {
    encode_blob_in(Vec::new(), key, nonce, kind, plaintext, compression)
}

/// As `encode_blob`, in a buffer that the caller keeps for re-use; its content is replaced.
pub fn encode_blob_in(
    mut buffer: Vec<u8>,
    key: &MasterKey,
    nonce: [u8; NONCE],
    kind: BlobKind,
    plaintext: &[u8],
    compression: Compression,
) -> SealedBlob {
    assert!(plaintext.len() <= PLAINTEXT_MAX, "chunks are cut long before this length");
    buffer.clear();
    buffer.resize(NONCE, 0);
    let is_compressed = fold(kind, plaintext, compression, &mut buffer);
    seal::seal_tail(key, nonce, &mut buffer, 0);
    SealedBlob { bytes: buffer, uncompressed_length: is_compressed.then_some(plaintext.len() as u32) }
}

/// Appends the plaintext, compressed or not, and tells which.
fn fold(kind: BlobKind, plaintext: &[u8], compression: Compression, buffer: &mut Vec<u8>) -> bool {
    let start = buffer.len();
    let level = match (kind, compression.level()) {
        _ if plaintext.is_empty() => None,
        (BlobKind::Tree, None) => Some(1),
        (BlobKind::Data, Some(level)) if level > SAMPLED_ABOVE && !sample_shrinks(plaintext, buffer) => None,
        (_, level) => level,
    };
    if let Some(level) = level {
        compression::compress(level, plaintext, buffer);
        let length = buffer.len() - start;
        if kind == BlobKind::Tree || length + plaintext.len() / GAIN_MIN <= plaintext.len() && length < plaintext.len()
        {
            return true;
        }
    }
    buffer.truncate(start);
    buffer.extend_from_slice(plaintext);
    false
}

fn sample_shrinks(plaintext: &[u8], buffer: &mut Vec<u8>) -> bool {
    let start = buffer.len();
    let sample = &plaintext[..plaintext.len().min(SAMPLE)];
    compression::compress(-1, sample, buffer);
    let length = buffer.len() - start;
    buffer.truncate(start);
    length + sample.len() / GAIN_MIN <= sample.len()
}

/// Opens, unfolds and proves a blob: authentication, exact length and SHA-256 all match, or nothing is returned.
pub fn decode_blob(
    key: &MasterKey,
    sealed: &[u8],
    uncompressed_length: Option<u32>,
    expected: BlobId,
) -> Result<Vec<u8>> {
    let mut plaintext = Vec::new();
    decode_blob_into(key, sealed, uncompressed_length, expected, &mut Vec::new(), &mut plaintext)?;
    Ok(plaintext)
}

/// As `decode_blob`, with buffers that the caller keeps for re-use. After a failure `plaintext` is empty.
pub fn decode_blob_into(
    key: &MasterKey,
    sealed: &[u8],
    uncompressed_length: Option<u32>,
    expected: BlobId,
    scratch: &mut Vec<u8>,
    plaintext: &mut Vec<u8>,
) -> Result<()> {
    open_blob(key, sealed, uncompressed_length, scratch, plaintext)?;
    check_id(BlobId::of(plaintext), expected).inspect_err(|_| plaintext.clear())
}

/// Proves a blob as `decode_blob_into` does, for callers that need no plaintext: one that is not compressed is nowhere
/// put together. What the buffers hold afterwards is of no use.
pub fn prove_blob(
    key: &MasterKey,
    sealed: &[u8],
    uncompressed_length: Option<u32>,
    expected: BlobId,
    scratch: &mut Vec<u8>,
    plaintext: &mut Vec<u8>,
) -> Result<()> {
    let mut hasher = Hasher::default();
    read_blob(key, sealed, uncompressed_length, scratch, plaintext, |slice| hasher.update(slice))?;
    check_id(BlobId(hasher.finish()), expected)
}

/// Proves that what was just sealed opens again to what it was sealed from, by a checksum that was taken of that. Here a
/// faulty processor, memory or compressor is looked for, which does not choose its faults.
pub fn prove_sealing(
    key: &MasterKey,
    blob: &SealedBlob,
    expected: Checksum,
    scratch: &mut Vec<u8>,
    plaintext: &mut Vec<u8>,
) -> Result<()> {
    let mut found = Checksum::default();
    read_blob(key, &blob.bytes, blob.uncompressed_length, scratch, plaintext, |slice| found.update(slice))?;
    if found == expected { Ok(()) } else { Err(FormatError { what: WHAT, reason: Reason::Hash }) }
}

/// Gives away the plaintext, of a blob that is not compressed in slices. After a failure what was given is of no use.
fn read_blob(
    key: &MasterKey,
    sealed: &[u8],
    uncompressed_length: Option<u32>,
    scratch: &mut Vec<u8>,
    plaintext: &mut Vec<u8>,
    mut take: impl FnMut(&[u8]),
) -> Result<()> {
    if uncompressed_length.is_none() {
        return seal::open_in_slices(key, sealed, take);
    }
    open_blob(key, sealed, uncompressed_length, scratch, plaintext)?;
    take(plaintext);
    Ok(())
}

fn check_id(found: BlobId, expected: BlobId) -> Result<()> {
    if found == expected { Ok(()) } else { Err(FormatError { what: WHAT, reason: Reason::Hash }) }
}

/// Proves a blob and seals it anew for another repository, as compressed as it was.
pub fn reseal_blob(
    from: &MasterKey,
    to: &MasterKey,
    nonce: [u8; NONCE],
    sealed: &[u8],
    uncompressed_length: Option<u32>,
    expected: BlobId,
) -> Result<Vec<u8>> {
    let (mut opened, mut plaintext) = (Vec::new(), Vec::new());
    decode_blob_into(from, sealed, uncompressed_length, expected, &mut opened, &mut plaintext)?;
    let folded = if uncompressed_length.is_some() { &opened } else { &plaintext };
    let mut resealed = Vec::with_capacity(sealed.len());
    seal::seal(to, nonce, folded, &mut resealed);
    Ok(resealed)
}

fn open_blob(
    key: &MasterKey,
    sealed: &[u8],
    uncompressed_length: Option<u32>,
    scratch: &mut Vec<u8>,
    plaintext: &mut Vec<u8>,
) -> Result<()> {
    plaintext.clear();
    match uncompressed_length.map(|length| length as usize) {
        None => seal::open_into(key, sealed, plaintext),
        Some(length) if length > PLAINTEXT_MAX => {
            Err(FormatError::invalid(WHAT, "its claimed length is beyond the limit"))
        }
        Some(length) => {
            seal::open_into(key, sealed, scratch)?;
            let claimed = compression::claimed_length(WHAT, scratch)?;
            if claimed.is_some_and(|claimed| claimed != length as u64) {
                return Err(wrong_length());
            }
            compression::decompress(WHAT, scratch, length, plaintext)?;
            if plaintext.len() == length { Ok(()) } else { Err(wrong_length()) }
        }
    }
}

fn wrong_length() -> FormatError {
    FormatError::invalid(WHAT, "its content has another length than recorded")
}

/// The length of the plaintext, from what header or index record.
pub fn plaintext_length(sealed_length: u32, uncompressed_length: Option<u32>) -> u32 {
    uncompressed_length.unwrap_or_else(|| sealed_length.saturating_sub(OVERHEAD as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> MasterKey {
        MasterKey::from_random(&[3; 64])
    }

    #[track_caller]
    fn check(kind: BlobKind, plaintext: &[u8], compression: Compression, is_compressed: bool) {
        let blob = encode_blob(&key(), [1; 16], kind, plaintext, compression);
        assert_eq!(blob.uncompressed_length.is_some(), is_compressed);
        let id = BlobId::of(plaintext);
        assert_eq!(decode_blob(&key(), &blob.bytes, blob.uncompressed_length, id).unwrap(), plaintext);
    }

    fn noise(length: usize) -> Vec<u8> {
        (0..length / 32).flat_map(|i| BlobId::of(&i.to_le_bytes()).0).collect()
    }

    #[test]
    fn data_is_compressed_where_it_pays() {
        check(BlobKind::Data, &[b'a'; 4000], Compression::DEFAULT, true);
        check(BlobKind::Data, &[b'a'; 4000], Compression::Level(19), true);
        check(BlobKind::Data, &[b'a'; 4000], Compression::Off, false);
        check(BlobKind::Data, &noise(100_000), Compression::DEFAULT, false);
        check(BlobKind::Data, &noise(100_000), Compression::Level(12), false);
        check(BlobKind::Data, b"", Compression::DEFAULT, false);
    }

    #[test]
    fn trees_are_always_compressed() {
        check(BlobKind::Tree, b"{\"nodes\":[]}\n", Compression::Off, true);
        check(BlobKind::Tree, &noise(1000), Compression::DEFAULT, true);
    }

    #[test]
    fn hello_takes_46_bytes() {
        let blob = encode_blob(&key(), [1; 16], BlobKind::Tree, b"hello", Compression::DEFAULT);
        assert_eq!((blob.bytes.len(), blob.uncompressed_length), (46, Some(5)));
    }

    #[test]
    fn a_false_length_is_refused() {
        let blob = encode_blob(&key(), [1; 16], BlobKind::Tree, b"hello", Compression::DEFAULT);
        let id = BlobId::of(b"hello");
        for claimed in [Some(4), Some(6), Some(u32::MAX), None] {
            assert!(decode_blob(&key(), &blob.bytes, claimed, id).is_err(), "{claimed:?}");
        }
    }

    #[test]
    fn a_bit_that_flips_before_sealing_is_noticed() {
        for mut plaintext in [vec![b'a'; 4000], noise(4000)] {
            let sum = Checksum::of([&plaintext[..]]);
            let prove = |plaintext: &[u8]| {
                let blob = encode_blob(&key(), [1; 16], BlobKind::Data, plaintext, Compression::DEFAULT);
                prove_sealing(&key(), &blob, sum, &mut Vec::new(), &mut Vec::new())
            };
            prove(&plaintext).unwrap();
            plaintext[1000] ^= 4;
            assert_eq!(prove(&plaintext).unwrap_err().reason, Reason::Hash);
        }
    }

    #[test]
    fn a_blob_changes_its_key_without_being_compressed_again() {
        let other = MasterKey::from_random(&[4; 64]);
        for compression in [Compression::Off, Compression::DEFAULT] {
            let plaintext = [b'x'; 3000];
            let id = BlobId::of(&plaintext);
            let blob = encode_blob(&key(), [1; 16], BlobKind::Data, &plaintext, compression);
            let length = blob.uncompressed_length;
            let moved = reseal_blob(&key(), &other, [2; 16], &blob.bytes, length, id).unwrap();
            assert_eq!(moved.len(), blob.bytes.len());
            assert_eq!(decode_blob(&other, &moved, length, id).unwrap(), plaintext);
            assert!(reseal_blob(&key(), &other, [2; 16], &blob.bytes, length, BlobId([0; 32])).is_err());
        }
    }

    #[test]
    fn content_under_another_id_is_refused() {
        let blob = encode_blob(&key(), [1; 16], BlobKind::Data, b"hello", Compression::Off);
        let fault = decode_blob(&key(), &blob.bytes, None, BlobId::of(b"other")).unwrap_err();
        assert_eq!(fault.reason, Reason::Hash);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_decode(bytes in any::<Vec<u8>>(), length in any::<Option<u32>>()) {
            prop_assert!(decode_blob(&key(), &bytes, length, BlobId([0; 32])).is_err());
        }
    }
}
