//! The phases in which scripts run. Locking and backing up tries every job, whatever became of the others, and unlocking
//! reaches every job, whether or not it was locked: those who write these scripts have promised that it does no harm.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt as _};

use super::fault::{Fault, Faults};
use super::instance::{Instance, Job, folder};
use super::platform::{Level, Platform};
use super::remote::Trouble;
use super::script::Script;
use super::{WIDTH, command};
use crate::context::Context;

/// The longest that an unlock script and the removal of what was made are waited for.
pub(crate) const UNDOING_MAX: Duration = Duration::from_hours(24);

/// How many scripts of a layer run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// One after the other.
    Serial,
    /// Up to [`WIDTH`].
    Parallel,
}

impl Pace {
    fn width(self) -> usize {
        match self {
            Self::Serial => 1,
            Self::Parallel => WIDTH,
        }
    }
}

type Layer<'a> = Vec<(&'a Instance, &'a Job)>;

impl Platform {
    /// Runs the lock scripts, layer by layer. What is locked is owed an unlock from before its script starts.
    pub(crate) async fn lock(&self, cx: &Context, script: Script, pace: Pace) -> Result<(), Faults> {
        let (unlock, word) = match script {
            Script::PreRestoreLock => (Script::PostRestoreUnlock, "restore"),
            _ => (Script::PostBackupUnlock, "backup"),
        };
        self.say(Level::Info, format!("Running {script} scripts..."));
        let layers = self.layers(kind(script))?;
        let mut faults = Faults::default();
        for layer in &layers {
            if cx.check().is_err() {
                break;
            }
            let work = Self::with(layer, script).map(|(instance, job)| async move {
                if job.scripts.contains(&unlock) {
                    self.owed.add(undone(unlock, job, instance));
                }
                let whose = format!("{} on {}", job.name, instance.name());
                self.say(Level::Info, format!("Locking {whose} for {word}..."));
                let locked = self.run(cx, instance, job, script, &[]).await;
                self.tell(locked, format!("Finished locking {whose} for {word}."), format!("Error locking {whose}."))
            });
            faults.add(each(pace, work).await);
        }
        self.end(script, faults)
    }

    /// Runs all backup scripts. They go on when one of them fails.
    pub(crate) async fn back_up_jobs(&self, cx: &Context) -> Result<(), Faults> {
        self.say(Level::Info, "Running backup scripts...");
        let jobs = self.jobs();
        let work = Self::with(&jobs, Script::Backup).map(|(instance, job)| async move {
            let whose = format!("{} on {}", job.name, instance.name());
            self.say(Level::Info, format!("Backing up {whose}..."));
            let folder = folder(&instance.made_by(job));
            self.make(cx, instance, &folder).await.map_err(|how| failed(Script::Backup, job, instance, &how))?;
            let done = self.run(cx, instance, job, Script::Backup, &artifact_directory(&folder)).await;
            self.tell(done, format!("Finished backing up {whose}."), format!("Error backing up {whose}."))
        });
        let faults = each(Pace::Parallel, work).await;
        self.end(Script::Backup, faults.err().unwrap_or_default())
    }

    /// Runs all unlock scripts of a backup, the last locked first.
    pub(crate) async fn unlock_backup(&self, cx: &Context, is_success: bool) -> Result<(), Faults> {
        let variable = ("BBR_AFTER_BACKUP_SCRIPTS_SUCCESSFUL", is_success.to_string());
        self.unlock(cx, Script::PostBackupUnlock, Pace::Parallel, &[variable]).await
    }

    /// The same of a restore.
    pub(crate) async fn unlock_restore(&self, cx: &Context) -> Result<(), Faults> {
        self.unlock(cx, Script::PostRestoreUnlock, Pace::Serial, &[]).await
    }

    async fn unlock(
        &self,
        cx: &Context,
        script: Script,
        pace: Pace,
        variables: &[(&str, String)],
    ) -> Result<(), Faults> {
        self.say(Level::Info, format!("Running {script} scripts..."));
        // Without an order nothing was locked by us; what a dead run locked still gets its unlock.
        let layers = self.layers(kind(script)).unwrap_or_else(|_| vec![self.jobs()]);
        let mut faults = Faults::default();
        for layer in layers.iter().rev() {
            let work = Self::with(layer, script).map(|(instance, job)| async move {
                let whose = format!("{} on {}", job.name, instance.name());
                self.say(Level::Info, format!("Unlocking {whose}..."));
                let unlocked = self.run(cx, instance, job, script, variables).await;
                self.tell(unlocked, format!("Finished unlocking {whose}."), format!("Error unlocking {whose}."))?;
                self.owed.settle(&undone(script, job, instance));
                Ok(())
            });
            faults.add(each(pace, work).await);
        }
        self.end(script, faults)
    }

    /// Runs the restore scripts of these jobs, one after the other. After a failure those of the same instance still run.
    pub(crate) async fn restore_jobs(
        &self,
        cx: &Context,
        is_wanted: &(dyn Fn(&Instance, &Job) -> bool + Sync),
    ) -> Result<(), Faults> {
        self.say(Level::Info, "Running restore scripts...");
        let mut faults = Faults::default();
        for instance in &self.instances {
            let wanted = instance.jobs.iter().filter(|job| is_wanted(instance, job));
            let jobs: Layer<'_> = wanted.map(|job| (instance, job)).collect();
            let work = Self::with(&jobs, Script::Restore).map(|(instance, job)| async move {
                let whose = format!("{} on {}", job.name, instance.name());
                self.say(Level::Info, format!("Restoring {whose}..."));
                let folder = folder(&instance.wanted_by(job));
                let done = self.run(cx, instance, job, Script::Restore, &artifact_directory(&folder)).await;
                self.tell(done, format!("Finished restoring {whose}."), format!("Error restoring {whose}."))
            });
            if !faults.add(each(Pace::Serial, work).await) {
                break;
            }
        }
        self.end(Script::Restore, faults)
    }

    /// All jobs, in one layer.
    pub(crate) fn jobs(&self) -> Layer<'_> {
        self.instances.iter().flat_map(|instance| instance.jobs.iter().map(move |job| (instance, job))).collect()
    }

    /// Those that have a script.
    pub(crate) fn with<'a, 'b>(
        layer: &'b Layer<'a>,
        script: Script,
    ) -> impl Iterator<Item = (&'a Instance, &'a Job)> + use<'a, 'b> {
        layer.iter().copied().filter(move |(_, job)| job.scripts.contains(&script))
    }

    /// Makes a folder in an instance's store, and remembers it.
    pub(crate) async fn make(&self, cx: &Context, instance: &Instance, folder: &str) -> Result<(), Trouble> {
        instance.note_made();
        self.owed.add(left(instance));
        instance.remote.ask(cx, &command::make(folder)).await.map(drop)
    }

    async fn run(
        &self,
        cx: &Context,
        instance: &Instance,
        job: &Job,
        script: Script,
        variables: &[(&str, String)],
    ) -> Result<(), Fault> {
        let command = command::run_script(script, &job.name, variables);
        let ended = instance.remote.script(cx, &command).await;
        if let Ok(ended) = &ended {
            self.echo(instance, job, script, "stdout", &ended.output);
            self.echo(instance, job, script, "stderr", &ended.words);
        }
        let result = ended.and_then(super::remote::Ended::check).map(drop);
        result.map_err(|how| failed(script, job, instance, &how))
    }

    /// Says how a script ended; why it failed is told at the end, with all other faults.
    fn tell(&self, result: Result<(), Fault>, well: String, badly: String) -> Result<(), Fault> {
        let (level, line) = if result.is_ok() { (Level::Info, well) } else { (Level::Error, badly) };
        self.say(level, line);
        result
    }

    fn echo(&self, instance: &Instance, job: &Job, script: Script, stream: &str, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        for line in text.lines() {
            let whose = format!("{}/{}/{script}", instance.name(), job.name);
            self.say(Level::Debug, format!("{whose} {stream}: {line}"));
        }
    }

    fn end(&self, script: Script, faults: Faults) -> Result<(), Faults> {
        self.say(Level::Info, format!("Finished running {script} scripts."));
        faults.check()
    }
}

/// Whether a script belongs to a backup or to a restore.
fn kind(script: Script) -> Script {
    match script {
        Script::PreRestoreLock | Script::Restore | Script::PostRestoreUnlock => Script::Restore,
        _ => Script::Backup,
    }
}

fn failed(script: Script, job: &Job, instance: &Instance, how: &Trouble) -> Fault {
    Fault::Script { script, job: job.name.clone(), instance: instance.name(), how: how.to_string() }
}

/// What scripts are told of where to write or to read, by its old name and by its new one.
fn artifact_directory(folder: &str) -> [(&'static str, String); 2] {
    ["BBR_ARTIFACT_DIRECTORY", "ARTIFACT_DIRECTORY"].map(|name| (name, format!("{folder}/")))
}

fn undone(script: Script, job: &Job, instance: &Instance) -> String {
    format!("{} on {} was not unlocked by {}", job.name, instance.name(), script.path(&job.name))
}

/// What is owed for a store that is not empty.
pub(crate) fn left(instance: &Instance) -> String {
    format!("{} is left on {}", super::STORE, instance.name())
}

/// Awaits all of it; every fault counts. Boxed, so that whoever awaits it can be moved between threads.
pub(crate) fn each<'a, F>(pace: Pace, work: impl Iterator<Item = F>) -> BoxFuture<'a, Result<(), Faults>>
where
    F: Future<Output = Result<(), Fault>> + Send + 'a,
{
    let work: Vec<BoxFuture<'a, Result<(), Fault>>> = work.map(FutureExt::boxed).collect();
    async move {
        let results: Vec<_> = futures::stream::iter(work).buffer_unordered(pace.width()).collect().await;
        Faults(results.into_iter().filter_map(Result::err).collect()).check()
    }
    .boxed()
}
