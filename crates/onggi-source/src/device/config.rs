//! The keys of kind `device`, and the list of devices.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::model::{self, Model};
use crate::config::{ConfigFault, Outline};
use crate::path::TreePath;
use crate::quantity::Period;
use crate::secret::{SecretKey, SecretReference};
use crate::source::{Result, SourceError};

/// Most devices of one source.
const DEVICES_MAX: usize = 100_000;
/// Longest inventory file, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Switches, routers and firewalls that are reached over SSH; each is a unit.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DeviceConfig {
    /// Files that list the devices; several are joined by name. Read again before each run.
    pub inventory: Vec<DeviceInventory>,
    /// How they are reached.
    #[serde(default)]
    pub connect: DeviceConnect,
    /// Further models by name, or others than those that are built in.
    #[serde(default)]
    pub models: BTreeMap<String, Model>,
}

/// A file with a map `hosts`: by name `address`, `port`, `host-key`, `model`, `legacy`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DeviceInventory {
    /// Where it is.
    pub file: PathBuf,
}

/// How devices are reached.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DeviceConnect {
    /// Who logs in.
    pub user: String,
    /// The password: a secret reference.
    pub password: Option<SecretKey>,
    /// File of a private key.
    pub key: Option<PathBuf>,
    /// How a device proves who it is.
    pub trust: DeviceTrust,
    /// How long it may be silent before it counts as hung.
    pub silence_max: Period,
    /// How long all its answers may take.
    pub time_limit: Period,
}

/// How a device proves who it is. There is no way to do without.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceTrust {
    /// By a key that was approved, or that the inventory names.
    #[default]
    Approve,
    /// By the key that the inventory names.
    Pinned,
}

impl Default for DeviceConnect {
    fn default() -> Self {
        Self {
            user: String::new(),
            password: None,
            key: None,
            trust: DeviceTrust::default(),
            silence_max: Period(Duration::from_mins(1)),
            time_limit: Period(Duration::from_mins(10)),
        }
    }
}

/// A device with all that holds for it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) host_key: Option<String>,
    pub(super) legacy: bool,
    pub(super) model: Model,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    hosts: BTreeMap<String, Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Listed {
    /// Its own name if absent.
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    host_key: Option<String>,
    model: String,
    /// Methods that are broken by today's measure are spoken with it.
    #[serde(default)]
    legacy: bool,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Reads all inventories. A device of an unknown model is an error at once: passing it over would be silence.
pub(super) fn load(config: &DeviceConfig, directory: &Path) -> Result<BTreeMap<String, Device>> {
    let mut devices = BTreeMap::new();
    for inventory in &config.inventory {
        for (name, listed) in read(&directory.join(&inventory.file))?.hosts {
            let device = resolve(name.clone(), listed, config)?;
            devices.insert(name, device);
        }
    }
    if devices.len() > DEVICES_MAX {
        return Err(SourceError::Refused(format!("the inventory has more than {DEVICES_MAX} devices")));
    }
    Ok(devices)
}

fn read(path: &Path) -> Result<File> {
    let failed = |error: String| SourceError::Denied(format!("read {}: {error}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(failed(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    serde_saphyr::from_str(&text).map_err(|error| failed(error.to_string()))
}

fn resolve(name: String, listed: Listed, config: &DeviceConfig) -> Result<Device> {
    let refused = |text: String| SourceError::Refused(format!("device {name:?}: {text}"));
    if TreePath::root().join(&name).is_err() || name.contains(char::is_whitespace) {
        return Err(refused("this is no name".to_owned()));
    }
    let own = config.models.get(&listed.model).cloned();
    let model = own.or_else(|| model::built_in(&listed.model)).ok_or_else(|| {
        let known: Vec<_> = model::names().into_iter().chain(config.models.keys().cloned()).collect();
        refused(format!("there is no model {:?} (there are: {})", listed.model, known.join(", ")))
    })?;
    if config.connect.trust == DeviceTrust::Pinned && listed.host_key.is_none() {
        return Err(refused("`trust: pinned` needs a `host-key`".to_owned()));
    }
    let address = listed.address.unwrap_or_else(|| name.clone());
    if address.is_empty() || address.starts_with('-') || address.contains(char::is_whitespace) {
        return Err(refused(format!("{address:?} is no address")));
    }
    drop(listed.labels); // for people and for other tools that read the same file
    let (port, legacy) = (listed.port.unwrap_or(22), listed.legacy);
    Ok(Device { name, address, port, host_key: listed.host_key, legacy, model })
}

impl DeviceConfig {
    pub(crate) fn outline() -> Outline {
        Outline::below(TreePath::new("device").ok())
    }

    pub(crate) fn secrets(&self) -> Vec<(&'static str, &SecretReference)> {
        let password = self.connect.password.as_ref().and_then(SecretKey::reference);
        password.map(|reference| ("connect.password", reference)).into_iter().collect()
    }

    pub(crate) fn faults(&self) -> Vec<ConfigFault> {
        let mut faults: Vec<_> =
            self.connect.password.as_ref().and_then(|key| key.fault("connect.password")).into_iter().collect();
        let mut wrong = |key: &str, text: &str, remedy: &str| faults.push(ConfigFault::new(key, text, remedy));
        if self.inventory.is_empty() {
            wrong("inventory", "there is no list of devices", "name a file: `- { file: /etc/onggi/switches.yaml }`");
        }
        if self.connect.user.is_empty() {
            wrong("connect.user", "nobody logs in", "name the user, one who may only show");
        }
        if self.connect.password.is_none() && self.connect.key.is_none() {
            wrong("connect", "there is neither key nor password", "write `password: file:/path` or `key: /path`");
        }
        for (name, model) in &self.models {
            faults.extend(model.faults().map(|(key, text)| {
                ConfigFault::new(format!("models.{name}.{key}"), text, "see the built-in models in the guide")
            }));
        }
        faults
    }
}
