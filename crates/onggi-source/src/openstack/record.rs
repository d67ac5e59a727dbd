//! The documents of a server, as the cloud gives them: what a restore goes by, and what people look up.

use serde_json::{Map, Value, json};

use super::api;
use super::cloud::{Ask, Cloud, Service, found, list, text};
use super::error::Result;
use crate::context::{Context, Problem};
use crate::percent::escape;

/// Server, flavor, image, volumes, ports, networks, security groups, key and group.
pub(super) async fn documents(cx: &Context, cloud: &dyn Cloud, server: &Value) -> Result<Value> {
    let id = text(server, "id");
    let mut all = Map::new();
    let mut keep = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
    keep("server", server.clone());
    let named = api::server_with_flavor_id(cx, cloud, id).await?;
    let flavor = named.as_ref().map(|server| text(&server["flavor"], "id").to_owned()).unwrap_or_default();
    keep("server-2.46", named.unwrap_or_default());
    let collect = Collect { cx, cloud };
    keep("flavor", collect.one(Service::Compute, format!("/flavors/{}", escape(&flavor)), "flavor").await?);
    let image = text(&server["image"], "id");
    keep("image", if image.is_empty() { Value::Null } else { collect.plain(format!("/images/{image}")).await? });
    let key = text(server, "key_name");
    let path = format!("/os-keypairs/{}", escape(key));
    keep("keypair", if key.is_empty() { Value::Null } else { collect.one(Service::Compute, path, "keypair").await? });
    let mut groups = Vec::new();
    for group in list(server, "server_groups").filter_map(Value::as_str) {
        groups.push(collect.one(Service::Compute, format!("/os-server-groups/{group}"), "server_group").await?);
    }
    keep("server_groups", groups.into());
    let mut volumes = Vec::new();
    for volume in list(server, "os-extended-volumes:volumes_attached") {
        volumes.push(collect.one(Service::Volume, format!("/volumes/{}", text(volume, "id")), "volume").await?);
    }
    keep("volumes", volumes.into());
    let path = format!("/servers/{id}/os-volume_attachments");
    keep("volume_attachments", collect.one(Service::Compute, path, "volumeAttachments").await?);
    keep("network", collect.network(id).await?);
    Ok(Value::Object(all))
}

/// Documents that may be withheld from us: that is told, and all else goes on.
struct Collect<'a> {
    cx: &'a Context,
    cloud: &'a dyn Cloud,
}

impl Collect<'_> {
    async fn one(&self, service: Service, path: String, key: &str) -> Result<Value> {
        Ok(self.whole(service, path).await?[key].take())
    }

    async fn plain(&self, path: String) -> Result<Value> {
        self.whole(Service::Image, path).await
    }

    async fn whole(&self, service: Service, path: String) -> Result<Value> {
        let shown = path.split('?').next().unwrap_or_default().to_owned();
        match found(self.cx, self.cloud, Ask::get(service, path)).await {
            Ok(document) => Ok(document.unwrap_or_default()),
            Err(error) if error.is_withheld() => {
                let text = format!("{service:?} {shown} is not stored: {error}");
                self.cx.problem(Problem { class: "document", path: None, text });
                Ok(Value::Null)
            }
            Err(error) => Err(error),
        }
    }

    /// Ports with their networks, subnets, groups and addresses from outside.
    async fn network(&self, server: &str) -> Result<Value> {
        match self.cloud.has(self.cx, Service::Network).await {
            Ok(true) => {}
            Ok(false) => return Ok(Value::Null),
            Err(error) => return Err(error),
        }
        let ports = self.one(Service::Network, format!("/ports?device_id={server}"), "ports").await?;
        let ports: Vec<Value> = ports.as_array().cloned().unwrap_or_default();
        let of = |key: &str| -> Vec<String> {
            let mut ids: Vec<_> = ports.iter().map(|port| text(port, key).to_owned()).collect();
            ids.sort();
            ids.dedup();
            ids
        };
        let mut networks = Vec::new();
        for id in of("network_id") {
            networks.push(self.one(Service::Network, format!("/networks/{id}"), "network").await?);
        }
        let mut subnets = Vec::new();
        for id in networks.iter().flat_map(|network| list(network, "subnets")).filter_map(Value::as_str) {
            subnets.push(self.one(Service::Network, format!("/subnets/{id}"), "subnet").await?);
        }
        let mut wanted: Vec<_> =
            ports.iter().flat_map(|port| list(port, "security_groups")).filter_map(Value::as_str).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut groups = Vec::new();
        for id in wanted {
            groups.push(self.one(Service::Network, format!("/security-groups/{id}"), "security_group").await?);
        }
        let mut floating = Vec::new();
        for port in &ports {
            let path = format!("/floatingips?port_id={}", text(port, "id"));
            // Without a router service there are none.
            let answer = found(self.cx, self.cloud, Ask::get(Service::Network, path)).await;
            let answer = match answer {
                Err(error) if error.is_withheld() => None,
                answer => answer?,
            };
            floating.extend(answer.iter().flat_map(|answer| list(answer, "floatingips")).cloned());
        }
        Ok(json!({
            "ports": ports, "networks": networks, "subnets": subnets, "security_groups": groups, "floatingips": floating,
        }))
    }
}

/// What a server was made of, with its properties: its image, the capture that inherits them, or its volumes' notes.
pub(super) fn bases(documents: &Value) -> impl Iterator<Item = &Value> {
    let of_volumes = list(documents, "volumes").map(|volume| &volume["volume_image_metadata"]);
    [&documents["image"], &documents["capture"]].into_iter().chain(of_volumes).filter(|base| base.is_object())
}

/// The images that a server's own image starts with: which, and their ids.
pub(super) fn boot_images(documents: &Value) -> Vec<(&'static str, String)> {
    let id = |key: &'static str| bases(documents).map(|base| text(base, key)).find(|id| !id.is_empty());
    ["kernel_id", "ramdisk_id"].into_iter().filter_map(|key| Some((key, id(key)?.to_owned()))).collect()
}

/// Whether an image asks for freezing.
pub(super) fn asks_for_freezing(image: &Value) -> bool {
    matches!(text(image, "os_require_quiesce").to_ascii_lowercase().as_str(), "yes" | "true" | "1")
}
