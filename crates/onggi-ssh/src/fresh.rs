//! Keys for one use: made when somebody is to be let in, and forgotten with the login.

use crate::error::SshError;
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::private::RsaKeypair;
use russh::keys::{PrivateKey, ssh_key};

/// What every SSH server and every agent that writes keys understands.
const BITS: usize = 2048;

/// A new RSA key. Takes its while: a part of a second.
pub fn fresh_key() -> Result<PrivateKey, SshError> {
    let make =
        || -> Result<PrivateKey, ssh_key::Error> { Ok(PrivateKey::from(RsaKeypair::random(&mut safe_rng(), BITS)?)) };
    make().map_err(|error| SshError::Denied(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_another() {
        let key = fresh_key().unwrap();
        assert!(key.public_key().to_openssh().unwrap().starts_with("ssh-rsa AAAA"));
    }
}
