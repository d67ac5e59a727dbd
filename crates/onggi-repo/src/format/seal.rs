//! The one way bytes are encrypted and authenticated: `nonce(16) || AES-256-CTR || Poly1305-AES(16)`.
//! No plaintext leaves this file before its authentication code was compared.

use super::fault::{FormatError, Result};
use crate::kernel::cipher::Keys;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes that sealing adds.
pub const OVERHEAD: usize = NONCE + MAC;
/// Bytes of the nonce before the ciphertext.
pub const NONCE: usize = 16;
const MAC: usize = 16;

/// The keys of a repository. Wiped when dropped, never shown.
#[derive(Clone)]
pub struct MasterKey {
    raw: RawKey,
    keys: Keys,
}

#[derive(Clone, Zeroize, ZeroizeOnDrop)]
struct RawKey([u8; 64]);

impl MasterKey {
    /// The key made of 64 bytes: 32 for AES-256, then 16 for AES-128 and 16 for Poly1305.
    ///
    /// `None` if one of the three parts is all zero, which restic refuses too.
    pub fn from_bytes(bytes: &[u8; 64]) -> Option<Self> {
        let (encrypt, rest) = bytes.split_first_chunk::<32>()?;
        let (k, rest) = rest.split_first_chunk::<16>()?;
        let r = rest.first_chunk::<16>()?;
        if encrypt.iter().all(|&byte| byte == 0) || k.iter().all(|&byte| byte == 0) || r.iter().all(|&byte| byte == 0) {
            return None;
        }
        Some(Self { raw: RawKey(*bytes), keys: Keys::new(encrypt, k, r) })
    }

    /// A new key from 64 bytes of a cryptographic random generator.
    pub fn from_random(bytes: &[u8; 64]) -> Self {
        Self::from_bytes(bytes).expect("64 random bytes hold no run of 16 zeros")
    }

    /// The 64 bytes it was made of; only key files need them.
    pub(super) fn expose(&self) -> &[u8; 64] {
        &self.raw.0
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(***)")
    }
}

/// Appends the sealed plaintext to `out`: `plaintext.len() + OVERHEAD` bytes.
pub fn seal(key: &MasterKey, nonce: [u8; NONCE], plaintext: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.reserve(plaintext.len() + OVERHEAD);
    out.extend_from_slice(&[0; NONCE]);
    out.extend_from_slice(plaintext);
    seal_tail(key, nonce, out, start);
}

/// Seals `out[start..]` where it lies. Its first `NONCE` bytes are room for the nonce, the rest is the plaintext.
pub fn seal_tail(key: &MasterKey, nonce: [u8; NONCE], out: &mut Vec<u8>, start: usize) {
    assert!(nonce != [0; NONCE], "a nonce must be random");
    out[start..start + NONCE].copy_from_slice(&nonce);
    let mac = key.keys.encrypt(&nonce, &mut out[start + NONCE..]);
    out.extend_from_slice(&mac);
}

/// Opens in place and returns the part of the buffer that holds the plaintext. After a failure the buffer is wiped.
pub fn open<'a>(key: &MasterKey, sealed: &'a mut [u8]) -> Result<&'a mut [u8]> {
    let Parts { nonce, mac, .. } = split(sealed)?;
    let end = sealed.len() - MAC;
    let computed = key.keys.decrypt_in_place(&nonce, &mut sealed[NONCE..end]);
    if is_equal(computed, mac) {
        Ok(&mut sealed[NONCE..end])
    } else {
        sealed.fill(0);
        Err(FormatError::authentication(WHAT))
    }
}

/// Opens into `out`, whose earlier content is lost. After a failure it is empty.
pub fn open_into(key: &MasterKey, sealed: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    let Parts { nonce, ciphertext, mac } = split(sealed)?;
    let computed = key.keys.decrypt(&nonce, ciphertext, out);
    if is_equal(computed, mac) {
        Ok(())
    } else {
        out.fill(0);
        out.clear();
        Err(FormatError::authentication(WHAT))
    }
}

/// Gives the plaintext away in slices, so that it is nowhere put together. After a failure what was given is of no use.
pub fn open_in_slices(key: &MasterKey, sealed: &[u8], take: impl FnMut(&[u8])) -> Result<()> {
    let Parts { nonce, ciphertext, mac } = split(sealed)?;
    let computed = key.keys.decrypt_slices(&nonce, ciphertext, take);
    if is_equal(computed, mac) { Ok(()) } else { Err(FormatError::authentication(WHAT)) }
}

/// Checks the authentication code only.
pub fn authenticate(key: &MasterKey, sealed: &[u8]) -> Result<()> {
    let Parts { nonce, ciphertext, mac } = split(sealed)?;
    let computed = key.keys.authenticate(&nonce, ciphertext);
    if is_equal(computed, mac) { Ok(()) } else { Err(FormatError::authentication(WHAT)) }
}

const WHAT: &str = "sealed bytes";

struct Parts<'a> {
    nonce: [u8; NONCE],
    ciphertext: &'a [u8],
    mac: [u8; MAC],
}

fn split(sealed: &[u8]) -> Result<Parts<'_>> {
    let parts = sealed.split_first_chunk::<NONCE>().and_then(|(nonce, rest)| {
        rest.split_last_chunk::<MAC>().map(|(ciphertext, mac)| Parts { nonce: *nonce, ciphertext, mac: *mac })
    });
    match parts {
        None => Err(FormatError::invalid(WHAT, "shorter than its overhead")),
        Some(parts) if parts.nonce == [0; NONCE] => Err(FormatError::invalid(WHAT, "the nonce is zero")),
        Some(parts) => Ok(parts),
    }
}

/// Compares without telling by its duration where the difference is.
fn is_equal(a: [u8; MAC], b: [u8; MAC]) -> bool {
    (u128::from_le_bytes(a) ^ u128::from_le_bytes(b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> MasterKey {
        MasterKey::from_random(&std::array::from_fn(|i| i as u8))
    }

    fn nonce() -> [u8; 16] {
        std::array::from_fn(|i| 0xa0 + i as u8)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn known_messages_give_the_known_bytes() {
        let mut out = Vec::new();
        seal(&key(), nonce(), b"onggi test vector: 0123456789abcdef", &mut out);
        assert_eq!(
            hex(&out),
            "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb3f1669a1f9808687c3fc8f36e68988f93ebcb214d73a61cd9bccfb25e51b1fc\
             fd8e8259ed9799271d6c6d94d82c28e0358c7b"
        );
        out.clear();
        seal(&key(), nonce(), b"", &mut out);
        assert_eq!(hex(&out), "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf8aef4b6f9c4c0ad05bbaa8bbc43c8d7f");
    }

    #[test]
    fn the_counter_carries_through_all_128_bits() {
        let mut nonce = [0xff; 16];
        nonce[15] = 0xfe;
        let mut out = Vec::new();
        seal(&key(), nonce, &[0; 48], &mut out);
        assert_eq!(
            hex(&out[16..64]),
            "63e5b402b51e48ddfaedf9de99cc2744e999e41d4ca770da5387117b5d8f57eef29000b62a499fd0a9f39a6add2e7780"
        );
    }

    #[test]
    fn a_key_with_a_zero_part_is_none() {
        for part in [0..32, 32..48, 48..64] {
            let mut bytes = [1; 64];
            bytes[part].fill(0);
            assert!(MasterKey::from_bytes(&bytes).is_none());
        }
    }

    #[test]
    fn the_key_is_never_shown() {
        assert_eq!(format!("{:?}", key()), "MasterKey(***)");
    }

    #[test]
    fn slices_do_not_show_in_the_result() {
        for len in [0, 1, 15, 16, 65_535, 65_536, 65_537, 200_000] {
            let plaintext: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let mut sealed = Vec::new();
            seal(&key(), nonce(), &plaintext, &mut sealed);
            let mut opened = Vec::new();
            open_into(&key(), &sealed, &mut opened).unwrap();
            assert_eq!(opened, plaintext);
            authenticate(&key(), &sealed).unwrap();
            let mut given = Vec::new();
            open_in_slices(&key(), &sealed, |slice| given.extend_from_slice(slice)).unwrap();
            assert_eq!(given, plaintext);
        }
    }

    proptest! {
        #[test]
        fn opening_undoes_sealing_and_every_flipped_bit_is_noticed(
            plaintext in proptest::collection::vec(any::<u8>(), 0..200), at in any::<proptest::sample::Index>(), bit in 0..8u8,
        ) {
            let mut sealed = b"before".to_vec();
            seal(&key(), nonce(), &plaintext, &mut sealed);
            let mut sealed = sealed.split_off(6);
            let mut copy = sealed.clone();
            prop_assert_eq!(open(&key(), &mut copy).unwrap(), &plaintext[..]);
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(authenticate(&key(), &sealed).is_err());
            prop_assert!(open_into(&key(), &sealed, &mut Vec::new()).is_err());
            prop_assert!(open(&key(), &mut sealed).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_open(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(open(&key(), &mut bytes.clone()).is_err());
        }
    }
}
