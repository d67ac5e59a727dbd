//! From an artifact directory back into a platform. All that can be known beforehand is looked at before anything is
//! touched, and told at once.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::artifact::{Artifact, Directory};
use super::drain::differing;
use super::fault::{Fault, Faults};
use super::instance::{Instance, Job};
use super::phase::{Pace, UNDOING_MAX};
use super::platform::{Level, Platform, Talk};
use super::script::Script;
use super::tar::Checksums;
use crate::context::Context;

/// An artifact directory whose archives are what it says.
#[derive(Debug)]
pub struct Validated {
    pub(crate) directory: Directory,
}

/// Reads the whole directory and compares it with what it says of itself; archives that it does not mention are not
/// looked at. `name` is that of the platform.
pub fn validate(path: &Path, name: &str, talk: &dyn Talk) -> Result<Validated, Faults> {
    talk.say(Level::Info, &format!("Starting restore of {name}..."));
    let unreadable = |path: String| move |cause: io::Error| Fault::Unreadable { path, cause };
    let directory = Directory::open(path).map_err(unreadable(path.display().to_string()))?;
    talk.say(Level::Info, &format!("Validating backup artifact for {name}..."));
    let record = directory.record();
    let mut faults = Faults::default();
    for (artifact, recorded) in record.artifacts() {
        let file = artifact.file_name();
        match directory.checksums_of_file(&artifact) {
            Ok(found) if found == *recorded => {}
            Ok(found) => {
                let names = differing(&found, recorded);
                faults.0.push(Fault::Corrupted { file, names });
            }
            Err(cause) => faults.0.push(unreadable(path.join(file).display().to_string())(cause)),
        }
    }
    faults.check().map(|()| Validated { directory })
}

/// Restores; what fails on the way is in the faults.
pub async fn run(cx: &Context, platform: &Platform, backup: &Validated) -> Result<(), Faults> {
    let mut faults = Faults::default();
    match platform.plan(cx, backup).await {
        Ok(wanted) => platform.bring_back(cx, backup, &wanted, &mut faults).await,
        Err(more) => faults.0.extend(more.0),
    }
    faults.add(platform.clean_up(cx).await);
    if let Err(stop) = cx.check() {
        faults.0.insert(0, Fault::Stopped(stop));
    }
    faults.check()
}

/// A job that wants to be restored, from what, and what that holds.
pub(crate) struct Wanted<'a> {
    pub(crate) instance: &'a Instance,
    pub(crate) artifact: Artifact,
    pub(crate) checksums: Checksums,
}

impl Platform {
    /// Upload, lock, restore, unlock.
    async fn bring_back(&self, cx: &Context, backup: &Validated, wanted: &[Wanted<'_>], faults: &mut Faults) {
        if !faults.add(self.upload(cx, &backup.directory, wanted).await) || cx.check().is_err() {
            return;
        }
        let is_locked = faults.add(self.lock(cx, Script::PreRestoreLock, Pace::Serial).await) && cx.check().is_ok();
        if is_locked && faults.add(self.restore_jobs(cx, &|_, _| true).await) {
            self.say(Level::Info, format!("Completed restore of {}", self.name));
        }
        faults.add(self.unlock_restore(&cx.for_cleanup(UNDOING_MAX)).await);
    }

    /// Compares what the backup has with what the platform has; all differences at once.
    async fn plan(&self, cx: &Context, backup: &Validated) -> Result<Vec<Wanted<'_>>, Faults> {
        let mut faults = Faults::default();
        faults.0.extend(self.discontinued());
        faults.add(self.check(cx, Script::Restore).await);
        faults.0.extend(self.missing_instances(&backup.directory));
        let mut wanted = Vec::new();
        let mut looked_at = BTreeMap::new();
        let jobs = self.jobs();
        for (instance, job) in Self::with(&jobs, Script::Restore) {
            let artifact = instance.wanted_by(job);
            let sums = looked_at
                .entry(artifact.clone())
                .or_insert_with(|| self.sums(&backup.directory, &artifact, instance, job));
            match sums {
                Ok(checksums) => wanted.push(Wanted { instance, artifact, checksums: checksums.clone() }),
                Err(fault) => faults.0.extend(fault.take()), // once for each artifact
            }
        }
        faults.check().map(|()| wanted)
    }

    fn discontinued(&self) -> Vec<Fault> {
        let jobs = self.jobs().into_iter().filter(|(_, job)| job.metadata.restore_name.is_some());
        jobs.map(|(instance, job)| Fault::RestoreName { job: job.name.clone(), instance: instance.name() }).collect()
    }

    fn missing_instances(&self, directory: &Directory) -> Vec<Fault> {
        let is_missing = |group: &str, index: &str| {
            !self.instances.iter().any(|instance| instance.group == group && instance.index == index)
        };
        let record = directory.record();
        let missing = record.instances.into_iter().filter(|instance| is_missing(&instance.name, &instance.index));
        missing
            .map(|instance| Fault::Structure {
                platform: self.name.clone(),
                instance: format!("{}/{}", instance.name, instance.index),
            })
            .collect()
    }

    /// What an artifact must hold. One without a record is believed only if it is empty.
    fn sums(
        &self,
        directory: &Directory,
        artifact: &Artifact,
        instance: &Instance,
        job: &Job,
    ) -> Result<Checksums, Option<Fault>> {
        let (file, job, instance) = (artifact.file_name(), job.name.clone(), instance.name());
        if let Some(recorded) = directory.record().checksums(artifact) {
            return Ok(recorded.clone());
        }
        match directory.checksums_of_file(artifact) {
            Ok(found) if found.is_empty() => {
                self.say(Level::Warn, format!("{file} has no checksums in the backup; it is empty"));
                Ok(found)
            }
            Ok(_) => Err(Some(Fault::Unrecorded { file, job, instance })),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Err(Some(Fault::Missing { file, job, instance })),
            Err(cause) => Err(Some(Fault::Unreadable { path: file, cause })),
        }
    }
}
