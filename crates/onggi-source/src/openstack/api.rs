//! The calls on Nova, Glance, Cinder and Neutron by what they do, each a request and what is wanted of its answer.

use serde_json::{Map, Value, json};

use super::cloud::{Ask, Cloud, Service, document, found, pages, remove, text};
use super::error::{CloudError, Result};
use crate::context::Context;
use crate::percent::escape;

/// The highest microversion of Nova that answers are understood in.
pub(super) const COMPUTE: u32 = 90;
/// The last one that names a server's flavor by its id.
const FLAVOR_ID: u32 = 46;
/// The first one in which an action's events can be read by the project itself.
const ACTIONS: u32 = 84;

/// All servers of the project.
pub(super) async fn servers(cx: &Context, cloud: &dyn Cloud) -> Result<Vec<Value>> {
    pages(cx, cloud, Service::Compute, "/servers/detail".to_owned(), "servers", Some(COMPUTE)).await
}

/// One server.
pub(super) async fn server(cx: &Context, cloud: &dyn Cloud, id: &str) -> Result<Option<Value>> {
    let ask = Ask::get(Service::Compute, format!("/servers/{}", escape(id))).version(COMPUTE);
    Ok(found(cx, cloud, ask).await?.map(|mut answer| answer["server"].take()))
}

/// The same as it was told before flavors were embedded: with the flavor's id.
pub(super) async fn server_with_flavor_id(cx: &Context, cloud: &dyn Cloud, id: &str) -> Result<Option<Value>> {
    let ask = Ask::get(Service::Compute, format!("/servers/{}", escape(id))).version(FLAVOR_ID);
    Ok(found(cx, cloud, ask).await?.map(|mut answer| answer["server"].take()))
}

/// Does something to a server.
pub(super) async fn act(cx: &Context, cloud: &dyn Cloud, server: &str, action: Value) -> Result<Value> {
    document(cx, cloud, Ask::post(Service::Compute, format!("/servers/{server}/action"), action)).await
}

/// Has Nova make an image of a server, and answers its id.
pub(super) async fn create_image(
    cx: &Context,
    cloud: &dyn Cloud,
    server: &str,
    name: &str,
    metadata: Map<String, Value>,
) -> Result<String> {
    let body = json!({ "createImage": { "name": name, "metadata": metadata } });
    let ask = Ask::post(Service::Compute, format!("/servers/{server}/action"), body).version(COMPUTE).long();
    let act = format!("create an image of server {server}");
    let answer = cloud.ask(cx, ask).await?;
    let said = answer.document(&act)?;
    let id = match text(&said, "image_id") {
        "" => answer.location.as_deref().and_then(|location| location.rsplit('/').next()).unwrap_or_default(),
        id => id,
    };
    if id.is_empty() {
        return Err(CloudError::Malformed(act, "it names no image".to_owned()));
    }
    Ok(id.to_owned())
}

/// What became of the newest image of a server, as Nova wrote it down: for messages.
pub(super) async fn last_action(cx: &Context, cloud: &dyn Cloud, server: &str) -> Result<Option<String>> {
    let path = format!("/servers/{server}/os-instance-actions");
    let Some(listed) = found(cx, cloud, Ask::get(Service::Compute, &*path).version(ACTIONS)).await? else {
        return Ok(None);
    };
    let mut actions = super::cloud::list(&listed, "instanceActions");
    let Some(action) = actions.find(|action| text(action, "action") == "createImage") else { return Ok(None) };
    let path = format!("{path}/{}", text(action, "request_id"));
    let Some(told) = found(cx, cloud, Ask::get(Service::Compute, path).version(ACTIONS)).await? else {
        return Ok(None);
    };
    let action = &told["instanceAction"];
    let events: Vec<_> = super::cloud::list(action, "events")
        .filter(|event| text(event, "result") == "Error")
        .map(|event| format!("{}: {} {}", text(event, "event"), text(event, "result"), text(event, "details")))
        .collect();
    let message = text(action, "message");
    Ok(Some(format!("createImage: {message} ({})", events.join("; ").trim())))
}

/// One image.
pub(super) async fn image(cx: &Context, cloud: &dyn Cloud, id: &str) -> Result<Option<Value>> {
    found(cx, cloud, Ask::get(Service::Image, format!("/images/{}", escape(id)))).await
}

/// Images with all of these properties.
pub(super) async fn images(cx: &Context, cloud: &dyn Cloud, properties: &[(&str, &str)]) -> Result<Vec<Value>> {
    let pairs: Vec<_> = properties.iter().map(|(key, value)| format!("{key}={}", escape(value))).collect();
    let path = format!("/images?{}", pairs.join("&"));
    let mut found = pages(cx, cloud, Service::Image, path, "images", None).await?;
    // A filter that a cloud does not know is passed over by it, and what comes then is everybody's.
    found.retain(|image| properties.iter().all(|(key, value)| text(image, key) == *value));
    Ok(found)
}

/// Removes an image.
pub(super) async fn delete_image(cx: &Context, cloud: &dyn Cloud, id: &str) -> Result<()> {
    remove(cx, cloud, Service::Image, format!("/images/{id}")).await
}

/// Sets properties of an image, or with `null` removes them. One that it has is replaced.
pub(super) async fn mark_image(
    cx: &Context,
    cloud: &dyn Cloud,
    image: &Value,
    marks: &Map<String, Value>,
) -> Result<()> {
    let operation = |(key, value): (&String, &Value)| {
        let path = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
        match (value.is_null(), image.get(key).is_some()) {
            (true, false) => None,
            (true, true) => Some(json!({ "op": "remove", "path": path })),
            (false, has) => Some(json!({ "op": if has { "replace" } else { "add" }, "path": path, "value": value })),
        }
    };
    let operations: Vec<_> = marks.iter().filter_map(operation).collect();
    if operations.is_empty() {
        return Ok(());
    }
    document(cx, cloud, Ask::patch_image(text(image, "id"), Value::Array(operations))).await.map(drop)
}

/// What a volume-backed server's image is made of.
pub(super) fn mapped_devices(image: &Value) -> Vec<Value> {
    serde_json::from_str(text(image, "block_device_mapping")).unwrap_or_default()
}

/// A thing of Cinder: `volume` or `snapshot`.
pub(super) async fn block(cx: &Context, cloud: &dyn Cloud, kind: &str, id: &str) -> Result<Option<Value>> {
    let ask = Ask::get(Service::Volume, format!("/{kind}s/{}", escape(id)));
    Ok(found(cx, cloud, ask).await?.map(|mut answer| answer[kind].take()))
}

/// Things of Cinder that bear this mark.
pub(super) async fn blocks(cx: &Context, cloud: &dyn Cloud, kind: &str, mark: (&str, &str)) -> Result<Vec<Value>> {
    let filter = escape(&format!("{{'{}': '{}'}}", mark.0, mark.1));
    let path = format!("/{kind}s/detail?metadata={filter}");
    let mut found = pages(cx, cloud, Service::Volume, path, &format!("{kind}s"), None).await?;
    found.retain(|one| text(&one["metadata"], mark.0) == mark.1);
    Ok(found)
}

/// Removes a thing of Cinder.
pub(super) async fn delete_block(cx: &Context, cloud: &dyn Cloud, kind: &str, id: &str) -> Result<()> {
    remove(cx, cloud, Service::Volume, format!("/{kind}s/{id}")).await
}

/// Sets all metadata of a thing of Cinder.
pub(super) async fn mark_block(
    cx: &Context,
    cloud: &dyn Cloud,
    kind: &str,
    id: &str,
    metadata: &Map<String, Value>,
) -> Result<()> {
    let ask = Ask::put(Service::Volume, format!("/{kind}s/{id}/metadata"), json!({ "metadata": metadata }));
    document(cx, cloud, ask).await.map(drop)
}

/// Makes a snapshot of a volume, also of an attached one.
pub(super) async fn snapshot_volume(
    cx: &Context,
    cloud: &dyn Cloud,
    volume: &str,
    name: &str,
    metadata: &Map<String, Value>,
) -> Result<Value> {
    let body = json!({ "snapshot": { "volume_id": volume, "force": true, "name": name, "metadata": metadata } });
    let mut answer = document(cx, cloud, Ask::post(Service::Volume, "/snapshots", body)).await?;
    Ok(answer["snapshot"].take())
}

/// Makes a volume out of whatever `from` says: `snapshot_id`, `imageRef`.
pub(super) async fn create_volume(cx: &Context, cloud: &dyn Cloud, from: Value) -> Result<Value> {
    let ask = Ask::post(Service::Volume, "/volumes", json!({ "volume": from })).long();
    Ok(document(cx, cloud, ask).await?["volume"].take())
}

/// Has Cinder make an image of a volume, and answers its id.
pub(super) async fn image_of_volume(cx: &Context, cloud: &dyn Cloud, volume: &str, name: &str) -> Result<String> {
    let order = json!({ "image_name": name, "disk_format": "qcow2", "container_format": "bare" });
    let body = json!({ "os-volume_upload_image": order });
    let ask = Ask::post(Service::Volume, format!("/volumes/{volume}/action"), body).long();
    let answer = document(cx, cloud, ask).await?;
    Ok(text(&answer["os-volume_upload_image"], "image_id").to_owned())
}
