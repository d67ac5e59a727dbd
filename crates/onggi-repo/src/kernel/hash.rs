//! SHA-256 of slices, on the processor's instructions where it has them.

use sha2::{Digest, Sha256};

/// SHA-256 of one message.
pub fn sha256(message: &[u8]) -> [u8; 32] {
    Sha256::digest(message).into()
}
