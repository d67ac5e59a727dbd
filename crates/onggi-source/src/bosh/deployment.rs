//! A deployment as a platform: its Director says which instances there are, where jobs come from, and lets us in with a
//! key that is made for this run. However it ends, the user goes from every instance.

use std::sync::Arc;

use async_trait::async_trait;
use onggi_ssh::{Login, PrivateKey, Trust, fresh_key};

use super::director::{Address, Director, DirectorError, Guest, Host, Jobs, Route, Visit};
use super::fault::{Cause, Fault, Faults};
use super::instance::{Instance, Target};
use super::platform::{Doors, Finding, Mode, Owed, Platform, Talk};
use crate::chain::chain;
use crate::context::Context;

/// The port of SSH.
const SSH_PORT: u16 = 22;

/// What it takes to enter a deployment.
pub struct Deployment {
    /// Its name.
    pub name: String,
    /// Hears of it.
    pub talk: Arc<dyn Talk>,
    /// The version that scripts are told.
    pub version: String,
    /// Keeps what is to be undone.
    pub owed: Owed,
    /// How instances are reached.
    pub route: Arc<Route>,
}

/// Enters every instance and asks its jobs what they have.
pub async fn find(cx: &Context, director: &Arc<Director>, deployment: Deployment) -> Result<Platform, Faults> {
    let Deployment { name, talk, version, owed, route } = deployment;
    Platform::announce(&*talk);
    let fault = |cause: Cause| Faults::from(Fault::Finding { name: format!("deployment {name}"), cause });
    let begun = begin(cx, director, &name, None).await.map_err(|error| fault(error.into()))?;
    let targets = begun.targets(cx).map_err(fault)?; // the visit ends with this
    let finding = Finding {
        name: name.clone(),
        mode: Mode::Deployment,
        targets,
        releases: Some(Box::new(begun.jobs)),
        doors: Some(Box::new(Visitors(begun.visit))),
        talk,
        version,
        owed,
    };
    Platform::find_through(cx, finding, Some(route)).await
}

/// A user of ours on all instances of a deployment.
pub(super) struct Begun {
    pub(super) visit: Visit,
    pub(super) jobs: Jobs,
    /// As the Director has it.
    pub(super) manifest: String,
    key: Arc<PrivateKey>,
}

/// Why there is no such user.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotBegun {
    /// The Director says no, or nothing.
    #[error(transparent)]
    Director(#[from] DirectorError),
    /// No key could be made.
    #[error("{0}")]
    Key(String),
}

/// Has the Director make a user, of this name or of one that nobody has, with a key that is made for this. If it fails for
/// one instance, the user goes from all.
pub(super) async fn begin(
    cx: &Context,
    director: &Arc<Director>,
    name: &str,
    user: Option<&str>,
) -> Result<Begun, NotBegun> {
    let instances = director.instances(cx, name).await?;
    let manifest = director.manifest(cx, name).await?;
    let jobs = Jobs::parse(&manifest)?;
    let made = tokio::task::spawn_blocking(fresh_key).await.map_err(|error| NotBegun::Key(error.to_string()))?;
    let key = Arc::new(made.map_err(|error| NotBegun::Key(chain(&error)))?);
    let public_key = onggi_ssh::error::text(key.public_key());
    let guest = match user {
        Some(user) => Guest { user: user.to_owned(), public_key },
        None => Guest::new(cx, public_key),
    };
    let visit = Visit::begin(cx, director, name, &instances, &guest).await?;
    Ok(Begun { visit, jobs, manifest, key })
}

impl Begun {
    /// How the instances are entered.
    pub(super) fn targets(&self, cx: &Context) -> Result<Vec<Target>, Cause> {
        self.visit.hosts().iter().map(|host| target(cx, host, &self.key)).collect()
    }
}

/// The user that the Director made.
struct Visitors(Visit);

#[async_trait]
impl Doors for Visitors {
    /// The Director's task is not waited for: it may take longer than anybody likes, and it does not fail for that.
    async fn close(&self, cx: &Context, instance: &Instance) -> Result<(), Cause> {
        Ok(self.0.expel(cx, &instance.group, &instance.id).await.map(drop)?)
    }
}

/// How an instance is entered whose user the Director made.
fn target(cx: &Context, host: &Host, key: &Arc<PrivateKey>) -> Result<Target, Cause> {
    if host.host_key.is_empty() {
        return Err(format!("the Director knows no host key of {}/{}", host.group, host.id).into());
    }
    let address = Address::parse(&host.address, SSH_PORT)?;
    let trust = Trust::Pinned(host.host_key.trim().to_owned());
    let login = Login::new(address.host, address.port, host.user.clone(), trust, cx.world.now());
    let login = Login { keys: vec![Arc::clone(key)], ..login };
    Ok(Target {
        group: host.group.clone(),
        index: host.index.clone(),
        id: host.id.clone(),
        is_bootstrap: host.bootstrap,
        login,
        witness: None,
    })
}
