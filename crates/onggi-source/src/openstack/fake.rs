//! A cloud in memory: one project, a server with a volume beside its root disk, and all that a run may make there.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use super::cloud::{Answer, Ask, Cloud, Fetched, Pieces, Project, Service, text};
use super::error::{CloudError, Result};
use super::image::{Piece, Qcow2Plan};
use crate::context::Context;
use crate::faults::Faults;
use crate::hex::hexadecimal;
use crate::source::{ByteStream, SourceError};

/// The disk of the server and that of its volume, in bytes.
const DISK_BYTES: usize = 256 << 10;

/// What Nova does with a server. Until somebody has looked it is at work on an image, and makes no snapshot for Cinder, as
/// where volumes are files.
const TASK: &str = "OS-EXT-STS:task_state";

/// The cloud; clones are the same one.
#[derive(Clone)]
pub(super) struct FakeCloud {
    pub(super) faults: Faults,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) servers: BTreeMap<String, Value>,
    pub(super) images: BTreeMap<String, Value>,
    files: BTreeMap<String, Vec<u8>>,
    volumes: BTreeMap<String, Value>,
    pub(super) snapshots: BTreeMap<String, Value>,
    /// Volumes are files: of a snapshot that follows another one no volume can be made.
    pub(super) refuses_chains: bool,
    /// What else is listed, by path; with anything in it, the cloud has networks.
    pub(super) lists: BTreeMap<String, Vec<Value>>,
    /// Paths that the login may not ask.
    pub(super) withheld: BTreeSet<String>,
    made: usize,
}

impl State {
    fn id(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}-{}", self.made)
    }

    fn image(&mut self, mut image: Value, content: Option<Vec<u8>>) -> String {
        let id = self.id("image");
        image["id"] = json!(id);
        image["created_at"] = json!(format!("2026-01-01T00:00:{:02}Z", self.made % 60));
        image["status"] = json!("queued");
        self.images.insert(id.clone(), image);
        if let Some(content) = content {
            self.put(&id, content);
        }
        id
    }

    fn put(&mut self, id: &str, content: Vec<u8>) {
        if let Some(image) = self.images.get_mut(id) {
            image["status"] = json!("active");
            image["size"] = json!(content.len());
            image["os_hash_algo"] = json!("sha512");
            image["os_hash_value"] = json!(hexadecimal(&Sha512::digest(&content)));
        }
        self.files.insert(id.to_owned(), content);
    }
}

struct Whole(Option<Bytes>);

#[async_trait]
impl Pieces for Whole {
    async fn next(&mut self, _cx: &Context) -> Result<Option<Bytes>> {
        Ok(self.0.take())
    }
}

fn disk(seed: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..DISK_BYTES).map(|at| seed.wrapping_add((at % 251) as u8)).collect();
    bytes[64 << 10..128 << 10].fill(0);
    bytes
}

/// A disk without holes as Nova hands it out.
fn qcow2(disk: &[u8]) -> Vec<u8> {
    let length = disk.len() as u64;
    let plan = Qcow2Plan::new(length, iter::once(0..length)).expect("a small disk has a plan");
    let mut file = Vec::new();
    for piece in plan.pieces() {
        match piece {
            Piece::Bytes(bytes) => file.extend(bytes),
            Piece::Zeros(count) => file.resize(file.len() + count as usize, 0),
            Piece::Disk(range) => file.extend(&disk[range.start as usize..range.end as usize]),
        }
    }
    file
}

fn fault(error: SourceError) -> CloudError {
    CloudError::Unreachable("fake".to_owned(), error.to_string())
}

impl FakeCloud {
    pub(super) fn new() -> Self {
        let mut state = State::default();
        let attachment = json!([{ "server_id": "s", "device": "/dev/vdb" }]);
        let volume = json!({ "id": "v", "status": "in-use", "size": 1, "attachments": attachment, "metadata": {} });
        state.volumes.insert("v".to_owned(), volume);
        let server = json!({
            "id": "s", "name": "web", "status": "ACTIVE", "image": { "id": "base" }, "metadata": { "role": "web" },
            "flavor": { "id": "f" }, "key_name": "k", "OS-EXT-STS:power_state": 1,
            "os-extended-volumes:volumes_attached": [{ "id": "v" }],
        });
        state.servers.insert("s".to_owned(), server);
        let base =
            json!({ "id": "base", "name": "base", "status": "active", "os_type": "linux", "disk_format": "raw" });
        state.images.insert("base".to_owned(), base);
        Self { faults: Faults::default(), state: Arc::new(Mutex::new(state)) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that a run could change; ids and times are not equal in two runs.
    pub(super) fn describe(&self) -> String {
        let state = self.state();
        let mut lines = Vec::new();
        for (kind, all) in [
            ("server", &state.servers),
            ("image", &state.images),
            ("volume", &state.volumes),
            ("snapshot", &state.snapshots),
        ] {
            for one in all.values() {
                let marks: Vec<_> =
                    one.as_object().into_iter().flatten().filter(|(key, _)| key.contains("onggi")).collect();
                let line =
                    format!("{kind} {} {} {} {marks:?}", text(one, "name"), text(one, "status"), one["metadata"]);
                lines.push(line);
            }
        }
        lines.sort();
        lines.join("\n")
    }

    fn answer(&self, ask: &Ask) -> (u16, Value) {
        let (path, query) = ask.path.split_once('?').unwrap_or((&ask.path, ""));
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let body = ask.body.clone().unwrap_or_default();
        let mut state = self.state();
        if state.withheld.contains(path) {
            return (403, json!({ "forbidden": { "message": "Policy does not allow it" } }));
        }
        if let ("GET", Some(things)) = (ask.method.as_str(), state.lists.get(path)) {
            let key = parts[0].trim_start_matches("os-").replace('-', "_");
            return (200, json!({ key: things }));
        }
        match ask.service {
            Service::Compute => compute(&mut state, &ask.method, &parts, &body),
            Service::Image => image(&mut state, &ask.method, &parts, query, &body),
            Service::Volume => volume(&mut state, &ask.method, &parts, query, &body),
            Service::Network | Service::Identity => (404, Value::Null),
        }
    }
}

fn shown(key: &str, found: Option<&Value>) -> (u16, Value) {
    found.map_or((404, Value::Null), |found| (200, json!({ key: found })))
}

fn compute(state: &mut State, method: &Method, parts: &[&str], body: &Value) -> (u16, Value) {
    match (method.as_str(), parts) {
        ("GET", ["servers", "detail"] | ["servers"]) => {
            (200, json!({ "servers": state.servers.values().collect::<Vec<_>>() }))
        }
        ("GET", ["servers", id]) => {
            let answer = shown("server", state.servers.get(*id));
            if let Some(server) = state.servers.get_mut(*id) {
                server[TASK] = Value::Null;
            }
            answer
        }
        ("POST", ["servers"]) => {
            let id = state.id("server");
            let mut server = body["server"].clone();
            server["id"] = json!(id);
            server["status"] = json!("ACTIVE");
            state.servers.insert(id.clone(), server);
            (202, json!({ "server": { "id": id } }))
        }
        ("DELETE", ["servers", id]) => (if state.servers.remove(*id).is_some() { 204 } else { 404 }, Value::Null),
        ("PUT", ["servers", id, "metadata"]) => {
            let Some(server) = state.servers.get_mut(*id) else { return (404, Value::Null) };
            server["metadata"] = body["metadata"].clone();
            (200, Value::Null)
        }
        ("POST", ["servers", id, "metadata"]) => {
            let Some(server) = state.servers.get_mut(*id) else { return (404, Value::Null) };
            for (key, value) in body["metadata"].as_object().into_iter().flatten() {
                server["metadata"][key] = value.clone();
            }
            (200, Value::Null)
        }
        ("DELETE", ["servers", id, "metadata", key]) => {
            let Some(server) = state.servers.get_mut(*id) else { return (404, Value::Null) };
            let gone = server["metadata"].as_object_mut().and_then(|own| own.remove(*key));
            (if gone.is_some() { 204 } else { 404 }, Value::Null)
        }
        ("POST", ["servers", id, "action"]) => action(state, id, body),
        ("GET", ["servers", _, "os-volume_attachments"]) => (200, json!({ "volumeAttachments": [] })),
        ("GET", ["flavors", "detail"]) => (200, json!({ "flavors": [flavor()] })),
        ("GET", ["flavors", "f"]) => (200, json!({ "flavor": flavor() })),
        ("GET", ["os-keypairs", "k"]) => (200, json!({ "keypair": { "name": "k", "public_key": "ssh-ed25519 A" } })),
        _ => (404, Value::Null),
    }
}

fn flavor() -> Value {
    json!({ "id": "f", "name": "small", "ram": 1, "vcpus": 1, "disk": 1 })
}

fn action(state: &mut State, id: &str, body: &Value) -> (u16, Value) {
    let Some(server) = state.servers.get_mut(id) else { return (404, Value::Null) };
    if !body["os-stop"].is_null() || body.get("os-stop").is_some() {
        server["status"] = json!("SHUTOFF");
        return (202, Value::Null);
    }
    if body.get("os-start").is_some() {
        server["status"] = json!("ACTIVE");
        return (202, Value::Null);
    }
    if body.get("os-getConsoleOutput").is_some() {
        return (200, json!({ "output": "login:\n" }));
    }
    server[TASK] = json!("image_pending_upload");
    let order = &body["createImage"];
    let mut made = order["metadata"].clone();
    made["name"] = order["name"].clone();
    made["disk_format"] = json!("qcow2");
    made["container_format"] = json!("bare");
    made["instance_uuid"] = json!(id);
    let image = state.image(made, Some(qcow2(&disk(1))));
    (202, json!({ "image_id": image }))
}

fn image(state: &mut State, method: &Method, parts: &[&str], query: &str, body: &Value) -> (u16, Value) {
    match (method.as_str(), parts) {
        ("GET", ["images"]) => {
            let pairs: Vec<_> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
            let value = |text: &str| text.replace("%2F", "/");
            let fits = |one: &&Value| pairs.iter().all(|(key, wanted)| text(one, key) == value(wanted));
            (200, json!({ "images": state.images.values().filter(fits).collect::<Vec<_>>() }))
        }
        ("GET", ["images", id]) => state.images.get(*id).map_or((404, Value::Null), |image| (200, image.clone())),
        ("POST", ["images"]) => {
            let id = state.image(body.clone(), None);
            (201, json!({ "id": id }))
        }
        ("DELETE", ["images", id]) => {
            state.files.remove(*id);
            (if state.images.remove(*id).is_some() { 204 } else { 404 }, Value::Null)
        }
        ("PATCH", ["images", id]) => {
            let Some(image) = state.images.get_mut(*id).and_then(Value::as_object_mut) else {
                return (404, Value::Null);
            };
            for operation in body.as_array().into_iter().flatten() {
                let key = text(operation, "path").trim_start_matches('/').to_owned();
                match text(operation, "op") {
                    "remove" => drop(image.remove(&key)),
                    _ => drop(image.insert(key, operation["value"].clone())),
                }
            }
            (200, Value::Null)
        }
        _ => (404, Value::Null),
    }
}

fn volume(state: &mut State, method: &Method, parts: &[&str], query: &str, body: &Value) -> (u16, Value) {
    let filter = |all: &BTreeMap<String, Value>| -> Vec<Value> {
        let marks =
            query.trim_start_matches("metadata=").replace("%7B%27", "").replace("%27%7D", "").replace("%2F", "/");
        let pair = marks.split_once("%27%3A%20%27");
        let fits = |one: &&Value| pair.is_none_or(|(key, wanted)| text(&one["metadata"], key) == wanted);
        all.values().filter(fits).cloned().collect()
    };
    match (method.as_str(), parts) {
        ("GET", ["limits"]) => (200, json!({ "limits": { "absolute": {} } })),
        ("GET", ["types"]) => (200, json!({ "volume_types": [] })),
        ("GET", ["volumes", "detail"]) => (200, json!({ "volumes": filter(&state.volumes) })),
        ("GET", ["snapshots", "detail"]) => (200, json!({ "snapshots": filter(&state.snapshots) })),
        ("GET", ["volumes", id]) => shown("volume", state.volumes.get(*id)),
        ("GET", ["snapshots", id]) => shown("snapshot", state.snapshots.get(*id)),
        ("DELETE", ["volumes", id]) => (if state.volumes.remove(*id).is_some() { 202 } else { 404 }, Value::Null),
        ("DELETE", ["snapshots", id]) => (if state.snapshots.remove(*id).is_some() { 202 } else { 404 }, Value::Null),
        ("PUT", [kind, id, "metadata"]) => {
            let all = if *kind == "volumes" { &mut state.volumes } else { &mut state.snapshots };
            let Some(one) = all.get_mut(*id) else { return (404, Value::Null) };
            one["metadata"] = body["metadata"].clone();
            (200, Value::Null)
        }
        ("POST", [kind @ ("volumes" | "snapshots")]) => {
            let key = kind.trim_end_matches('s');
            let id = state.id(key);
            let mut made = body[key].clone();
            made["id"] = json!(id);
            let is_chained = state.refuses_chains && key == "volume" && state.snapshots.len() > 1;
            let is_busy = key == "snapshot" && state.servers.values().any(|server| server[TASK].is_string());
            made["status"] = json!(if is_chained || is_busy { "error" } else { "available" });
            let all = if key == "volume" { &mut state.volumes } else { &mut state.snapshots };
            all.insert(id, made.clone());
            (202, json!({ key: made }))
        }
        ("POST", ["volumes", _, "action"]) => {
            let order = &body["os-volume_upload_image"];
            let made = json!({ "name": order["image_name"], "disk_format": "raw", "container_format": "bare" });
            let id = state.image(made, Some(disk(7)));
            (202, json!({ "os-volume_upload_image": { "image_id": id } }))
        }
        _ => (404, Value::Null),
    }
}

#[async_trait]
impl Cloud for FakeCloud {
    async fn project(&self, _cx: &Context) -> Result<Project> {
        Ok(Project { id: "p".to_owned(), name: "demo".to_owned(), region: "R".to_owned(), roles: Vec::new() })
    }

    async fn has(&self, _cx: &Context, service: Service) -> Result<bool> {
        Ok(service != Service::Network || !self.state().lists.is_empty())
    }

    async fn ask(&self, cx: &Context, ask: Ask) -> Result<Answer> {
        cx.check()?;
        let done = self.faults.call(ask.act(), async { Ok(self.answer(&ask)) }).await;
        let (status, body) = done.map_err(fault)?;
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        Ok(Answer { status, location: None, body })
    }

    async fn fetch(&self, _cx: &Context, image: &str, from: u64) -> Result<Fetched> {
        let content = self.state().files.get(image).cloned();
        let act = format!("fetch {image}");
        let content = content.ok_or(CloudError::Status { status: 404, act, text: String::new() })?;
        let length = Some(content.len() as u64);
        let rest = Bytes::from(content).slice(from as usize..);
        Ok(Fetched { from, length, pieces: Box::new(Whole(Some(rest))) })
    }

    async fn part(&self, _cx: &Context, image: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        let content = self.state().files.get(image).cloned().unwrap_or_default();
        Ok(content.get(range.start as usize..range.end as usize).map(Bytes::copy_from_slice))
    }

    async fn fill(&self, cx: &Context, image: &str, length: u64, content: &mut dyn ByteStream) -> Result<()> {
        let mut whole = Vec::new();
        while let Some(bytes) =
            content.next(cx).await.map_err(|error| CloudError::Malformed("fill".to_owned(), error.to_string()))?
        {
            whole.extend_from_slice(&bytes);
        }
        assert_eq!(whole.len() as u64, length, "what was promised was sent");
        let put = async {
            self.state().put(image, whole);
            Ok(())
        };
        self.faults.call("fill an image", put).await.map_err(fault)
    }
}
