//! Kind `hosts`: machines that are reached over SSH, each a unit. A small program that only reads is sent to each; what is
//! chunked, encrypted and stored is so here. A host is taken for hostile: whatever it says is checked.

mod absent;
mod capture;
mod config;
mod content;
mod enroll;
mod inventory;
mod known;
mod lost;
mod preset;
mod restore;
mod session;
mod start;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use onggi_ssh::PublicKey;
use onggi_ssh::store::Waiting;
use tokio::sync::{Mutex, OnceCell};

use self::capture::HostCapture;
use self::restore::ToHost;
use self::session::{Client, Driver};
use self::start::{Failure, Verb};
use self::window::Allowance;
use crate::carrier::built_in::BuiltIn;
use crate::carrier::ssh::{Call, Client as SshClient, SshLauncher};
use crate::carrier::{Launch, Launcher as _, output};
use crate::config::Surroundings;
use crate::context::{Context, Destination, Progress, UnitId};
use crate::hook::Hooks;
use crate::source::{
    Base, Capabilities, Capture, Image, Remnant, Restore, RestoreRequest, Result, Source, SourceError, Stored, Unit,
};

pub use self::config::{Become, ByteRate, Connect, Dump, Engine, HostsConfig, Inventory, PerLabel, Trust};
pub use self::enroll::{Enrollment, Form};
pub use self::inventory::Host;
pub use self::restore::RestoreOptions;
pub use self::start::{INSTALLED, Program};
pub use self::window::{BadHours, Hours, RateWindow};
pub use onggi_ssh::HashAlg;

/// Longest output of a command that is no dump, in bytes.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Configured machines. A restore is the engine's directory restore, or goes to the machine itself.
pub struct Hosts {
    config: HostsConfig,
    surroundings: Surroundings,
    allowance: Allowance,
    program: OnceCell<Arc<Program>>,
    inventory: OnceCell<BTreeMap<String, Host>>,
    approached: Mutex<Option<Approached>>,
}

/// A host that was connected to before its turn, or why it was not.
struct Approached {
    host: String,
    session: Result<(Client, Driver), Failure>,
}

impl Hosts {
    /// A source over a configuration without faults; touches nothing.
    pub fn new(config: HostsConfig, surroundings: Surroundings) -> Self {
        let allowance = Allowance::default();
        let (program, inventory) = (OnceCell::new(), OnceCell::new());
        Self { config, surroundings, allowance, program, inventory, approached: Mutex::default() }
    }

    /// The hosts of the inventory as it is now, by name.
    pub async fn hosts(&self, cx: &Context) -> Result<&BTreeMap<String, Host>> {
        let load = || inventory::load(cx, &self.config, &self.surroundings);
        self.inventory.get_or_try_init(load).await
    }

    /// Hosts that the inventory had once, each with the moment at which it was missed first. Their snapshots stay.
    pub async fn absent(&self, cx: &Context) -> Result<BTreeMap<String, Timestamp>> {
        let (file, hosts) = (absent::file(&self.surroundings), self.hosts(cx).await?);
        let noted = absent::note(&file, hosts.keys().map(String::as_str), cx.world.now());
        noted.map_err(|error| SourceError::Refused(format!("note the hosts in {}: {error}", file.display())))
    }

    /// Keys that hosts showed and nobody has approved yet.
    pub fn waiting(&self) -> Result<Vec<Waiting>> {
        let waiting = self.surroundings.host_keys().waiting();
        waiting.map_err(|error| SourceError::Refused(format!("read {}: {error}", self.surroundings.shared().display())))
    }

    /// Puts the key of a host that nobody knows where a person will find it. Nothing depends on it.
    async fn ask_to_approve(&self, cx: &Context, host: &Host) {
        if self.config.connect.trust != Trust::Approve {
            return;
        }
        if let Ok(key) = self.shown_key(cx, host).await {
            let store = self.surroundings.host_keys();
            if let Err(error) = store.ask(&known::names(host), &key, cx.world.now(), &host.address) {
                cx.monitor.progress(Progress::Phase(format!("the key of {} cannot be noted: {error}", host.name)));
            }
        }
    }

    async fn host(&self, cx: &Context, unit: &Unit) -> Result<Host> {
        self.hosts(cx).await?.get(unit.id.as_str()).cloned().ok_or(SourceError::Gone)
    }

    async fn program(&self) -> Result<Arc<Program>> {
        let load = || async { Program::load(&self.surroundings.programs).map(Arc::new) };
        self.program.get_or_try_init(load).await.cloned()
    }

    /// The key that a host shows to whoever asks. It proves nothing by itself.
    pub async fn shown_key(&self, cx: &Context, host: &Host) -> Result<PublicKey> {
        if host.jump.is_some() {
            return Err(SourceError::Unsupported("asking for a key through another host"));
        }
        let asking = onggi_ssh::shown_key(&host.address, host.port.unwrap_or(22), false);
        let limit = cx.world.elapsed() + self.config.connect.time_limit.0;
        let unreachable = |text: String| SourceError::Unreachable(format!("{}: {text}", host.address));
        tokio::select! {
            biased;
            shown = cx.unless_stopped(asking) => shown?.map_err(|error| unreachable(error.to_string())),
            () = cx.world.reach(limit) => Err(unreachable("it does not answer in time".to_owned())),
        }
    }

    /// Makes a key the host's own, from now on.
    pub fn trust(&self, host: &Host, key: &PublicKey) -> Result<()> {
        let store = self.surroundings.host_keys();
        let trusted = store.trust(&known::names(host), key);
        trusted.map_err(|error| SourceError::Refused(format!("write {}: {error}", store.known().display())))
    }

    /// Whether a person made some key the host's own.
    pub fn is_trusted(&self, host: &Host) -> bool {
        let names = known::names(host);
        let lines = std::fs::read_to_string(self.surroundings.host_keys().known()).unwrap_or_default();
        lines.lines().any(|line| line.split_once(' ').is_some_and(|(own, _)| own == names))
    }

    /// What makes a host ready for its source. `key` is the public key that is let in.
    pub async fn enrollment(&self, host: &Host, key: &str) -> Result<Enrollment> {
        let program = self.program().await?;
        let root = |root: &crate::paths::RootPath| root.path.display().to_string();
        Ok(Enrollment {
            user: host.user.clone().unwrap_or_else(|| "onggi-backup".to_owned()),
            key: key.to_owned(),
            level: host.r#become,
            program: program.name(),
            digest: program.digest().to_owned(),
            roots: host.roots.iter().map(root).collect(),
        })
    }

    /// Makes a host ready, over a login that may become root there. The host must be known already.
    pub async fn enroll(&self, cx: &Context, host: &Host, login: &str, enrollment: &Enrollment) -> Result<()> {
        let program = self.program().await?;
        let SshLauncher { call, client } = self.launcher(cx, host)?;
        let there =
            SshLauncher { call: Call { user: Some(login.to_owned()), key: None, certificate: None, ..call }, client };
        let is_installed = matches!(host.r#become, Become::Sudo | Become::Capability | Become::Forced);
        let script = enrollment.script(is_installed.then_some(program.bytes().len()));
        let mut words = vec!["sh".to_owned(), "-c".to_owned(), script];
        if login != "root" {
            words.splice(0..0, ["sudo", "-n", "--"].map(ToOwned::to_owned));
        }
        let launch = Launch { takes_input: true, ..Launch::new([words]) };
        let input = is_installed.then(|| bytes::Bytes::copy_from_slice(program.bytes()));
        let mut running = cx.unless_stopped(there.start(&launch)).await??;
        if let Some(input) = input {
            running.write(input).await?;
        }
        running.end_input().await?;
        let said = output(cx, &mut *running, OUTPUT_BYTES_MAX).await?;
        said.map(drop).ok_or_else(|| SourceError::Refused("it says too much".to_owned()))
    }

    /// Starts processes on a host instead of here.
    fn launcher(&self, cx: &Context, host: &Host) -> Result<SshLauncher> {
        let call = known::call(host, &self.config.connect, &self.surroundings)?;
        let client = if self.config.connect.is_built_in(&self.surroundings.environment) {
            SshClient::BuiltIn(BuiltIn::new(cx.world.clone(), &self.surroundings))
        } else {
            SshClient::System(self.surroundings.launcher.clone())
        };
        Ok(SshLauncher { call, client })
    }

    /// Connects, starts the program and greets it.
    async fn connect(&self, cx: &Context, host: &Host) -> Result<(Client, Driver), Failure> {
        let program = self.program().await.map_err(|error| Failure::new("program-blocked", error))?;
        let launcher = self.launcher(cx, host)?;
        let verb = Verb::Read { io: self.config.io };
        let started = match start::start(cx, &launcher, &program, host.r#become, &verb).await {
            Err(Failure { class: class @ "host-key-unknown", error }) => {
                self.ask_to_approve(cx, host).await;
                let error = match error {
                    SourceError::Denied(text) => {
                        SourceError::Denied(format!("{text} `onggi hosts trust {}` shows its key", host.name))
                    }
                    other => other,
                };
                return Err(Failure::new(class, error));
            }
            started => started?,
        };
        session::greet(cx, started, self.config.nice, 0).await
    }

    fn hooks(&self, cx: &Context, host: &Host) -> Result<Hooks> {
        let surroundings = Surroundings { launcher: Arc::new(self.launcher(cx, host)?), ..self.surroundings.clone() };
        Ok(Hooks::new(host.before.clone(), host.after.clone(), &surroundings))
    }

    fn has_hooks(&self) -> bool {
        let own = !(self.config.before.is_empty() && self.config.after.is_empty());
        own || self.inventory.get().is_some_and(|hosts| hosts.values().any(Host::has_hooks))
    }
}

fn unit_of(host: &Host) -> Unit {
    Unit { id: UnitId::from(host.name.as_str()), name: host.name.clone() }
}

#[async_trait]
impl Source for Hosts {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            freezes: self.has_hooks(),
            image: Image::Live,
            chains: false,
            destinations: &[Destination::Beside],
        }
    }

    fn shares(&self, unit: &Unit) -> Vec<(String, usize)> {
        let Some(host) = self.inventory.get().and_then(|hosts| hosts.get(unit.id.as_str())) else { return Vec::new() };
        let of_label = |one: &PerLabel| {
            let value = host.labels.get(&one.label)?;
            Some((format!("{}={value}", one.label), usize::from(one.max)))
        };
        self.config.connect.parallel_max_per.iter().filter_map(of_label).collect()
    }

    /// Connects to a host that is wanted alone; several would be held long before their turn.
    async fn approach(&self, cx: &Context, only: Option<&[String]>) {
        let Ok(hosts) = self.hosts(cx).await else { return };
        let mut wanted = hosts.values().filter(|host| only.is_none_or(|only| only.contains(&host.name)));
        if let (Some(host), None) = (wanted.next(), wanted.next()) {
            // held meanwhile, so that a capture waits for it
            let mut approached = self.approached.lock().await;
            *approached = Some(Approached { host: host.name.clone(), session: self.connect(cx, host).await });
        }
    }

    /// Connects to each host and starts the program there. One that cannot be reached is a problem, all are an error.
    async fn preflight(&self, cx: &Context) -> Result<()> {
        let (mut reached, mut last) = (0, None);
        for host in self.hosts(cx).await?.values() {
            cx.check()?;
            match self.connect(cx, host).await {
                Ok(_) => reached += 1,
                Err(failure) => {
                    let error = failure.report_of(cx, &host.name);
                    last = Some(error);
                }
            }
        }
        match last {
            Some(error) if reached == 0 => Err(error),
            _ => Ok(()),
        }
    }

    async fn discover(&self, cx: &Context) -> Result<Vec<Unit>> {
        for (name, since) in self.absent(cx).await? {
            cx.monitor
                .progress(Progress::Phase(format!("{name} is not in the inventory since {since}; what it has stays")));
        }
        Ok(self.hosts(cx).await?.values().map(unit_of).collect())
    }

    async fn freeze(&self, cx: &Context, unit: &Unit) -> Result<()> {
        let host = self.host(cx, unit).await?;
        if !host.has_hooks() {
            return Ok(());
        }
        self.hooks(cx, &host)?.freeze(cx, unit).await
    }

    /// Proves that the host can be read. Nothing is fixed: the items show its files as they are when they are read.
    async fn capture<'a>(&'a self, cx: &Context, unit: &Unit, _base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        let host = self.host(cx, unit).await?;
        let approached = self.approached.lock().await.take().filter(|approached| approached.host == host.name);
        let session = match approached {
            Some(approached) => approached.session,
            None => self.connect(cx, &host).await,
        };
        let session = session.map_err(|failure| failure.report(cx))?;
        Ok(Box::new(HostCapture { source: self, host, taken_at: cx.world.now(), session: Some(session) }))
    }

    async fn thaw(&self, cx: &Context, unit: &Unit) -> Result<()> {
        let host = match self.host(cx, unit).await {
            Err(SourceError::Gone) => return Ok(()),
            host => host?,
        };
        if !host.has_hooks() {
            return Ok(());
        }
        self.hooks(cx, &host)?.thaw(cx, unit).await
    }

    async fn remnants(&self, cx: &Context) -> Result<Vec<Remnant>> {
        let hosts = self.hosts(cx).await?;
        match hosts.values().find(|host| host.has_hooks()) {
            Some(host) => self.hooks(cx, host)?.remnants(&unit_of(host)),
            None => Ok(Vec::new()),
        }
    }

    /// To a directory of the host, over the login that the operator names.
    async fn restore<'a>(
        &'a self,
        cx: &Context,
        request: &'a RestoreRequest,
        from: &'a dyn Stored,
    ) -> Result<Box<dyn Restore + 'a>> {
        Ok(Box::new(ToHost::plan(cx, self, request, from).await?))
    }
}
