//! `onggi hosts`: who a host is, and what makes it ready.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum, ValueHint};
use onggi_engine::exit::Exit;
use onggi_source::hosts::{Form, Host, Hosts};
use onggi_source::{Context, Purpose, SourceConfig, SourceError};
use serde_json::{Value, json};

use crate::escape::escape_text;
use crate::failure::Failure;
use crate::figure::Table;
use crate::member;
use crate::session::Session;

/// Makes hosts known and ready.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  onggi hosts list\n  onggi hosts trust ctl1\n  onggi hosts enroll ctl1 --login root"
)]
pub struct Args {
    /// The source of kind hosts, where the configuration has several.
    #[arg(long, value_name = "SOURCE", global = true)]
    pub source: Option<String>,
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Lists the hosts of the inventory.
    #[command(after_help = "Example:\n  onggi hosts list")]
    List,
    /// Lists keys that hosts showed and nobody has approved.
    #[command(after_help = "Example:\n  onggi hosts waiting")]
    Waiting,
    Trust(Trust),
    Enroll(Enroll),
    Authorize(Authorize),
    Export(Export),
}

/// Shows the key of a host, or makes it known.
///
/// A key that is shown proves nothing: compare its fingerprint with the one that the host's own console tells.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  onggi hosts trust ctl1\n  onggi hosts trust ctl1 --fingerprint SHA256:u6nJ…")]
pub struct Trust {
    /// Its name in the inventory.
    #[arg(value_name = "HOST")]
    pub host: String,
    /// The fingerprint that it must have.
    #[arg(long, value_name = "SHA256:…")]
    pub fingerprint: Option<String>,
}

/// Makes a host ready: user, key, rule of sudo, program. Twice changes nothing.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  onggi hosts enroll ctl1 --login root\n  onggi hosts enroll ctl1 --print cloud-init"
)]
pub struct Enroll {
    /// Its name in the inventory.
    #[arg(value_name = "HOST")]
    pub host: String,
    /// Who may become root there.
    #[arg(long, value_name = "USER", default_value = "root")]
    pub login: String,
    /// Write it down instead of doing it.
    #[arg(long, value_name = "FORM")]
    pub print: Option<Written>,
}

/// Lets another hub in.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  onggi hosts authorize ctl1 --key new-hub.pub")]
pub struct Authorize {
    /// Its name in the inventory.
    #[arg(value_name = "HOST")]
    pub host: String,
    /// File of the other hub's public key.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub key: PathBuf,
    /// Who may become root there.
    #[arg(long, value_name = "USER", default_value = "root")]
    pub login: String,
}

/// Writes down what makes all hosts ready.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  onggi hosts export --print ansible")]
pub struct Export {
    /// In this form.
    #[arg(long, value_name = "FORM", default_value = "shell")]
    pub print: Written,
}

/// For whom it is written down.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Written {
    /// For sh, as root.
    Shell,
    /// User data of a cloud's image.
    CloudInit,
    /// A task.
    Ansible,
    /// A manifest.
    Puppet,
}

impl From<Written> for Form {
    fn from(written: Written) -> Self {
        match written {
            Written::Shell => Self::Shell,
            Written::CloudInit => Self::CloudInit,
            Written::Ansible => Self::Ansible,
            Written::Puppet => Self::Puppet,
        }
    }
}

/// A source of kind `hosts`, and what its calls need.
struct Fleet<'a> {
    session: &'a Session,
    hosts: Hosts,
    /// File of the hub's public key.
    public: Option<PathBuf>,
    cx: Context,
}

/// Does it.
pub async fn run(args: Args, session: &Session) -> Result<Exit, Failure> {
    let fleet = Fleet::open(args.source.as_deref(), session).await?;
    match args.verb {
        Verb::List => fleet.list().await,
        Verb::Waiting => fleet.waiting(),
        Verb::Trust(args) => fleet.trust(&args).await,
        Verb::Enroll(args) => {
            let key = fleet.own_key()?;
            fleet.enroll(&args.host, &key, &args.login, args.print).await
        }
        Verb::Authorize(args) => {
            let key = read_key(&session.machine.absolute(&args.key))?;
            fleet.enroll(&args.host, &key, &args.login, None).await
        }
        Verb::Export(args) => fleet.export(args.print).await,
    }
}

fn failed(act: String, error: &SourceError) -> Failure {
    Failure::new(Exit::from(error), act).chain(error)
}

fn read_key(file: &std::path::Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::local(format!("read the public key {}", file.display()), &error))?;
    Ok(text.trim().to_owned())
}

impl<'a> Fleet<'a> {
    async fn open(wanted: Option<&str>, session: &'a Session) -> Result<Self, Failure> {
        let of_kind = |source: &SourceConfig| match source {
            SourceConfig::Hosts(config) => Some((**config).clone()),
            _ => None,
        };
        let (config, surroundings) = member::only_source(session, wanted, "hosts", of_kind).await?;
        let key = config.connect.key.as_ref().map(|key| {
            let key = key.to_str().and_then(|text| text.strip_prefix("file:")).map_or(key.clone(), PathBuf::from);
            session.machine.absolute(&key)
        });
        let public = key.map(|key| PathBuf::from(format!("{}.pub", key.display())));
        let cx = session.run(Purpose::Backup).context;
        Ok(Self { session, hosts: Hosts::new(config, surroundings), public, cx })
    }

    fn own_key(&self) -> Result<String, Failure> {
        let file = self.public.as_ref().ok_or_else(|| {
            Failure::usage("find this hub's key")
                .because("connect.key is not set")
                .hint("name the key in the configuration")
        })?;
        read_key(file)
    }

    async fn all(&self) -> Result<Vec<Host>, Failure> {
        let hosts = self.hosts.hosts(&self.cx).await;
        Ok(hosts.map_err(|error| failed("read the inventory".to_owned(), &error))?.values().cloned().collect())
    }

    async fn host(&self, name: &str) -> Result<Host, Failure> {
        let found = self.all().await?.into_iter().find(|host| host.name == name);
        found.ok_or_else(|| {
            Failure::new(Exit::Failed, format!("find {}", escape_text(name)))
                .because("no host of the inventory has this name")
                .hint("onggi hosts list")
        })
    }

    async fn list(&self) -> Result<Exit, Failure> {
        let mut table = Table::new(&["Host", "Address", "Key", "Labels"]);
        let mut documents = Vec::new();
        for host in self.all().await? {
            let key = match (&host.host_key, self.hosts.is_trusted(&host)) {
                (Some(_), _) => "named",
                (None, true) => "approved",
                (None, false) => "-",
            };
            let address = host.port.map_or(host.address.clone(), |port| format!("{}:{port}", host.address));
            let labels: Vec<_> = host.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            documents.push(json!({"name": host.name, "address": address, "key": key, "labels": host.labels}));
            table.row(vec![host.name, address, key.to_owned(), escape_text(&labels.join(" ")).into_owned()]);
        }
        let absent = self.hosts.absent(&self.cx).await;
        for (name, since) in absent.map_err(|error| failed("list the hosts".to_owned(), &error))? {
            documents.push(json!({"name": name, "absent_since": since}));
            let since = format!("not in the inventory since {}", since.strftime("%Y-%m-%d"));
            table.row(vec![escape_text(&name).into_owned(), since, "-".to_owned(), String::new()]);
        }
        self.show(documents, &table);
        Ok(Exit::Done)
    }

    fn show(&self, documents: Vec<Value>, table: &Table) {
        let output = &self.session.output;
        if output.is_json() {
            output.json(Value::Array(documents));
        } else {
            table.lines().iter().for_each(|line| output.data(line));
        }
    }

    fn waiting(&self) -> Result<Exit, Failure> {
        let waiting = self.hosts.waiting().map_err(|error| failed("read the keys that wait".to_owned(), &error))?;
        let mut table = Table::new(&["Host", "Key", "Fingerprint", "Seen"]);
        let mut documents = Vec::new();
        for one in waiting {
            let host = one.host.split(',').next().unwrap_or_default().to_owned();
            let kind = one.key.algorithm().to_string();
            let fingerprint = one.key.fingerprint(onggi_source::hosts::HashAlg::Sha256).to_string();
            documents.push(json!({"host": host, "key": kind, "fingerprint": fingerprint, "seen": one.seen}));
            table.row(vec![escape_text(&host).into_owned(), kind, fingerprint, escape_text(&one.seen).into_owned()]);
        }
        self.show(documents, &table);
        Ok(Exit::Done)
    }

    async fn trust(&self, args: &Trust) -> Result<Exit, Failure> {
        let host = self.host(&args.host).await?;
        let shown = self.hosts.shown_key(&self.cx, &host).await;
        let key = shown.map_err(|error| failed(format!("ask {} for its key", host.name), &error))?;
        let (kind, fingerprint) = (key.algorithm(), key.fingerprint(onggi_source::hosts::HashAlg::Sha256).to_string());
        let output = &self.session.output;
        let Some(wanted) = &args.fingerprint else {
            output.data(format_args!("{}  {kind}  {fingerprint}", host.name));
            output.suggest(format_args!("onggi hosts trust {} --fingerprint {fingerprint}", host.name));
            return Ok(Exit::Done);
        };
        if *wanted != fingerprint {
            return Err(Failure::new(Exit::Denied, format!("trust {}", host.name))
                .because(format!("it shows {kind} {fingerprint}"))
                .hint("compare with the fingerprint that its own console tells"));
        }
        self.hosts.trust(&host, &key).map_err(|error| failed(format!("trust {}", host.name), &error))?;
        output.data(format_args!("{} is known from now on", host.name));
        Ok(Exit::Done)
    }

    async fn enroll(&self, name: &str, key: &str, login: &str, print: Option<Written>) -> Result<Exit, Failure> {
        let host = self.host(name).await?;
        let act = || format!("enroll {}", host.name);
        let enrollment = self.hosts.enrollment(&host, key).await.map_err(|error| failed(act(), &error))?;
        if let Some(form) = print {
            self.session.output.data(enrollment.written(form.into()).trim_end());
            return Ok(Exit::Done);
        }
        let enrolled = self.hosts.enroll(&self.cx, &host, login, &enrollment).await;
        enrolled.map_err(|error| failed(act(), &error))?;
        self.session.output.data(format_args!("{} is ready", host.name));
        Ok(Exit::Done)
    }

    /// Hosts that need the same share one text.
    async fn export(&self, form: Written) -> Result<Exit, Failure> {
        let key = self.own_key()?;
        let mut texts: Vec<(String, Vec<String>)> = Vec::new();
        for host in self.all().await? {
            let enrollment = self.hosts.enrollment(&host, &key).await;
            let enrollment = enrollment.map_err(|error| failed(format!("enroll {}", host.name), &error))?;
            let text = enrollment.written(form.into());
            match texts.iter_mut().find(|(other, _)| *other == text) {
                Some((_, names)) => names.push(host.name),
                None => texts.push((text, vec![host.name])),
            }
        }
        for (text, names) in &texts {
            if texts.len() > 1 {
                self.session.output.data(format_args!("# for {}", names.join(", ")));
            }
            self.session.output.data(text.trim_end());
        }
        Ok(Exit::Done)
    }
}
