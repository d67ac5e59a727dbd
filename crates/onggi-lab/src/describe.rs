//! A folder as text, one line per entry: what a golden repository must give back, in a form that can be committed.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Lines of path, kind, mode, modification time and content or target, sorted by path. Owners are left out, since a
/// restore by an ordinary user cannot bring them back.
pub fn describe(folder: &Path) -> io::Result<String> {
    let mut text = String::new();
    describe_below(folder, Path::new(""), &mut text)?;
    Ok(text)
}

fn describe_below(top: &Path, path: &Path, text: &mut String) -> io::Result<()> {
    let mut names =
        fs::read_dir(top.join(path))?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort_by(|left, right| left.as_bytes().cmp(right.as_bytes()));
    for name in names {
        let path: PathBuf = path.join(name);
        let metadata = fs::symlink_metadata(top.join(&path))?;
        let _ = write!(
            text,
            "{} {:06o} {}.{:09}",
            path.as_os_str().as_bytes().escape_ascii(),
            metadata.mode(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        if metadata.is_file() {
            let content = fs::read(top.join(&path))?;
            let _ = write!(text, " {} ", content.len());
            for byte in Sha256::digest(&content) {
                let _ = write!(text, "{byte:02x}");
            }
        } else if metadata.is_symlink() {
            let target = fs::read_link(top.join(&path))?;
            let _ = write!(text, " -> {}", target.as_os_str().as_bytes().escape_ascii());
        }
        text.push('\n');
        if metadata.is_dir() {
            describe_below(top, &path, text)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::zoo::set_time;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn every_entry_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        fs::create_dir(at.join("d")).unwrap();
        fs::write(at.join("d/f\n"), "abc").unwrap();
        symlink("d/f", at.join("l")).unwrap();
        fs::set_permissions(at.join("d/f\n"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(at.join("d"), fs::Permissions::from_mode(0o755)).unwrap();
        for path in ["d/f\n", "l", "d"] {
            set_time(&at.join(path), 1, 2).unwrap();
        }
        let expected = "d 040755 1.000000002\n\
            d/f\\n 100640 1.000000002 3 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n\
            l 120777 1.000000002 -> d/f\n";
        assert_eq!(describe(at).unwrap(), expected);
    }
}
