//! Files in the state directory that say what a run began, so that another process finds what a dead run left.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::context::{Purpose, RunId};
use crate::hex::hexadecimal;
use crate::source::{SourceError, Unit};

/// Names what belongs to a run of a unit. A hash, because neither's id need be a good file name.
pub(crate) fn name(run: &RunId, purpose: Purpose, unit: &Unit) -> String {
    hexadecimal(&Sha256::digest(format!("{run}\0{purpose:?}\0{}", unit.id))[..16])
}

/// Writes a file, private and durable as its folder, instead of an earlier one; through another name, so that nobody
/// reads half of it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let draft = path.with_extension("draft");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    fs::File::open(folder)?.sync_all()
}

/// The files of a folder, sorted; none where it does not exist.
pub(crate) fn listed(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let names = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing.and_then(Iterator::collect::<io::Result<Vec<_>>>)?,
    };
    let mut paths: Vec<_> = names.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    Ok(paths)
}

/// Removes a file if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What could not be done to such a file.
pub(crate) fn failed(verb: &str, path: &Path, error: &io::Error) -> SourceError {
    SourceError::Unreachable(format!("{verb} {}: {error}", path.display()))
}
