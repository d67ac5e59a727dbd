//! What a backup made goes into a repository as well: by `onggi import bbr-artifact`, as the operator could do by hand.
//!
//! The directory is whole before, and stays: a repository that fails loses nothing.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use clap::Parser as _;
use onggi_engine::exit::Exit;
use onggi_source::bosh::{Level, Talk as _};

use super::help::REPOSITORY_VARIABLE;
use super::words::Verb;
use super::{Run, voice};
use crate::cli::Cli;
use crate::command::source::repository;
use crate::output::Output;
use crate::session::Session;

/// The bit of the exit code that says so: `bbr`'s own for what is none of its others.
const FAILED: u8 = 1;

/// Stores all directories that were made; the bits of the exit code.
pub fn all(run: &Run, verb: &Verb) -> u8 {
    let Verb::Backup(how) = verb else { return 0 };
    let Some(repository) = &how.repository else { return 0 };
    let made = run.made.lock().unwrap_or_else(PoisonError::into_inner);
    made.iter().map(|directory| store(repository, directory)).fold(0, |bits, one| bits | one)
}

/// Warns if the repository into which a backup would go cannot be written; that is no reason against the backup itself.
pub async fn look(run: &Run) {
    let Some(repository) = run.machine.variable(&[REPOSITORY_VARIABLE]) else { return };
    let words = ["onggi", "source", "preflight", "--quiet", "--repo", repository];
    let Ok(Cli { globals, .. }) = Cli::try_parse_from(words) else { unreachable!("they are words of onggi") };
    let output = Arc::new(Output::standard(crate::style_of(&globals)));
    let session = Session::on(run.machine.clone(), globals, &output);
    if let Err(failure) = repository::prove(&session).await {
        run.voice.say(Level::Warn, &failure.message());
    }
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
