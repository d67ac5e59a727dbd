//! What a backup made goes into a repository as well: by `onggi import bbr-artifact`, as the operator could do by hand.
//!
//! The directory is whole before, and stays: a repository that fails loses nothing.

use std::path::Path;
use std::sync::PoisonError;

use clap::Parser as _;
use onggi_engine::exit::Exit;

use super::words::Verb;
use super::{Run, voice};
use crate::cli::Cli;

/// The bit of the exit code that says so: `bbr`'s own for what is none of its others.
const FAILED: u8 = 1;

/// Stores all directories that were made; the bits of the exit code.
pub fn all(run: &Run, verb: &Verb) -> u8 {
    let Verb::Backup(how) = verb else { return 0 };
    let Some(repository) = &how.repository else { return 0 };
    let made = run.made.lock().unwrap_or_else(PoisonError::into_inner);
    made.iter().map(|directory| store(repository, directory)).fold(0, |bits, one| bits | one)
}

fn store(repository: &str, directory: &Path) -> u8 {
    let shown = directory.display();
    let mut words = ["onggi", "import", "bbr-artifact", "--repo", repository].map(Into::into).to_vec();
    words.push(directory.as_os_str().to_owned());
    let is_stored = Cli::try_parse_from(words).is_ok_and(|cli| crate::perform(cli) == Exit::Done);
    if is_stored {
        return 0;
    }
    voice::err(&format!(
        "The backup in {shown} is whole, but it is not in the repository.\n\
         Run `onggi import bbr-artifact {shown} --repo {repository}` once that works.\n"
    ));
    FAILED
}
