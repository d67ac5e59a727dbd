//! Kind `openstack`: the servers of projects, each a unit with its disks, volumes and documents, and of each project its
//! configuration.
//!
//! A capture is an image that Nova makes, or the snapshots of a server's volumes; all of it bears the run's mark, so that
//! another process finds it. It is stored as the disks that it holds, so that what did not change costs nothing. Stored
//! captures stay in the cloud up to a number; older ones of ours go, and nothing that we did not make is ever touched.

mod api;
mod arriving;
mod build;
mod capture;
mod clean;
mod client;
mod cloud;
mod config;
mod credential;
mod disk;
mod download;
mod error;
#[cfg(test)]
mod fake;
pub mod image;
pub(crate) mod inventory;
mod items;
pub mod jcloud;
mod jcloud_capture;
pub mod jcloud_tree;
mod keep;
mod mark;
mod orphan;
mod project;
mod record;
mod restore;
#[cfg(test)]
mod tests;
mod upload;

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use self::client::Client;
use self::cloud::{Ask, Cloud, Service, pages, text};
pub use self::config::{Encoding, Encrypted, Excluded, Freeze, Included, Openrc, OpenrcMode, OpenstackConfig, Volumes};
use self::credential::Credential;
pub use self::inventory::{CloudInventory, Floating, Listing, NamedBy};
pub use self::keep::kept;
pub use self::orphan::Orphan;
pub use self::project::CONFIGURATION;
pub use self::restore::{Boot, Mode, RestoreOptions};
use crate::config::Surroundings;
use crate::context::{Context, Destination, Problem, Progress};
use crate::hex::hexadecimal;
use crate::marks::failed;
use crate::source::{
    Base, Capabilities, Capture, Image, Outcome, Remnant, Restore, RestoreRequest, Result, Source, SourceError, Stored,
    Unit,
};

/// All projects in which the login has a role.
const EVERY_PROJECT: &str = "*";
/// Between two looks whether a server has stopped or started.
const POLL: Duration = Duration::from_secs(1);
/// The longest time that a server may take for it.
const POWER_MAX: Duration = Duration::from_mins(5);

/// The servers of some projects of one cloud.
pub struct Openstack {
    config: OpenstackConfig,
    surroundings: Surroundings,
    /// Which onggi this is, in marks: host and source.
    label: String,
    clouds: OnceCell<Vec<Arc<dyn Cloud>>>,
    /// One for each server that the cloud may be asked to capture at once.
    snapshots: Semaphore,
    transfers: Semaphore,
    /// Held while this process works: another one of the same onggi waits.
    claim: Mutex<Option<File>>,
}

impl Openstack {
    /// A source over a configuration without faults; touches nothing.
    pub fn new(config: OpenstackConfig, surroundings: Surroundings) -> Self {
        let label = format!("{}/{}", surroundings.host, surroundings.source);
        let (snapshots, transfers) = (config.snapshots_max(), config.transfers_max());
        let [snapshots, transfers] = [snapshots, transfers].map(Semaphore::new);
        Self { config, surroundings, label, clouds: OnceCell::new(), snapshots, transfers, claim: Mutex::default() }
    }

    /// What people call the cloud.
    fn cloud_name(&self) -> &str {
        self.config.cloud.as_deref().unwrap_or(&self.surroundings.source)
    }

    /// One for each project. The login is read when it is first needed.
    async fn clouds(&self, cx: &Context) -> Result<&[Arc<dyn Cloud>]> {
        let clouds = self.clouds.get_or_try_init(|| self.enter(cx)).await?;
        Ok(clouds)
    }

    async fn enter(&self, cx: &Context) -> Result<Vec<Arc<dyn Cloud>>> {
        let credential = Credential::load(cx, &self.config, &self.surroundings).await?;
        let client = Client::new(credential)?;
        if self.config.projects.is_empty() {
            return Ok(vec![Arc::new(client)]);
        }
        let projects = pages(cx, &client, Service::Identity, "/auth/projects".to_owned(), "projects", None).await?;
        let mut clouds: Vec<Arc<dyn Cloud>> = Vec::new();
        for wanted in &self.config.projects {
            let of = |project: &&Value| {
                wanted == EVERY_PROJECT || text(project, "name") == wanted || text(project, "id") == wanted
            };
            let mut found = projects.iter().filter(of).filter(|one| one["enabled"] != false).peekable();
            if found.peek().is_none() {
                return Err(SourceError::Denied(format!("the login has no role in a project {wanted}")));
            }
            for project in found {
                let id = text(project, "id");
                clouds.push(Arc::new(client.for_project(id)));
            }
        }
        Ok(clouds)
    }

    /// Another project of the same login.
    async fn other_project(&self, cx: &Context, wanted: &str) -> Result<Arc<dyn Cloud>> {
        let client = Client::new(Credential::load(cx, &self.config, &self.surroundings).await?)?;
        let projects = pages(cx, &client, Service::Identity, "/auth/projects".to_owned(), "projects", None).await?;
        let found = projects.iter().find(|one| text(one, "name") == wanted || text(one, "id") == wanted);
        let missing = || SourceError::Refused(format!("the login has no role in a project {wanted}"));
        Ok(Arc::new(client.for_project(text(found.ok_or_else(missing)?, "id"))))
    }

    /// The project that has a server, and what it says of it.
    async fn find(&self, cx: &Context, unit: &Unit) -> Result<(Arc<dyn Cloud>, Value)> {
        for cloud in self.clouds(cx).await? {
            if let Some(server) = api::server(cx, &**cloud, unit.id.as_str()).await? {
                return Ok((Arc::clone(cloud), server));
            }
        }
        Err(SourceError::Gone)
    }

    /// One of the projects, by its id.
    async fn project(&self, cx: &Context, id: &str) -> Result<Arc<dyn Cloud>> {
        for cloud in self.clouds(cx).await? {
            if cloud.project(cx).await?.id == id {
                return Ok(Arc::clone(cloud));
            }
        }
        Err(SourceError::Gone)
    }

    /// Makes this process the one that works for this source; `false` if another one is it.
    fn claim(&self) -> Result<bool> {
        let mut held = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return Ok(true);
        }
        let path = self.claim_path();
        let opened = path
            .parent()
            .map_or(Ok(()), |folder| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder));
        let opened =
            opened.and_then(|()| File::options().create(true).truncate(false).write(true).mode(0o600).open(&path));
        let file = opened.map_err(|error| failed("open", &path, &error))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                *held = Some(file);
                Ok(true)
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(failed("lock", &path, &io::Error::from(error))),
        }
    }

    fn claim_path(&self) -> PathBuf {
        // A hash, because a source's name need be no good name of a file.
        let source = hexadecimal(&Sha256::digest(&self.surroundings.source)[..16]);
        self.surroundings.state.join("openstack").join(source).with_extension("lock")
    }

    fn must_claim(&self) -> Result<()> {
        if self.claim()? {
            return Ok(());
        }
        Err(SourceError::Busy("another onggi of this machine works on it".to_owned()))
    }

    /// Waits until the cloud may be asked for one more capture.
    async fn turn(&self, cx: &Context) -> Result<SemaphorePermit<'_>> {
        if let Ok(turn) = self.snapshots.try_acquire() {
            return Ok(turn);
        }
        cx.monitor.progress(Progress::Phase("waiting for the snapshots of other servers".to_owned()));
        Ok(cx.unless_stopped(self.snapshots.acquire()).await?.expect("it is never closed"))
    }

    /// Waits for a server's state.
    async fn await_power(&self, cx: &Context, cloud: &dyn Cloud, unit: &Unit, wanted: &str) -> Result<()> {
        let until = cx.world.elapsed() + POWER_MAX;
        loop {
            let server = api::server(cx, cloud, unit.id.as_str()).await?.ok_or(SourceError::Gone)?;
            if text(&server, "status") == wanted && text(&server, "OS-EXT-STS:task_state").is_empty() {
                return Ok(());
            }
            if cx.world.elapsed() >= until {
                return Err(SourceError::Busy(format!("it does not become {wanted}")));
            }
            cx.sleep(POLL).await?;
        }
    }
}

#[async_trait]
impl Source for Openstack {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            freezes: self.config.freeze == Freeze::Stop,
            image: Image::Fixed,
            chains: false,
            destinations: &[Destination::Beside, Destination::Scratch],
        }
    }

    async fn preflight(&self, cx: &Context) -> Result<()> {
        for cloud in self.clouds(cx).await? {
            let project = cloud.project(cx).await?;
            for service in [Service::Compute, Service::Image] {
                if !cloud.has(cx, service).await? {
                    return Err(SourceError::Denied(format!("the catalog of {} has no {service:?}", project.name)));
                }
            }
            if !cloud.has(cx, Service::Volume).await? {
                let text = format!("the catalog of {} has no service for volumes", project.name);
                cx.problem(Problem { class: "no-volumes", path: None, text });
            }
            cloud::document(cx, &**cloud, Ask::get(Service::Compute, "/servers?limit=1")).await?;
        }
        Ok(())
    }

    async fn discover(&self, cx: &Context) -> Result<Vec<Unit>> {
        let mut units = Vec::new();
        for cloud in self.clouds(cx).await? {
            let project = cloud.project(cx).await?;
            if self.config.stores_projects() {
                units.push(project::unit(&project));
            }
            for server in api::servers(cx, &**cloud).await? {
                // What a restore or a drill of ours is just making is nobody's server yet.
                if mark::whose(&server).is_none() && self.config.selects(&server) {
                    let name = format!("{}/{}", project.name, text(&server, "name"));
                    units.push(Unit { id: text(&server, "id").into(), name });
                }
            }
        }
        Ok(units)
    }

    /// Stops the server, where that is asked for. It bears that until it runs again.
    async fn freeze(&self, cx: &Context, unit: &Unit) -> Result<()> {
        if self.config.freeze != Freeze::Stop || project::of(unit).is_some() {
            return Ok(());
        }
        self.must_claim()?;
        let (cloud, server) = self.find(cx, unit).await?;
        if text(&server, "status") != "ACTIVE" {
            return Ok(());
        }
        let marks = json!({ "metadata": { mark::STOPPED: cx.run.as_str(), mark::STOPPED_BY: self.label } });
        let ask = Ask::post(Service::Compute, format!("/servers/{}/metadata", unit.id), marks);
        cloud::document(cx, &*cloud, ask).await?;
        api::act(cx, &*cloud, unit.id.as_str(), json!({ "os-stop": null })).await?;
        self.await_power(cx, &*cloud, unit, "SHUTOFF").await
    }

    async fn capture<'a>(&'a self, cx: &Context, unit: &Unit, _base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        if let Some(id) = project::of(unit) {
            let cloud = self.project(cx, id).await?;
            return Ok(Box::new(project::capture(cx, cloud, self.cloud_name()).await?));
        }
        self.must_claim()?;
        let turn = self.turn(cx).await?;
        let (cloud, server) = self.find(cx, unit).await?;
        let taken = capture::capture(self, cx, cloud, unit, server).await?;
        Ok(Box::new(taken.with_turn(turn)))
    }

    /// Starts what was stopped, whatever the configuration says by now.
    async fn thaw(&self, cx: &Context, unit: &Unit) -> Result<()> {
        if project::of(unit).is_some() {
            return Ok(());
        }
        let (cloud, server) = match self.find(cx, unit).await {
            Err(SourceError::Gone) => return Ok(()),
            found => found?,
        };
        if mark::value(&server, mark::STOPPED) != cx.run.as_str() {
            return Ok(());
        }
        // A stop that is still at work would come after our start.
        if text(&server, "OS-EXT-STS:task_state") == "powering-off" {
            self.await_power(cx, &*cloud, unit, "SHUTOFF").await?;
        }
        if text(&server, "status") != "ACTIVE" || text(&server, "OS-EXT-STS:task_state") == "powering-off" {
            api::act(cx, &*cloud, unit.id.as_str(), json!({ "os-start": null })).await?;
        }
        for key in [mark::STOPPED_BY, mark::STOPPED] {
            let path = format!("/servers/{}/metadata/{key}", unit.id);
            cloud::remove(cx, &*cloud, Service::Compute, path).await?;
        }
        Ok(())
    }

    async fn release(&self, cx: &Context, unit: &Unit, outcome: Outcome) -> Result<()> {
        if project::of(unit).is_some() {
            return Ok(());
        }
        for cloud in self.clouds(cx).await? {
            clean::release(self, cx, &**cloud, unit, outcome).await?;
        }
        Ok(())
    }

    async fn remnants(&self, cx: &Context) -> Result<Vec<Remnant>> {
        let mut all = Vec::new();
        for cloud in self.clouds(cx).await? {
            all.extend(clean::remnants(self, cx, &**cloud).await?);
        }
        Ok(all)
    }

    async fn reopen<'a>(&'a self, cx: &Context, remnant: &Remnant) -> Result<Box<dyn Capture + 'a>> {
        self.must_claim()?;
        let (cloud, server) = self.find(cx, &remnant.unit).await?;
        Ok(Box::new(capture::reopen(self, cx, cloud, &remnant.unit, server).await?))
    }

    async fn restore<'a>(
        &'a self,
        cx: &Context,
        request: &'a RestoreRequest,
        from: &'a dyn Stored,
    ) -> Result<Box<dyn Restore + 'a>> {
        if project::of(&request.unit).is_some() {
            let text =
                "a project's configuration is documents, which nothing is made of here: restore them with --target";
            return Err(SourceError::Refused(text.to_owned()));
        }
        Ok(Box::new(restore::IntoCloud::plan(self, cx, request, from).await?))
    }
}
