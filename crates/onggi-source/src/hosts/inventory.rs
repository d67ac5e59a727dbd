//! The hosts that there are now: from files, commands and clouds, joined by name, each with what it has otherwise.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::config::{Become, Dump, HostsConfig, Inventory, InventoryFile, Listed};
use super::preset;
use crate::carrier::{Launch, Launcher, output};
use crate::config::Surroundings;
use crate::context::Context;
use crate::hook::Hook;
use crate::openstack::inventory::{CloudHost, told};
use crate::paths::RootPath;
use crate::source::{Result, SourceError};

/// Longest output of a command that names hosts, in bytes.
const OUTPUT_BYTES_MAX: usize = 16 << 20;
/// Most hosts of one source.
const HOSTS_MAX: usize = 100_000;

/// A host with all that holds for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Its name in the inventory: the unit, and the snapshot's host.
    pub name: String,
    /// What to connect to.
    pub address: String,
    /// The port, if it is said.
    pub port: Option<u16>,
    /// Who logs in, if it is said.
    pub user: Option<String>,
    /// The host to go through.
    pub jump: Option<String>,
    /// The key that it proves itself by, if it is said.
    pub host_key: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    pub(super) r#become: Become,
    pub(super) roots: Vec<RootPath>,
    pub(super) exclude: Vec<String>,
    pub(super) one_file_system: bool,
    pub(super) dumps: Vec<Dump>,
    pub(super) before: Vec<Hook>,
    pub(super) after: Vec<Hook>,
}

impl Host {
    /// Whether commands run on it before or after it is read.
    pub(super) fn has_hooks(&self) -> bool {
        !(self.before.is_empty() && self.after.is_empty())
    }
}

/// Reads all inventories.
pub(super) async fn load(
    cx: &Context,
    config: &HostsConfig,
    surroundings: &Surroundings,
) -> Result<BTreeMap<String, Host>> {
    let mut listed: BTreeMap<String, Listed> = BTreeMap::new();
    for (number, inventory) in config.inventory.iter().enumerate() {
        let mut found = match (&inventory.file, &inventory.openstack) {
            (Some(file), _) => read_file(&surroundings.working_directory.join(file))?,
            (None, Some(cloud)) => {
                let found = cloud.hosts(cx, surroundings).await;
                of_cloud(cx, found.map_err(|error| named(&format!("inventory[{number}].openstack"), error))?)
            }
            (None, None) => ask(cx, inventory, &*surroundings.launcher).await?,
        };
        for host in found.values_mut() {
            for (label, value) in &inventory.labels {
                host.labels.entry(label.clone()).or_insert_with(|| value.clone());
            }
        }
        for (name, host) in found {
            check_name(&name)?;
            join(listed.entry(name).or_default(), host);
        }
    }
    if listed.len() > HOSTS_MAX {
        return Err(SourceError::Refused(format!("the inventory has more than {HOSTS_MAX} hosts")));
    }
    listed.into_iter().map(|(name, host)| Ok((name.clone(), resolve(name, host, config)?))).collect()
}

/// A name becomes part of file names and of commands.
fn check_name(name: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
    if name.is_empty() || name.len() > 253 || !name.bytes().all(is_plain) || name.starts_with(['-', '.']) {
        return Err(SourceError::Refused(format!("{name:?} is no name of a host")));
    }
    Ok(())
}

/// Says which list it was that failed.
fn named(list: &str, error: SourceError) -> SourceError {
    let with = |text: String| format!("{list}: {text}");
    match error {
        SourceError::Unreachable(text) => SourceError::Unreachable(with(text)),
        SourceError::Denied(text) => SourceError::Denied(with(text)),
        SourceError::Configuration(text) => SourceError::Configuration(with(text)),
        SourceError::Refused(text) => SourceError::Refused(with(text)),
        SourceError::Incomplete(text) => SourceError::Incomplete(with(text)),
        other => other,
    }
}

/// Machines of a cloud; their names are whatever somebody wrote there.
fn of_cloud(cx: &Context, found: Vec<CloudHost>) -> BTreeMap<String, Listed> {
    let mut listed = BTreeMap::new();
    for CloudHost { name, address, labels } in found {
        if check_name(&name).is_err() {
            told(cx, format!("{name:?} is no name of a host: rename it, exclude it, or write `named-by: id`"));
            continue;
        }
        listed.insert(name, Listed { address: Some(address), labels, ..Listed::default() });
    }
    listed
}

fn read_file(file: &Path) -> Result<BTreeMap<String, Listed>> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| SourceError::Denied(format!("read {shown}: {error}")))?;
    let read: InventoryFile = serde_saphyr::from_str(&text)
        .map_err(|error| SourceError::Refused(format!("{shown} is no inventory: {error}")))?;
    Ok(read.hosts)
}

/// What one list says completes what those before it said.
fn join(known: &mut Listed, more: Listed) {
    known.address = more.address.or(known.address.take());
    known.port = more.port.or(known.port);
    known.host_key = more.host_key.or(known.host_key.take());
    known.labels.extend(more.labels);
    if more.overrides != super::config::Overrides::default() {
        known.overrides = more.overrides;
    }
}

async fn ask(cx: &Context, inventory: &Inventory, launcher: &dyn Launcher) -> Result<BTreeMap<String, Listed>> {
    let mut running = launcher.start(&Launch::new([inventory.command.clone()])).await?;
    let output = output(cx, &mut *running, OUTPUT_BYTES_MAX)
        .await?
        .ok_or_else(|| SourceError::Refused(format!("`{}` names too many hosts", inventory.command.join(" "))))?;
    understand(&output, inventory).ok_or_else(|| {
        let command = inventory.command.join(" ");
        SourceError::Refused(format!(
            "the output of `{command}` is no list of hosts with names at {:?}",
            inventory.name
        ))
    })
}

/// A JSON list, or one name per line.
fn understand(output: &[u8], inventory: &Inventory) -> Option<BTreeMap<String, Listed>> {
    let text = std::str::from_utf8(output).ok()?;
    let host = |name: &str, address: Option<&str>| {
        let address = address.map(ToOwned::to_owned);
        (name.to_owned(), Listed { address, ..Listed::default() })
    };
    let Some(pointer) = &inventory.name else {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        return Some(lines.map(|name| host(name, None)).collect());
    };
    let elements = match serde_json::from_str(text).ok()? {
        Value::Array(elements) => elements,
        Value::Object(map) => map.into_iter().map(|(_, element)| element).collect(),
        _ => return None,
    };
    let at = |element: &Value, pointer: &str| element.pointer(pointer)?.as_str().map(ToOwned::to_owned);
    let named = elements.iter().map(|element| {
        let address = inventory.address.as_ref().and_then(|pointer| at(element, pointer));
        Some(host(&at(element, pointer)?, address.as_deref()))
    });
    named.collect()
}

fn resolve(name: String, listed: Listed, config: &HostsConfig) -> Result<Host> {
    let Listed { address, port, host_key, labels, overrides } = listed;
    let faults = overrides.faults(config.r#become);
    if let Some(fault) = faults.first() {
        return Err(SourceError::Refused(format!("host {name} of the inventory: {fault}")));
    }
    let address = address.unwrap_or_else(|| name.clone());
    check_name(&address)?;
    let has =
        |label: &str| label.split_once('=').is_some_and(|(key, value)| labels.get(key).is_some_and(|own| own == value));
    let dumps = overrides.dumps.unwrap_or_else(|| config.dumps.clone());
    let dumps = dumps.into_iter().filter(|dump| dump.when.as_deref().is_none_or(has)).collect();
    let role = labels.get("role").map(String::as_str);
    let is_meant = |(key, _): &(&String, &Vec<String>)| *key == "all" || Some(key.as_str()) == role;
    let ready = config.presets.iter().filter(is_meant).flat_map(|(_, names)| names);
    let ready = ready.filter_map(|name| preset::paths(name)).flatten();
    let mut roots = overrides.paths.unwrap_or_else(|| config.paths.clone());
    roots.extend(ready.map(|path| RootPath { path: path.into(), optional: true }));
    roots.sort_by(|one, other| (&one.path, one.optional).cmp(&(&other.path, other.optional)));
    roots.dedup_by(|one, other| one.path == other.path);
    Ok(Host {
        address,
        port: port.or(config.connect.port),
        user: overrides.user.or_else(|| config.connect.user.clone()),
        jump: overrides.jump.or_else(|| config.connect.jump.clone()),
        host_key,
        r#become: overrides.r#become.unwrap_or(config.r#become),
        roots,
        exclude: overrides.exclude.unwrap_or_else(|| config.exclude.clone()),
        one_file_system: overrides.one_file_system.unwrap_or(config.one_file_system),
        dumps,
        before: overrides.before.unwrap_or_else(|| config.before.clone()),
        after: overrides.after.unwrap_or_else(|| config.after.clone()),
        labels,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(output: &str, name: Option<&str>, address: Option<&str>, expected: &[(&str, Option<&str>)]) {
        let inventory = Inventory {
            command: vec!["list".to_owned()],
            name: name.map(ToOwned::to_owned),
            address: address.map(ToOwned::to_owned),
            ..Inventory::default()
        };
        let found = understand(output.as_bytes(), &inventory).unwrap();
        let found: Vec<_> = found.iter().map(|(name, host)| (name.as_str(), host.address.as_deref())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn commands_name_hosts_by_line_or_in_json() {
        check("b\n\n# no\n a \n", None, None, &[("a", None), ("b", None)]);
        check(r#"[{"Name":"x","ip":"10.0.0.1"}]"#, Some("/Name"), Some("/ip"), &[("x", Some("10.0.0.1"))]);
        check(r#"{"1":{"Name":"x"}}"#, Some("/Name"), Some("/ip"), &[("x", None)]);
    }

    #[test]
    fn a_name_that_could_be_an_option_is_refused() {
        for name in ["-oProxyCommand=x", "", "a b", "../x", "a;b"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("ctl1.example").is_ok() && check_name("fe80::1").is_ok());
    }
}
