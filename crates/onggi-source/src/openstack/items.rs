//! What is stored of a server: its documents, its disks, and the kernel and ramdisk without which it does not start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::SemaphorePermit;

use super::arriving::Arriving;
use super::capture::{From, Part, await_block, created_at, readable};
use super::cloud::{Cloud, Project, text};
use super::config::{Encoding, Freeze, ROOT};
use super::disk::{Fetched, Flowing, chunking, fetch};
use super::download::Download;
use super::image::{Inspection, State};
use super::{Openstack, api, clean, keep, mark, record};
use crate::Timestamp;
use crate::context::{Context, Problem, Progress};
use crate::item::{Content, Item, Metadata, Version};
use crate::path::TreePath;
use crate::source::{Capture, Facts, Items, Result, SourceError, Unit};

/// The form of what is noted.
pub(super) const FORMAT: u32 = 1;
/// The documents of a server.
pub(super) const DOCUMENTS: &str = "server.json";
/// What is said of its disks.
pub(super) const NOTES: &str = "disks.json";
/// How long what failed may take to be taken away, when the run is stopped.
const CLEANUP: Duration = Duration::from_mins(5);

/// What is noted of a server's capture; in its facts, and as a file for people.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Notes {
    pub(super) format: u32,
    /// `image`, `volumes`, `shelved`.
    pub(super) method: String,
    pub(super) project: String,
    /// Root and data disks are captured one after the other.
    pub(super) is_of_one_instant: bool,
    pub(super) consistency: Consistency,
    pub(super) disks: Vec<Disk>,
}

/// Whether file systems stood still.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Consistency {
    /// The server's image asks for it.
    pub(super) requested: bool,
    /// What the file systems themselves say: `clean`, `journal-pending`, `unknown`.
    pub(super) observed: String,
    /// As libvirt counts: 1 runs, 4 is off.
    pub(super) power_state: Option<i64>,
}

/// One stored disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Disk {
    pub(super) role: String,
    pub(super) device: String,
    pub(super) boot_index: Option<i64>,
    pub(super) volume_id: Option<String>,
    pub(super) volume_type: Option<String>,
    /// Of the volume, in GiB.
    pub(super) size: Option<u64>,
    /// As Glance gave it.
    pub(super) source_format: String,
    pub(super) source_hash: Option<String>,
    /// `raw` or `verbatim`.
    pub(super) encoding: String,
    /// Of the disk itself, in bytes.
    pub(super) virtual_size: u64,
    /// Below the server's folder.
    pub(super) file: String,
    pub(super) inspection: Option<Inspection>,
}

/// A server whose disks are fixed.
pub(super) struct Taken<'a> {
    source: &'a Openstack,
    cloud: Arc<dyn Cloud>,
    unit: Unit,
    server: Value,
    parts: Vec<Part>,
    at: Timestamp,
    /// Given back once the cloud has made all that was asked for.
    turn: Option<SemaphorePermit<'a>>,
}

impl<'a> Taken<'a> {
    pub(super) fn new(
        source: &'a Openstack,
        cloud: Arc<dyn Cloud>,
        unit: &Unit,
        server: Value,
        parts: Vec<Part>,
        at: Timestamp,
    ) -> Self {
        Self { source, cloud, unit: unit.clone(), server, parts, at, turn: None }
    }

    /// The same, holding a turn.
    pub(super) fn with_turn(self, turn: SemaphorePermit<'a>) -> Self {
        Self { turn: Some(turn), ..self }
    }
}

/// Where one server's items go.
struct Place<'a> {
    cx: &'a Context,
    out: &'a dyn Items,
    root: TreePath,
    taken_at: Timestamp,
}

impl Place<'_> {
    fn metadata(&self, mode: u32, size: u64) -> Metadata {
        Metadata { mode, mtime: self.taken_at, links: 1, size, ..Metadata::default() }
    }

    fn below(&self, name: &str) -> Result<TreePath> {
        let mut path = self.root.clone();
        for component in name.split('/') {
            path = path.join(component).map_err(|error| SourceError::Incomplete(error.to_string()))?;
        }
        Ok(path)
    }

    async fn folder(&self, path: TreePath) -> Result<()> {
        let metadata = Metadata { mode: 0o700, mtime: self.taken_at, ..Metadata::default() };
        self.out.push(Item::directory(path).with_metadata(metadata), Content::None).await.map(drop)
    }

    async fn document(&self, name: &str, value: &Value) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(value).map_err(|error| SourceError::Incomplete(error.to_string()))?;
        let item = Item::file(self.below(name)?).with_metadata(self.metadata(0o600, bytes.len() as u64)).secret();
        self.out.push(item, Content::Inline(Bytes::from(bytes))).await.map(drop)
    }
}

/// `openstack/<region>/<project>/<server>`.
fn root_of(project: &Project, unit: &Unit) -> Result<TreePath> {
    let mut path = TreePath::new(ROOT).map_err(|error| SourceError::Incomplete(error.to_string()))?;
    let region = if project.region.is_empty() { "region" } else { &project.region };
    for name in [region, &project.id, unit.id.as_str()] {
        path = path.join(name.replace('/', "_")).map_err(|error| SourceError::Incomplete(error.to_string()))?;
    }
    Ok(path)
}

#[async_trait]
impl Capture for Taken<'_> {
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        let project = self.cloud.project(cx).await?;
        let root = root_of(&project, &self.unit)?;
        let taken_at = self.moment(cx).await?;
        let place = Place { cx, out, root: root.clone(), taken_at };
        let mut above: Vec<TreePath> = std::iter::successors(Some(root.clone()), TreePath::parent).collect();
        above.retain(|path| !path.is_root());
        for path in above.iter().rev() {
            place.folder(path.clone()).await?;
        }
        let mut documents = record::documents(cx, &*self.cloud, &self.server).await?;
        if let Some(Part { from: From::Image(id), .. }) = self.parts.first() {
            // It inherits what the server's own image says, which may be gone by now.
            documents["capture"] = api::image(cx, &*self.cloud, id).await?.unwrap_or_default();
        }
        place.document(DOCUMENTS, &documents).await?;
        self.boot_images(&place, &documents).await?;
        place.folder(place.below("disks")?).await?;
        // Snapshots were waited for when they were made.
        for part in &self.parts {
            if let From::Image(id) = &part.from {
                readable(self.source, cx, &*self.cloud, &self.unit, id).await?;
            }
        }
        drop(self.turn.take());
        let mut disks = Vec::new();
        for number in 0..self.parts.len() {
            let _turn = cx.unless_stopped(self.source.transfers.acquire()).await?;
            disks.push(self.disk(&place, number).await?);
        }
        out.leave(&place.below("disks")?).await?;
        let notes = self.notes(cx, &project, &documents, disks)?;
        let notes = serde_json::to_value(&notes).map_err(|error| SourceError::Incomplete(error.to_string()))?;
        place.document(NOTES, &notes).await?;
        for path in &above {
            out.leave(path).await?;
        }
        let mut tags = vec![format!("project:{}", project.id), format!("cloud:{}", self.source.cloud_name())];
        match keep::kept(&self.server) {
            Ok(number) => tags.extend(number.map(keep::tag)),
            Err(text) => cx.problem(Problem { class: "keep", path: None, text }),
        }
        Ok(Facts { roots: vec![root], tags, notes, ..Facts::new(taken_at) })
    }
}

/// Makes an image of a volume's snapshot by a volume of its own, all under our mark. Where it fails nothing of it stays.
pub(super) async fn export(
    source: &Openstack,
    cx: &Context,
    cloud: &dyn Cloud,
    unit: &Unit,
    snapshot: &str,
) -> Result<(Value, String)> {
    let exported = read_through(source, cx, cloud, unit, snapshot).await;
    if exported.is_err()
        && let Err(left) = clean::drop_exports_of(&cx.for_cleanup(CLEANUP), cloud, unit, snapshot).await
    {
        // Why it failed is what the operator must know; what stays is found by its mark.
        let text = format!("what snapshot {snapshot} was read through stays until the next run: {left}");
        cx.problem(Problem { class: "left", path: None, text });
    }
    exported
}

async fn read_through(
    source: &Openstack,
    cx: &Context,
    cloud: &dyn Cloud,
    unit: &Unit,
    snapshot: &str,
) -> Result<(Value, String)> {
    let marks = mark::mark(cx, &source.label, unit);
    let from = json!({ "snapshot_id": snapshot, "name": mark::name(cx, snapshot), "metadata": marks });
    let volume = api::create_volume(cx, cloud, from).await?;
    let id = text(&volume, "id").to_owned();
    let available = await_block(source, cx, cloud, "volume", &id, "available").await;
    available.map_err(|error| match error {
        SourceError::Incomplete(text) => SourceError::Incomplete(format!(
            "{text}: Cinder could not copy snapshot {snapshot}; its log says why. Older snapshots of the volume are \
             one reason, where volumes are files"
        )),
        error => error,
    })?;
    let image = api::image_of_volume(cx, cloud, &id, &clean::export_name(cx, &id)).await?;
    await_block(source, cx, cloud, "volume", &id, "available").await?;
    let image = api::image(cx, cloud, &image).await?;
    let image = image.filter(|image| text(image, "status") == "active");
    let image = image.ok_or_else(|| SourceError::Incomplete(format!("Cinder made no image of volume {id}")))?;
    Ok((image, id))
}

impl Taken<'_> {
    /// When the first of its parts was made, as the cloud's clock has it.
    async fn moment(&self, cx: &Context) -> Result<Timestamp> {
        let Some(part) = self.parts.first() else { return Ok(self.at) };
        let made = match &part.from {
            From::Image(id) => api::image(cx, &*self.cloud, id).await?,
            From::Snapshot(id) => api::block(cx, &*self.cloud, "snapshot", id).await?,
        };
        // Cinder's times have no zone; they are UTC.
        let text = made.as_ref().map(|made| format!("{}Z", text(made, "created_at").trim_end_matches('Z')));
        let moment = text.and_then(|text| text.parse().ok()).or_else(|| made.as_ref().and_then(created_at));
        Ok(moment.unwrap_or(self.at))
    }

    /// Makes an image of a snapshot, if need be without the older copies in the cloud: a back end of files cannot read
    /// a snapshot that follows another one since it refuses files that have a backing file (CVE-2024-32498).
    async fn exported(&self, cx: &Context, snapshot: &str) -> Result<(Value, String)> {
        let cloud = &*self.cloud;
        match export(self.source, cx, cloud, &self.unit, snapshot).await {
            Err(failed @ SourceError::Incomplete(_)) => {
                // They are in the repository, and this run's snapshot is a newer copy.
                cx.monitor.progress(Progress::Phase("removing older snapshots, which hide this one".to_owned()));
                if !clean::forget_stored(self.source, cx, cloud, &self.unit).await? {
                    return Err(failed);
                }
                export(self.source, cx, cloud, &self.unit, snapshot).await
            }
            done => done,
        }
    }

    /// Brings one disk in.
    async fn disk(&self, place: &Place<'_>, number: usize) -> Result<Disk> {
        let (cx, part) = (place.cx, &self.parts[number]);
        let (image, export) = match &part.from {
            From::Image(id) => (readable(self.source, cx, &*self.cloud, &self.unit, id).await?, None),
            From::Snapshot(id) => {
                let (image, volume) = self.exported(cx, id).await?;
                (image, Some(volume))
            }
        };
        let volume_id = part.volume.as_ref().map(|volume| text(volume, "id").to_owned());
        let name = match &volume_id {
            Some(id) if part.role != "root" => format!("disks/{number:02}-{id}.raw"),
            _ => format!("disks/{number:02}-{}.raw", part.role),
        };
        let stored = self.store(place, &image, &name).await?;
        if let Some(volume) = export {
            clean::drop_export(cx, &*self.cloud, &volume).await?;
        }
        Ok(Disk {
            role: part.role.to_owned(),
            device: part.device.clone(),
            boot_index: part.boot_index,
            volume_id,
            volume_type: part.volume.as_ref().map(|volume| text(volume, "volume_type").to_owned()),
            size: part.volume.as_ref().and_then(|volume| volume["size"].as_u64()),
            source_format: text(&image, "disk_format").to_owned(),
            source_hash: Some(text(&image, "os_hash_value").to_owned()).filter(|hash| !hash.is_empty()),
            ..stored
        })
    }

    /// Stores an image's content under a name.
    async fn store(&self, place: &Place<'_>, image: &Value, name: &str) -> Result<Disk> {
        let cx = place.cx;
        let declared = text(image, "disk_format");
        cx.monitor.progress(Progress::Phase(format!("fetching {name}")));
        let plain = |encoding: &str, virtual_size, file: String, inspection| Disk {
            role: String::new(),
            device: String::new(),
            boot_index: None,
            volume_id: None,
            volume_type: None,
            size: None,
            source_format: String::new(),
            source_hash: None,
            encoding: encoding.to_owned(),
            virtual_size,
            file,
            inspection,
        };
        let is_verbatim = self.source.config.encoding == Encoding::Verbatim;
        if is_verbatim || declared == "raw" {
            let file = if is_verbatim { verbatim(name, declared) } else { name.to_owned() };
            let download = Download::new(cx, Arc::clone(&self.cloud), image);
            let length = download.length();
            let mut flowing = Flowing::new(download);
            let item = Item::file(place.below(&file)?).with_metadata(place.metadata(0o600, length));
            place.out.push(item.with_chunking(chunking(length)), Content::Stream(&mut flowing)).await?;
            let inspection = flowing.inspection().filter(|_| declared == "raw");
            let encoding = if is_verbatim { "verbatim" } else { "raw" };
            return Ok(plain(encoding, image["virtual_size"].as_u64().unwrap_or(length), file, inspection));
        }
        if let Some(disk) = Arriving::begin(cx, &self.cloud, image).await? {
            let length = disk.length();
            let item = Item::file(place.below(name)?).with_metadata(place.metadata(0o600, length));
            let storing = place.out.push(item.with_chunking(chunking(length)), Content::At(&disk));
            let receiving = disk.receive(cx, Arc::clone(&self.cloud), image);
            // begun first, so that it is always given up half-way where the image fails
            let (_, inspection) = futures::try_join!(storing, receiving)?;
            return Ok(plain("raw", length, name.to_owned(), Some(inspection)));
        }
        match fetch(cx, Arc::clone(&self.cloud), image).await? {
            Fetched::Disk(disk, inspection) => {
                let length = disk.length();
                let item = Item::file(place.below(name)?).with_metadata(place.metadata(0o600, length));
                place.out.push(item.with_chunking(chunking(length)), Content::At(&disk)).await?;
                Ok(plain("raw", length, name.to_owned(), Some(inspection)))
            }
            Fetched::File(spool, why) => {
                let file = verbatim(name, declared);
                let path = place.below(&file)?;
                let text = format!("its image is stored as the cloud gave it, not as a disk: {why}");
                cx.problem(Problem { class: "verbatim", path: Some(path.clone()), text });
                let item = Item::file(path).with_metadata(place.metadata(0o600, spool.length()));
                place.out.push(item, Content::At(&*spool)).await?;
                let size = image["virtual_size"].as_u64().unwrap_or(spool.length());
                Ok(plain("verbatim", size, file, None))
            }
        }
    }

    /// The kernel and the ramdisk that the server's image names. They never change, so that they are fetched once.
    async fn boot_images(&self, place: &Place<'_>, documents: &Value) -> Result<()> {
        let mut wanted = BTreeMap::new();
        let named = record::boot_images(documents);
        let found = named.iter().map(|(_, id)| api::image(place.cx, &*self.cloud, id));
        for ((key, id), image) in named.iter().zip(futures::future::try_join_all(found).await?) {
            if let Some(image) = image {
                wanted.insert(id, image);
            } else {
                let text = format!("its {key} {id} does not exist: it will not start without");
                place.cx.problem(Problem { class: "boot-image", path: None, text });
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let folder = place.below("images")?;
        place.folder(folder.clone()).await?;
        for (id, image) in &wanted {
            place.document(&format!("images/{id}.json"), image).await?;
            let token = format!("{id} {}", text(image, "os_hash_value")).into_bytes();
            let mut download = Download::new(place.cx, Arc::clone(&self.cloud), image);
            let metadata = place.metadata(0o600, download.length());
            let item = Item::file(place.below(&format!("images/{id}"))?).with_metadata(metadata);
            let item = item.with_version(Version::Token(token));
            if !place.out.reuse(&item).await? {
                place.out.push(item, Content::Stream(&mut download)).await?;
            }
        }
        place.out.leave(&folder).await
    }

    fn notes(&self, cx: &Context, project: &Project, documents: &Value, disks: Vec<Disk>) -> Result<Notes> {
        let requested = record::bases(documents).any(record::asks_for_freezing);
        let observed = observed(&disks);
        if observed == "journal-pending" {
            let text = "a file system was not frozen: its journal is replayed when it is mounted".to_owned();
            if self.source.config.freeze == Freeze::Require {
                return Err(SourceError::Refused(text));
            }
            if requested {
                cx.problem(Problem {
                    class: "not-frozen",
                    path: None,
                    text: format!("{text}, though its image asks for it"),
                });
            }
        }
        let method = match &self.parts[..] {
            [Part { from: From::Image(_), .. }, ..] if text(&self.server, "status") == "SHELVED_OFFLOADED" => "shelved",
            [Part { from: From::Image(_), .. }, ..] => "image",
            _ => "volumes",
        };
        Ok(Notes {
            format: FORMAT,
            method: method.to_owned(),
            project: project.name.clone(),
            is_of_one_instant: method != "image" || self.parts.len() == 1,
            consistency: Consistency {
                requested,
                observed: observed.to_owned(),
                power_state: self.server["OS-EXT-STS:power_state"].as_i64(),
            },
            disks,
        })
    }
}

fn verbatim(name: &str, format: &str) -> String {
    let format = if format.is_empty() { "image" } else { format };
    format!("{}.{format}", name.trim_end_matches(".raw"))
}

/// The worst that any file system says.
fn observed(disks: &[Disk]) -> &'static str {
    let inspections = disks.iter().filter_map(|disk| disk.inspection.as_ref());
    let states: Vec<_> = inspections.flat_map(|inspection| &inspection.file_systems).map(|one| one.state).collect();
    if states.contains(&State::JournalPending) {
        "journal-pending"
    } else if states.contains(&State::Clean) && !states.contains(&State::Unknown) {
        "clean"
    } else {
        "unknown"
    }
}
