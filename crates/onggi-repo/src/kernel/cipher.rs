//! AES-256-CTR and Poly1305 over whole messages, in slices that stay in the first-level caches between the two passes.

use aes::{
    Aes128, Aes256,
    cipher::{BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper},
};
use ctr::CtrCore;
use poly1305::{Block, Poly1305, universal_hash::UniversalHash};
use zeroize::Zeroizing;

type Ctr = StreamCipherCoreWrapper<CtrCore<Aes256, ctr::flavors::Ctr128BE>>;

/// Bytes handled by one pass before the other follows.
const SLICE: usize = 64 << 10;

/// The three keys of the construction, expanded.
#[derive(Clone)]
pub struct Keys {
    encrypt: Aes256,
    nonce_mask: Aes128,
    multiplier: Zeroizing<[u8; 16]>,
}

impl Keys {
    /// Expands the keys; `encrypt` is for AES-256, `k` for AES-128, `r` for Poly1305 (clamped by it).
    pub fn new(encrypt: &[u8; 32], k: &[u8; 16], r: &[u8; 16]) -> Self {
        Self {
            encrypt: Aes256::new(&(*encrypt).into()),
            nonce_mask: Aes128::new(&(*k).into()),
            multiplier: Zeroizing::new(*r),
        }
    }

    /// Encrypts in place and returns the authentication code of the ciphertext.
    pub fn encrypt(&self, nonce: &[u8; 16], message: &mut [u8]) -> [u8; 16] {
        let (mut ctr, mut mac) = (self.ctr(nonce), self.mac(nonce));
        for slice in message.chunks_mut(SLICE) {
            ctr.apply_keystream(slice);
            mac.update(slice);
        }
        mac.finish()
    }

    /// Appends the plaintext to a buffer and returns the authentication code of the ciphertext, which the caller must
    /// compare before it uses a byte of the output.
    pub fn decrypt(&self, nonce: &[u8; 16], ciphertext: &[u8], out: &mut Vec<u8>) -> [u8; 16] {
        let (mut ctr, mut mac) = (self.ctr(nonce), self.mac(nonce));
        out.reserve(ciphertext.len());
        for slice in ciphertext.chunks(SLICE) {
            mac.update(slice);
            let start = out.len();
            out.extend_from_slice(slice);
            ctr.apply_keystream(&mut out[start..]);
        }
        mac.finish()
    }

    /// Gives the plaintext away in slices, the same memory each time; else as `decrypt`.
    pub fn decrypt_slices(&self, nonce: &[u8; 16], ciphertext: &[u8], mut take: impl FnMut(&[u8])) -> [u8; 16] {
        let (mut ctr, mut mac) = (self.ctr(nonce), self.mac(nonce));
        let mut room = Zeroizing::new(vec![0; SLICE.min(ciphertext.len())]);
        for slice in ciphertext.chunks(SLICE) {
            mac.update(slice);
            let plain = &mut room[..slice.len()];
            plain.copy_from_slice(slice);
            ctr.apply_keystream(plain);
            take(plain);
        }
        mac.finish()
    }

    /// Decrypts in place; else as `decrypt`.
    pub fn decrypt_in_place(&self, nonce: &[u8; 16], message: &mut [u8]) -> [u8; 16] {
        let (mut ctr, mut mac) = (self.ctr(nonce), self.mac(nonce));
        for slice in message.chunks_mut(SLICE) {
            mac.update(slice);
            ctr.apply_keystream(slice);
        }
        mac.finish()
    }

    /// The authentication code of a ciphertext, without decrypting it.
    pub fn authenticate(&self, nonce: &[u8; 16], ciphertext: &[u8]) -> [u8; 16] {
        let mut mac = self.mac(nonce);
        mac.update(ciphertext);
        mac.finish()
    }

    fn ctr(&self, nonce: &[u8; 16]) -> Ctr {
        let core = CtrCore::inner_iv_init(self.encrypt.clone(), &(*nonce).into());
        StreamCipherCoreWrapper::from_core(core)
    }

    fn mac(&self, nonce: &[u8; 16]) -> Mac {
        let mut mask = (*nonce).into();
        self.nonce_mask.encrypt_block(&mut mask);
        let mut key = Zeroizing::new([0; 32]);
        key[..16].copy_from_slice(&*self.multiplier);
        key[16..].copy_from_slice(&mask);
        Mac { state: Poly1305::new(&(*key).into()), tail: [0; 16], tail_len: 0 }
    }
}

/// Poly1305 over slices; only the last one may have a length that is not a multiple of 16.
struct Mac {
    state: Poly1305,
    tail: [u8; 16],
    tail_len: usize,
}

impl Mac {
    fn update(&mut self, bytes: &[u8]) {
        debug_assert_eq!(self.tail_len, 0, "only the last slice may be ragged");
        let (blocks, rest) = Block::slice_as_chunks(bytes);
        self.state.update(blocks);
        self.tail[..rest.len()].copy_from_slice(rest);
        self.tail_len = rest.len();
    }

    fn finish(self) -> [u8; 16] {
        self.state.compute_unpadded(&self.tail[..self.tail_len]).into()
    }
}
