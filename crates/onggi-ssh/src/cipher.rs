//! Which cipher is asked for first: on a large transfer it decides how fast both ends are.

use russh::Preferred;
use russh::cipher::{AES_256_GCM, Name};

/// All that are safe, the fastest here first. OpenSSH takes ours of those that both know. Where processors compute AES by
/// instructions of their own, it goes through several times as much in that as in what is first for all others.
pub(crate) fn by_speed() -> Vec<Name> {
    ordered(has_aes())
}

fn ordered(has_aes: bool) -> Vec<Name> {
    let mut ciphers = Preferred::DEFAULT.cipher.to_vec();
    if has_aes {
        ciphers.sort_by_key(|name| *name != AES_256_GCM); // the others keep their order
    }
    ciphers
}

/// Whether this processor has instructions for AES, and for the sums of that mode.
#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

/// Whether this processor has instructions for AES, and for the sums of that mode.
#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

/// Of others nothing is known.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aes_is_asked_for_first_only_where_it_is_fast() {
        let usual = Preferred::DEFAULT.cipher;
        assert_eq!(ordered(false), *usual);
        let fast = ordered(true);
        assert_eq!(fast[0], AES_256_GCM);
        let others =
            |ciphers: &[Name]| -> Vec<Name> { ciphers.iter().copied().filter(|name| *name != AES_256_GCM).collect() };
        assert_eq!(others(&fast), others(&usual));
        assert_eq!(fast.len(), usual.len());
    }
}
