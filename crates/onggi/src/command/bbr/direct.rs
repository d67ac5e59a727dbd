//! A backup that goes straight into a repository: that of kind `bosh`, of a source that the words describe.
//!
//! Nothing of it is written to this machine, neither artifacts nor secrets.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use onggi_engine::config::{self, Files, Found, SourceConfig};
use onggi_engine::edge::SystemFiles;
use onggi_engine::exit::Exit;
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::{Value, json};

use super::host;
use super::route::VARIABLE as PROXY;
use super::words::{Access, Backup, Choice, Client, Parent, Request};
use crate::cli::Cli;
use crate::command::backup;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::session::Session;

/// Under this name the secret of the words is known to the source.
const SECRET: &str = "ONGGI_BBR_SECRET";

/// Does it. The exit code is 0, or `bbr`'s for what is none of its others.
pub fn back_up(request: &Request, how: &Backup, machine: Machine) -> ExitCode {
    let repository = how.repository.as_deref().unwrap_or_default();
    let mut words = vec!["onggi", "backup", "--repo", repository];
    words.extend(request.debug.then_some("--verbose"));
    let Ok(Cli { globals, .. }) = Cli::try_parse_from(words) else { unreachable!("they are words of onggi") };
    let exit = crate::conclude(crate::style_of(&globals), async |output| {
        let mut machine = machine;
        let Described { name, text, authority: _authority } = describe(request, how, &mut machine)?;
        let sources = read(&machine, text)?;
        let session = Session::on(machine, globals, output).with_sources(sources)?;
        backup::run(backup::Args { what: vec![name.into()], ..backup::Args::default() }, &session).await
    });
    ExitCode::from(u8::from(exit != Exit::Done))
}

/// A source.
struct Described {
    /// The same for the same platform, so that the next backup finds this one.
    name: String,
    /// A configuration of it.
    text: String,
    /// Holds the certificate as long as it is asked for.
    authority: Option<File>,
}

fn describe(request: &Request, how: &Backup, machine: &mut Machine) -> Result<Described, Failure> {
    if machine.variable(&[PROXY]).is_some() {
        return Err(Failure::usage("back up into a repository only")
            .because(format!("{PROXY} is set, and sources of kind bosh know no detour"))
            .hint("leave out --no-artifact-dir: with --repo the artifact directory goes into the repository as well"));
    }
    let (host, secret, mut source, authority) = match &request.parent {
        Parent::Director(access) => {
            let path = machine.absolute(&access.key);
            let key = std::fs::read_to_string(&path);
            let key =
                key.map_err(|error| Failure::local(format!("read the private key {}", path.display()), &error))?;
            (access.host.name.clone(), key, director(access), None)
        }
        Parent::Deployment(client) => {
            let host = host::parse(&client.target).map_or_else(|| client.target.clone(), |host| host.name);
            let (source, authority) = deployments(client, machine)?;
            (host, client.password.clone(), source, authority)
        }
    };
    machine.variables.insert(SECRET.to_owned(), secret);
    source["kind"] = json!("bosh");
    source["with-manifest"] = json!(how.with_manifest);
    let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '.';
    let host: String = host.chars().map(|letter| if fits(letter) { letter } else { '-' }).collect();
    let name = format!("bbr-{host}");
    let text = json!({ "version": 1, "sources": { &name: source } }).to_string();
    Ok(Described { name, text, authority })
}

fn director(access: &Access) -> Value {
    let host = &access.host;
    let name = if host.name.contains(':') { format!("[{}]", host.name) } else { host.name.clone() };
    json!({
        "mode": "director",
        "connect": {
            "host": format!("{name}:{}", host.port),
            "user": access.user,
            "key": format!("env:{SECRET}"),
            "trust": "approve",
        },
    })
}

fn deployments(client: &Client, machine: &Machine) -> Result<(Value, Option<File>), Failure> {
    let mut api = json!({
        "url": client.target,
        "client": client.user,
        "client-secret": format!("env:{SECRET}"),
    });
    let mut held = None;
    if let Some(authority) = &client.authority {
        let path = if authority.contains("BEGIN") {
            let file = in_memory(authority).map_err(|error| Failure::local("keep the certificate", &error))?;
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            held = Some(file);
            path
        } else {
            super::deployment::certificate(machine, authority).display().to_string()
        };
        api["ca"] = json!(path);
    }
    let mut source = json!({ "mode": "deployment", "director": api, "skip-without-scripts": false });
    if let Choice::One(name) = &client.choice {
        source["include"] = json!({ "deployments": [name] });
    }
    Ok((source, held))
}

fn in_memory(text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create("certificate", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// Reads it as any configuration, so that it is judged like one.
fn read(machine: &Machine, text: String) -> Result<BTreeMap<String, SourceConfig>, Failure> {
    let said = Said { text, machine: SystemFiles { variables: &machine.variables } };
    let loaded = config::load(&said, Path::new("what bbr was given"));
    if let Some(fault) = loaded.faults.iter().find(|fault| fault.reach != config::Reach::Notice) {
        return Err(Failure::usage("back up into a repository only").because(fault));
    }
    Ok(loaded.config.map(|config| config.sources).unwrap_or_default())
}

/// A configuration that is in no file.
struct Said<'a> {
    text: String,
    machine: SystemFiles<'a>,
}

impl Files for Said<'_> {
    fn read(&self, _path: &Path) -> io::Result<Found> {
        Ok(Found::File(self.text.clone().into_bytes()))
    }

    fn secret_fault(&self, reference: &config::value::SecretReference) -> Option<String> {
        self.machine.secret_fault(reference)
    }
}
