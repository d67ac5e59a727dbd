//! One verb on one platform that was found: the work, and the lines that say how it ended.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use onggi_source::bosh::backup::Locking;
use onggi_source::bosh::{Faults, Level, Mode, Platform, Talk as _, backup, cleanup, restore};

use super::Run;
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
pub async fn prepare(run: &Run, verb: &Verb) -> Result<Prepared, Faults> {
    let Verb::Restore { artifact } = verb else { return Ok(Prepared::Nothing) };
    let path = run.machine.absolute(artifact);
    let validated = tokio::task::spawn_blocking(move || restore::validate(&path)).await;
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

/// Says how it ended.
pub fn conclude(run: &Run, voice: &Voice, mode: Mode, name: &str, verb: &Verb, result: &Result<(), Faults>) {
    let now = run.cx.world.now().strftime("%Y-%m-%d %H:%M:%S +0000 UTC");
    let whose = match mode {
        Mode::Director => "Director".to_owned(),
        Mode::Deployment => format!("Deployment '{name}'"),
    };
    match (verb, result) {
        (Verb::Check, Ok(())) => voice.plain(&format!("{whose} can be backed up.\n")),
        (Verb::Check, Err(_)) => voice.plain(&format!("{whose} cannot be backed up.\n")),
        (Verb::Backup(_), Ok(())) => voice.say(Level::Info, &format!("Backup created of {name} on {now}")),
        (Verb::Backup(_), Err(_)) => voice.say(Level::Info, &format!("Failed to create backup of {name}")),
        (Verb::Restore { .. }, Ok(())) => voice.say(Level::Info, &format!("Completed restore of {name}")),
        (Verb::Restore { .. }, Err(_)) => voice.say(Level::Info, &format!("Failed to restore {name}")),
        (Verb::BackupCleanup | Verb::RestoreCleanup, Ok(())) => {
            voice.say(Level::Info, &format!("'{name}' cleaned up"));
        }
        (Verb::BackupCleanup | Verb::RestoreCleanup, Err(_)) => {
            voice.say(Level::Info, &format!("Failed to clean up '{name}'"));
        }
    }
}
