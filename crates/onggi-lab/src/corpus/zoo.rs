//! Every kind of entry and every piece of metadata: what a restore has to bring back exactly.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};

use super::{Random, name};

/// Writes the zoo into an empty folder and returns what this machine does not allow, for the test to say aloud.
pub fn write(to: &Path) -> io::Result<Vec<String>> {
    fs::create_dir_all(to)?;
    let mut left_out = Vec::new();
    contents(&to.join("contents"))?;
    names(&to.join("names"))?;
    links(&to.join("links"))?;
    modes(&to.join("modes"))?;
    attempt(&mut left_out, "extended attributes", attributes(&to.join("attributes")));
    attempt(&mut left_out, "access control lists", access_lists(&to.join("access-lists")));
    special(&to.join("special"))?;
    if rustix::process::geteuid().is_root() {
        attempt(&mut left_out, "device nodes", devices(&to.join("devices")));
        owners(&to.join("owners"))?;
    } else {
        left_out.push("device nodes and foreign owners: not root".into());
    }
    times(&to.join("times"))?;
    Ok(left_out)
}

fn attempt(left_out: &mut Vec<String>, what: &str, result: io::Result<()>) {
    if let Err(error) = result {
        left_out.push(format!("{what}: {error}"));
    }
}

/// Empty, small, of several chunks, with holes, and equal twice.
fn contents(at: &Path) -> io::Result<()> {
    fs::create_dir_all(at.join("empty folder"))?;
    fs::create_dir_all(at.join("deep/deeper/deepest"))?;
    fs::write(at.join("deep/deeper/deepest/leaf"), "leaf\n")?;
    fs::write(at.join("empty"), "")?;
    fs::write(at.join("one byte"), "x")?;
    let large = Random::new(11).bytes(5 << 20);
    fs::write(at.join("several chunks"), &large)?;
    fs::write(at.join("the same again"), &large)?;
    fs::write(at.join("zeros"), vec![0; 1 << 20])?;
    let sparse = File::create(at.join("sparse"))?;
    sparse.set_len(8 << 20)?;
    sparse.write_all_at(&large[..100_000], 3 << 20)?;
    let hole = File::create(at.join("one hole"))?;
    hole.set_len(2 << 20)
}

fn names(at: &Path) -> io::Result<()> {
    fs::create_dir_all(at)?;
    for name in name::hostile() {
        fs::write(at.join(&name), name.as_bytes())?;
    }
    let folder = at.join("folder\u{1b}[2J\n");
    fs::create_dir(&folder)?;
    fs::write(folder.join("inside"), "inside\n")
}

fn links(at: &Path) -> io::Result<()> {
    fs::create_dir_all(at.join("far"))?;
    fs::write(at.join("first"), "one file, three names\n")?;
    fs::hard_link(at.join("first"), at.join("second"))?;
    fs::hard_link(at.join("first"), at.join("far/third"))?;
    symlink("first", at.join("relative"))?;
    symlink("/etc/hostname", at.join("absolute"))?;
    symlink("nowhere/at/all", at.join("dangling"))?;
    symlink("..", at.join("up"))?;
    symlink(std::ffi::OsStr::from_bytes(b"bad\xfftarget"), at.join("not text"))?;
    symlink("t".repeat(1000), at.join("long target"))
}

fn modes(at: &Path) -> io::Result<()> {
    fs::create_dir_all(at)?;
    for mode in [0o000, 0o400, 0o644, 0o777, 0o1644, 0o2755, 0o4755, 0o7777] {
        let path = at.join(format!("file {mode:04o}"));
        fs::write(&path, "mode\n")?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    for mode in [0o500, 0o700, 0o1777, 0o2775] {
        let path = at.join(format!("folder {mode:04o}"));
        fs::create_dir(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn attributes(at: &Path) -> io::Result<()> {
    fs::create_dir_all(at)?;
    let file = at.join("file");
    fs::write(&file, "attributes\n")?;
    xattr::set(&file, "user.text", b"text")?;
    xattr::set(&file, "user.empty", b"")?;
    xattr::set(&file, "user.bytes", &[0, 255, 10, 34])?;
    xattr::set(&file, "user.long", &Random::new(12).bytes(1500))?;
    xattr::set(at, "user.folder", b"on a folder")
}

/// The kernel's own form: version 2, then tag, permissions and id of each entry.
fn access_lists(at: &Path) -> io::Result<()> {
    fs::create_dir_all(at)?;
    let file = at.join("file");
    fs::write(&file, "access list\n")?;
    xattr::set(&file, "system.posix_acl_access", &access_list())?;
    xattr::set(at, "system.posix_acl_default", &access_list())
}

fn access_list() -> Vec<u8> {
    const NOBODY_IN_PARTICULAR: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 6] = [
        (0x01, 6, NOBODY_IN_PARTICULAR), // owner
        (0x02, 4, 1234),                 // a named user
        (0x04, 4, NOBODY_IN_PARTICULAR), // owning group
        (0x08, 6, 5678),                 // a named group
        (0x10, 6, NOBODY_IN_PARTICULAR), // mask
        (0x20, 0, NOBODY_IN_PARTICULAR), // others
    ];
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn special(at: &Path) -> io::Result<()> {
    fs::create_dir_all(at)?;
    Ok(mknodat(CWD, at.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o620), 0)?)
}

fn devices(at: &Path) -> io::Result<()> {
    fs::create_dir_all(at)?;
    mknodat(CWD, at.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3))?;
    Ok(mknodat(CWD, at.join("loop"), FileType::BlockDevice, Mode::from_raw_mode(0o660), makedev(7, 200))?)
}

fn owners(at: &Path) -> io::Result<()> {
    fs::create_dir_all(at)?;
    fs::write(at.join("file"), "somebody else's\n")?;
    lchown(at.join("file"), Some(1234), Some(5678))?;
    symlink("file", at.join("link"))?;
    lchown(at.join("link"), Some(4321), Some(8765))?;
    lchown(at, Some(65534), Some(65534))
}

/// Nanoseconds, before 1970, far away; on files, links and folders. Written last, so that nothing disturbs them.
fn times(at: &Path) -> io::Result<()> {
    fs::create_dir_all(at.join("folder"))?;
    let moments: [(&str, i64, i64); 5] = [
        ("nanoseconds", 1_763_600_000, 123_456_789),
        ("trailing zeros", 1_763_600_000, 500_000_000),
        ("moon landing", -14_182_940, 1),
        ("2038", 2_147_483_648, 0),
        ("epoch", 0, 0),
    ];
    for (name, seconds, nanoseconds) in moments {
        fs::write(at.join(name), "time\n")?;
        set_time(&at.join(name), seconds, nanoseconds)?;
    }
    symlink("epoch", at.join("link"))?;
    set_time(&at.join("link"), 1_000_000_000, 7)?;
    set_time(&at.join("folder"), 1_111_111_111, 11)?;
    set_time(at, 1_222_222_222, 22)
}

/// Sets access and modification time without following a link.
pub fn set_time(path: &Path, seconds: i64, nanoseconds: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Aspects, compare};

    #[test]
    fn two_zoos_are_equal_in_all_that_can_be_set() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        let left_out = write(&first).unwrap();
        assert_eq!(write(&second).unwrap(), left_out);
        // Only `times` sets them; elsewhere the two were made one after the other.
        let differences = compare(&first.join("times"), &second.join("times"), Aspects::ALL).unwrap();
        assert!(differences.is_empty(), "{differences:?}");
        let differences = compare(&first, &second, Aspects { times: false, ..Aspects::ALL }).unwrap();
        assert!(differences.is_empty(), "{differences:?}");
    }
}
