//! All instances that are backed up together, and what is looked at before anything is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _};

use super::director::Route;
use super::fault::{Cause, Fault, Faults};
use super::instance::{Instance, Job, Shared, Target};
use super::metadata::{self, Metadata};
use super::order::{Node, layers};
use super::remote::Remote;
use super::script::{Script, by_job};
use super::{WIDTH, command};
use crate::context::Context;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever looks for a fault.
    Debug,
    /// What happens.
    Info,
    /// It went on.
    Warn,
    /// It failed.
    Error,
}

/// Hears what happens, line by line.
pub trait Talk: Send + Sync {
    /// Takes one line.
    fn say(&self, level: Level, line: &str);
}

/// What kind of platform it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A director, entered by its own user.
    Director,
    /// A deployment, whose director lets us in.
    Deployment,
}

/// Lets a user of ours out again.
#[async_trait]
pub trait Doors: Send + Sync {
    /// Removes what was made on this instance to enter it.
    async fn close(&self, cx: &Context, instance: &Instance) -> Result<(), Cause>;
}

/// What is known of jobs from elsewhere.
pub trait Releases: Send + Sync {
    /// Where a job of a group comes from.
    fn release(&self, group: &str, job: &str) -> Option<String>;
    /// Whether one backup of it is restored on all instances.
    fn is_shared(&self, group: &str, job: &str) -> bool;
}

/// What it takes to find the jobs of a platform.
pub struct Finding {
    /// Its name in lines and files.
    pub name: String,
    /// What kind it is.
    pub mode: Mode,
    /// Its instances.
    pub targets: Vec<Target>,
    /// Nothing in a director.
    pub releases: Option<Box<dyn Releases>>,
    /// Nothing where the user stays.
    pub doors: Option<Box<dyn Doors>>,
    /// Hears of it.
    pub talk: Arc<dyn Talk>,
    /// The version that scripts are told.
    pub version: String,
    /// Keeps what is to be undone.
    pub owed: Owed,
}

/// What was done on instances and is still to be undone, in words; for those who cannot wait for it.
#[derive(Debug, Clone, Default)]
pub struct Owed(Arc<Mutex<Vec<String>>>);

impl Owed {
    /// All of it, the oldest first.
    pub fn list(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn add(&self, what: String) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !list.contains(&what) {
            list.push(what);
        }
    }

    pub(crate) fn settle(&self, what: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| other != what);
    }
}

/// Instances with their jobs.
pub struct Platform {
    /// Its name in lines and files.
    pub name: String,
    /// What kind it is.
    pub mode: Mode,
    /// Those that have scripts and those that have none.
    pub instances: Vec<Instance>,
    pub(crate) talk: Arc<dyn Talk>,
    pub(crate) doors: Option<Box<dyn Doors>>,
    pub(crate) owed: Owed,
}

impl Platform {
    /// Says that it begins; before a Director is asked for the targets.
    pub fn announce(talk: &dyn Talk) {
        talk.say(Level::Info, "Looking for scripts");
    }

    /// Enters every instance and asks its jobs what they have. If that fails, who was let in is let out again.
    pub async fn find(cx: &Context, finding: Finding) -> Result<Self, Faults> {
        Self::find_through(cx, finding, None).await
    }

    /// The same by a detour.
    pub async fn find_through(cx: &Context, finding: Finding, route: Option<Arc<Route>>) -> Result<Self, Faults> {
        let Finding { name, mode, targets, releases, doors, talk, version, owed } = finding;
        let search = Search { releases: releases.as_deref(), talk: &*talk, version: &version, mode, route };
        let work: Vec<_> = targets.iter().map(|target| search.instance(cx, target).boxed()).collect();
        let mut found: Vec<_> = futures::stream::iter(work).buffered(WIDTH).collect().await;
        let mut faults = Faults::default();
        let mut instances = Vec::new();
        for (instance, fault) in found.drain(..) {
            faults.0.extend(fault);
            instances.extend(instance);
        }
        let platform = Self { name, mode, instances, talk, doors, owed };
        for line in platform.orders() {
            platform.say(Level::Info, line);
        }
        if faults.0.is_empty() {
            return Ok(platform);
        }
        faults.add(platform.clean_up(cx).await);
        Err(faults)
    }

    /// Fails if a backup, or a restore, could not go its way: nothing has the script, something lies where it would
    /// write, no order can be had.
    pub(crate) async fn check(&self, cx: &Context, script: Script) -> Result<(), Faults> {
        let mut faults = Faults::default();
        if !self.instances.iter().any(|instance| instance.has(script)) {
            faults.0.push(Fault::NoScripts { platform: self.name.clone(), script });
        }
        let looks: Vec<_> = self.instances.iter().map(|instance| leftover(cx, instance).boxed()).collect();
        let looks: Vec<_> = futures::stream::iter(looks).buffered(WIDTH).collect().await;
        faults.0.extend(looks.into_iter().flatten());
        if self.layers(script).is_err() {
            faults.0.push(Fault::Cyclic);
        }
        faults.check()
    }

    /// Jobs in the order in which they are locked for a backup or a restore, layer by layer.
    pub(crate) fn layers(&self, script: Script) -> Result<Vec<Vec<(&Instance, &Job)>>, Fault> {
        let jobs: Vec<(&Instance, &Job)> =
            self.instances.iter().flat_map(|instance| instance.jobs.iter().map(move |job| (instance, job))).collect();
        let node = |(_, job): &(&Instance, &'_ Job)| (job.name.clone(), job.release.clone());
        let names: Vec<(String, String)> = jobs.iter().map(node).collect();
        let nodes: Vec<Node<'_>> = jobs
            .iter()
            .zip(&names)
            .map(|((_, job), (name, release))| Node { job: name, release, before: wishes(job, script) })
            .collect();
        let layers = layers(&nodes, self.mode == Mode::Deployment).map_err(|_| Fault::Cyclic)?;
        Ok(layers.into_iter().map(|layer| layer.into_iter().map(|at| jobs[at]).collect()).collect())
    }

    /// The wishes of jobs, as lines.
    fn orders(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for job in self.instances.iter().flat_map(|instance| &instance.jobs) {
            for (script, word) in [(Script::Backup, "backup"), (Script::Restore, "restore")] {
                for other in wishes(job, script) {
                    let release = match self.mode {
                        Mode::Director => String::new(),
                        Mode::Deployment => format!("{}/", other.release),
                    };
                    let (first, second) = (&job.name, &other.job_name);
                    let line =
                        format!("Detected order: {first} should be locked before {release}{second} during {word}");
                    if !lines.contains(&line) {
                        lines.push(line);
                    }
                }
            }
        }
        lines
    }

    pub(crate) fn say(&self, level: Level, line: impl AsRef<str>) {
        self.talk.say(level, line.as_ref());
    }
}

fn wishes(job: &Job, script: Script) -> &[metadata::JobName] {
    match script {
        Script::Restore => &job.metadata.restore_should_be_locked_before,
        _ => &job.metadata.backup_should_be_locked_before,
    }
}

async fn leftover(cx: &Context, instance: &Instance) -> Option<Fault> {
    let found = instance.remote.ask(cx, &command::look_for_store()).await;
    match found.map(|text| text.trim() == "present") {
        Ok(true) => Some(Fault::Leftover(instance.name())),
        Ok(false) => None,
        Err(trouble) => Some(Fault::Instance { instance: instance.name(), cause: trouble.into() }),
    }
}

/// What is asked of every instance.
struct Search<'a> {
    releases: Option<&'a dyn Releases>,
    talk: &'a dyn Talk,
    version: &'a str,
    mode: Mode,
    route: Option<Arc<Route>>,
}

impl Search<'_> {
    /// The instance, unless there is nothing to do with its kind, and what went wrong. One that failed is kept, too: its
    /// door is still to be closed.
    async fn instance(&self, cx: &Context, target: &Target) -> (Option<Instance>, Vec<Fault>) {
        let remote = Remote::through(target.login.clone(), target.witness.clone(), self.route.clone());
        let name = format!("{}/{}", target.group, target.id);
        let fault = |cause: Cause| vec![Fault::Instance { instance: name.clone(), cause }];
        let (jobs, faults) = match remote.run(cx, command::OPERATING_SYSTEM).await {
            Err(trouble) => (Vec::new(), fault(trouble.into())),
            Ok(ended) if String::from_utf8_lossy(&ended.output).contains("Windows_NT") => {
                self.talk.say(Level::Warn, &format!("skipping Windows instance {name}"));
                (Vec::new(), Vec::new())
            }
            Ok(_) => match self.scripts(cx, &remote).await {
                Ok(scripts) => self.jobs(cx, target, &remote, &name, scripts).await,
                Err(cause) => (Vec::new(), fault(cause)),
            },
        };
        (Some(Instance::new(target, jobs, remote)), faults)
    }

    async fn scripts(&self, cx: &Context, remote: &Remote) -> Result<Scripts, Cause> {
        let ended = remote.run(cx, &command::find_scripts()).await?;
        let is_none = String::from_utf8_lossy(&ended.words).contains("No such file or directory");
        if ended.status.is_some_and(|status| status != 0) && is_none {
            return Ok(by_job(&String::from_utf8_lossy(&ended.output)));
        }
        Ok(by_job(&ended.check()?))
    }

    async fn jobs(
        &self,
        cx: &Context,
        target: &Target,
        remote: &Remote,
        name: &str,
        scripts: Scripts,
    ) -> (Vec<Job>, Vec<Fault>) {
        let (mut jobs, mut faults, mut disabled) = (Vec::new(), Vec::new(), Vec::new());
        for (job, scripts) in scripts {
            let metadata = match self.metadata(cx, remote, &job, scripts.contains(&Script::Metadata)).await {
                Ok(metadata) => metadata,
                Err(because) => {
                    faults.push(Fault::Metadata { job, instance: name.to_owned(), because });
                    continue;
                }
            };
            if metadata.skip_bbr_scripts {
                disabled.push(job);
                continue;
            }
            if metadata.backup_name.is_some() {
                let line = format!(
                    "discontinued metadata keys backup_name/restore_name found in job {job}: bbr does not restore its artifact"
                );
                self.talk.say(Level::Warn, &line);
            }
            jobs.push(self.job(target, job, scripts, metadata));
        }
        for job in jobs.iter().filter(|_| faults.is_empty()) {
            for script in &job.scripts {
                self.talk.say(Level::Info, &format!("{name}/{}/{script}", job.name));
            }
        }
        if !disabled.is_empty() {
            let line = format!("Found disabled jobs on instance {name} jobs: {}", disabled.join(" "));
            self.talk.say(Level::Debug, &line);
        }
        (jobs, faults)
    }

    fn job(&self, target: &Target, name: String, scripts: BTreeSet<Script>, metadata: Metadata) -> Job {
        let releases = self.releases.filter(|_| self.mode == Mode::Deployment);
        let release = releases.and_then(|releases| releases.release(&target.group, &name)).unwrap_or_default();
        let shared = releases.filter(|releases| releases.is_shared(&target.group, &name)).map(|_| Shared {
            name: format!("{name}-{release}-backup-one-restore-all"),
            is_made_here: target.is_bootstrap,
        });
        Job { name, release, scripts, shared, metadata }
    }

    async fn metadata(&self, cx: &Context, remote: &Remote, job: &str, is_there: bool) -> Result<Metadata, String> {
        if !is_there {
            return Ok(Metadata::default());
        }
        let version = ("BBR_VERSION", self.version.to_owned());
        let ended = remote.script(cx, &command::run_script(Script::Metadata, job, &[version])).await;
        let text = ended.and_then(super::remote::Ended::check).map_err(|trouble| trouble.to_string())?;
        metadata::parse(&text)
    }
}

type Scripts = BTreeMap<String, BTreeSet<Script>>;
