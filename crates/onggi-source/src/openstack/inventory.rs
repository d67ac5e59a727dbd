//! Hosts out of a cloud, for sources that reach machines by other ways: its servers, or the hypervisors that they run on.
//!
//! Servers are chosen by the words of the kind `openstack`, and asked for with its login. What cannot be a host is told
//! and left out; the others are hosts all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::cloud::{Cloud, Service, list, pages, text};
use super::{Excluded, Included, Openrc, Openstack, OpenstackConfig, api, mark};
use crate::config::{ConfigFault, Surroundings};
use crate::context::{Context, Problem};
use crate::secret::{SecretKey, SecretReference};
use crate::source::{Result, SourceError};

/// Hosts out of an OpenStack: servers, or hypervisors.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CloudInventory {
    /// The entry of a clouds.yaml; without it and `openrc` the variables `OS_…` of the environment count.
    pub cloud: Option<String>,
    /// A file of variables `OS_…`.
    pub openrc: Option<Openrc>,
    /// The password, or the secret of an application credential, where the others do not hold it: a secret reference.
    pub password: Option<SecretKey>,
    /// Which region of the catalog.
    pub region: Option<String>,
    /// Certificates of the authorities that the cloud's certificates are of.
    pub ca: Option<PathBuf>,
    /// Names or ids of projects, `*` for all in which the login has a role; default: the login's own.
    pub projects: Vec<String>,
    /// What is listed.
    pub list: Listing,
    /// Which of them: all unless said otherwise.
    pub include: Included,
    /// Which of them not.
    pub exclude: Excluded,
    /// What a host is called by.
    pub named_by: NamedBy,
    /// The network whose address is taken; else the server's first that has one.
    pub network: Option<String>,
    /// 4 or 6; else 4, and 6 where there is none.
    pub ip_version: Option<u8>,
    /// Whether a floating address is taken.
    pub floating: Floating,
}

/// What is listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "OpenstackListing")]
pub enum Listing {
    /// Servers of the projects.
    #[default]
    Servers,
    /// The machines that servers run on; an administrator alone sees them.
    Hypervisors,
}

/// What a host is called by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "OpenstackNamedBy")]
pub enum NamedBy {
    /// Its name in the cloud, which must be no other's.
    #[default]
    Name,
    /// Its id, which stays when it is renamed.
    Id,
}

/// Whether a floating address is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "OpenstackFloating")]
pub enum Floating {
    /// Where there is one, else a fixed one.
    #[default]
    Prefer,
    /// No other.
    Only,
    /// Never.
    Never,
}

/// A machine that a cloud knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CloudHost {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) labels: BTreeMap<String, String>,
}

impl CloudInventory {
    /// The login and the choice, as the kind `openstack` has them.
    fn config(&self) -> OpenstackConfig {
        OpenstackConfig {
            cloud: self.cloud.clone(),
            openrc: self.openrc.clone(),
            password: self.password.clone(),
            region: self.region.clone(),
            ca: self.ca.clone(),
            projects: self.projects.clone(),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            ..OpenstackConfig::default()
        }
    }

    pub(crate) fn secret(&self) -> Option<&SecretReference> {
        self.password.as_ref().and_then(SecretKey::reference)
    }

    pub(crate) fn faults(&self) -> Vec<ConfigFault> {
        let mut faults = self.config().faults();
        let mut wrong = |key: &str, text: &str, remedy: &str| faults.push(ConfigFault::new(key, text, remedy));
        if self.ip_version.is_some_and(|version| ![4, 6].contains(&version)) {
            wrong("ip-version", "there is no such version", "write 4 or 6");
        }
        if self.list == Listing::Hypervisors {
            let has_address = self.network.is_some() || self.ip_version.is_some() || self.floating != Floating::Prefer;
            if has_address {
                wrong(
                    "network",
                    "the cloud says one address of a hypervisor",
                    "leave network, ip-version, floating out",
                );
            }
            let (include, exclude) = (&self.include, &self.exclude);
            let is_of_servers = !(include.metadata.is_empty() && include.tag.is_empty() && include.az.is_empty());
            if is_of_servers || !(exclude.metadata.is_empty() && exclude.tag.is_empty()) {
                wrong("include", "a hypervisor has neither metadata nor tags nor zone", "choose hypervisors by name");
            }
        }
        faults
    }

    /// The hosts that there are now.
    pub(crate) async fn hosts(&self, cx: &Context, surroundings: &Surroundings) -> Result<Vec<CloudHost>> {
        let openstack = Openstack::new(self.config(), surroundings.clone());
        let clouds = openstack.clouds(cx).await?;
        let mut found = Vec::new();
        if let (Listing::Hypervisors, Some(cloud)) = (self.list, clouds.first()) {
            // They are of no project: one is enough to ask.
            found = self.hypervisors(cx, &**cloud, &openstack.config).await?;
        } else {
            for cloud in clouds {
                found.extend(self.servers(cx, &**cloud, &openstack.config).await?);
            }
        }
        Ok(distinct(cx, found))
    }

    async fn servers(&self, cx: &Context, cloud: &dyn Cloud, config: &OpenstackConfig) -> Result<Vec<CloudHost>> {
        let project = cloud.project(cx).await?;
        let mut found = Vec::new();
        for server in api::servers(cx, cloud).await? {
            if mark::whose(&server).is_some() || !config.selects(&server) {
                continue;
            }
            let name = text(&server, if self.named_by == NamedBy::Id { "id" } else { "name" }).to_owned();
            let Some(address) = self.address(&server) else {
                told(cx, format!("server {name} has {}: choose another, or exclude it", self.wanted()));
                continue;
            };
            let mut labels = labels(&server);
            labels.insert("openstack.project".to_owned(), project.name.clone());
            found.push(CloudHost { name, address: address.to_owned(), labels });
        }
        Ok(found)
    }

    async fn hypervisors(&self, cx: &Context, cloud: &dyn Cloud, config: &OpenstackConfig) -> Result<Vec<CloudHost>> {
        let path = "/os-hypervisors/detail".to_owned();
        let listed = pages(cx, cloud, Service::Compute, path, "hypervisors", Some(api::COMPUTE)).await;
        let listed = listed.map_err(|error| match error.status() {
            Some(403) => SourceError::Denied(format!(
                "{error}; administrators alone see hypervisors: log in as one, or leave `list: hypervisors` out"
            )),
            _ => error.into(),
        })?;
        let mut found = Vec::new();
        for one in listed {
            let hostname = text(&one, "hypervisor_hostname");
            let named = serde_json::json!({ "name": hostname, "status": one["status"] });
            if !config.selects(&named) {
                continue;
            }
            let id = one["id"].as_str().map_or_else(|| one["id"].to_string(), ToOwned::to_owned);
            let address = text(&one, "host_ip");
            let address = if address.is_empty() { hostname } else { address }.to_owned();
            let name = if self.named_by == NamedBy::Id { id } else { hostname.to_owned() };
            let said = [("state", text(&one, "state")), ("status", text(&one, "status")), ("host", hostname)];
            let labels = said.into_iter().map(|(key, value)| (format!("openstack.{key}"), value.to_owned())).collect();
            found.push(CloudHost { name, address, labels });
        }
        Ok(found)
    }

    /// The address that a server is reached at: of its networks in the order of its ports.
    fn address<'a>(&self, server: &'a Value) -> Option<&'a str> {
        let networks = server["addresses"].as_object()?.iter();
        let networks = networks.filter(|(name, _)| self.network.as_ref().is_none_or(|wanted| wanted == *name));
        let all: Vec<&Value> = networks.flat_map(|(_, all)| all.as_array().into_iter().flatten()).collect();
        let of = |is_floating: bool, version: u64| {
            let fits = |one: &&&Value| {
                (text(one, "OS-EXT-IPS:type") == "floating") == is_floating && one["version"].as_u64() == Some(version)
            };
            let found = all.iter().filter(fits).map(|one| text(one, "addr"));
            found.into_iter().find(|address| address.parse::<IpAddr>().is_ok())
        };
        let versions: &[u64] = match self.ip_version {
            Some(6) => &[6],
            Some(_) => &[4],
            None => &[4, 6],
        };
        let kinds: &[bool] = match self.floating {
            Floating::Prefer => &[true, false],
            Floating::Only => &[true],
            Floating::Never => &[false],
        };
        kinds.iter().find_map(|kind| versions.iter().find_map(|version| of(*kind, *version)))
    }

    /// What no address was found of, in words.
    fn wanted(&self) -> String {
        let kind = match self.floating {
            Floating::Prefer => "",
            Floating::Only => "floating ",
            Floating::Never => "fixed ",
        };
        let version = self.ip_version.map_or(String::new(), |version| format!(" of version {version}"));
        let network = self.network.as_ref().map_or(String::new(), |name| format!(" in network {name}"));
        format!("no {kind}address{version}{network}")
    }
}

/// A server's metadata, and its tags as labels that are `true`.
fn labels(server: &Value) -> BTreeMap<String, String> {
    let pairs = server["metadata"].as_object().into_iter().flatten();
    let mut labels: BTreeMap<_, _> =
        pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
    let tags = list(server, "tags").filter_map(Value::as_str);
    labels.extend(tags.map(|tag| (format!("tag.{tag}"), "true".to_owned())));
    // What the cloud says itself no tenant can say otherwise.
    labels.retain(|key, _| !key.starts_with("openstack."));
    for (label, key) in [("zone", "OS-EXT-AZ:availability_zone"), ("host", "OS-EXT-SRV-ATTR:hypervisor_hostname")] {
        if !text(server, key).is_empty() {
            labels.insert(format!("openstack.{label}"), text(server, key).to_owned());
        }
    }
    labels
}

/// Without those that share a name: nobody could say which of them a snapshot is of.
fn distinct(cx: &Context, mut found: Vec<CloudHost>) -> Vec<CloudHost> {
    let (mut once, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for host in &found {
        if !once.insert(host.name.clone()) {
            twice.insert(host.name.clone());
        }
    }
    for name in &twice {
        told(cx, format!("several servers are called {name}: exclude all but one, or write `named-by: id`"));
    }
    found.retain(|host| !twice.contains(&host.name));
    found
}

pub(crate) fn told(cx: &Context, text: String) {
    cx.problem(Problem { class: "inventory", path: None, text });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bench::Bench;
    use crate::openstack::fake::FakeCloud;

    fn inventory(keys: &str) -> CloudInventory {
        serde_saphyr::from_str(keys).unwrap()
    }

    #[track_caller]
    fn check(keys: &str, expected: Option<&str>) {
        let inventory = inventory(keys);
        assert_eq!(inventory.faults(), []);
        let one =
            |addr: &str, version: u8, kind: &str| json!({"addr": addr, "version": version, "OS-EXT-IPS:type": kind});
        let inner = [one("fd00::5", 6, "fixed"), one("10.0.0.5", 4, "fixed"), one("203.0.113.5", 4, "floating")];
        let server = json!({"addresses": {"inner": inner, "back": [one("10.9.0.5", 4, "fixed")]}});
        assert_eq!(inventory.address(&server), expected, "{keys}");
    }

    #[test]
    fn an_address_is_chosen_by_network_version_and_kind() {
        check("cloud: a", Some("203.0.113.5"));
        check("floating: never", Some("10.0.0.5"));
        check("{floating: never, ip-version: 6}", Some("fd00::5"));
        check("ip-version: 6", Some("fd00::5"));
        check("network: back", Some("10.9.0.5"));
        check("{network: back, floating: only}", None);
        check("{network: back, ip-version: 6}", None);
        check("network: other", None);
    }

    #[test]
    fn what_a_hypervisor_does_not_have_is_a_fault() {
        let keys = "{list: hypervisors, network: a, include: {tag: [b]}, ip-version: 5, cloud: a, openrc: {file: /rc}}";
        let faults = inventory(keys).faults();
        let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["openrc", "ip-version", "network", "include"]);
    }

    fn server(cloud: &FakeCloud, id: &str, name: &str, more: &Value) {
        let address = json!({"net": [{"addr": format!("10.0.0.{}", cloud.state().servers.len()), "version": 4}]});
        let mut server = json!({"id": id, "name": name, "status": "ACTIVE", "addresses": address, "metadata": {}});
        server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        cloud.state().servers.insert(id.to_owned(), server);
    }

    async fn listed(keys: &str, cloud: &FakeCloud) -> (Vec<CloudHost>, Vec<String>) {
        let (bench, inventory) = (Bench::new("r1"), inventory(keys));
        let found = inventory.servers(&bench.cx, cloud, &inventory.config()).await.unwrap();
        (distinct(&bench.cx, found), bench.seen.problem_texts())
    }

    #[tokio::test(start_paused = true)]
    async fn servers_are_hosts_with_their_metadata_and_tags_as_labels() {
        let cloud = FakeCloud::new();
        let metadata = json!({"metadata": {"role": "web", "openstack.zone": "mine"}, "tags": ["gold"], "OS-EXT-AZ:availability_zone": "nova"});
        server(&cloud, "a", "web-1", &metadata);
        server(&cloud, "b", "db-1", &json!({}));
        let (found, problems) = listed("include: {name: [\"web-*\"]}", &cloud).await;
        let labels = [("openstack.project", "demo"), ("openstack.zone", "nova"), ("role", "web"), ("tag.gold", "true")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(found, [CloudHost { name: "web-1".to_owned(), address: "10.0.0.1".to_owned(), labels }]);
        assert_eq!(problems, Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_a_host_is_told_and_the_others_are_hosts() {
        let cloud = FakeCloud::new();
        server(&cloud, "a", "twin", &json!({}));
        server(&cloud, "b", "twin", &json!({}));
        server(&cloud, "c", "good", &json!({}));
        let (found, problems) = listed("cloud: a", &cloud).await;
        assert_eq!(found.iter().map(|host| host.name.as_str()).collect::<Vec<_>>(), ["good"]);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("server web has no address"), "{problems:?}");
        assert!(problems[1].contains("several servers are called twin"), "{problems:?}");
        let (found, _) = listed("named-by: id", &cloud).await;
        assert_eq!(found.iter().map(|host| host.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn hypervisors_are_an_administrators_to_list() {
        let (cloud, bench) = (FakeCloud::new(), Bench::new("r1"));
        let inventory = inventory("{list: hypervisors, include: {name: [\"cmp*\"]}}");
        let node = |name: &str, ip: &str| json!({"id": name, "hypervisor_hostname": name, "host_ip": ip, "state": "up", "status": "enabled"});
        let things = vec![node("cmp1", "192.0.2.7"), node("gpu1", "192.0.2.8")];
        cloud.state().lists.insert("/os-hypervisors/detail".to_owned(), things);
        let found = inventory.hypervisors(&bench.cx, &cloud, &inventory.config()).await.unwrap();
        assert_eq!(found.iter().map(|host| (&*host.name, &*host.address)).collect::<Vec<_>>(), [("cmp1", "192.0.2.7")]);
        cloud.state().withheld.insert("/os-hypervisors/detail".to_owned());
        let denied = inventory.hypervisors(&bench.cx, &cloud, &inventory.config()).await.unwrap_err();
        assert!(matches!(&denied, SourceError::Denied(text) if text.contains("list: hypervisors")), "{denied}");
    }
}
