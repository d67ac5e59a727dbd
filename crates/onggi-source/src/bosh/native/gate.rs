//! The ways in: the Director's machine by a login of its own, deployments by users that the Director makes.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use onggi_ssh::{Login, SshError, private_key};
use secrecy::ExposeSecret as _;
use tokio::sync::OnceCell;

use super::config::{Api, BoshConfig, Connect, Trust};
use super::platform::{Real, told};
use super::site::{Gate, Site};
use crate::bosh::deployment::{self, Begun, NotBegun};
use crate::bosh::director::{Address, Authorities, Director, Route, Target as Place, Task, Visit, Wait};
use crate::bosh::{Finding, Level, Mode, Owed, Platform, Releases, Talk, Target, VERSION};
use crate::chain::chain;
use crate::config::Surroundings;
use crate::context::{Context, Monitor, Problem, UnitId};
use crate::secret::{SecretKey, SecretReference};
use crate::source::{Result, SourceError, Unit};

/// The port of SSH.
const SSH_PORT: u16 = 22;

/// The way that the configuration says.
pub(super) fn open(config: &BoshConfig, surroundings: Surroundings) -> Box<dyn Gate> {
    let config = config.clone();
    match &config.connect {
        Some(connect) => Box::new(Machine { connect: connect.clone(), config, surroundings }),
        None => Box::new(Deployments { config, surroundings, director: OnceCell::new() }),
    }
}

/// The Director's machine, one pseudo instance.
struct Machine {
    connect: Connect,
    config: BoshConfig,
    surroundings: Surroundings,
}

/// What a Director deploys.
struct Deployments {
    config: BoshConfig,
    surroundings: Surroundings,
    director: OnceCell<Arc<Director>>,
}

/// Hears what happens: warnings are problems of the run, what fails is in the faults.
struct Heard(Arc<dyn Monitor>);

impl Talk for Heard {
    fn say(&self, level: Level, line: &str) {
        if level == Level::Warn {
            self.0.problem(Problem { class: "bosh", path: None, text: line.to_owned() });
        }
    }
}

#[async_trait]
impl Gate for Machine {
    async fn units(&self, _cx: &Context) -> Result<Vec<Unit>> {
        let name = Address::parse(&self.connect.host, SSH_PORT)?.host;
        Ok(vec![Unit { id: UnitId::new(format!("director/{name}")), name }])
    }

    async fn under_way(&self, _cx: &Context, _unit: &Unit) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn enter(&self, cx: &Context, unit: &Unit, _user: &str) -> Result<Box<dyn Site>> {
        let address = Address::parse(&self.connect.host, SSH_PORT)?;
        let text = secret(&self.surroundings, &self.connect.key).await?;
        let key = private_key(text.expose_secret()).map_err(|error| denied(&error))?;
        let trust = match (&self.connect.trust, &self.connect.host_key) {
            (Trust::Pinned, Some(key)) => onggi_ssh::Trust::Pinned(key.clone()),
            _ => onggi_ssh::Trust::Files(self.known_hosts()),
        };
        let login = Login::new(address.host, address.port, self.connect.user.clone(), trust, cx.world.now());
        let login = Login { keys: vec![Arc::new(key)], ..login };
        let finding = finding(cx, unit, Mode::Director, vec![Target::director(login, None)], None);
        let platform = found(cx, Platform::find(cx, finding).await)?;
        Ok(Box::new(Real::new(without(platform, &self.config), None, None)))
    }

    async fn expel(&self, _cx: &Context, _unit: &Unit, _user: &str) -> Result<()> {
        Ok(())
    }
}

impl Machine {
    /// Our own file, and the user's.
    fn known_hosts(&self) -> Vec<PathBuf> {
        let home = self.surroundings.environment.get("HOME").map(PathBuf::from);
        [self.surroundings.host_keys().known()]
            .into_iter()
            .chain(home.map(|home| home.join(".ssh/known_hosts")))
            .collect()
    }
}

impl Deployments {
    fn api(&self) -> Result<&Api> {
        self.config.director.as_ref().ok_or(SourceError::Unsupported("a deployment without its Director"))
    }

    async fn director(&self, cx: &Context) -> Result<&Arc<Director>> {
        let connect = || async {
            let api = self.api()?;
            let authorities = match &api.ca {
                None => Authorities::System,
                Some(path) => {
                    let path = self.surroundings.working_directory.join(path);
                    let read = tokio::fs::read(&path).await;
                    let denied = |error| SourceError::Denied(format!("read {}: {error}", path.display()));
                    Authorities::Given(read.map_err(denied)?)
                }
            };
            let place = Place {
                url: api.url.clone(),
                client: api.client.clone(),
                secret: secret(&self.surroundings, &api.client_secret).await?,
                authorities,
                route: Arc::new(Route::Direct),
                trace: None,
            };
            Ok::<_, SourceError>(Arc::new(Director::connect(cx, place).await?))
        };
        self.director.get_or_try_init(connect).await
    }
}

#[async_trait]
impl Gate for Deployments {
    async fn units(&self, cx: &Context) -> Result<Vec<Unit>> {
        let director = self.director(cx).await?;
        let names = director.deployments(cx).await?;
        let unit = |name: String| Unit { id: UnitId::new(format!("{}/{name}", director.uuid())), name };
        Ok(names.into_iter().filter(|name| self.config.takes(name)).map(unit).collect())
    }

    async fn under_way(&self, cx: &Context, unit: &Unit) -> Result<Vec<String>> {
        let tasks = self.director(cx).await?.tasks(cx).await?;
        let concerns = |task: &Task| task.deployment.as_ref().is_none_or(|deployment| *deployment == unit.name);
        let shown = |task: Task| format!("task {} of the Director is {}: {}", task.id, task.state, task.description);
        Ok(tasks.into_iter().filter(concerns).map(shown).collect())
    }

    async fn enter(&self, cx: &Context, unit: &Unit, user: &str) -> Result<Box<dyn Site>> {
        let begun = deployment::begin(cx, self.director(cx).await?, &unit.name, Some(user)).await?;
        let targets = begun.targets(cx).map_err(|cause| SourceError::Denied(cause.to_string()));
        let Begun { visit, jobs, manifest, .. } = begun;
        let found = match targets {
            Ok(targets) => {
                let finding = finding(cx, unit, Mode::Deployment, targets, Some(Box::new(jobs)));
                found(cx, Box::pin(Platform::find(cx, finding)).await)
            }
            Err(error) => Err(error),
        };
        match found {
            Ok(platform) => {
                let manifest = self.config.with_manifest.then_some(manifest);
                Ok(Box::new(Real::new(without(platform, &self.config), manifest, Some(visit))))
            }
            Err(error) => {
                for problem in visit.leave(Wait::No).await {
                    cx.problem(Problem { class: "cleanup", path: None, text: problem.to_string() });
                }
                Err(error)
            }
        }
    }

    async fn expel(&self, cx: &Context, unit: &Unit, user: &str) -> Result<()> {
        let director = self.director(cx).await?;
        let instances = match director.instances(cx, &unit.name).await {
            Err(error) if error.is_not_found() => return Ok(()),
            instances => instances?,
        };
        let visit = Visit::recall(cx, director, &unit.name, &instances, user);
        visit.leave(Wait::Briefly).await.into_iter().next().map_or(Ok(()), |error| Err(error.into()))
    }
}

fn finding(
    cx: &Context,
    unit: &Unit,
    mode: Mode,
    targets: Vec<Target>,
    releases: Option<Box<dyn Releases>>,
) -> Finding {
    Finding {
        name: unit.name.clone(),
        mode,
        targets,
        releases,
        doors: None,
        talk: Arc::new(Heard(cx.monitor.clone())),
        version: VERSION.to_owned(),
        owed: Owed::default(),
    }
}

fn found(cx: &Context, found: std::result::Result<Platform, crate::bosh::Faults>) -> Result<Platform> {
    match found {
        Ok(platform) => Ok(platform),
        Err(faults) => Err(told(cx, Err(faults)).err().unwrap_or(SourceError::Gone)),
    }
}

/// The platform without the jobs that the configuration leaves out.
fn without(mut platform: Platform, config: &BoshConfig) -> Platform {
    for instance in &mut platform.instances {
        let group = instance.group.clone();
        instance.jobs.retain(|job| !config.leaves_out(&group, &job.name));
    }
    platform
}

async fn secret(surroundings: &Surroundings, key: &SecretKey) -> Result<secrecy::SecretString> {
    let reference: &SecretReference = key.reference().ok_or(SourceError::Unsupported("a literal secret"))?;
    surroundings.secrets.fetch(reference).await
}

impl From<NotBegun> for SourceError {
    fn from(error: NotBegun) -> Self {
        match error {
            NotBegun::Director(error) => error.into(),
            NotBegun::Key(text) => Self::Denied(text),
        }
    }
}

fn denied(error: &SshError) -> SourceError {
    SourceError::Denied(chain(error))
}
