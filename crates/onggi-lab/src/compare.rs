//! Says in what two folders differ: the oracle of restore tests, the benchmark and the demonstration.
//!
//! It shares no code with the product: what it reads comes straight from the file system.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What is compared beside names, kinds, content, link targets and device numbers, which always are.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent aspects, each named where it is chosen")]
pub struct Aspects {
    /// Permission bits with setuid, setgid, sticky.
    pub modes: bool,
    /// Owner and group as numbers.
    pub owners: bool,
    /// Modification times to the nanosecond.
    pub times: bool,
    /// Extended attributes, access control lists among them.
    pub attributes: bool,
    /// Which names are one file.
    pub hard_links: bool,
    /// Whether the right side takes at most 64 KiB more space per file than the left.
    pub holes: bool,
}

impl Aspects {
    /// Everything but holes.
    pub const ALL: Self =
        Self { modes: true, owners: true, times: true, attributes: true, hard_links: true, holes: false };
    /// Names, kinds, content.
    pub const CONTENT: Self =
        Self { modes: false, owners: false, times: false, attributes: false, hard_links: false, holes: false };
}

/// One thing that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Below the two folders; empty for the folders themselves.
    pub path: PathBuf,
    /// What is different, left side first.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.as_os_str().as_bytes().escape_ascii(), self.what)
    }
}

/// Compares two folders and all below them, in the order of their names' bytes.
pub fn compare(left: &Path, right: &Path, aspects: Aspects) -> io::Result<Vec<Difference>> {
    let mut comparison = Comparison { aspects, differences: Vec::new(), left_files: BTreeMap::new() };
    comparison.entry(Path::new(""), left, right)?;
    Ok(comparison.differences)
}

struct Comparison {
    aspects: Aspects,
    differences: Vec<Difference>,
    /// Of a hard-linked file on the left: its partner on the right.
    left_files: BTreeMap<(u64, u64), (u64, u64)>,
}

impl Comparison {
    fn entry(&mut self, path: &Path, left: &Path, right: &Path) -> io::Result<()> {
        let (here, there) = (fs::symlink_metadata(left)?, fs::symlink_metadata(right)?);
        if kind(&here) != kind(&there) {
            self.found(path, format!("{} became {}", kind(&here), kind(&there)));
            return Ok(());
        }
        self.metadata(path, &here, &there);
        if self.aspects.attributes {
            self.equal(path, "attributes", &attributes(left)?, &attributes(right)?);
        }
        match kind(&here) {
            "file" => self.file(path, (left, &here), (right, &there)),
            "folder" => self.folder(path, left, right),
            "link" => {
                self.equal(path, "target", &fs::read_link(left)?, &fs::read_link(right)?);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn metadata(&mut self, path: &Path, here: &Metadata, there: &Metadata) {
        if self.aspects.modes {
            self.equal(path, "mode", &format!("{:o}", here.mode() & 0o7777), &format!("{:o}", there.mode() & 0o7777));
        }
        if self.aspects.owners {
            self.equal(path, "owner", &(here.uid(), here.gid()), &(there.uid(), there.gid()));
        }
        if self.aspects.times {
            let time = |metadata: &Metadata| (metadata.mtime(), metadata.mtime_nsec());
            self.equal(path, "time", &time(here), &time(there));
        }
        if kind(here) == "device" {
            self.equal(path, "device", &here.rdev(), &there.rdev());
        }
    }

    fn file(&mut self, path: &Path, left: (&Path, &Metadata), right: (&Path, &Metadata)) -> io::Result<()> {
        let ((left, here), (right, there)) = (left, right);
        if self.aspects.hard_links {
            self.equal(path, "number of names", &here.nlink(), &there.nlink());
            let partner = (there.dev(), there.ino());
            let known = *self.left_files.entry((here.dev(), here.ino())).or_insert(partner);
            self.equal(path, "hard link to the same file", &known, &partner);
        }
        if self.aspects.holes && there.blocks() > here.blocks() + 128 {
            self.found(path, format!("takes {} instead of {} blocks", there.blocks(), here.blocks()));
        }
        self.equal(path, "length", &here.len(), &there.len());
        if here.len() == there.len()
            && let Some(at) = first_difference(left, right)?
        {
            self.found(path, format!("content differs from byte {at}"));
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path, left: &Path, right: &Path) -> io::Result<()> {
        let (here, mut there) = (names(left)?, names(right)?);
        for name in here {
            if let Some(at) = there.iter().position(|other| *other == name) {
                there.remove(at);
                self.entry(&path.join(&name), &left.join(&name), &right.join(&name))?;
            } else {
                self.found(&path.join(name), "is missing on the right");
            }
        }
        for name in there {
            self.found(&path.join(name), "is missing on the left");
        }
        Ok(())
    }

    fn equal<T: PartialEq + fmt::Debug>(&mut self, path: &Path, what: &str, left: &T, right: &T) {
        if left != right {
            self.found(path, format!("{what}: {left:?} became {right:?}"));
        }
    }

    fn found(&mut self, path: &Path, what: impl Into<String>) {
        self.differences.push(Difference { path: path.to_owned(), what: what.into() });
    }
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_dir() => "folder",
        () if kind.is_file() => "file",
        () if kind.is_symlink() => "link",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () => "device",
    }
}

fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort_by(|left, right| left.as_bytes().cmp(right.as_bytes()));
    Ok(names)
}

/// Attributes by name; of a file system without any, none.
fn attributes(path: &Path) -> io::Result<BTreeMap<OsString, Vec<u8>>> {
    let names = match xattr::list(path) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    names.map(|name| Ok((name.clone(), xattr::get(path, &name)?.unwrap_or_default()))).collect()
}

fn first_difference(left: &Path, right: &Path) -> io::Result<Option<u64>> {
    const PIECE: usize = 1 << 17;
    let (mut left, mut right) = (File::open(left)?, File::open(right)?);
    let (mut here, mut there) = (vec![0; PIECE], vec![0; PIECE]);
    let mut offset = 0;
    loop {
        let length = read_full(&mut left, &mut here)?;
        let other = read_full(&mut right, &mut there)?;
        let common = length.min(other);
        if let Some(at) = (0..common).find(|at| here[*at] != there[*at]) {
            return Ok(Some(offset + at as u64));
        }
        if length != other {
            return Ok(Some(offset + common as u64));
        }
        if length == 0 {
            return Ok(None);
        }
        offset += length as u64;
    }
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            length => filled += length,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::zoo::set_time;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn equal_folders_have_no_difference() {
        check(|_| {}, &[]);
    }

    #[test]
    fn one_byte_is_found() {
        check(|right| overwrite(&right.join("file")), &["file: content differs from byte 3"]);
    }

    fn overwrite(path: &Path) {
        fs::write(path, "conTent").unwrap();
        set_time(path, 5, 5).unwrap();
    }

    #[test]
    fn entries_may_be_missing_on_either_side() {
        let change = |right: &Path| fs::rename(right.join("file"), right.join("other")).unwrap();
        check(change, &["file: is missing on the right", "other: is missing on the left"]);
    }

    #[test]
    fn a_mode_is_found() {
        let change =
            |right: &Path| fs::set_permissions(right.join("file"), fs::Permissions::from_mode(0o4755)).unwrap();
        check(change, &["file: mode: \"644\" became \"4755\""]);
    }

    #[test]
    fn a_nanosecond_is_found() {
        check(|right| set_time(&right.join("file"), 5, 6).unwrap(), &["file: time: (5, 5) became (5, 6)"]);
    }

    #[test]
    fn a_link_that_became_a_copy_is_found() {
        let change = |right: &Path| {
            fs::remove_file(right.join("link")).unwrap();
            fs::copy(right.join("file"), right.join("link")).unwrap();
        };
        check(change, &["link: link became file"]);
    }

    #[test]
    fn names_that_are_no_longer_one_file_are_found() {
        let change = |right: &Path| {
            fs::remove_file(right.join("twins/second")).unwrap();
            fs::copy(right.join("twins/first"), right.join("twins/second")).unwrap();
        };
        let expected = [
            "twins/first: number of names: 2 became 1",
            "twins/second: number of names: 2 became 1",
            "twins/second: hard link to the same file: ",
        ];
        let found = differences(change, Aspects { times: false, ..Aspects::ALL });
        assert!(found.iter().zip(expected).all(|(found, start)| found.starts_with(start)), "{found:?}");
        assert_eq!(found.len(), expected.len());
    }

    #[track_caller]
    fn check(change: impl Fn(&Path), expected: &[&str]) {
        assert_eq!(differences(change, Aspects::ALL), expected);
    }

    /// Two equal folders, of which the right one is changed.
    fn differences(change: impl Fn(&Path), aspects: Aspects) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let (left, right) = (folder.path().join("left"), folder.path().join("right"));
        for at in [&left, &right] {
            fs::create_dir_all(at.join("twins")).unwrap();
            fs::write(at.join("twins/first"), "twin").unwrap();
            fs::hard_link(at.join("twins/first"), at.join("twins/second")).unwrap();
            fs::write(at.join("file"), "content").unwrap();
            fs::set_permissions(at.join("file"), fs::Permissions::from_mode(0o644)).unwrap();
            symlink("file", at.join("link")).unwrap();
            for name in ["link", "file", "twins/first", "twins"] {
                set_time(&at.join(name), 5, 5).unwrap();
            }
        }
        change(&right);
        for at in [&left, &right] {
            set_time(at, 1, 1).unwrap();
        }
        compare(&left, &right, aspects).unwrap().iter().map(ToString::to_string).collect()
    }
}
