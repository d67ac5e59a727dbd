//! The keys of kind `hosts`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use onggi_node::pattern::{Case, Pattern};
use schemars::JsonSchema;
use serde::Deserialize;

use super::preset;
use super::window::RateWindow;
use crate::config::{ConfigFault, Outline};
use crate::hook::{self, Hook};
use crate::openstack::CloudInventory;
use crate::paths::RootPath;
use crate::quantity::{ByteCount, Period};
use crate::secret::SecretReference;

/// Machines that are reached over SSH; each is a unit.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "keys of a configuration that are true or false")]
pub struct HostsConfig {
    /// Where the list of hosts comes from; several are joined by name. Read again before each run.
    pub inventory: Vec<Inventory>,
    /// How they are reached.
    #[serde(default)]
    pub connect: Connect,
    /// What more than the user's own may be read.
    #[serde(default)]
    pub r#become: Become,
    /// What is backed up, by absolute path.
    #[serde(default)]
    pub paths: Vec<RootPath>,
    /// Ready-made lists of paths by the label `role` of a host; `all` stands for every host.
    #[serde(default)]
    pub presets: BTreeMap<String, Vec<String>>,
    /// Patterns of what is left out: `*.tmp`, `/srv/*/cache`, `!keep.tmp`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Leaves out the contents of directories marked by a `CACHEDIR.TAG`.
    #[serde(default = "yes")]
    pub exclude_caches: bool,
    /// Does not enter file systems that are mounted below the paths.
    #[serde(default = "yes")]
    pub one_file_system: bool,
    /// Whether extended attributes and access control lists are stored.
    #[serde(default = "yes")]
    pub xattrs: bool,
    /// Whether a changed file of 8 MiB or more is compared in place, so that only what changed travels.
    #[serde(default = "yes")]
    pub verified_ranges: bool,
    /// Commands on the host whose output is stored below `/onggi/dump`.
    #[serde(default)]
    pub dumps: Vec<Dump>,
    /// Commands on the host before the capture.
    #[serde(default)]
    pub before: Vec<Hook>,
    /// Commands on the host after the capture; they run in every case in which those before it were started.
    #[serde(default)]
    pub after: Vec<Hook>,
    /// Other rates at other times of the day, for all hosts together.
    #[serde(default)]
    pub rate_windows: Vec<RateWindow>,
    /// How far the program on the host stands back for others' work: 0 to 19.
    #[serde(default = "nicest")]
    pub nice: u8,
    /// How the program stands in line at the disks of the host, where their scheduler knows lines.
    #[serde(default)]
    pub io: Io,
}

/// How a reader stands in line at disks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "HostsIo")]
pub enum Io {
    /// As any other.
    #[default]
    Normal,
    /// It reads when nobody else wants to: `ionice -c 3`, where the host has it. Not with `become: forced`.
    Idle,
}

/// Where a list of hosts comes from: a file, a command, or a cloud.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Inventory {
    /// A YAML file with a map `hosts`.
    pub file: Option<PathBuf>,
    /// Program and arguments that write names of hosts: JSON, or one per line.
    pub command: Vec<String>,
    /// Servers or hypervisors of an OpenStack.
    pub openstack: Option<Box<CloudInventory>>,
    /// Where the name is in each element of a JSON list, as a pointer: `/Name`.
    pub name: Option<String>,
    /// Where the address is; else the name is the address.
    pub address: Option<String>,
    /// Labels of all hosts of this list.
    pub labels: BTreeMap<String, String>,
}

/// How hosts are reached.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Connect {
    /// Who logs in; as `ssh` decides if absent.
    pub user: Option<String>,
    /// The port, where neither host nor `~/.ssh/config` says another.
    pub port: Option<u16>,
    /// File of the private key; those of `ssh` and its agent if absent.
    pub key: Option<PathBuf>,
    /// File of the certificate of that key.
    pub certificate: Option<PathBuf>,
    /// Who connects.
    pub engine: Engine,
    /// How a host proves who it is.
    pub trust: Trust,
    /// Public keys of the authorities that sign host keys.
    pub host_ca: Vec<String>,
    /// Further files of known hosts, as `ssh` writes them; only read. For hosts with `trust: approve`, and for `jump`.
    pub known_hosts: Vec<PathBuf>,
    /// A host to go through: `user@bastion.example:2222`.
    pub jump: Option<String>,
    /// A configuration file for `ssh` instead of the user's own.
    pub config: Option<PathBuf>,
    /// How many hosts are backed up at once.
    pub parallel_max: u16,
    /// How many of those with the same value of a label: `[{ label: rack, max: 2 }]`.
    pub parallel_max_per: Vec<PerLabel>,
    /// How long a connection may take to come about.
    pub time_limit: Period,
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            user: None,
            port: None,
            key: None,
            certificate: None,
            engine: Engine::default(),
            trust: Trust::default(),
            host_ca: Vec::new(),
            known_hosts: Vec::new(),
            jump: None,
            config: None,
            parallel_max: PARALLEL_DEFAULT,
            parallel_max_per: Vec::new(),
            time_limit: Period(std::time::Duration::from_secs(15)),
        }
    }
}

/// A limit for hosts that have something in common.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PerLabel {
    /// The label. Hosts without it have nothing in common.
    pub label: String,
    /// How many hosts with the same value are backed up at once.
    pub max: u16,
}

/// Who connects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// The system's `ssh` where there is one, else the client that is built in.
    Auto,
    /// The system's `ssh`, with all that its configuration says.
    #[default]
    Openssh,
    /// The client that is built in. It reads no configuration of `ssh`.
    Builtin,
}

impl Connect {
    /// Whether the built-in client connects, given the variables of this machine.
    pub(super) fn is_built_in(&self, variables: &BTreeMap<String, String>) -> bool {
        let has_ssh = || {
            let places = variables.get("PATH").map(String::as_str).unwrap_or_default();
            places.split(':').filter(|place| !place.is_empty()).any(|place| Path::new(place).join("ssh").is_file())
        };
        match self.engine {
            Engine::Builtin => true,
            Engine::Openssh => false,
            Engine::Auto => self.config.is_none() && !has_ssh(),
        }
    }
}

/// How a host proves who it is. There is no way to do without.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// By a key that was approved with `onggi hosts trust`, or that the inventory names, or by a certificate of `host-ca`.
    #[default]
    Approve,
    /// By the key that the inventory names.
    Pinned,
    /// By a certificate of `host-ca`.
    Ca,
}

/// What more than the user's own may be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Become {
    /// Nothing: the program runs as the user who logs in.
    #[default]
    None,
    /// Everything: `sudo -n` starts the program, by a rule with its digest.
    Sudo,
    /// Everything: the installed program has the capability to read.
    Capability,
    /// What the host's own list allows: its `authorized_keys` names the command, whatever is asked.
    Forced,
}

/// A command whose output is stored.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dump {
    /// Name of the file below `/onggi/dump`.
    pub name: String,
    /// Program and arguments; with `become: forced` the host's own list has them under this name.
    #[serde(default)]
    pub command: Vec<String>,
    /// Only on hosts with this label: `role=controller`.
    #[serde(default)]
    pub when: Option<String>,
    /// It is killed after this time, and has failed.
    #[serde(default)]
    pub time_limit: Option<Period>,
    /// Whether no output at all is in order.
    #[serde(default)]
    pub allow_empty: bool,
}

/// What an inventory file holds.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct InventoryFile {
    /// By name.
    #[serde(default)]
    pub(super) hosts: BTreeMap<String, Listed>,
}

/// A host of the inventory.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct Listed {
    /// Name or address to connect to; its own name if absent.
    pub(super) address: Option<String>,
    /// The port.
    pub(super) port: Option<u16>,
    /// The public key by which it proves who it is: `ssh-ed25519 AAAA…`.
    pub(super) host_key: Option<String>,
    /// Labels.
    pub(super) labels: BTreeMap<String, String>,
    /// What is otherwise on this host.
    pub(super) overrides: Overrides,
}

/// Keys of the source that one host has otherwise.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct Overrides {
    pub(super) user: Option<String>,
    pub(super) jump: Option<String>,
    pub(super) r#become: Option<Become>,
    pub(super) paths: Option<Vec<RootPath>>,
    pub(super) exclude: Option<Vec<String>>,
    pub(super) one_file_system: Option<bool>,
    pub(super) dumps: Option<Vec<Dump>>,
    pub(super) before: Option<Vec<Hook>>,
    pub(super) after: Option<Vec<Hook>>,
}

/// Hosts at once where the configuration does not say.
const PARALLEL_DEFAULT: u16 = 8;
/// Most that make sense on one machine.
const PARALLEL_MAX: u16 = 64;

fn yes() -> bool {
    true
}

fn nicest() -> u8 {
    19
}

impl Inventory {
    fn faults(&self, number: usize) -> Vec<ConfigFault> {
        let key = format!("inventory[{number}]");
        let named = [self.file.is_some(), !self.command.is_empty(), self.openstack.is_some()];
        let mut faults = Vec::new();
        if named.iter().filter(|is_named| **is_named).count() != 1 {
            let text = "it is not one of file, command and openstack";
            let remedy = "write `file: PATH`, `command: [PROGRAM]` or `openstack: { cloud: NAME }`";
            faults.push(ConfigFault::new(&key, text, remedy));
        }
        let Some(cloud) = &self.openstack else { return faults };
        if self.name.is_some() || self.address.is_some() {
            let text = "`name` and `address` point into a command's JSON";
            faults.push(ConfigFault::new(&key, text, "write `named-by` and `network` below `openstack`"));
        }
        let below = |fault: ConfigFault| ConfigFault { key: format!("{key}.openstack.{}", fault.key), ..fault };
        faults.extend(cloud.faults().into_iter().map(below));
        faults
    }
}

impl HostsConfig {
    pub(crate) fn secrets(&self) -> Vec<(&'static str, &SecretReference)> {
        let clouds = self.inventory.iter().filter_map(|one| one.openstack.as_deref());
        clouds.filter_map(CloudInventory::secret).map(|secret| ("inventory.openstack.password", secret)).collect()
    }

    pub(crate) fn outline(&self) -> Outline {
        Outline {
            excludes: self.exclude.clone(),
            apart: Some(usize::from(self.connect.parallel_max)),
            ..Outline::default()
        }
    }

    pub(crate) fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = Vec::new();
        let mut wrong = |key: &str, text: &str, remedy: &str| faults.push(ConfigFault::new(key, text, remedy));
        if self.inventory.is_empty() {
            wrong("inventory", "there is no list of hosts", "name a file: `- { file: /etc/onggi/nodes.yaml }`");
        }
        if self.paths.is_empty() && self.presets.is_empty() && self.dumps.is_empty() {
            wrong("paths", "there is nothing to back up", "name paths, presets or dumps");
        }
        if !(1..=PARALLEL_MAX).contains(&self.connect.parallel_max) {
            wrong("connect.parallel-max", "so many hosts cannot be backed up at once", "write 1 to 64");
        }
        for (number, one) in self.connect.parallel_max_per.iter().enumerate() {
            if one.label.is_empty() || !(1..=PARALLEL_MAX).contains(&one.max) {
                let key = format!("connect.parallel-max-per[{number}]");
                wrong(&key, "this is no limit", "write a label, and 1 to 64");
            }
        }
        if self.connect.certificate.is_some() && self.connect.key.is_none() {
            wrong("connect.certificate", "it belongs to a key", "name the key, too");
        }
        if self.connect.engine == Engine::Builtin && self.connect.config.is_some() {
            wrong(
                "connect.config",
                "the built-in client reads no configuration of ssh",
                "leave it out, or write `engine: openssh`",
            );
        }
        if self.connect.trust == Trust::Ca && self.connect.host_ca.is_empty() {
            wrong("connect.host-ca", "no authority is named", "write the public key of the one that signs host keys");
        }
        if self.nice > 19 {
            wrong("nice", "there is no such level", "write 0 to 19");
        }
        faults.extend(self.inventory.iter().enumerate().flat_map(|(number, one)| one.faults(number)));
        for (key, names) in &self.presets {
            for name in names.iter().filter(|name| preset::paths(name).is_none()) {
                let known = preset::names().collect::<Vec<_>>().join(", ");
                let text = format!("there is no preset {name:?}");
                faults.push(ConfigFault::new(format!("presets.{key}"), text, format!("there are: {known}")));
            }
        }
        faults.extend(root_faults("paths", &self.paths));
        faults.extend(pattern_faults("exclude", &self.exclude));
        faults.extend(dump_faults("dumps", &self.dumps, self.r#become));
        faults.extend(hook::faults("before", &self.before).chain(hook::faults("after", &self.after)));
        faults
    }
}

impl Overrides {
    pub(super) fn faults(&self, become_of_all: Become) -> Vec<ConfigFault> {
        let dumps = self.dumps.as_deref().unwrap_or_default();
        let hooks = |key, hooks: &Option<Vec<Hook>>| -> Vec<ConfigFault> {
            hook::faults(key, hooks.as_deref().unwrap_or_default()).collect()
        };
        root_faults("paths", self.paths.as_deref().unwrap_or_default())
            .chain(pattern_faults("exclude", self.exclude.as_deref().unwrap_or_default()))
            .chain(dump_faults("dumps", dumps, self.r#become.unwrap_or(become_of_all)))
            .chain(hooks("before", &self.before))
            .chain(hooks("after", &self.after))
            .collect()
    }
}

fn root_faults(key: &str, roots: &[RootPath]) -> impl Iterator<Item = ConfigFault> {
    let is_clean = |root: &RootPath| {
        root.path.is_absolute() && !root.path.components().any(|part| part == std::path::Component::ParentDir)
    };
    roots.iter().enumerate().filter(move |(_, root)| !is_clean(root)).map(move |(number, root)| {
        let text = format!("{} is no absolute path", root.path.display());
        ConfigFault::new(format!("{key}[{number}]"), text, "write it from `/` on, without `..`")
    })
}

fn pattern_faults(key: &str, patterns: &[String]) -> impl Iterator<Item = ConfigFault> {
    patterns.iter().enumerate().filter_map(move |(number, text)| {
        let error = Pattern::parse(text.as_bytes(), Case::Exact).err()?;
        let remedy = "write `\\` before a `[`, `*`, `?` or `\\` that is meant as such";
        Some(ConfigFault::new(format!("{key}[{number}]"), error.to_string(), remedy))
    })
}

fn dump_faults(key: &str, dumps: &[Dump], r#become: Become) -> impl Iterator<Item = ConfigFault> {
    dumps.iter().enumerate().filter_map(move |(number, dump)| {
        let key = format!("{key}[{number}]");
        if onggi_node::check::name(dump.name.as_bytes()).is_err() {
            return Some(ConfigFault::new(key, format!("{:?} is no name of a file", dump.name), "write a short name"));
        }
        let is_empty = dump.command.first().is_none_or(String::is_empty);
        if is_empty && r#become != Become::Forced {
            return Some(ConfigFault::new(key, "the command is empty", "write a list: [program, argument]"));
        }
        if dump.when.as_ref().is_some_and(|label| !label.contains('=')) {
            return Some(ConfigFault::new(key, "`when` is no label", "write label=value"));
        }
        None
    })
}

/// A rate: `5MiB/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRate(pub u64);

impl<'de> Deserialize<'de> for ByteRate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let amount = text.strip_suffix("/s").and_then(|amount| amount.parse::<ByteCount>().ok());
        let bytes = amount.filter(|bytes| bytes.0 > 0);
        bytes
            .map(|bytes| Self(bytes.0))
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no rate: write 5MiB/s")))
    }
}

impl JsonSchema for ByteRate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteRate".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "Bytes per second: 5MiB/s." })
    }
}
