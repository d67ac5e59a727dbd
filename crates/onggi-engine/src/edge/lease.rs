//! Which run is at work on a unit now, among all processes of this machine. A lease is the lock of an open file, so it ends with
//! its process, however that ends.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use onggi_source::hex::hexadecimal;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

/// What a lease says of its holder is not longer, in bytes.
const WORDS_BYTES_MAX: u64 = 200;

/// The leases of this machine, one file each, which stay: a file that is taken away could be held twice.
#[derive(Debug, Clone)]
pub struct Leases {
    folder: PathBuf,
}

/// A unit that nobody else backs up until this is dropped.
#[derive(Debug)]
pub struct Lease {
    _file: File,
}

impl Leases {
    /// Those of this folder, which is made when it is first needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Takes the lease of a unit; else answers what its holder said of itself.
    pub fn take(&self, source: &str, unit: &str, words: &str) -> io::Result<Result<Lease, String>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let digest = Sha256::digest([source.as_bytes(), b"\0", unit.as_bytes()].concat());
        let name = hexadecimal(&digest[..16]);
        let path = self.folder.join(name);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                file.set_len(0)?;
                file.write_all(words.as_bytes())?;
                Ok(Ok(Lease { _file: file }))
            }
            Err(Errno::WOULDBLOCK) => {
                let mut said = Vec::new();
                file.take(WORDS_BYTES_MAX).read_to_end(&mut said)?;
                Ok(Err(String::from_utf8_lossy(&said).into_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_held_by_one_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let take =
            |unit: &str, words: &str| Leases::new(folder.path().join("leases")).take("nodes", unit, words).unwrap();
        let first = take("n1", "run r1").unwrap();
        assert_eq!(take("n1", "run r2").unwrap_err(), "run r1");
        let other = take("n2", "run r2").unwrap();
        drop(first);
        assert!(take("n1", "r3").is_ok());
        drop(other);
    }
}
