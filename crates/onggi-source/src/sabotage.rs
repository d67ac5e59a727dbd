//! Deliberate faults of sources, which `cargo xtask sabotage` switches on one by one: the tests must find every one of
//! them.
//!
//! The names are those of the sabotage list, with a letter where two crates have one. Nothing here is on in a build that
//! is shipped; the tidy test sees to it.

use std::{fs, sync::OnceLock};

/// An absent source path is ignored.
pub(crate) const ABSENT_PATH_IGNORED: Fault = Fault("SB17");
/// An empty stream is stored as if that were all.
pub(crate) const EMPTY_STREAM_ACCEPTED: Fault = Fault("SB18");
/// An unreadable exclude file is ignored.
pub(crate) const EXCLUDE_FILE_IGNORED: Fault = Fault("SB19");
/// An entry whose metadata cannot be read takes the rest of its directory with it.
pub(crate) const ENTRY_DROPS_DIRECTORY: Fault = Fault("SB26");
/// A time limit that cannot be read becomes none.
pub(crate) const LIMIT_BECOMES_NONE: Fault = Fault("SB28a");
/// A second attempt starts the command again.
pub(crate) const COMMAND_STARTED_AGAIN: Fault = Fault("SB32a");

/// One of them.
///
/// Off, except in a build with `--cfg sabotage`: there the file that the harness named to the compiler says which one is
/// on. A file and no variable, so that it also holds for programs that tests start with an empty environment.
#[derive(Debug)]
pub(crate) struct Fault(&'static str);

impl Fault {
    /// Whether it was built in and is the one that the harness asked for.
    pub(crate) fn is_on(&self) -> bool {
        cfg!(sabotage) && chosen() == self.0
    }
}

fn chosen() -> &'static str {
    static CHOSEN: OnceLock<String> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        option_env!("ONGGI_SABOTAGE").and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default()
    })
}
