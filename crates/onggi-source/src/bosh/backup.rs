//! A backup into an artifact directory, and the question whether there can be one.
//!
//! Lock, back up, unlock in every case; only then are data carried away, and what was made on instances is removed in
//! every case.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

use super::artifact::Directory;
use super::fault::{Fault, Faults};
use super::phase::{Pace, UNDOING_MAX};
use super::platform::{Level, Platform};
use super::script::Script;
use crate::context::Context;

/// Whether jobs are held still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locking {
    /// As their scripts say.
    On,
    /// Not at all: the operator answers for it.
    Off,
}

/// Where to, and how.
pub struct Request<'a> {
    /// The folder in which the artifact directory is made.
    pub parent: &'a Path,
    /// In which its times are shown.
    pub zone: TimeZone,
    /// Whether jobs are held still.
    pub locking: Locking,
    /// A text that is kept beside the artifacts.
    pub manifest: Option<String>,
}

/// Whether a backup could go its way. What was entered is left as it was.
pub async fn check(cx: &Context, platform: &Platform) -> Result<(), Faults> {
    let mut faults = Faults::default();
    faults.add(platform.check_backup(cx).await);
    faults.add(platform.clean_up(cx).await);
    faults.check()
}

/// Backs up; answers the artifact directory. What fails on the way is in the faults, and whether the artifact is whole in
/// their exit bits.
pub async fn run(cx: &Context, platform: &Platform, request: Request<'_>) -> Result<PathBuf, Faults> {
    let mut faults = Faults::default();
    if !faults.add(platform.check_backup(cx).await) {
        faults.add(platform.clean_up(cx).await);
        return Err(faults);
    }
    platform.say(Level::Info, format!("Starting backup of {}...", platform.name));
    let directory = match make(cx, platform, &request) {
        Ok(directory) => directory,
        Err(fault) => {
            faults.0.push(fault);
            faults.add(platform.clean_up(cx).await);
            return Err(faults);
        }
    };
    if platform.copy(cx, request.locking, &mut faults).await {
        let is_whole = faults.add(platform.drain(cx, &directory).await);
        let (name, now) = (&platform.name, cx.world.now().strftime("%Y-%m-%d %H:%M:%S +0000 UTC"));
        platform.say(
            Level::Info,
            if is_whole {
                format!("Backup created of {name} on {now}")
            } else {
                format!("Failed to create backup of {name} on {now}, failed during drain step")
            },
        );
    }
    faults.add(platform.clean_up(cx).await);
    let finished = directory.finish(cx.world.now());
    faults.0.extend(finished.err().map(|cause| unwritable(directory.path(), cause)));
    if let Err(stop) = cx.check() {
        faults.0.insert(0, Fault::Stopped(stop));
    }
    faults.check().map(|()| directory.path().to_owned())
}

fn make(cx: &Context, platform: &Platform, request: &Request<'_>) -> Result<Directory, Fault> {
    let directory = Directory::create(request.parent, &platform.name, cx.world.now(), request.zone.clone())
        .map_err(|cause| unwritable(request.parent, cause))?;
    if let Some(manifest) = &request.manifest {
        directory.write("manifest.yml", manifest.as_bytes()).map_err(|cause| unwritable(directory.path(), cause))?;
    }
    Ok(directory)
}

fn unwritable(path: &Path, cause: std::io::Error) -> Fault {
    Fault::Directory { path: path.display().to_string(), cause }
}

impl Platform {
    async fn check_backup(&self, cx: &Context) -> Result<(), Faults> {
        self.say(Level::Info, format!("Running pre-checks for backup of {}...", self.name));
        self.check(cx, Script::Backup).await
    }

    /// Lock, back up, unlock; answers whether there is something to carry away.
    async fn copy(&self, cx: &Context, locking: Locking, faults: &mut Faults) -> bool {
        if locking == Locking::Off {
            self.say(Level::Info, "Skipping lock for deployment");
            let is_success = faults.add(self.back_up_jobs(cx).await);
            if is_success {
                self.say(Level::Info, "Skipping unlock after successful backup for deployment");
            }
            return is_success;
        }
        let is_locked = faults.add(self.lock(cx, Script::PreBackupLock, Pace::Parallel).await) && cx.check().is_ok();
        let is_success = is_locked && faults.add(self.back_up_jobs(cx).await) && cx.check().is_ok();
        faults.add(self.unlock_backup(&cx.for_cleanup(UNDOING_MAX), is_success).await);
        is_success
    }
}
