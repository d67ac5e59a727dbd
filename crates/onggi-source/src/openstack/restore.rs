//! The way back: images of the stored disks, volumes where disks were volumes, ports and a server like the captured one,
//! in this project or another, in this cloud or another. Ids are looked up, never relied on.

mod plan;

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::plan::Planned;
use super::cloud::{Ask, Service, document, list, text};
use super::items::Disk;
use super::upload::{Form, Wanted, marked, upload};
use super::{Openstack, api, build, capture, mark};
use crate::context::{Context, Destination, Problem};
use crate::path::TreePath;
use crate::percent::escape;
use crate::source::{Proof, Restore, RestorePlan, RestoreRequest, Result, SourceError, Stored};

/// Between two looks at a console.
const POLL: Duration = Duration::from_secs(2);
/// The longest time until a console says something.
const BOOT_MAX: Duration = Duration::from_mins(5);
/// Lines of a console that are looked at.
const CONSOLE_LINES: u32 = 200;
/// Bytes of a GiB.
const GIB: u64 = 1 << 30;

/// What is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A server like the captured one, beside it.
    #[default]
    New,
    /// The captured server itself gets the stored disk; it keeps its id, addresses and ports.
    InPlace,
    /// A server in the place of the captured one, with its addresses.
    Replace,
    /// An image of each disk, and no server.
    Image,
    /// A volume of each disk, and no server.
    Volume,
}

/// What the root disk of a new server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// A disk of its hypervisor.
    Image,
    /// A volume.
    Volume,
}

/// What an operator may say of a restore.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RestoreOptions {
    /// What is made.
    pub mode: Mode,
    /// Name of the server, where it is not to be the old one with a suffix.
    pub name: Option<String>,
    /// Name or id of another project.
    pub project: Option<String>,
    /// Name or id of another flavor.
    pub flavor: Option<String>,
    /// Name or id of the network for all ports, or `none`.
    pub network: Option<String>,
    /// What its root disk is, if not what it was.
    pub boot: Option<Boot>,
    /// Send disks as they are, not as qcow2.
    pub raw: bool,
    /// Remove the old server first, with `replace`.
    pub delete_old: bool,
}

/// A restore into a cloud.
pub(super) struct IntoCloud<'a> {
    source: &'a Openstack,
    request: &'a RestoreRequest,
    from: &'a dyn Stored,
    options: RestoreOptions,
    planned: Planned,
    /// The server that was made.
    made: Option<String>,
}

impl<'a> IntoCloud<'a> {
    /// Looks at the destination; changes nothing.
    pub(super) async fn plan(
        source: &'a Openstack,
        cx: &Context,
        request: &'a RestoreRequest,
        from: &'a dyn Stored,
    ) -> Result<Self> {
        let mut options: RestoreOptions = request.options()?;
        if request.to == Destination::Scratch {
            // Nothing that is rehearsed may speak with what works.
            options = RestoreOptions { network: Some(plan::NONE.to_owned()), ..RestoreOptions::default() };
        }
        let planned = plan::plan(source, cx, request, &options, from).await?;
        Ok(Self { source, request, from, options, planned, made: None })
    }

    /// Uploads a disk as an image that bears the restore's mark.
    async fn image(&self, cx: &Context, disk: &Disk, boot: &Map<String, Value>) -> Result<String> {
        let path = self.path(&disk.file)?;
        let form = match &disk.encoding[..] {
            "raw" if self.options.raw => Form::Raw,
            "raw" => Form::Qcow2,
            _ => Form::AsStored,
        };
        let disk_format = match form {
            Form::Qcow2 => "qcow2",
            Form::Raw => "raw",
            Form::AsStored => &disk.source_format,
        };
        let mut own = self.planned.properties.clone();
        own.extend(boot.clone());
        let name = mark::name(cx, &format!("{}-{}", self.request.unit.id, disk.role));
        let properties = marked(cx, &self.source.label, &self.request.unit, own);
        let wanted = Wanted { name, disk_format, container_format: "bare", form, properties };
        let image = upload(cx, &*self.planned.cloud, self.from, &path, wanted).await?;
        Ok(text(&image, "id").to_owned())
    }

    fn path(&self, below: &str) -> Result<TreePath> {
        let mut path = self.planned.root.clone();
        for name in below.split('/') {
            path = path.join(name).map_err(|error| SourceError::Damaged(error.to_string()))?;
        }
        Ok(path)
    }

    /// Kernel and ramdisk: those that are there, or the stored ones.
    async fn boot_images(&self, cx: &Context) -> Result<Map<String, Value>> {
        let mut found = Map::new();
        for boot in &self.planned.boot_images {
            if let Some(id) = &boot.there {
                found.insert(boot.key.to_owned(), json!(id));
                continue;
            }
            let path = self.path(&format!("images/{}", boot.id))?;
            let properties = marked(cx, &self.source.label, &self.request.unit, Map::new());
            let wanted = Wanted {
                name: mark::name(cx, text(&boot.image, "name")),
                disk_format: text(&boot.image, "disk_format"),
                container_format: text(&boot.image, "container_format"),
                form: Form::AsStored,
                properties,
            };
            let image = upload(cx, &*self.planned.cloud, self.from, &path, wanted).await?;
            let id = text(&image, "id");
            found.insert(boot.key.to_owned(), json!(id));
        }
        Ok(found)
    }

    /// A volume with a disk's content, by an image that goes again.
    async fn volume(&self, cx: &Context, disk: &Disk, boot: &Map<String, Value>) -> Result<String> {
        let cloud = &*self.planned.cloud;
        let image = self.image(cx, disk, boot).await?;
        let size = disk.virtual_size.div_ceil(GIB).max(disk.size.unwrap_or(1)).max(1);
        let metadata = mark::mark(cx, &self.source.label, &self.request.unit);
        let name = format!("{} {}", self.planned.name, disk.role);
        let mut order = json!({ "imageRef": image, "size": size, "name": name, "metadata": metadata });
        if let Some(kind) = disk.volume_type.as_ref().filter(|kind| self.planned.volume_types.contains(kind)) {
            order["volume_type"] = json!(kind);
        }
        let volume = api::create_volume(cx, cloud, order).await?;
        let id = text(&volume, "id").to_owned();
        capture::await_block(self.source, cx, cloud, "volume", &id, "available").await?;
        api::delete_image(cx, cloud, &image).await?;
        Ok(id)
    }

    /// Ports like the captured ones.
    async fn ports(&self, cx: &Context) -> Result<Value> {
        let cloud = &*self.planned.cloud;
        if self.planned.ports.is_empty() {
            return Ok(json!("none"));
        }
        let mut groups = Map::new();
        for group in list(&self.planned.documents["network"], "security_groups") {
            let id = build::security_group(cx, cloud, group).await?;
            groups.insert(text(group, "id").to_owned(), json!(id));
        }
        let mut made = Vec::new();
        for (port, network) in &self.planned.ports {
            let of: Vec<_> = list(port, "security_groups").filter_map(|id| groups.get(id.as_str()?)).collect();
            let name = build::port_name(cx, &self.request.unit);
            let mut order = json!({ "network_id": network, "name": name, "security_groups": of });
            if self.options.mode == Mode::Replace {
                order["mac_address"] = port["mac_address"].clone();
                let addresses = list(port, "fixed_ips").map(|one| json!({ "ip_address": one["ip_address"] }));
                order["fixed_ips"] = addresses.collect();
            }
            let ask = Ask::post(Service::Network, "/ports", json!({ "port": order.clone() }));
            let answer = match document(cx, cloud, ask).await {
                Err(error) if error.status() == Some(403) && self.options.mode == Mode::Replace => {
                    let text = format!("its port does not get the old addresses: {error}");
                    cx.problem(Problem { class: "addresses", path: None, text });
                    for key in ["mac_address", "fixed_ips"] {
                        order.as_object_mut().map(|order| order.remove(key));
                    }
                    document(cx, cloud, Ask::post(Service::Network, "/ports", json!({ "port": order }))).await?
                }
                answer => answer?,
            };
            made.push(json!({ "port": answer["port"]["id"] }));
        }
        Ok(Value::Array(made))
    }

    /// The key under its name; a stored one is brought where it is missing.
    async fn key(&self, cx: &Context) -> Result<Option<String>> {
        let key = &self.planned.documents["keypair"];
        let name = text(key, "name");
        if name.is_empty() {
            return Ok(None);
        }
        let cloud = &*self.planned.cloud;
        let path = format!("/os-keypairs/{}", escape(name));
        if super::cloud::found(cx, cloud, Ask::get(Service::Compute, path)).await?.is_some() {
            return Ok(Some(name.to_owned()));
        }
        let order = json!({ "keypair": { "name": name, "public_key": key["public_key"] } });
        match document(cx, cloud, Ask::post(Service::Compute, "/os-keypairs", order)).await {
            Err(error) if error.is_withheld() => {
                let text = format!("the server starts without the key {name}: {error}");
                cx.problem(Problem { class: "key", path: None, text });
                Ok(None)
            }
            made => made.map(|_| Some(name.to_owned())).map_err(SourceError::from),
        }
    }

    async fn server(&mut self, cx: &Context) -> Result<()> {
        let boot = self.boot_images(cx).await?;
        let mut devices = Vec::new();
        let mut image = None;
        for disk in &self.planned.disks.clone() {
            let is_root = disk.role == "root";
            if is_root && self.planned.boot == Boot::Image {
                image = Some(self.image(cx, disk, &boot).await?);
                continue;
            }
            let id = self.volume(cx, disk, &boot).await?;
            devices.push(json!({
                "uuid": id, "source_type": "volume", "destination_type": "volume",
                "boot_index": if is_root { 0 } else { -1 }, "delete_on_termination": false,
            }));
        }
        if let (Some(image), false) = (&image, devices.is_empty()) {
            let first = json!({
                "uuid": image, "source_type": "image", "destination_type": "local", "boot_index": 0,
                "delete_on_termination": true,
            });
            devices.insert(0, first);
        }
        if self.options.mode == Mode::Replace && self.options.delete_old {
            build::drop_server(cx, &*self.planned.cloud, self.request.unit.id.as_str()).await?;
        }
        let captured = &self.planned.documents["server"];
        let mut metadata = captured["metadata"].as_object().cloned().unwrap_or_default();
        metadata.retain(|key, _| !key.starts_with("onggi."));
        metadata.extend(mark::mark(cx, &self.source.label, &self.request.unit));
        let mut order = json!({
            "name": self.planned.name, "flavorRef": self.planned.flavor, "metadata": metadata,
            "networks": self.ports(cx).await?,
        });
        if let Some(image) = image {
            order["imageRef"] = json!(image);
        }
        if !devices.is_empty() {
            order["block_device_mapping_v2"] = devices.into();
        }
        if let Some(key) = self.key(cx).await? {
            order["key_name"] = json!(key);
        }
        let user_data = text(captured, "OS-EXT-SRV-ATTR:user_data");
        if !user_data.is_empty() {
            order["user_data"] = json!(user_data);
        }
        if text(captured, "config_drive") == "True" {
            order["config_drive"] = json!(true);
        }
        let made = build::server(cx, &*self.planned.cloud, order).await?;
        self.made = Some(text(&made, "id").to_owned());
        Ok(())
    }

    /// The captured server gets the stored disk.
    async fn rebuild(&mut self, cx: &Context) -> Result<()> {
        let boot = self.boot_images(cx).await?;
        let root = self.planned.disks.iter().find(|disk| disk.role == "root").cloned();
        let root = root.ok_or_else(|| SourceError::Damaged("no root disk is stored".to_owned()))?;
        let image = self.image(cx, &root, &boot).await?;
        let id = self.request.unit.id.as_str();
        let cloud = &*self.planned.cloud;
        api::act(cx, cloud, id, json!({ "rebuild": { "imageRef": image } })).await?;
        build::await_server(cx, cloud, id, "ACTIVE").await?;
        self.made = Some(id.to_owned());
        Ok(())
    }
}

#[async_trait]
impl Restore for IntoCloud<'_> {
    fn plan(&self) -> &RestorePlan {
        &self.planned.plan
    }

    async fn apply(&mut self, cx: &Context) -> Result<()> {
        match self.options.mode {
            Mode::New | Mode::Replace => self.server(cx).await,
            Mode::InPlace => self.rebuild(cx).await,
            Mode::Image => {
                let boot = self.boot_images(cx).await?;
                for disk in &self.planned.disks {
                    self.image(cx, disk, &boot).await?;
                }
                Ok(())
            }
            Mode::Volume => {
                let boot = self.boot_images(cx).await?;
                for disk in &self.planned.disks {
                    self.volume(cx, disk, &boot).await?;
                }
                Ok(())
            }
        }
    }

    /// It runs, and says something.
    async fn prove(&mut self, cx: &Context) -> Result<Proof> {
        let Some(id) = &self.made else {
            return Ok(Proof {
                checks: vec![format!("{} disks are there, with the hashes of the sent ones", self.planned.disks.len())],
            });
        };
        let until = cx.world.elapsed() + BOOT_MAX;
        loop {
            let order = json!({ "os-getConsoleOutput": { "length": CONSOLE_LINES } });
            let answer = api::act(cx, &*self.planned.cloud, id, order).await?;
            let last = text(&answer, "output").lines().rev().find(|line| !line.trim().is_empty());
            if let Some(last) = last {
                let shown = last.trim().chars().filter(|letter| !letter.is_control()).collect::<String>();
                return Ok(Proof { checks: vec![format!("server {id} runs"), format!("its console says: {shown}")] });
            }
            if cx.world.elapsed() >= until {
                return Err(SourceError::Incomplete("its console says nothing".to_owned()));
            }
            cx.sleep(POLL).await?;
        }
    }
}
