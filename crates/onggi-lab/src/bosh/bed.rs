//! Deployments of a fake Director on real instances, and the machine from which they are backed up.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use super::Instance;
use super::jumpbox::Jumpbox;
use crate::director::{self, Certificate, EntryKind, FakeDirector, Order, Script};
use crate::program::Ended;

/// A Director with deployments of these names, each with instances of the group `db`.
pub struct Bed {
    /// The Director.
    pub director: FakeDirector,
    /// The instances, those of the first deployment first.
    pub instances: Vec<Arc<Instance>>,
    /// Where `bbr` runs.
    pub jumpbox: Jumpbox,
    /// Users that are there now.
    users: Arc<Mutex<Vec<String>>>,
}

/// What the Director says of each.
pub fn manifest(job: &str) -> String {
    format!(
        "name: x\ninstance_groups:\n- name: db\n  jobs:\n  - {{name: {job}, release: rel}}\n  - {{name: b, release: rel}}\n"
    )
}

impl Bed {
    /// One deployment for each number, with so many instances.
    #[track_caller]
    pub fn start(deployments: &[(&str, usize)]) -> Option<Self> {
        Self::start_on(deployments, Jumpbox::new())
    }

    /// The same for a machine that is there.
    ///
    /// # Panics
    /// If it cannot be written to.
    #[track_caller]
    pub fn start_on(deployments: &[(&str, usize)], jumpbox: Jumpbox) -> Option<Self> {
        let mut instances = Vec::new();
        let mut script = Script { entry: EntryKind::Uaa, polls: 1, ..Script::default() };
        for (name, count) in deployments {
            let mut listed = Vec::new();
            for index in 0..*count {
                let instance = Arc::new(Instance::start()?);
                listed.push(director::Instance::of(&instance, format!("{name}-{index}"), index));
                instances.push(instance);
            }
            let deployment = director::Deployment { name: (*name).into(), manifest: manifest("a"), instances: listed };
            script.deployments.push(deployment);
        }
        let users = Arc::new(Mutex::new(Vec::new()));
        let (there, here) = (instances.clone(), users.clone());
        let agents = move |order: &Order| act(&there, &here, order);
        let director = FakeDirector::start_with(script, Certificate::Signed, agents)?;
        fs::write(jumpbox.path("ca.pem"), director.ca()).expect("the folder is its own");
        Some(Self { director, instances, jumpbox, users })
    }

    /// `bbr deployment` with these words.
    pub fn command(&self, words: &str) -> Command {
        let mut command = self.jumpbox.command(&format!("deployment {words}"));
        command.env("BOSH_ENVIRONMENT", self.director.url()).env("BOSH_CLIENT", FakeDirector::CLIENT);
        command.env("BOSH_CLIENT_SECRET", FakeDirector::SECRET).env("BOSH_CA_CERT", self.jumpbox.path("ca.pem"));
        command
    }

    /// Runs it.
    ///
    /// # Panics
    /// If it does not start.
    pub fn run(&self, words: &str) -> Ended {
        Ended::of(self.command(words).output().expect("it starts"))
    }

    /// The users that were made and not removed.
    pub fn users(&self) -> Vec<String> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every user has gone.
    ///
    /// # Panics
    /// If one has not.
    #[track_caller]
    pub fn nobody_is_left(&self) {
        assert!(self.users().is_empty(), "{:?}", self.users());
    }
}

/// What the agents do.
fn act(instances: &[Arc<Instance>], users: &Mutex<Vec<String>>, order: &Order) -> Result<(), String> {
    let port = order.instance.address.rsplit(':').next().unwrap_or_default();
    let instance = instances.iter().find(|instance| instance.port.to_string() == port).ok_or("no such instance")?;
    let mut users = users.lock().unwrap_or_else(PoisonError::into_inner);
    match &order.command {
        director::Command::Setup { user, public_key } => {
            let made = instance.add_user(user, public_key);
            users.push(format!("{user}@{port}"));
            if made.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&made.stderr).into_owned()) }
        }
        director::Command::Cleanup { user_regex } => {
            let user = user_regex.trim_start_matches('^');
            users.retain(|other| *other != format!("{user}@{port}"));
            Ok(())
        }
    }
}
