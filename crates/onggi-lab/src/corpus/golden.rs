//! What golden repositories hold: small, fixed for ever, a little different at each turn.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::zoo::set_time;
use super::{Lines, Random};

/// Writes the folder as it is at a turn; over that of an earlier turn, or anew. Every mode and time is set.
pub fn write(to: &Path, turn: u32) -> io::Result<()> {
    fs::create_dir_all(to.join("etc/empty"))?;
    fs::create_dir_all(to.join("var/log"))?;
    let mut log = vec![0; 700_000 + 10_000 * turn as usize];
    Lines::new(21).fill(&mut log);
    let files: [(&[u8], Vec<u8>); 7] = [
        (b"etc/hosts", b"127.0.0.1 localhost\n".to_vec()),
        (b"etc/turn", format!("{turn}\n").into_bytes()),
        (b"etc/nothing", Vec::new()),
        (b"etc/not\xfftext", b"a name that is no text\n".to_vec()),
        (b"etc/quo\"te\\ <b>&c\t", b"a name that needs quoting\n".to_vec()),
        (b"var/log/server.log", log),
        (b"var/random.bin", Random::new(22).bytes(50_000)),
    ];
    for (name, content) in &files {
        let path = to.join(std::ffi::OsStr::from_bytes(name));
        fs::write(&path, content)?;
        fs::set_permissions(&path, Permissions::from_mode(0o640))?;
        set_time(&path, 1_700_000_000 + i64::from(turn), 123_456_789)?;
    }
    let link = to.join("etc/link");
    if !link.is_symlink() {
        symlink("../var/log/server.log", &link)?;
    }
    set_time(&link, 1_600_000_000, 0)?;
    for folder in ["etc/empty", "etc", "var/log", "var", ""] {
        fs::set_permissions(to.join(folder), Permissions::from_mode(0o755))?;
        set_time(&to.join(folder), -1, 500_000_000)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::describe;

    #[test]
    fn a_turn_does_not_depend_on_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let (anew, over) = (folder.path().join("anew"), folder.path().join("over"));
        write(&anew, 2).unwrap();
        write(&over, 1).unwrap();
        write(&over, 2).unwrap();
        assert_eq!(describe(&anew).unwrap(), describe(&over).unwrap());
    }
}
