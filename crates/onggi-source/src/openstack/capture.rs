//! Fixes the disks of a server: an image of it, snapshots of its volumes, or the image of a shelved one.

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::cloud::{Cloud, Service, document, list, text};
use super::config::{Encrypted, Volumes};
use super::items::Taken;
use super::{Openstack, api, clean, mark};
use crate::Timestamp;
use crate::context::{Context, Progress};
use crate::source::{Result, SourceError, Unit};

/// States in which Nova makes an image.
const STATES: &[&str] = &["ACTIVE", "SHUTOFF", "PAUSED", "SUSPENDED"];
/// Tasks during which the image is not fixed yet.
const UNFIXED: &[&str] = &["image_snapshot_pending", "image_snapshot"];
/// Between two questions, at least and at most; in between, a share of the time that was waited already, so that what is
/// done is not found out much later than it could be.
const POLL: Duration = Duration::from_millis(500);
const POLL_MAX: Duration = Duration::from_secs(15);
const POLL_SHARE: u32 = 8;
/// Nova is asked so often what it does, while Glance is asked for the image.
const TASK_EVERY: Duration = Duration::from_secs(5);

/// One disk of a server.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// `root`, `data`.
    pub(super) role: &'static str,
    /// Where it is in the server: `/dev/vda`.
    pub(super) device: String,
    pub(super) boot_index: Option<i64>,
    /// The volume, where it is one.
    pub(super) volume: Option<Value>,
    pub(super) from: From,
}

/// What a disk's bytes are read from.
#[derive(Debug, Clone)]
pub(super) enum From {
    /// An image, by its id.
    Image(String),
    /// A snapshot of a volume, by its id.
    Snapshot(String),
}

/// Fixes all disks, and answers what they are read from.
pub(super) async fn capture<'a>(
    source: &'a Openstack,
    cx: &Context,
    cloud: Arc<dyn Cloud>,
    unit: &Unit,
    server: Value,
) -> Result<Taken<'a>> {
    // What is refused is refused before anything is made.
    let status = text(&server, "status");
    let volumes = volumes(source, cx, &*cloud, &server).await?;
    let is_on_volume = text(&server["image"], "id").is_empty();
    if status == "SHELVED_OFFLOADED" {
        let parts = shelved(cx, &*cloud, unit, &server).await?;
        return Ok(Taken::new(source, cloud, unit, server, parts, cx.world.now()));
    }
    if !STATES.contains(&status) {
        return Err(SourceError::Refused(format!("its state is {status}, in which no snapshot can be made")));
    }
    let server = idle(source, cx, &*cloud, unit).await?;
    let taken_at = cx.world.now();
    let parts = if is_on_volume {
        on_volumes(source, cx, &*cloud, unit, &volumes).await?
    } else {
        on_image(source, cx, &*cloud, unit, &server, &volumes).await?
    };
    Ok(Taken::new(source, cloud, unit, server, parts, taken_at))
}

/// Waits until nobody else works on the server.
async fn idle(source: &Openstack, cx: &Context, cloud: &dyn Cloud, unit: &Unit) -> Result<Value> {
    let began_at = cx.world.elapsed();
    let until = began_at + source.config.busy_timeout();
    loop {
        let server = api::server(cx, cloud, unit.id.as_str()).await?.ok_or(SourceError::Gone)?;
        let task = text(&server, "OS-EXT-STS:task_state");
        if task.is_empty() {
            return Ok(server);
        }
        if cx.world.elapsed() >= until {
            return Err(SourceError::Refused(format!("another task is at work on it: {task}")));
        }
        cx.monitor.progress(Progress::Phase(format!("waiting for {task}")));
        pause(cx, began_at).await?;
    }
}

/// The attached volumes, the root's first.
async fn volumes(source: &Openstack, cx: &Context, cloud: &dyn Cloud, server: &Value) -> Result<Vec<Value>> {
    let attached: Vec<_> = list(server, "os-extended-volumes:volumes_attached").collect();
    if attached.is_empty() {
        return Ok(Vec::new());
    }
    if source.config.volumes == Volumes::None {
        return match text(&server["image"], "id") {
            "" => Err(SourceError::Refused("it starts from a volume, and `volumes: none` leaves all out".to_owned())),
            _ => Ok(Vec::new()),
        };
    }
    let mut found = Vec::new();
    for one in attached {
        let id = text(one, "id");
        let volume = api::block(cx, cloud, "volume", id).await?;
        let volume = volume.ok_or_else(|| SourceError::Incomplete(format!("its volume {id} does not exist")))?;
        if volume["encrypted"] == true && source.config.encrypted == Encrypted::Refuse {
            let text = format!("its volume {id} is encrypted, and only the cloud's key manager can read it");
            return Err(SourceError::Refused(text));
        }
        found.push(volume);
    }
    found.sort_by_key(|volume| device_of(volume, text(server, "id")));
    Ok(found)
}

/// Where a volume is in a server.
fn device_of(volume: &Value, server: &str) -> String {
    let mut attachments = list(volume, "attachments").filter(|one| text(one, "server_id") == server);
    attachments.next().map(|one| text(one, "device").to_owned()).unwrap_or_default()
}

/// The image that Nova keeps of a shelved server; it is Nova's and stays.
async fn shelved(cx: &Context, cloud: &dyn Cloud, unit: &Unit, server: &Value) -> Result<Vec<Part>> {
    let name = format!("{}-shelved", text(server, "name"));
    let images = api::images(cx, cloud, &[("name", &name), ("instance_uuid", unit.id.as_str())]).await?;
    let image = images.iter().find(|image| text(image, "status") == "active");
    let missing = || SourceError::Refused(format!("it is shelved, and there is no image {name}"));
    let id = text(image.ok_or_else(missing)?, "id").to_owned();
    Ok(vec![root("/dev/vda", From::Image(id))])
}

/// What a run that ended early had fixed, by its marks.
pub(super) async fn reopen<'a>(
    source: &'a Openstack,
    cx: &Context,
    cloud: Arc<dyn Cloud>,
    unit: &Unit,
    server: Value,
) -> Result<Taken<'a>> {
    let volumes = volumes(source, cx, &*cloud, &server).await?;
    let images = api::images(cx, &*cloud, &[(mark::RUN, cx.run.as_str()), (mark::SERVER, unit.id.as_str())]).await?;
    let image = images.iter().find(|image| mark::is_of(image, cx, unit) && mark::is_own_image(image, &source.label));
    let image = image.ok_or_else(|| SourceError::Incomplete("its image is gone".to_owned()))?;
    // Volumes that an earlier process read through are of no more use.
    for volume in api::blocks(cx, &*cloud, "volume", (mark::RUN, cx.run.as_str())).await? {
        if mark::is_of(&volume, cx, unit) {
            clean::drop_export(cx, &*cloud, text(&volume, "id")).await?;
        }
    }
    let mut parts = parts_of(image, &volumes, unit);
    if parts.is_empty() {
        let device = text(&server, "OS-EXT-SRV-ATTR:root_device_name");
        parts
            .push(root(if device.is_empty() { "/dev/vda" } else { device }, From::Image(text(image, "id").to_owned())));
        let snapshots = api::blocks(cx, &*cloud, "snapshot", (mark::RUN, cx.run.as_str())).await?;
        for snapshot in snapshots.iter().filter(|one| mark::is_of(one, cx, unit)) {
            let of = volumes.iter().find(|volume| volume["id"] == snapshot["volume_id"]);
            let blank = json!({ "id": snapshot["volume_id"], "size": snapshot["size"] });
            parts.push(data(of.unwrap_or(&blank), unit, text(snapshot, "id")));
        }
        parts[1..].sort_by(|one, other| one.device.cmp(&other.device));
    }
    let taken_at = created_at(image).unwrap_or(cx.world.now());
    Ok(Taken::new(source, cloud, unit, server, parts, taken_at))
}

/// The disk that a server starts from.
pub(super) fn root(device: &str, from: From) -> Part {
    Part { role: "root", device: device.to_owned(), boot_index: Some(0), volume: None, from }
}

/// Snapshots of the volumes beside the root disk, and at once an image of that.
///
/// Not the other way round: where volumes are files, Nova makes the snapshots of those in use for Cinder, and refuses while
/// it is at work on an image of the server.
async fn on_image(
    source: &Openstack,
    cx: &Context,
    cloud: &dyn Cloud,
    unit: &Unit,
    server: &Value,
    volumes: &[Value],
) -> Result<Vec<Part>> {
    room(cx, cloud, volumes.len()).await?;
    let mut marks = mark::mark(cx, &source.label, unit);
    marks.insert(mark::PARTS.to_owned(), json!((volumes.len() + 1).to_string()));
    let name = mark::name(cx, unit.id.as_str());
    let mut beside = Vec::new();
    for volume in volumes {
        let id = text(volume, "id");
        let made = api::snapshot_volume(cx, cloud, id, &mark::name(cx, id), &marks).await?;
        beside.push((volume, text(&made, "id").to_owned()));
    }
    for (_, snapshot) in &beside {
        whole_snapshot(source, cx, cloud, snapshot).await?;
    }
    let image = api::create_image(cx, cloud, unit.id.as_str(), &name, marks).await?;
    fixed(source, cx, cloud, unit, &image).await?;
    let device = Some(text(server, "OS-EXT-SRV-ATTR:root_device_name")).filter(|name| !name.is_empty());
    let root = root(device.unwrap_or("/dev/vda"), From::Image(image));
    let beside = beside.iter().map(|(volume, snapshot)| data(volume, unit, snapshot));
    Ok(iter::once(root).chain(beside).collect())
}

fn data(volume: &Value, unit: &Unit, snapshot: &str) -> Part {
    Part {
        role: "data",
        device: device_of(volume, unit.id.as_str()),
        boot_index: None,
        volume: Some(volume.clone()),
        from: From::Snapshot(snapshot.to_owned()),
    }
}

/// Nova freezes once and makes snapshots of all volumes; the image only says which.
async fn on_volumes(
    source: &Openstack,
    cx: &Context,
    cloud: &dyn Cloud,
    unit: &Unit,
    volumes: &[Value],
) -> Result<Vec<Part>> {
    room(cx, cloud, volumes.len()).await?;
    let mut marks = mark::mark(cx, &source.label, unit);
    marks.insert(mark::PARTS.to_owned(), json!("1"));
    let name = mark::name(cx, unit.id.as_str());
    let id = api::create_image(cx, cloud, unit.id.as_str(), &name, marks.clone()).await?;
    let image = api::image(cx, cloud, &id).await?;
    let image = image.ok_or_else(|| SourceError::Incomplete("Nova made no image".to_owned()))?;
    // Nova's snapshots bear no mark of ours: they get it, so that they are found without the image, too.
    clean::adopt(cx, cloud, &image, &marks).await?;
    let parts = parts_of(&image, volumes, unit);
    for part in &parts {
        if let From::Snapshot(id) = &part.from {
            whole_snapshot(source, cx, cloud, id).await.map_err(|error| explained(error, &image))?;
        }
    }
    Ok(parts)
}

/// The disks that a volume-backed server's image maps.
pub(super) fn parts_of(image: &Value, volumes: &[Value], unit: &Unit) -> Vec<Part> {
    let mut parts = Vec::new();
    for (at, device) in api::mapped_devices(image).iter().enumerate() {
        let snapshot = text(device, "snapshot_id");
        if snapshot.is_empty() {
            continue;
        }
        let boot_index = device["boot_index"].as_i64();
        let volume = volumes.get(at).cloned();
        let name = text(device, "device_name").to_owned();
        let own = volume.as_ref().map(|volume| device_of(volume, unit.id.as_str()));
        parts.push(Part {
            role: if boot_index == Some(0) { "root" } else { "data" },
            device: if name.is_empty() { own.unwrap_or_default() } else { name },
            boot_index,
            volume,
            from: From::Snapshot(snapshot.to_owned()),
        });
    }
    parts.sort_by_key(|part| part.role != "root");
    parts
}

/// The one way in which Nova's own freezing gets in its own way.
fn explained(error: SourceError, image: &Value) -> SourceError {
    match error {
        SourceError::Refused(text) if image["os_require_quiesce"] == "yes" => SourceError::Refused(format!(
            "{text}; its image has os_require_quiesce=yes, and where Nova itself makes the volumes' snapshots, the second \
             freeze is refused by the agent that is frozen already: `freeze: stop` captures such a server"
        )),
        error => error,
    }
}

/// Refuses before anything is made what Cinder would refuse half-way.
async fn room(cx: &Context, cloud: &dyn Cloud, snapshots: usize) -> Result<()> {
    if snapshots == 0 {
        return Ok(());
    }
    let answer = document(cx, cloud, super::cloud::Ask::get(Service::Volume, "/limits")).await?;
    let limits = &answer["limits"]["absolute"];
    for (what, used, max, wanted) in [
        ("snapshots", "totalSnapshotsUsed", "maxTotalSnapshots", snapshots as u64),
        // One volume at a time is made of a snapshot.
        ("volumes", "totalVolumesUsed", "maxTotalVolumes", 1),
    ] {
        let (Some(used), Some(max)) = (limits[used].as_u64(), limits[max].as_u64()) else { continue };
        if used + wanted > max {
            return Err(SourceError::Full(format!(
                "Cinder {what}: {used} of {max} are used, {wanted} more are needed"
            )));
        }
    }
    Ok(())
}

/// Waits until later writes no longer show in an image.
async fn fixed(source: &Openstack, cx: &Context, cloud: &dyn Cloud, unit: &Unit, image: &str) -> Result<()> {
    let mut watch = Watch::new(source, cx);
    loop {
        let task = task_of(cx, cloud, unit).await?;
        if !task.is_empty() && !UNFIXED.contains(&&*task) {
            return Ok(());
        }
        let found = api::image(cx, cloud, image).await?;
        if watch.verdict(cx, cloud, unit, found.as_ref(), &task).await? {
            return Ok(());
        }
        cx.monitor.progress(Progress::Phase(format!("waiting for {task}")));
        pause(cx, watch.began_at).await?;
    }
}

/// Waits until an image of a server can be read.
pub(super) async fn readable(
    source: &Openstack,
    cx: &Context,
    cloud: &dyn Cloud,
    unit: &Unit,
    image: &str,
) -> Result<Value> {
    let mut watch = Watch::new(source, cx);
    let (mut task, mut asked_at) = (String::new(), None);
    loop {
        let found = match api::image(cx, cloud, image).await? {
            Some(found) if text(&found, "status") == "active" => return Ok(found),
            found => found,
        };
        // Nova takes much longer for an answer than Glance.
        let now = cx.world.elapsed();
        if found.is_none() || asked_at.is_none_or(|at| now.saturating_sub(at) >= TASK_EVERY) {
            (task, asked_at) = (task_of(cx, cloud, unit).await?, Some(now));
        }
        watch.verdict(cx, cloud, unit, found.as_ref(), &task).await?;
        cx.monitor.progress(Progress::Phase("waiting for the image".to_owned()));
        pause(cx, watch.began_at).await?;
    }
}

/// What Nova does with a server.
async fn task_of(cx: &Context, cloud: &dyn Cloud, unit: &Unit) -> Result<String> {
    let server = api::server(cx, cloud, unit.id.as_str()).await?;
    Ok(server.map(|server| text(&server, "OS-EXT-STS:task_state").to_owned()).unwrap_or_default())
}

/// Follows an image that Nova makes.
struct Watch {
    began_at: Duration,
    /// Last state, and since when it is so.
    last: (String, Duration),
    limit: Duration,
}

impl Watch {
    /// So long nobody may be at work on an unfinished image.
    const FORSAKEN: Duration = Duration::from_mins(1);
    /// Right after the request the task may not show yet.
    const SETTLE: Duration = Duration::from_secs(5);

    fn new(source: &Openstack, cx: &Context) -> Self {
        let now = cx.world.elapsed();
        Self { began_at: now, last: (String::new(), now), limit: source.config.snapshot_timeout() }
    }

    /// Whether it is whole; an error when it never will be.
    async fn verdict(
        &mut self,
        cx: &Context,
        cloud: &dyn Cloud,
        unit: &Unit,
        image: Option<&Value>,
        task: &str,
    ) -> Result<bool> {
        let now = cx.world.elapsed();
        let status = image.map(|image| text(image, "status"));
        let state = format!("{status:?} {task} {}", image.map_or(0, |image| image["size"].as_u64().unwrap_or(0)));
        if self.last.0 != state {
            self.last = (state, now);
        }
        let stands = now.saturating_sub(self.last.1);
        match status {
            Some("active") => Ok(true),
            None if task.is_empty() && now.saturating_sub(self.began_at) < Self::SETTLE => Ok(false),
            None if task.is_empty() => Err(given_up(cx, cloud, unit).await),
            Some("killed" | "deactivated" | "error" | "deleted" | "pending_delete") => {
                Err(SourceError::Incomplete(format!("its image is {}", status.unwrap_or_default())))
            }
            Some("queued" | "saving") if task.is_empty() && stands >= Self::FORSAKEN => {
                let text = "its image was begun and nobody works on it any more: Nova or Glance ended in the middle";
                Err(SourceError::Incomplete(text.to_owned()))
            }
            _ if stands >= self.limit => Err(SourceError::Refused(format!(
                "its image stands at {} ({task}) for {}; it may stay busy until its compute service recovers",
                status.unwrap_or("none"),
                crate::quantity::Period(self.limit),
            ))),
            _ => Ok(false),
        }
    }
}

/// Nova removed the image: it wrote down why.
async fn given_up(cx: &Context, cloud: &dyn Cloud, unit: &Unit) -> SourceError {
    let told = match api::last_action(cx, cloud, unit.id.as_str()).await {
        Ok(told) => told.unwrap_or_else(|| "it says no reason".to_owned()),
        Err(error) => error.to_string(),
    };
    SourceError::Refused(format!("Nova gave the image up and removed it: {told}"))
}

/// Waits until a snapshot of a volume is whole.
pub(super) async fn whole_snapshot(source: &Openstack, cx: &Context, cloud: &dyn Cloud, id: &str) -> Result<()> {
    let whole = await_block(source, cx, cloud, "snapshot", id, "available").await;
    whole.map(drop).map_err(|error| match error {
        SourceError::Incomplete(text) => SourceError::Refused(text),
        error => error,
    })
}

/// Waits until a thing of Cinder is in a state.
pub(super) async fn await_block(
    source: &Openstack,
    cx: &Context,
    cloud: &dyn Cloud,
    kind: &str,
    id: &str,
    wanted: &str,
) -> Result<Value> {
    let began_at = cx.world.elapsed();
    let until = began_at + source.config.snapshot_timeout();
    loop {
        let found = api::block(cx, cloud, kind, id).await?;
        let found = found.ok_or_else(|| SourceError::Incomplete(format!("{kind} {id} vanished")))?;
        match text(&found, "status") {
            status if status == wanted => return Ok(found),
            status if status.starts_with("error") => {
                return Err(SourceError::Incomplete(format!("{kind} {id} is in state {status}")));
            }
            status if cx.world.elapsed() >= until => {
                return Err(SourceError::Incomplete(format!("{kind} {id} stays in state {status}")));
            }
            status => cx.monitor.progress(Progress::Phase(format!("waiting for {kind} {id}: {status}"))),
        }
        pause(cx, began_at).await?;
    }
}

/// Waits until it is asked again, for something that began then.
async fn pause(cx: &Context, began_at: Duration) -> Result<()> {
    let waited = cx.world.elapsed().saturating_sub(began_at);
    Ok(cx.sleep((waited / POLL_SHARE).clamp(POLL, POLL_MAX)).await?)
}

/// When an image was made, as the cloud's clock has it.
pub(super) fn created_at(thing: &Value) -> Option<Timestamp> {
    text(thing, "created_at").parse().ok()
}
