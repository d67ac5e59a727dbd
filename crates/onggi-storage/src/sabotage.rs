//! Deliberate faults, each compiled in by `--cfg sabotage="SBnn"` alone: the tests must find every one of them.
//!
//! The numbers are those of the sabotage list. Nothing here is on in a build that is shipped; the tidy test sees to it.

use std::{fs, io, path::Path};

/// SB01: a file is not synced before it gets its name.
pub(crate) const NO_FILE_SYNC: bool = cfg!(sabotage = "SB01");
/// SB02: a folder is not synced after it got a new name.
pub(crate) const NO_FOLDER_SYNC: bool = cfg!(sabotage = "SB02");
/// SB03: a file is written under its final name, with its full length first.
pub(crate) const FINAL_NAME_FIRST: bool = cfg!(sabotage = "SB03");
/// SB06: a list that fails is an empty list.
pub(crate) const FAILED_LIST_IS_EMPTY: bool = cfg!(sabotage = "SB06");
/// SB23: a body shorter than the range is taken for the range.
pub(crate) const SHORT_BODY_ACCEPTED: bool = cfg!(sabotage = "SB23");

/// What SB03 does in place of the protocol.
pub(crate) fn write_under_final_name(target: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(target)?;
    file.set_len(content.len() as u64)?;
    io::Write::write_all(&mut file, content)?;
    file.sync_all()
}
