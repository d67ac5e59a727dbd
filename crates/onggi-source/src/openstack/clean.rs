//! Takes away what a run made in a cloud, keeps what serves as the newest, and finds what dead runs left.
//!
//! Only what bears this onggi's mark is touched. Images go before the volumes that they were made of, and those before
//! their snapshots.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::capture::created_at;
use super::cloud::{Cloud, Service, text};
use super::{Openstack, api, mark};
use crate::Timestamp;
use crate::context::{Context, Purpose, RunId};
use crate::source::{Outcome, Remnant, Result, SourceError, Unit};

/// Between two looks whether something is gone.
const POLL: Duration = Duration::from_secs(1);
/// The longest time that something may take to go.
const GOING_MAX: Duration = Duration::from_mins(5);

/// Puts marks on the snapshots that Nova made for an image.
pub(super) async fn adopt(cx: &Context, cloud: &dyn Cloud, image: &Value, marks: &Map<String, Value>) -> Result<()> {
    for device in api::mapped_devices(image) {
        let id = text(&device, "snapshot_id");
        if id.is_empty() {
            continue;
        }
        match api::mark_block(cx, cloud, "snapshot", id, marks).await {
            Err(error) if error.is_not_found() => {}
            marked => marked?,
        }
    }
    Ok(())
}

/// Ends what a run made for a unit in one project.
pub(super) async fn release(
    source: &Openstack,
    cx: &Context,
    cloud: &dyn Cloud,
    unit: &Unit,
    outcome: Outcome,
) -> Result<()> {
    let mut found = Found::of_unit(source, cx, cloud, unit).await?;
    match (outcome, cx.purpose) {
        (Outcome::Dropped, _) | (_, Purpose::Drill) => found.drop_run(source, cx, cloud, unit).await,
        (Outcome::Kept, Purpose::Restore) => found.hand_over(cx, cloud, unit).await,
        (Outcome::Kept, Purpose::Backup) => {
            found.keep_run(source, cx, cloud, unit).await?;
            found.retain(cx, cloud, source.config.keep_last()).await.map(drop)
        }
    }
}

/// All of one unit that bears our mark, of whatever run.
struct Found {
    images: Vec<Value>,
    volumes: Vec<Value>,
    snapshots: Vec<Value>,
}

impl Found {
    async fn of_unit(source: &Openstack, cx: &Context, cloud: &dyn Cloud, unit: &Unit) -> Result<Self> {
        let (label, id) = (source.label.as_str(), unit.id.as_str());
        let has_volumes = cloud.has(cx, Service::Volume).await?;
        let blocks = async |kind| {
            if has_volumes { api::blocks(cx, cloud, kind, (mark::SERVER, id)).await } else { Ok(Vec::new()) }
        };
        let marks = [(mark::SOURCE, label), (mark::SERVER, id)];
        // At once, since each list takes a cloud a while.
        let found = futures::try_join!(api::images(cx, cloud, &marks), blocks("volume"), blocks("snapshot"));
        let (mut images, mut volumes, mut snapshots) = found?;
        images.retain(|image| mark::is_own_image(image, label));
        volumes.retain(|one| mark::value(one, mark::SOURCE) == label);
        snapshots.retain(|one| mark::value(one, mark::SOURCE) == label);
        Ok(Self { images, volumes, snapshots })
    }

    /// Volumes that a capture is read through, and their images: no outcome leaves them.
    async fn drop_exports(&self, cx: &Context, cloud: &dyn Cloud, unit: &Unit) -> Result<()> {
        for volume in self.volumes.iter().filter(|one| mark::is_of(one, cx, unit)) {
            drop_export(cx, cloud, text(volume, "id")).await?;
        }
        Ok(())
    }

    async fn drop_run(&self, source: &Openstack, cx: &Context, cloud: &dyn Cloud, unit: &Unit) -> Result<()> {
        super::build::drop_servers(source, cx, cloud, unit).await?;
        self.drop_exports(cx, cloud, unit).await?;
        let mut snapshots: Vec<String> = self
            .snapshots
            .iter()
            .filter(|one| mark::is_of(one, cx, unit))
            .map(|one| text(one, "id").to_owned())
            .collect();
        let marks = mark::mark(cx, &source.label, unit);
        for image in self.images.iter().filter(|one| mark::is_of(one, cx, unit)) {
            adopt(cx, cloud, image, &marks).await?;
            snapshots.extend(mapped(image));
            api::delete_image(cx, cloud, text(image, "id")).await?;
        }
        drop_snapshots(cx, cloud, snapshots).await
    }

    /// What a restore made is the operator's: nothing of it bears a mark any more.
    async fn hand_over(&self, cx: &Context, cloud: &dyn Cloud, unit: &Unit) -> Result<()> {
        super::build::hand_over(cx, cloud, unit).await?;
        for image in self.images.iter().filter(|one| mark::is_of(one, cx, unit)) {
            let mut marks = without_marks();
            marks.insert("name".to_owned(), json!(format!("{} restored", unit.name)));
            api::mark_image(cx, cloud, image, &marks).await?;
        }
        for volume in self.volumes.iter().filter(|one| mark::is_of(one, cx, unit)) {
            let kept = unmarked(volume);
            api::mark_block(cx, cloud, "volume", text(volume, "id"), &kept).await?;
        }
        Ok(())
    }

    /// Takes run and purpose off what is stored.
    async fn keep_run(&mut self, source: &Openstack, cx: &Context, cloud: &dyn Cloud, unit: &Unit) -> Result<()> {
        self.drop_exports(cx, cloud, unit).await?;
        let mut stored = mark::mark(cx, &source.label, unit);
        stored.remove(mark::RUN);
        stored.remove(mark::PURPOSE);
        stored.insert(mark::STORED.to_owned(), json!(cx.run.as_str()));
        // The image last: while it bears the run, all of this is done again.
        for snapshot in self.snapshots.iter_mut().filter(|one| mark::is_of(one, cx, unit)) {
            api::mark_block(cx, cloud, "snapshot", text(snapshot, "id"), &stored).await?;
            mark::note(snapshot, &stored);
        }
        for image in self.images.iter_mut().filter(|one| mark::is_of(one, cx, unit)) {
            let mut marks = stored.clone();
            marks.extend([mark::RUN, mark::PURPOSE].map(|key| (key.to_owned(), Value::Null)));
            api::mark_image(cx, cloud, image, &marks).await?;
            mark::note(image, &marks);
        }
        Ok(())
    }

    /// Removes stored captures beyond the newest that stay in the cloud, the oldest first. Answers the number of things
    /// that went.
    async fn retain(&self, cx: &Context, cloud: &dyn Cloud, newest: usize) -> Result<usize> {
        let is_stored = |one: &&Value| mark::whose(one).is_none() && !mark::value(one, mark::STORED).is_empty();
        let (protected, mut stored): (Vec<_>, Vec<_>) =
            self.images.iter().filter(is_stored).partition(|image| image["protected"] == true);
        stored.sort_by_key(|image| created_at(image).map(std::cmp::Reverse));
        let over = stored.split_off(newest.min(stored.len()));
        let kept: Vec<_> = stored.iter().chain(&protected).map(|one| mark::value(one, mark::STORED)).collect();
        let is_over = |one: &&Value| is_stored(one) && !kept.contains(&mark::value(one, mark::STORED));
        let mut snapshots: Vec<_> =
            self.snapshots.iter().filter(is_over).map(|one| text(one, "id").to_owned()).collect();
        let number = over.len() + snapshots.len();
        for image in over {
            snapshots.extend(mapped(image));
            api::delete_image(cx, cloud, text(image, "id")).await?;
        }
        drop_snapshots(cx, cloud, snapshots).await?;
        Ok(number)
    }
}

/// Removes a volume that was made of a snapshot, and the image that was made of it.
pub(super) async fn drop_export(cx: &Context, cloud: &dyn Cloud, volume: &str) -> Result<()> {
    for image in api::images(cx, cloud, &[("name", &export_name(cx, volume))]).await? {
        api::delete_image(cx, cloud, text(&image, "id")).await?;
    }
    // While its image is being made it is not given back.
    let until = cx.world.elapsed() + GOING_MAX;
    loop {
        match api::delete_block(cx, cloud, "volume", volume).await {
            Err(error) if error.status() == Some(400) && cx.world.elapsed() < until => cx.sleep(POLL).await?,
            deleted => break deleted?,
        }
    }
    gone(cx, cloud, "volume", volume).await
}

/// Removes all that a run read a snapshot of a unit through, also what it had no answer for.
pub(super) async fn drop_exports_of(cx: &Context, cloud: &dyn Cloud, unit: &Unit, snapshot: &str) -> Result<()> {
    let name = mark::name(cx, snapshot);
    for volume in api::blocks(cx, cloud, "volume", (mark::RUN, cx.run.as_str())).await? {
        if mark::is_of(&volume, cx, unit) && text(&volume, "name") == name {
            drop_export(cx, cloud, text(&volume, "id")).await?;
        }
    }
    Ok(())
}

/// The name of the image of a volume.
pub(super) fn export_name(cx: &Context, volume: &str) -> String {
    mark::name(cx, &format!("export-{volume}"))
}

pub(super) async fn drop_snapshots(cx: &Context, cloud: &dyn Cloud, mut ids: Vec<String>) -> Result<()> {
    ids.sort();
    ids.dedup();
    for id in &ids {
        api::delete_block(cx, cloud, "snapshot", id).await?;
    }
    for id in &ids {
        gone(cx, cloud, "snapshot", id).await?;
    }
    Ok(())
}

/// Waits until a thing of Cinder is gone.
async fn gone(cx: &Context, cloud: &dyn Cloud, kind: &str, id: &str) -> Result<()> {
    let until = cx.world.elapsed() + GOING_MAX;
    while api::block(cx, cloud, kind, id).await?.is_some() {
        if cx.world.elapsed() >= until {
            return Err(SourceError::Busy(format!("{kind} {id} does not go")));
        }
        cx.sleep(POLL).await?;
    }
    Ok(())
}

fn mapped(image: &Value) -> Vec<String> {
    let ids = api::mapped_devices(image);
    ids.iter().map(|device| text(device, "snapshot_id").to_owned()).filter(|id| !id.is_empty()).collect()
}

fn without_marks() -> Map<String, Value> {
    let keys = [mark::RUN, mark::PURPOSE, mark::SERVER, mark::SOURCE, mark::PARTS, mark::STORED];
    keys.into_iter().map(|key| (key.to_owned(), Value::Null)).collect()
}

fn unmarked(thing: &Value) -> Map<String, Value> {
    let own = thing["metadata"].as_object().cloned().unwrap_or_default();
    own.into_iter().filter(|(key, _)| !key.starts_with("onggi.")).collect()
}

/// Removes all stored captures of a unit; `false` if there was none.
pub(super) async fn forget_stored(source: &Openstack, cx: &Context, cloud: &dyn Cloud, unit: &Unit) -> Result<bool> {
    Ok(Found::of_unit(source, cx, cloud, unit).await?.retain(cx, cloud, 0).await? > 0)
}

/// What lies in one project of runs that ended early.
pub(super) async fn remnants(source: &Openstack, cx: &Context, cloud: &dyn Cloud) -> Result<Vec<Remnant>> {
    let label = source.label.as_str();
    let mut groups: BTreeMap<(String, &'static str, String), Vec<Value>> = BTreeMap::new();
    let mut all = api::images(cx, cloud, &[(mark::SOURCE, label)]).await?;
    all.retain(|image| mark::is_own_image(image, label));
    if cloud.has(cx, Service::Volume).await? {
        for kind in ["volume", "snapshot"] {
            all.extend(api::blocks(cx, cloud, kind, (mark::SOURCE, label)).await?);
        }
    }
    let servers = api::servers(cx, cloud).await?;
    all.extend(servers.iter().filter(|one| mark::value(one, mark::SOURCE) == label).cloned());
    for server in servers.iter().filter(|one| mark::value(one, mark::STOPPED_BY) == label) {
        let key = (
            mark::value(server, mark::STOPPED).to_owned(),
            mark::purpose(Purpose::Backup),
            text(server, "id").to_owned(),
        );
        groups.entry(key).or_default();
    }
    for thing in all {
        if let Some((run, purpose)) = mark::whose(&thing) {
            let key = (run.to_string(), mark::purpose(purpose), mark::value(&thing, mark::SERVER).to_owned());
            groups.entry(key).or_default().push(thing);
        }
    }
    let project = cloud.project(cx).await?;
    let is_free = source.claim()?;
    let mut found = Vec::new();
    for ((run, _, server), things) in groups {
        // Without a thing there is a server that a backup stopped.
        let purpose = things.first().and_then(mark::whose).map_or(Purpose::Backup, |(_, purpose)| purpose);
        let name = servers.iter().find(|one| text(one, "id") == server).map_or(&*server, |one| text(one, "name"));
        let unit = Unit { id: server.as_str().into(), name: format!("{}/{name}", project.name) };
        // While we hold the claim nobody else of this onggi is at work.
        let seen_at = if is_free { Timestamp::UNIX_EPOCH } else { cx.world.now() };
        let complete = purpose == Purpose::Backup && is_whole(&things);
        let what = if things.is_empty() { "a stopped server".to_owned() } else { described(&things) };
        found.push(Remnant { unit, mark: Some((RunId::from(&*run), purpose)), seen_at, complete, what });
    }
    Ok(found)
}

/// Whether all parts of a capture are there.
fn is_whole(things: &[Value]) -> bool {
    let parts: Vec<_> = things.iter().filter(|one| !mark::value(one, mark::PARTS).is_empty()).collect();
    let is_image = |one: &&&Value| one.get("disk_format").is_some() || one.get("block_device_mapping").is_some();
    let mapped: usize = parts.iter().map(|one| mapped(one).len()).sum();
    let wanted = parts.first().and_then(|one| mark::value(one, mark::PARTS).parse::<usize>().ok());
    // Snapshots that an image maps are not counted among its parts.
    let has_image = parts.iter().any(|one| is_image(&one));
    has_image && wanted.is_some_and(|wanted| parts.len() == wanted + mapped)
}

fn described(things: &[Value]) -> String {
    let names: Vec<_> = things
        .iter()
        .map(|one| {
            let kind = match one {
                one if one.get("container_format").is_some() => "image",
                one if one.get("volume_id").is_some() => "snapshot",
                one if one.get("attachments").is_some() => "volume",
                _ => "server",
            };
            format!("{kind} {}", text(one, "id"))
        })
        .collect();
    names.join(", ")
}
