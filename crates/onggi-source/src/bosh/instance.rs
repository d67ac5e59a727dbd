//! A machine of a platform and its jobs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use onggi_ssh::{Login, PublicKey};

use super::STORE;
use super::artifact::Artifact;
use super::metadata::Metadata;
use super::remote::Remote;
use super::script::Script;

/// Sees the key of a host that was entered; for logins that believe any.
pub type Witness = Arc<dyn Fn(&PublicKey) + Send + Sync>;

/// Where an instance is, what it is in its platform, and how it is entered.
#[derive(Clone)]
pub struct Target {
    /// Its instance group.
    pub group: String,
    /// Which of the group, as a number.
    pub index: String,
    /// The same as a name for good.
    pub id: String,
    /// It stands for its group where one backup is restored everywhere.
    pub is_bootstrap: bool,
    /// Address, user, key, and the host keys that are believed.
    pub login: Login,
    /// Sees the host's key.
    pub witness: Option<Witness>,
}

impl Target {
    /// A director, which is the one instance of its platform.
    pub(crate) fn director(login: Login, witness: Option<Witness>) -> Self {
        let (group, number) = ("bosh".to_owned(), "0".to_owned());
        Self { group, index: number.clone(), id: number, is_bootstrap: true, login, witness }
    }
}

/// A machine that was entered.
pub struct Instance {
    /// Its instance group.
    pub group: String,
    /// Which of the group, as a number.
    pub index: String,
    /// The same as a name for good.
    pub id: String,
    /// Those that have scripts.
    pub jobs: Vec<Job>,
    /// The way there.
    pub remote: Remote,
    /// This run put something into the store.
    made: AtomicBool,
}

/// A job that has scripts.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// Where it comes from; empty where that does not count.
    pub release: String,
    /// What it has.
    pub scripts: BTreeSet<Script>,
    /// The artifact of all instances that run the job, where there is one.
    pub shared: Option<Shared>,
    pub(crate) metadata: Metadata,
}

/// One backup for all instances of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The artifact's name.
    pub name: String,
    /// This instance makes it.
    pub is_made_here: bool,
}

impl Instance {
    pub(crate) fn new(target: &Target, jobs: Vec<Job>, remote: Remote) -> Self {
        let (group, index, id) = (target.group.clone(), target.index.clone(), target.id.clone());
        Self { group, index, id, jobs, remote, made: AtomicBool::new(false) }
    }

    /// How it is called.
    pub fn name(&self) -> String {
        format!("{}/{}", self.group, self.id)
    }

    /// How it is called by its number.
    pub fn place(&self) -> String {
        format!("{}/{}", self.group, self.index)
    }

    /// Whether a job has this script.
    pub fn has(&self, script: Script) -> bool {
        self.jobs.iter().any(|job| job.scripts.contains(&script))
    }

    /// The artifact that a job's backup makes here.
    pub fn made_by(&self, job: &Job) -> Artifact {
        match &job.shared {
            Some(Shared { name, is_made_here: true }) => Artifact::Custom(name.clone()),
            _ => self.own(job),
        }
    }

    /// The artifact that a job is restored from here.
    pub fn wanted_by(&self, job: &Job) -> Artifact {
        match &job.shared {
            Some(shared) => Artifact::Custom(shared.name.clone()),
            None => self.own(job),
        }
    }

    fn own(&self, job: &Job) -> Artifact {
        Artifact::Instance { group: self.group.clone(), index: self.index.clone(), job: job.name.clone() }
    }

    /// Remembers that there will be something to remove.
    pub(crate) fn note_made(&self) {
        self.made.store(true, Ordering::SeqCst);
    }

    pub(crate) fn note_removed(&self) {
        self.made.store(false, Ordering::SeqCst);
    }

    /// Whether this run left something in the store.
    pub fn is_made(&self) -> bool {
        self.made.load(Ordering::SeqCst)
    }
}

/// The folder of an artifact on its instance.
pub fn folder(artifact: &Artifact) -> String {
    format!("{STORE}/{}", artifact.name())
}
