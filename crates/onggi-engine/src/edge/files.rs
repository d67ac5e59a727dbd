//! The files of the configuration, as they lie on this machine.

use super::secret;
use crate::config::{Files, Found, value::SecretReference};
use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::Path,
};

/// The largest file that is read to its end, and one byte more, so that a longer one is noticed.
const READ_MAX: u64 = (4 << 20) + 1;

/// This machine's files, and the environment that secrets may be in.
#[derive(Debug, Clone, Copy)]
pub struct SystemFiles<'a> {
    /// The environment, read once by the program.
    pub variables: &'a BTreeMap<String, String>,
}

impl Files for SystemFiles<'_> {
    #[expect(clippy::disallowed_methods, reason = "the edge")]
    fn read(&self, path: &Path) -> io::Result<Found> {
        if path.metadata()?.is_dir() {
            let names = path.read_dir()?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            return names.collect::<io::Result<_>>().map(Found::Directory);
        }
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(READ_MAX).read_to_end(&mut bytes)?;
        Ok(Found::File(bytes))
    }

    fn secret_fault(&self, reference: &SecretReference) -> Option<String> {
        secret::fault(reference, self.variables)
    }
}
