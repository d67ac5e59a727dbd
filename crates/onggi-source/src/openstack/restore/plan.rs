//! Looks at the destination: what is there, what is to be made, what cannot be.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Boot, Mode, RestoreOptions};
use crate::carrier::lost;
use crate::context::{Context, Destination};
use crate::openstack::cloud::{Cloud, Service, list, pages, text};
use crate::openstack::items::{DOCUMENTS, Disk, Notes};
use crate::openstack::{Openstack, api, build, record, upload};
use crate::path::TreePath;
use crate::source::{Known, RestorePlan, RestoreRequest, Result, SourceError, Step, Stored};

/// No network at all.
pub(super) const NONE: &str = "none";
/// The largest document, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 64 << 20;

/// What a restore goes by.
pub(super) struct Planned {
    pub(super) cloud: Arc<dyn Cloud>,
    pub(super) root: TreePath,
    pub(super) documents: Value,
    pub(super) disks: Vec<Disk>,
    pub(super) name: String,
    pub(super) boot: Boot,
    pub(super) flavor: String,
    /// Each captured port and the network it gets.
    pub(super) ports: Vec<(Value, String)>,
    pub(super) boot_images: Vec<BootImage>,
    /// Of the server's image.
    pub(super) properties: Map<String, Value>,
    pub(super) volume_types: Vec<String>,
    pub(super) plan: RestorePlan,
}

/// A kernel or a ramdisk.
pub(super) struct BootImage {
    pub(super) key: &'static str,
    pub(super) id: String,
    /// As it was captured.
    pub(super) image: Value,
    /// One with the same content in the destination.
    pub(super) there: Option<String>,
}

pub(super) async fn plan(
    source: &Openstack,
    cx: &Context,
    request: &RestoreRequest,
    options: &RestoreOptions,
    from: &dyn Stored,
) -> Result<Planned> {
    let facts = from.facts().last().ok_or_else(|| damaged("the snapshot does not say what it is of"))?;
    let notes: Notes = serde_json::from_value(facts.notes.clone())
        .map_err(|error| damaged(&format!("what it says of itself: {error}")))?;
    let root = facts.roots.first().cloned().ok_or_else(|| damaged("the snapshot has no root"))?;
    let documents = read(cx, from, &root, DOCUMENTS).await?;
    let cloud = destination(source, cx, options).await?;
    let properties = record::bases(&documents).next().map(upload::properties).unwrap_or_default();
    let mut planned = Planned {
        name: name(cx, request, options, &documents),
        boot: options.boot.unwrap_or(match notes.disks.first() {
            Some(disk) if disk.volume_id.is_some() => Boot::Volume,
            _ => Boot::Image,
        }),
        properties,
        disks: notes.disks,
        cloud,
        root,
        documents,
        flavor: String::new(),
        ports: Vec::new(),
        boot_images: Vec::new(),
        volume_types: Vec::new(),
        plan: RestorePlan::default(),
    };
    planned.find_boot_images(cx, from).await?;
    planned.tell_disks(options);
    match options.mode {
        Mode::New | Mode::Replace => {
            planned.find_flavor(cx, options).await?;
            planned.find_networks(cx, options).await?;
            planned.find_old(cx, request, options).await?;
            planned.step(Step::Create(format!(
                "server {} in project {}",
                planned.name,
                planned.cloud.project(cx).await?.name
            )));
        }
        Mode::InPlace => planned.tell_rebuild(cx, request).await?,
        Mode::Image | Mode::Volume => {}
    }
    if planned.makes_volumes(options) {
        planned.find_volume_types(cx).await?;
    }
    Ok(planned)
}

fn damaged(text: &str) -> SourceError {
    SourceError::Damaged(text.to_owned())
}

/// The project that is restored into.
async fn destination(source: &Openstack, cx: &Context, options: &RestoreOptions) -> Result<Arc<dyn Cloud>> {
    let clouds = source.clouds(cx).await?;
    let Some(wanted) = &options.project else {
        return clouds.first().cloned().ok_or_else(|| SourceError::Refused("there is no project".to_owned()));
    };
    for cloud in clouds {
        let project = cloud.project(cx).await?;
        if project.name == *wanted || project.id == *wanted {
            return Ok(Arc::clone(cloud));
        }
    }
    source.other_project(cx, wanted).await
}

fn name(cx: &Context, request: &RestoreRequest, options: &RestoreOptions, documents: &Value) -> String {
    let old = text(&documents["server"], "name");
    match (&options.name, request.to, options.mode) {
        (_, Destination::Scratch, _) => crate::openstack::mark::name(cx, old),
        (Some(name), ..) => name.clone(),
        (None, _, Mode::New) => format!("{old}-restored"),
        _ => old.to_owned(),
    }
}

/// A stored document.
async fn read(cx: &Context, from: &dyn Stored, root: &TreePath, name: &str) -> Result<Value> {
    let mut path = root.clone();
    for component in name.split('/') {
        path = path.join(component).map_err(|error| damaged(&error.to_string()))?;
    }
    let content = from.open(&path).await?;
    let length = content.open(cx, &Known::default()).await.map_err(lost)?.length;
    if length > DOCUMENT_BYTES_MAX {
        return Err(damaged(&format!("{path} is too long")));
    }
    let mut bytes = vec![0; length as usize];
    content.read(cx, 0, &mut bytes).await.map_err(lost)?;
    serde_json::from_slice(&bytes).map_err(|error| damaged(&format!("{path}: {error}")))
}

impl Planned {
    fn step(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    fn makes_volumes(&self, options: &RestoreOptions) -> bool {
        let of_server = matches!(options.mode, Mode::New | Mode::Replace);
        let is_volume = |disk: &Disk| disk.role != "root" || self.boot == Boot::Volume;
        options.mode == Mode::Volume || of_server && self.disks.iter().any(is_volume)
    }

    fn tell_disks(&mut self, options: &RestoreOptions) {
        for disk in self.disks.clone() {
            let is_volume = match options.mode {
                Mode::Volume => true,
                Mode::Image | Mode::InPlace => false,
                Mode::New | Mode::Replace => disk.role != "root" || self.boot == Boot::Volume,
            };
            let size = crate::quantity::ByteCount(disk.virtual_size);
            let what = if is_volume { "volume" } else { "image" };
            if options.mode != Mode::InPlace || disk.role == "root" {
                self.step(Step::Create(format!("{what} of {} ({}, {size})", disk.file, disk.device)));
            }
        }
    }

    async fn find_flavor(&mut self, cx: &Context, options: &RestoreOptions) -> Result<()> {
        let captured = self.documents["flavor"].clone();
        let found = build::flavor(cx, &*self.cloud, &captured, options.flavor.as_deref()).await?;
        let wanted = options.flavor.clone().unwrap_or_else(|| text(&captured, "name").to_owned());
        self.step(match &found {
            Some(found) if text(found, "name") == wanted || text(found, "id") == wanted => {
                Step::Leave(format!("flavor {wanted}"))
            }
            Some(found) if options.flavor.is_none() => {
                Step::Leave(format!("flavor {} in the place of {wanted}, which is not there", text(found, "name")))
            }
            _ => Step::Cannot(format!("no flavor {wanted}, and none that holds as much; name one")),
        });
        self.flavor = found.map(|found| text(&found, "id").to_owned()).unwrap_or_default();
        Ok(())
    }

    async fn find_networks(&mut self, cx: &Context, options: &RestoreOptions) -> Result<()> {
        let asked = options.network.as_deref();
        if asked == Some(NONE) {
            self.step(Step::Leave("no network".to_owned()));
            return Ok(());
        }
        let network = self.documents["network"].clone();
        let subnets: Vec<_> = list(&network, "subnets").collect();
        for port in list(&network, "ports") {
            let captured = list(&network, "networks").find(|one| one["id"] == port["network_id"]);
            let Some(captured) = captured else { continue };
            let found = build::network(cx, &*self.cloud, captured, &subnets, asked).await?;
            let name = asked.unwrap_or(text(captured, "name"));
            match found {
                Some(found) => {
                    self.step(Step::Create(format!("port in network {}", text(&found, "name"))));
                    self.ports.push((port.clone(), text(&found, "id").to_owned()));
                }
                None => self.step(Step::Cannot(format!("no network {name} with its addresses; name one, or none"))),
            }
        }
        Ok(())
    }

    /// The captured server, where its place is wanted.
    async fn find_old(&mut self, cx: &Context, request: &RestoreRequest, options: &RestoreOptions) -> Result<()> {
        if options.mode != Mode::Replace {
            return Ok(());
        }
        if api::server(cx, &*self.cloud, request.unit.id.as_str()).await?.is_some() {
            let id = &request.unit.id;
            self.step(if options.delete_old {
                Step::Replace(format!("server {id}: it is removed"))
            } else {
                Step::Cannot(format!("server {id} is there and has the addresses; let it be removed"))
            });
        }
        Ok(())
    }

    async fn tell_rebuild(&mut self, cx: &Context, request: &RestoreRequest) -> Result<()> {
        let server = api::server(cx, &*self.cloud, request.unit.id.as_str()).await?;
        self.step(match server {
            None => Step::Cannot(format!("server {} does not exist", request.unit.id)),
            Some(server) if text(&server["image"], "id").is_empty() => {
                Step::Cannot("it starts from a volume, whose content cannot be put in its place".to_owned())
            }
            Some(_) => Step::Replace(format!("root disk of server {}", request.unit.id)),
        });
        for disk in self.disks.iter().filter(|disk| disk.role != "root").cloned().collect::<Vec<_>>() {
            self.step(Step::Leave(format!(
                "volume {}: it is not restored in place",
                disk.volume_id.unwrap_or_default()
            )));
        }
        Ok(())
    }

    async fn find_boot_images(&mut self, cx: &Context, from: &dyn Stored) -> Result<()> {
        for (key, id) in record::boot_images(&self.documents) {
            let Ok(image) = read(cx, from, &self.root, &format!("images/{id}.json")).await else {
                self.step(Step::Cannot(format!("its {key} {id} is not stored")));
                continue;
            };
            let hash = text(&image, "os_hash_value");
            let is_same = |one: &Value| text(one, "os_hash_value") == hash && text(one, "status") == "active";
            let own = api::image(cx, &*self.cloud, &id).await?.filter(is_same);
            let found = match own {
                Some(own) => Some(own),
                None => api::images(cx, &*self.cloud, &[("os_hash_value", hash)]).await?.into_iter().find(is_same),
            };
            let there = found.map(|found| text(&found, "id").to_owned());
            self.step(match &there {
                Some(there) => Step::Leave(format!("{key} {there}")),
                None => Step::Create(format!("{key} out of the snapshot")),
            });
            self.boot_images.push(BootImage { key, id, image, there });
        }
        Ok(())
    }

    async fn find_volume_types(&mut self, cx: &Context) -> Result<()> {
        if !self.cloud.has(cx, Service::Volume).await? {
            self.step(Step::Cannot("the cloud has no volumes".to_owned()));
            return Ok(());
        }
        let types = pages(cx, &*self.cloud, Service::Volume, "/types".to_owned(), "volume_types", None).await?;
        self.volume_types = types.iter().map(|one| text(one, "name").to_owned()).collect();
        Ok(())
    }
}
