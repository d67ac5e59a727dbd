//! A project's configuration as a unit of its own: networks, groups, flavors, keys and all else that its servers stand
//! on, each as the document that the cloud gives, so that a lost cloud can be built again and a changed one is seen.
//!
//! What did not change is the same file with the same bytes: members stand in the order of their names, what is a set in
//! the order of its elements, and no file bears a moment that is not the thing's own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::cloud::{Ask, Cloud, Project, Service, document, pages, text};
use super::config::ROOT;
use super::error::{CloudError, Result as CloudResult};
use super::items::FORMAT;
use super::{api, mark};
use crate::Timestamp;
use crate::context::{Context, Problem, Progress};
use crate::item::{Content, Item, Metadata};
use crate::path::TreePath;
use crate::percent::escape;
use crate::source::{Capture, Facts, Items, Result, SourceError, Unit};

/// The tag of all snapshots of this kind: documents, of which nothing can be started.
pub const CONFIGURATION: &str = "configuration";
/// What a project's unit is called by, before its id: no server's id begins so.
const PREFIX: &str = "project-";
/// The folder of a project's configuration, beside those of its servers.
const FOLDER: &str = "project";
/// What is said of documents that are not ours to see.
const WITHHELD: &str = "withheld.json";
/// Ports by which routers are connected; those of servers are stored with them.
const INTERFACES: &str = "/ports?device_owner=network:router_interface\
    &device_owner=network:router_interface_distributed&device_owner=network:ha_router_replicated_interface";
/// Lists of names in which the order means nothing.
const SETS: &[&str] = &["availability_zone_hints", "availability_zones", "members", "subnets", "tags"];

/// Documents of one kind.
struct Collection {
    folder: &'static str,
    service: Service,
    path: &'static str,
    /// The member of a page that lists them.
    key: &'static str,
    /// The member of each that is unlike any other's.
    name: &'static str,
}

impl Collection {
    const fn new(folder: &'static str, service: Service, path: &'static str, key: &'static str) -> Self {
        Self { folder, service, path, key, name: "id" }
    }
}

/// Networks come before subnets, which are kept with them.
const COLLECTIONS: &[Collection] = &[
    Collection::new("networks", Service::Network, "/networks", "networks"),
    Collection::new("subnets", Service::Network, "/subnets", "subnets"),
    Collection::new("subnet-pools", Service::Network, "/subnetpools", "subnetpools"),
    Collection::new("routers", Service::Network, "/routers", "routers"),
    Collection::new("router-interfaces", Service::Network, INTERFACES, "ports"),
    Collection::new("floating-addresses", Service::Network, "/floatingips", "floatingips"),
    Collection::new("security-groups", Service::Network, "/security-groups", "security_groups"),
    Collection::new("flavors", Service::Compute, "/flavors/detail", "flavors"),
    Collection { name: "name", ..Collection::new("keypairs", Service::Compute, "/os-keypairs", "keypairs") },
    Collection::new("server-groups", Service::Compute, "/os-server-groups", "server_groups"),
    Collection::new("images", Service::Image, "/images", "images"),
    Collection::new("volume-types", Service::Volume, "/types", "volume_types"),
];

/// Limits of a project: where, and the member that holds them.
const QUOTAS: [(&str, Service, &str, &str); 3] = [
    ("compute", Service::Compute, "/os-quota-sets", "quota_set"),
    ("volume", Service::Volume, "/os-quota-sets", "quota_set"),
    ("network", Service::Network, "/quotas", "quota"),
];

/// The unit of a project.
pub(super) fn unit(project: &Project) -> Unit {
    Unit { id: format!("{PREFIX}{}", project.id).as_str().into(), name: project.name.clone() }
}

/// The project that a unit is the configuration of; `None` of a server.
pub(super) fn of(unit: &Unit) -> Option<&str> {
    unit.id.as_str().strip_prefix(PREFIX)
}

/// The documents of a project, as they were at one moment.
pub(super) struct Documents {
    cloud_name: String,
    project: Project,
    /// By path below the project's folder, in order.
    files: BTreeMap<(&'static str, String), Value>,
    withheld: Vec<Value>,
    taken_at: Timestamp,
}

/// Asks for all documents.
pub(super) async fn capture(cx: &Context, cloud: Arc<dyn Cloud>, cloud_name: &str) -> Result<Documents> {
    let project = cloud.project(cx).await?;
    let taken_at = cx.world.now();
    let mut gathering =
        Gathering { cx, cloud: &*cloud, project: &project, files: BTreeMap::new(), withheld: Vec::new() };
    gathering.collections().await?;
    gathering.quotas().await?;
    let Gathering { files, withheld, .. } = gathering;
    Ok(Documents { cloud_name: cloud_name.to_owned(), project, files, withheld, taken_at })
}

struct Gathering<'a> {
    cx: &'a Context,
    cloud: &'a dyn Cloud,
    project: &'a Project,
    files: BTreeMap<(&'static str, String), Value>,
    withheld: Vec<Value>,
}

impl Gathering<'_> {
    async fn collections(&mut self) -> Result<()> {
        let (mut networks, mut refusal) = (BTreeSet::new(), None);
        for one in COLLECTIONS {
            self.cx.monitor.progress(Progress::Phase(format!("listing {}", one.folder)));
            let version = (one.service == Service::Compute).then_some(api::COMPUTE);
            let listed = pages(self.cx, self.cloud, one.service, one.path.to_owned(), one.key, version).await;
            let Some(listed) = self.seen(one.folder, listed, &mut refusal)? else { continue };
            for thing in listed {
                // Key pairs are wrapped once more.
                let thing = thing.get("keypair").cloned().unwrap_or(thing);
                let is_ours = concerns(&thing, &self.project.id) || networks.contains(text(&thing, "network_id"));
                if !is_ours || mark::is_capture(&thing) {
                    continue;
                }
                if one.folder == "networks" {
                    networks.insert(text(&thing, "id").to_owned());
                }
                let name = escape(text(&thing, one.name));
                self.files.insert((one.folder, format!("{name}.json")), canonical(thing));
            }
        }
        match refusal {
            // Of a login that may see nothing at all there is nothing to store.
            Some(error) if self.withheld.len() == COLLECTIONS.len() => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn quotas(&mut self) -> Result<()> {
        for (name, service, path, key) in QUOTAS {
            let ask = Ask::get(service, format!("{path}/{}", escape(&self.project.id)));
            let ask = if service == Service::Compute { ask.version(api::COMPUTE) } else { ask };
            match document(self.cx, self.cloud, ask).await {
                Ok(mut answer) => {
                    self.files.insert(("quotas", format!("{name}.json")), canonical(answer[key].take()));
                }
                // Many clouds show them to administrators alone, and a new cloud has others.
                Err(error) if is_withheld(&error) => self.note(&format!("quotas/{name}"), &error),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// What was listed; `None` if it is not ours to see, or the cloud has no such thing.
    fn seen(
        &mut self,
        what: &'static str,
        listed: CloudResult<Vec<Value>>,
        refusal: &mut Option<CloudError>,
    ) -> Result<Option<Vec<Value>>> {
        match listed {
            Err(error) if is_withheld(&error) => {
                self.note(what, &error);
                if matches!(error.status(), Some(401 | 403)) || matches!(error, CloudError::Denied(_)) {
                    let text = format!(
                        "the project's {what} are not stored: {error}; give the login a role that lists them, or write \
                         `project-configuration: false`"
                    );
                    self.cx.problem(Problem { class: "document", path: None, text });
                }
                refusal.get_or_insert(error);
                Ok(None)
            }
            listed => Ok(Some(listed?)),
        }
    }

    fn note(&mut self, what: &str, error: &CloudError) {
        self.withheld.push(json!({ "what": what, "why": error.to_string() }));
    }
}

/// Whether all else goes on without it. A login may be restricted to some services, which Keystone refuses as a token.
fn is_withheld(error: &CloudError) -> bool {
    error.is_withheld() || matches!(error, CloudError::Denied(_))
}

/// Whether a project sees a thing as its own or as everybody's: an administrator is shown those of all projects.
fn concerns(thing: &Value, project: &str) -> bool {
    let owner = ["project_id", "tenant_id", "owner"].map(|key| text(thing, key)).into_iter().find(|id| !id.is_empty());
    owner.is_none_or(|owner| owner == project)
        || thing["shared"] == true
        || thing["router:external"] == true
        || matches!(text(thing, "visibility"), "public" | "shared" | "community")
}

/// The same document in the order that it always has.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.into_iter().collect();
            let in_order = |(key, member): (String, Value)| {
                let is_set = SETS.contains(&key.as_str());
                let mut member = canonical(member);
                if let (true, Value::Array(elements)) = (is_set, &mut member) {
                    elements.sort_by_key(|one| one.as_str().map(ToOwned::to_owned));
                }
                (key, member)
            };
            Value::Object(sorted.into_iter().map(in_order).collect::<Map<_, _>>())
        }
        Value::Array(elements) => {
            let mut elements: Vec<_> = elements.into_iter().map(canonical).collect();
            if elements.iter().all(|one| !text(one, "id").is_empty()) {
                elements.sort_by_key(|one| text(one, "id").to_owned());
            }
            Value::Array(elements)
        }
        other => other,
    }
}

/// When a thing changed last, as the cloud's clock has it. Cinder's times have no zone; they are UTC.
fn changed_at(thing: &Value) -> Timestamp {
    let moment = |key: &str| format!("{}Z", text(thing, key).trim_end_matches('Z')).parse().ok();
    ["updated_at", "created_at"].into_iter().find_map(moment).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[async_trait]
impl Capture for Documents {
    async fn items(&mut self, _cx: &Context, out: &dyn Items) -> Result<Facts> {
        let fault = |error: &dyn std::fmt::Display| SourceError::Incomplete(error.to_string());
        let region = if self.project.region.is_empty() { "region" } else { &self.project.region };
        let mut root = TreePath::new(ROOT).map_err(|error| fault(&error))?;
        for name in [region, &self.project.id, FOLDER] {
            root = root.join(name.replace('/', "_")).map_err(|error| fault(&error))?;
        }
        let newest = self.files.values().map(changed_at).max().unwrap_or_default();
        let folder = |path: TreePath| {
            Item::directory(path).with_metadata(Metadata { mode: 0o700, mtime: newest, ..Metadata::default() })
        };
        let file = async |path: TreePath, value: &Value| {
            let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| fault(&error))?;
            bytes.push(b'\n');
            let (size, mtime) = (bytes.len() as u64, changed_at(value));
            let metadata = Metadata { mode: 0o600, mtime, links: 1, size, ..Metadata::default() };
            out.push(Item::file(path).with_metadata(metadata), Content::Inline(Bytes::from(bytes))).await.map(drop)
        };
        let mut above: Vec<_> = std::iter::successors(Some(root.clone()), TreePath::parent).collect();
        above.retain(|path| !path.is_root());
        for path in above.iter().rev() {
            out.push(folder(path.clone()), Content::None).await?;
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for ((of, name), value) in &self.files {
            let kind = root.join(of).map_err(|error| fault(&error))?;
            if !counts.contains_key(of) {
                out.push(folder(kind.clone()), Content::None).await?;
            }
            *counts.entry(of).or_default() += 1;
            file(kind.join(name).map_err(|error| fault(&error))?, value).await?;
        }
        if !self.withheld.is_empty() {
            let path = root.join(WITHHELD).map_err(|error| fault(&error))?;
            file(path, &Value::Array(self.withheld.clone())).await?;
        }
        for of in counts.keys() {
            out.leave(&root.join(of).map_err(|error| fault(&error))?).await?;
        }
        for path in &above {
            out.leave(path).await?;
        }
        let tags = vec![
            format!("project:{}", self.project.id),
            format!("cloud:{}", self.cloud_name),
            CONFIGURATION.to_owned(),
        ];
        let notes = json!({ "format": FORMAT, "project": self.project.name, "documents": counts });
        Ok(Facts { roots: vec![root], tags, notes, ..Facts::new(self.taken_at) })
    }
}
