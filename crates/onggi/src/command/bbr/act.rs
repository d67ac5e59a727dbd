//! One verb on one platform that was found: the work, and the lines that say how it ended.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use onggi_source::bosh::backup::Locking;
use onggi_source::bosh::{Fault, Faults, Level, Mode, Platform, Talk as _, backup, cleanup, restore};

use super::Run;
use super::report::listed;
use super::voice::Voice;
use super::words::Verb;

/// What is known before a platform is asked.
pub enum Prepared {
    /// Nothing is needed.
    Nothing,
    /// What is to be restored, read and compared with what it says of itself.
    Backup(restore::Validated),
}

/// Reads what a restore needs.
pub async fn prepare(run: &Run, name: &str, verb: &Verb) -> Result<Prepared, Faults> {
    let Verb::Restore { artifact } = verb else { return Ok(Prepared::Nothing) };
    let path = run.machine.absolute(artifact);
    let (voice, name) = (Arc::clone(&run.voice), name.to_owned());
    let validated = tokio::task::spawn_blocking(move || restore::validate(&path, &name, &*voice)).await;
    validated.expect("it does not panic").map(Prepared::Backup)
}

/// Does it.
pub async fn act(
    run: &Run,
    voice: &Voice,
    platform: &Platform,
    verb: &Verb,
    prepared: &Prepared,
    manifest: Option<String>,
) -> Result<(), Faults> {
    let cx = &run.cx;
    match (verb, prepared) {
        (Verb::Check, _) => backup::check(cx, platform).await,
        (Verb::Backup(how), _) => {
            let parent = parent(run, how.parent.as_deref());
            let locking = if how.is_lock_free { Locking::Off } else { Locking::On };
            let request = backup::Request { parent: &parent, zone: voice.zone(), locking, manifest };
            let made = backup::run(cx, platform, request).await?;
            run.made.lock().unwrap_or_else(PoisonError::into_inner).push(made);
            Ok(())
        }
        (Verb::BackupCleanup, _) => cleanup::backup(cx, platform).await,
        (Verb::RestoreCleanup, _) => cleanup::restore(cx, platform).await,
        (Verb::Restore { .. }, Prepared::Backup(validated)) => restore::run(cx, platform, validated).await,
        (Verb::Restore { .. }, Prepared::Nothing) => unreachable!("it was prepared"),
    }
}

fn parent(run: &Run, wanted: Option<&Path>) -> PathBuf {
    wanted.map_or_else(|| run.machine.directory.clone(), |path| run.machine.absolute(path))
}

/// Says how it ended, where the work itself has not.
pub fn conclude(run: &Run, voice: &Voice, mode: Mode, name: &str, verb: &Verb, result: &Result<(), Faults>) {
    match (verb, result) {
        (Verb::Check, result) => {
            let can = if result.is_ok() { "can" } else { "cannot" };
            match mode {
                Mode::Director => voice.plain(&format!("Director {can} be backed up.\n")),
                Mode::Deployment => {
                    timed(run, &format!("Deployment '{name}' {can} be backed up."));
                    let faults = result.as_ref().err().map(|faults| listed(faults, &Fault::whole));
                    voice.plain(&indented(&faults.unwrap_or_default()));
                }
            }
        }
        (Verb::BackupCleanup | Verb::RestoreCleanup, Ok(())) => {
            voice.say(Level::Info, &format!("'{name}' cleaned up"));
        }
        _ => {}
    }
}

/// A line with the time at which it is said, in the form of those that concern whole deployments.
pub fn timed(run: &Run, line: &str) {
    run.voice.plain(&format!("[{}] {line}\n", run.cx.world.now().strftime("%H:%M:%S")));
}

/// A text that stands below a line.
pub fn indented(text: &str) -> String {
    text.lines().flat_map(|line| ["  ", line, "\n"]).collect()
}
