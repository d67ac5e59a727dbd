//! Deliberate faults, which `cargo xtask sabotage` switches on one by one: the tests must find every one of them.
//!
//! The names are those of the sabotage list. Nothing here is on in a build that is shipped; the tidy test sees to it.

use std::{fs, io, path::Path, sync::OnceLock};

/// A file is not synced before it gets its name.
pub(crate) const NO_FILE_SYNC: Fault = Fault::new("SB01");
/// A folder is not synced after it got a new name.
pub(crate) const NO_FOLDER_SYNC: Fault = Fault::new("SB02");
/// A file is written under its final name, with its full length first.
pub(crate) const FINAL_NAME_FIRST: Fault = Fault::new("SB03");
/// A list that fails is an empty list.
pub(crate) const FAILED_LIST_IS_EMPTY: Fault = Fault::new("SB06");
/// A body shorter than the range is taken for the range.
pub(crate) const SHORT_BODY_ACCEPTED: Fault = Fault::new("SB23");

/// One of them.
///
/// Off, except in a build with `--cfg sabotage`: there the file that the harness named to the compiler says which one is
/// on. A file and no variable, so that it also holds for programs that tests start with an empty environment.
#[derive(Debug)]
pub struct Fault(&'static str);

impl Fault {
    /// The fault of this name.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Whether it was built in and is the one that the harness asked for.
    pub fn is_on(&self) -> bool {
        cfg!(sabotage) && chosen() == self.0
    }
}

fn chosen() -> &'static str {
    static CHOSEN: OnceLock<String> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        option_env!("ONGGI_SABOTAGE").and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default()
    })
}

/// What SB03 does in place of the protocol.
pub(crate) fn write_under_final_name(target: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(target)?;
    file.set_len(content.len() as u64)?;
    io::Write::write_all(&mut file, content)?;
    file.sync_all()
}
