//! The keys of kind `openstack`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use onggi_node::pattern::glob_matches;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::cloud::{list, text};
use crate::config::{ConfigFault, Outline};
use crate::path::TreePath;
use crate::quantity::Period;
use crate::secret::{SecretKey, SecretReference};

/// Where all of this kind lies in a snapshot.
pub(super) const ROOT: &str = "openstack";
/// How long a snapshot may stand still unless the configuration says otherwise.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_hours(2);
/// How long another task on a server is waited for unless the configuration says otherwise.
const BUSY_TIMEOUT: Duration = Duration::from_mins(10);
/// Servers that are captured at once: several from one hypervisor slow it.
const SNAPSHOTS_DEFAULT: u16 = 2;
/// The most servers at once.
const SNAPSHOTS_MAX: u16 = 64;

/// Servers of OpenStack projects with their disks and volumes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OpenstackConfig {
    /// The entry of a clouds.yaml; without it and `openrc` the variables `OS_…` of the environment count.
    #[serde(default)]
    pub cloud: Option<String>,
    /// A file of variables `OS_…`.
    #[serde(default)]
    pub openrc: Option<Openrc>,
    /// The password, or the secret of an application credential, where the others do not hold it: a secret reference.
    #[serde(default)]
    pub password: Option<SecretKey>,
    /// Which region of the catalog.
    #[serde(default)]
    pub region: Option<String>,
    /// Certificates of the authorities that the cloud's certificates are of.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Names or ids of projects, `*` for all in which the login has a role; default: the login's own.
    #[serde(default)]
    pub projects: Vec<String>,
    /// Whether each project's own configuration is a unit, too: networks, groups, flavors, keys, documents of images,
    /// quotas; default true.
    #[serde(default)]
    pub project_configuration: Option<bool>,
    /// Which servers: all unless said otherwise.
    #[serde(default)]
    pub include: Included,
    /// Which of them not.
    #[serde(default)]
    pub exclude: Excluded,
    /// Whether attached volumes belong to a server.
    #[serde(default)]
    pub volumes: Volumes,
    /// What is done so that file systems stand still.
    #[serde(default)]
    pub freeze: Freeze,
    /// What is stored of a disk.
    #[serde(default)]
    pub encoding: Encoding,
    /// What is done with an encrypted volume, whose content only its key manager can read.
    #[serde(default)]
    pub encrypted: Encrypted,
    /// So many captures of each server stay in the cloud after they are stored; default 1.
    #[serde(default)]
    pub cloud_keep_last: Option<u16>,
    /// The cloud makes snapshots of so many servers at once; default 2. Those whose snapshots are made are fetched meanwhile,
    /// but where `freeze: stop` stops servers.
    #[serde(default)]
    pub parallel_snapshots_max: Option<u16>,
    /// So many images are fetched at once; default 1.
    #[serde(default)]
    pub parallel_transfers_max: Option<u16>,
    /// How long a snapshot may stand still; default 2h.
    #[serde(default)]
    pub snapshot_timeout: Option<Period>,
    /// How long another task on a server is waited for; default 10m.
    #[serde(default)]
    pub busy_timeout: Option<Period>,
}

/// A file of variables `OS_…`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Openrc {
    /// Its path.
    pub file: PathBuf,
    /// Whether its lines are read, or a shell runs it.
    #[serde(default)]
    pub mode: OpenrcMode,
    /// Arguments for the file, where a shell runs it: user and project, with devstack's.
    #[serde(default)]
    pub args: Vec<String>,
}

/// How an openrc is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OpenrcMode {
    /// Lines `export NAME=value`; nothing is run.
    #[default]
    Parse,
    /// A shell runs it.
    Source,
}

/// Which servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(rename = "OpenstackIncluded")]
pub struct Included {
    /// Names, with `*` for anything.
    #[serde(default)]
    pub name: Vec<String>,
    /// Metadata that a server must have, key by key.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Tags, of which it must have one.
    #[serde(default)]
    pub tag: Vec<String>,
    /// Availability zones, of which it must be in one.
    #[serde(default)]
    pub az: Vec<String>,
}

/// Which servers not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(rename = "OpenstackExcluded")]
pub struct Excluded {
    /// Names, with `*` for anything.
    #[serde(default)]
    pub name: Vec<String>,
    /// Metadata, of which one pair is enough.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Tags, of which one is enough.
    #[serde(default)]
    pub tag: Vec<String>,
    /// States, as Nova names them: `SHUTOFF`.
    #[serde(default)]
    pub status: Vec<String>,
}

/// Whether volumes belong to servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "OpenstackVolumes")]
pub enum Volumes {
    /// All that are attached.
    #[default]
    Attached,
    /// None. A server that starts from a volume is refused.
    None,
}

/// What is done so that file systems stand still.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "OpenstackFreeze")]
pub enum Freeze {
    /// What the server's image asks the cloud for.
    #[default]
    Cloud,
    /// The same, and a file system that was not frozen is not stored.
    Require,
    /// The server is stopped until its snapshot is fixed.
    Stop,
}

/// What is stored of a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "OpenstackEncoding")]
pub enum Encoding {
    /// Its content, so that what did not change is stored once.
    #[default]
    Raw,
    /// The image's file as the cloud gives it.
    Verbatim,
}

/// What is done with an encrypted volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "OpenstackEncrypted")]
pub enum Encrypted {
    /// The server is refused.
    #[default]
    Refuse,
    /// The encrypted container is stored; without the cloud's key manager it is of no use.
    Container,
}

impl OpenstackConfig {
    pub(super) fn stores_projects(&self) -> bool {
        self.project_configuration.unwrap_or(true)
    }

    pub(super) fn keep_last(&self) -> usize {
        usize::from(self.cloud_keep_last.unwrap_or(1))
    }

    pub(super) fn snapshots_max(&self) -> usize {
        usize::from(self.parallel_snapshots_max.unwrap_or(SNAPSHOTS_DEFAULT)).max(1)
    }

    pub(super) fn transfers_max(&self) -> usize {
        usize::from(self.parallel_transfers_max.unwrap_or(1)).max(1)
    }

    pub(super) fn snapshot_timeout(&self) -> Duration {
        self.snapshot_timeout.map_or(SNAPSHOT_TIMEOUT, |period| period.0)
    }

    pub(super) fn busy_timeout(&self) -> Duration {
        self.busy_timeout.map_or(BUSY_TIMEOUT, |period| period.0)
    }

    pub(crate) fn secrets(&self) -> Vec<(&'static str, &SecretReference)> {
        let reference = self.password.as_ref().and_then(SecretKey::reference);
        reference.map(|reference| ("password", reference)).into_iter().collect()
    }

    pub(crate) fn outline(&self) -> Outline {
        // While images of some are fetched, snapshots of others are made. A server that is stopped does not wait for its turn.
        let beside = if self.freeze == Freeze::Stop { 0 } else { self.transfers_max() };
        let width = self.snapshots_max() + beside;
        // The manifest is in the snapshot's root: below it each server has a root of its own.
        Outline {
            paths: vec![format!("/{ROOT}")],
            root: Some(TreePath::root()),
            apart: Some(width),
            ..Outline::default()
        }
    }

    pub(crate) fn faults(&self) -> Vec<ConfigFault> {
        let mut faults: Vec<_> = self.password.iter().filter_map(|key| key.fault("password")).collect();
        let mut wrong = |key: &str, text: &str, remedy: &str| faults.push(ConfigFault::new(key, text, remedy));
        if self.cloud.is_some() && self.openrc.is_some() {
            wrong("openrc", "the login is named twice", "keep one of `cloud` and `openrc`");
        }
        if self.openrc.as_ref().is_some_and(|openrc| openrc.mode == OpenrcMode::Parse && !openrc.args.is_empty()) {
            wrong("openrc.args", "a file that nobody runs takes none", "write `mode: source`, or leave them out");
        }
        if self.parallel_snapshots_max.is_some_and(|max| !(1..=SNAPSHOTS_MAX).contains(&max)) {
            wrong("parallel-snapshots-max", "so many servers cannot be captured at once", "write 1 to 64");
        }
        if self.parallel_transfers_max == Some(0) {
            wrong("parallel-transfers-max", "nothing would ever be fetched", "write 1 or more");
        }
        if self.projects.iter().any(String::is_empty) {
            wrong("projects", "a name is empty", "write a name, or `*` for all");
        }
        faults
    }

    /// Whether a server is to be backed up.
    pub(super) fn selects(&self, server: &Value) -> bool {
        let Self { include, exclude, .. } = self;
        let named = |patterns: &[String]| {
            let name = text(server, "name").as_bytes();
            patterns.iter().any(|pattern| glob_matches(pattern.as_bytes(), name))
        };
        let has = |(key, value): (&String, &String)| server["metadata"][key].as_str() == Some(value);
        let tagged = |tags: &[String]| list(server, "tags").any(|tag| tags.iter().any(|own| tag == own));
        let is_in = |words: &[String], key: &str| words.iter().any(|word| text(server, key).eq_ignore_ascii_case(word));
        let is_excluded = named(&exclude.name)
            || exclude.metadata.iter().any(has)
            || tagged(&exclude.tag)
            || is_in(&exclude.status, "status");
        (include.name.is_empty() || named(&include.name))
            && include.metadata.iter().all(has)
            && (include.tag.is_empty() || tagged(&include.tag))
            && (include.az.is_empty() || is_in(&include.az, "OS-EXT-AZ:availability_zone"))
            && !is_excluded
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(keys: &str, expected: bool) {
        let config: OpenstackConfig = serde_saphyr::from_str(keys).unwrap();
        assert_eq!(config.faults(), []);
        let server = json!({
            "name": "web-1", "status": "ACTIVE", "metadata": {"backup": "true", "index": "1"},
            "tags": ["gold"], "OS-EXT-AZ:availability_zone": "nova",
        });
        assert_eq!(config.selects(&server), expected, "{keys}");
    }

    #[test]
    fn a_server_is_chosen_by_name_metadata_tag_and_zone() {
        check("cloud: a", true);
        check("include: { name: [\"web-*\"], metadata: { backup: \"true\" }, tag: [gold], az: [nova] }", true);
        check("include: { name: [db] }", false);
        check("include: { metadata: { backup: \"true\", index: \"2\" } }", false);
        check("include: { tag: [silver] }", false);
        check("exclude: { name: [\"*-1\"] }", false);
        check("exclude: { metadata: { backup: \"false\", index: \"1\" } }", false);
        check("exclude: { tag: [gold] }", false);
        check("exclude: { status: [shutoff] }", true);
        check("exclude: { status: [active] }", false);
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let keys = "{cloud: a, openrc: {file: /rc, args: [x]}, password: hunter2, parallel-snapshots-max: 0, \
            parallel-transfers-max: 0, projects: [\"\"]}";
        let config: OpenstackConfig = serde_saphyr::from_str(keys).unwrap();
        let keys: Vec<_> = config.faults().into_iter().map(|fault| fault.key).collect();
        let expected =
            ["password", "openrc", "openrc.args", "parallel-snapshots-max", "parallel-transfers-max", "projects"];
        assert_eq!(keys, expected);
    }
}
