//! The rest of the world as this crate sees it: who we are, what time it is, where to compute.

use crate::Compute;
use onggi_storage::Clock;
use std::sync::Arc;

/// Who writes: stored in locks, keys and snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Name of this machine.
    pub hostname: String,
    /// Name of the user.
    pub username: String,
    /// Process id.
    pub pid: u32,
    /// Numeric user id.
    pub uid: u32,
    /// Numeric group id.
    pub gid: u32,
}

/// All that a repository takes from outside besides its storage.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
    /// Who writes.
    pub host: Host,
    /// Where bytes are crunched.
    pub compute: Compute,
}

impl Environment {
    /// Unpredictable bytes.
    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.clock.fill_random(&mut bytes);
        bytes
    }

    /// A nonce for sealing: random, never all zero.
    pub(crate) fn nonce(&self) -> [u8; 16] {
        loop {
            let nonce = self.random();
            if nonce != [0; 16] {
                return nonce;
            }
        }
    }
}
