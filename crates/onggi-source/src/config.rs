//! The configuration of a source: a closed list of kinds, each checked as a whole before anything is touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use onggi_ssh::store::Store;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::bosh::native::BoshConfig;
use crate::carrier::Launcher;
use crate::command::CommandConfig;
use crate::database::DatabaseConfig;
use crate::device::DeviceConfig;
use crate::etcd::EtcdConfig;
use crate::hosts::HostsConfig;
use crate::openstack::OpenstackConfig;
use crate::path::TreePath;
use crate::paths::PathsConfig;
use crate::secret::{SecretReference, Secrets};
use crate::source::Source;

/// One configured source, as the configuration file has it below `sources:`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SourceConfig {
    /// Files and directories of this machine.
    Paths(PathsConfig),
    /// The output of a command as one file.
    Command(CommandConfig),
    /// The key-value store of a Kubernetes control plane.
    Etcd(EtcdConfig),
    /// The configurations of switches, routers and firewalls.
    Device(DeviceConfig),
    /// Machines that are reached over SSH.
    Hosts(Box<HostsConfig>),
    /// Databases, dumped by their own tools.
    Database(DatabaseConfig),
    /// A BOSH Director, or what it deploys, backed up by the scripts of its jobs.
    Bosh(Box<BoshConfig>),
    /// Servers of OpenStack projects with their disks and volumes.
    Openstack(Box<OpenstackConfig>),
}

/// Kinds that this build has an adapter for: one for each alternative of [`SourceConfig`].
pub const KINDS: &[&str] = &["paths", "command", "etcd", "device", "hosts", "database", "bosh", "openstack"];
/// Kinds that the language of the configuration has, and this build has no adapter for.
pub const KINDS_WITHOUT_ADAPTER: &[&str] = &["kubernetes"];

/// What the engine must know of a source's snapshots before anything is captured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// The snapshot's paths, as far as they are known before the capture.
    pub paths: Vec<String>,
    /// Patterns of what is left out, for the snapshot's record.
    pub excludes: Vec<String>,
    /// The virtual root that the engine writes its manifest below; `None` where the tree equals restic's.
    pub root: Option<TreePath>,
    /// The snapshot's host name, where it is not this machine's.
    pub hostname: Option<String>,
    /// Each unit is a machine of its own: its snapshots bear its name, and it is backed up apart from the others, so
    /// many at once.
    pub apart: Option<usize>,
    /// How long its freeze may last, where that is not as long as for others.
    pub hold: Option<std::time::Duration>,
}

/// What a source is built with beside its configuration: this machine, as the engine sees it.
#[derive(Clone)]
pub struct Surroundings {
    /// The source's name in the configuration.
    pub source: String,
    /// This machine's host name.
    pub host: String,
    /// What relative paths start from; absolute.
    pub working_directory: PathBuf,
    /// A private directory for the marks of this source; made when first needed.
    pub state: PathBuf,
    /// Directories that are never backed up, because onggi writes there itself: a local repository, the cache.
    pub never: Vec<PathBuf>,
    /// The variables that exclude files may name.
    pub environment: BTreeMap<String, String>,
    /// Where the program for hosts may lie.
    pub programs: Vec<PathBuf>,
    /// Starts processes.
    pub launcher: Arc<dyn Launcher>,
    /// Fetches secrets.
    pub secrets: Arc<dyn Secrets>,
    /// A person started the run and reads what it says: guards that would wake somebody at night may let it pass.
    pub attended: bool,
}

impl Surroundings {
    /// What all sources of this machine share, beside their own states.
    pub(crate) fn shared(&self) -> &Path {
        self.state.parent().unwrap_or(Path::new("/"))
    }

    /// The approved keys of hosts, one file for all sources, and the queue of those that wait.
    pub(crate) fn host_keys(&self) -> Store {
        Store::new(self.shared())
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {text}")]
pub struct ConfigFault {
    /// The key below the source, with its index in a list: `exclude[2]`.
    pub key: String,
    /// What is wrong, in one line.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

impl SourceConfig {
    /// The kind's name, as it is written in the configuration and in the tag `kind:`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Paths(_) => "paths",
            Self::Command(_) => "command",
            Self::Etcd(_) => "etcd",
            Self::Device(_) => "device",
            Self::Hosts(_) => "hosts",
            Self::Database(_) => "database",
            Self::Bosh(_) => "bosh",
            Self::Openstack(_) => "openstack",
        }
    }

    /// Everything that is wrong; touches nothing.
    pub fn faults(&self) -> Vec<ConfigFault> {
        match self {
            Self::Paths(config) => config.faults(),
            Self::Command(config) => config.faults(),
            Self::Etcd(config) => config.faults(),
            Self::Device(config) => config.faults(),
            Self::Hosts(config) => config.faults(),
            Self::Database(config) => config.faults(),
            Self::Bosh(config) => config.faults(),
            Self::Openstack(config) => config.faults(),
        }
    }

    /// The secrets that it names, by key.
    pub fn secrets(&self) -> Vec<(&'static str, &SecretReference)> {
        match self {
            Self::Paths(_) | Self::Command(_) => Vec::new(),
            Self::Hosts(config) => config.secrets(),
            Self::Etcd(config) => config.secrets(),
            Self::Device(config) => config.secrets(),
            Self::Database(config) => config.secrets(),
            Self::Bosh(config) => config.secrets(),
            Self::Openstack(config) => config.secrets(),
        }
    }

    /// What the engine must know of its snapshots. Relative paths start from `directory`.
    pub fn outline(&self, source: &str, directory: &Path) -> Outline {
        match self {
            Self::Paths(config) => config.outline(directory),
            Self::Command(_) => Outline::below(TreePath::new("command").and_then(|root| root.join(source)).ok()),
            Self::Etcd(config) => config.outline(source),
            Self::Device(_) => DeviceConfig::outline(),
            Self::Hosts(config) => config.outline(),
            Self::Database(config) => config.outline(source),
            Self::Bosh(config) => config.outline(),
            Self::Openstack(config) => config.outline(),
        }
    }

    /// The running source, or everything that is wrong; touches nothing.
    pub fn build(&self, surroundings: Surroundings) -> Result<Box<dyn Source>, Vec<ConfigFault>> {
        let faults = self.faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(match self {
            Self::Paths(config) => Box::new(crate::paths::Paths::new(config.clone(), surroundings)?),
            Self::Command(config) => Box::new(crate::command::Command::new(config.clone(), surroundings)),
            Self::Etcd(config) => Box::new(crate::etcd::Etcd::new(config.clone(), surroundings)),
            Self::Device(config) => Box::new(crate::device::Devices::new(config.clone(), surroundings)),
            Self::Hosts(config) => Box::new(crate::hosts::Hosts::new((**config).clone(), surroundings)),
            Self::Database(config) => Box::new(crate::database::Database::new(config.clone(), surroundings)),
            Self::Bosh(config) => Box::new(crate::bosh::native::Bosh::new((**config).clone(), surroundings)),
            Self::Openstack(config) => Box::new(crate::openstack::Openstack::new((**config).clone(), surroundings)),
        })
    }
}

impl Outline {
    /// One virtual root and nothing else.
    pub(crate) fn below(root: Option<TreePath>) -> Self {
        let paths = root.iter().map(|root| format!("/{}", String::from_utf8_lossy(root.as_bytes()))).collect();
        Self { paths, root, ..Self::default() }
    }
}

impl ConfigFault {
    pub(crate) fn new(key: impl Into<String>, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { key: key.into(), text: text.into(), remedy: remedy.into() }
    }
}
