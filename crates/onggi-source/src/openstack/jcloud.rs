//! What the JCloud script does with a cloud: images of servers under its names, which are the only record it keeps.
//!
//! An image is one of these only if its name says so from its end and the cloud says that it is of that server: what merely
//! has an id in its name is somebody's own. Protected ones are left to who protected them.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::capture::{readable, whole_snapshot};
use super::cloud::{Cloud, Service, list, text};
use super::download::Download;
use super::{Openstack, OpenstackConfig, api, clean, items, mark};
use crate::config::Surroundings;
use crate::context::Context;
use crate::source::{ByteStream, Result, SourceError, Unit};

pub use super::jcloud_capture::Captured;

/// What all names of images begin with.
const PREFIX: &str = "snapshot__";
/// What Nova calls the snapshots that it makes for an image.
const SNAPSHOT_OF: &str = "snapshot for ";

/// The name of an image: which project, which server, when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    /// The project's name, which may hold anything.
    pub project: String,
    /// The server's id.
    pub server: String,
    /// Seconds since 1970.
    pub epoch: u64,
}

impl ImageName {
    /// Reads `snapshot__<project>/<server>__<epoch>` from its end, so that a project may hold `__` and `/`.
    pub fn parse(name: &str) -> Option<Self> {
        let (rest, epoch) = name.strip_prefix(PREFIX)?.rsplit_once("__")?;
        let (project, server) = rest.rsplit_once('/')?;
        let is_number = !epoch.is_empty() && epoch.bytes().all(|digit| digit.is_ascii_digit());
        let is_ours = is_number && is_id(server) && !project.is_empty();
        is_ours.then_some(())?;
        Some(Self { project: project.to_owned(), server: server.to_owned(), epoch: epoch.parse().ok()? })
    }
}

impl std::fmt::Display for ImageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PREFIX}{}/{}__{}", self.project, self.server, self.epoch)
    }
}

/// What the name of a document beside a file ends with.
pub const DOCUMENT: &str = ".json";

/// The name of a file on the backup server: `<epoch>_<image id>`, with `.<volume id>` where it is a volume beside the first
/// disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName<'a> {
    /// When it was captured, in seconds since 1970.
    pub epoch: u64,
    /// The image's id.
    pub image: &'a str,
    /// The volume, of a disk beside the first.
    pub volume: Option<&'a str>,
}

impl<'a> FileName<'a> {
    /// Reads a name, of a file or of its document.
    pub fn parse(name: &'a str) -> Option<Self> {
        let (epoch, rest) = name.strip_suffix(DOCUMENT).unwrap_or(name).split_once('_')?;
        let (image, volume) = rest.split_once('.').map_or((rest, None), |(image, volume)| (image, Some(volume)));
        let is_number = !epoch.is_empty() && epoch.bytes().all(|digit| digit.is_ascii_digit());
        (is_number && is_id(image) && volume.is_none_or(is_id)).then_some(())?;
        Some(Self { epoch: epoch.parse().ok()?, image, volume })
    }
}

/// Whether a text is an id as the cloud writes them.
pub fn is_id(text: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    text.len() == 36
        && text.bytes().enumerate().all(|(at, sign)| {
            if dashes.contains(&at) { sign == b'-' } else { sign.is_ascii_digit() || (b'a'..=b'f').contains(&sign) }
        })
}

/// An image of a server.
#[derive(Debug, Clone)]
pub struct ServerImage {
    /// Its id.
    pub id: String,
    /// What its name says.
    pub name: ImageName,
    /// The cloud says that it can be read.
    pub is_active: bool,
    pub(super) document: Value,
}

/// One disk of an image, ready to be fetched.
pub struct Disk {
    /// The volume it is of; `None` of the one that the server starts from.
    pub volume: Option<String>,
    /// The id of the image that is fetched.
    pub image: String,
    /// Its length, in bytes.
    pub bytes: u64,
    /// The name of the hash that Glance has of it, and the hash.
    pub hash: Option<(String, String)>,
    document: Value,
    /// The volume that it is read through, which goes afterwards.
    export: Option<String>,
}

/// One project, and the images that a script makes of its servers.
pub struct Project {
    pub(super) openstack: Openstack,
    pub(super) name: String,
}

impl Project {
    /// A project by the name that the script calls it. Touches nothing.
    pub fn new(config: OpenstackConfig, surroundings: Surroundings, name: String) -> Self {
        Self { openstack: Openstack::new(config, surroundings), name }
    }

    pub(super) async fn cloud(&self, cx: &Context) -> Result<Arc<dyn Cloud>> {
        let clouds = self.openstack.clouds(cx).await?;
        clouds.first().cloned().ok_or_else(|| SourceError::Denied("there is no project".to_owned()))
    }

    fn unit(&self, server: &str) -> Unit {
        Unit { id: server.into(), name: format!("{}/{server}", self.name) }
    }

    /// The ids of all servers, in the cloud's order.
    pub async fn servers(&self, cx: &Context) -> Result<Vec<String>> {
        let cloud = self.cloud(cx).await?;
        Ok(api::servers(cx, &*cloud).await?.iter().map(|server| text(server, "id").to_owned()).collect())
    }

    /// What the cloud says of a server; `None` if there is none of this id.
    pub async fn server(&self, cx: &Context, id: &str) -> Result<Option<Value>> {
        let cloud = self.cloud(cx).await?;
        Ok(api::server(cx, &*cloud, id).await?)
    }

    /// The images of a server, the oldest first.
    pub async fn images(&self, cx: &Context, server: &Value) -> Result<Vec<ServerImage>> {
        let cloud = self.cloud(cx).await?;
        let project = cloud.project(cx).await?;
        let (id, mut found) = (text(server, "id"), Vec::new());
        for image in api::images(cx, &*cloud, &[("owner", &project.id)]).await? {
            let Some(name) = ImageName::parse(text(&image, "name")) else { continue };
            if name.project != self.name || name.server != id || image["protected"] == true {
                continue;
            }
            let is_of = text(&image, "instance_uuid") == id || self.is_of_volumes(cx, &*cloud, server, &image).await?;
            if is_of {
                let (id, is_active) = (text(&image, "id").to_owned(), text(&image, "status") == "active");
                found.push(ServerImage { id, name, is_active, document: image });
            }
        }
        found.sort_by(|one, other| (one.name.epoch, &one.id).cmp(&(other.name.epoch, &other.id)));
        Ok(found)
    }

    /// Whether an image maps snapshots that Nova made for it of this server's volumes.
    async fn is_of_volumes(&self, cx: &Context, cloud: &dyn Cloud, server: &Value, image: &Value) -> Result<bool> {
        let volumes: BTreeSet<_> =
            list(server, "os-extended-volumes:volumes_attached").map(|volume| text(volume, "id")).collect();
        for snapshot in snapshots(image) {
            if let Some(found) = api::block(cx, cloud, "snapshot", &snapshot).await?
                && is_made_for(&found, image)
                && volumes.contains(text(&found, "volume_id"))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Has Nova begin an image of a server, and answers its id.
    pub async fn begin(&self, cx: &Context, name: &ImageName) -> Result<String> {
        let cloud = self.cloud(cx).await?;
        Ok(api::create_image(cx, &*cloud, &name.server, &name.to_string(), Map::new()).await?)
    }

    /// Waits until an image is whole, with all snapshots that it maps. One that never will be goes, and so do they.
    pub async fn finish(&self, cx: &Context, server: &str, image: &str) -> Result<()> {
        let cloud = self.cloud(cx).await?;
        let done = async {
            let whole = readable(&self.openstack, cx, &*cloud, &self.unit(server), image).await?;
            for snapshot in snapshots(&whole) {
                whole_snapshot(&self.openstack, cx, &*cloud, &snapshot).await?;
            }
            Ok(())
        };
        match done.await {
            Err(error @ (SourceError::Refused(_) | SourceError::Incomplete(_))) => {
                if let Some(found) = api::image(cx, &*cloud, image).await? {
                    self.drop_image(cx, &*cloud, &found).await?;
                }
                Err(error)
            }
            done => done,
        }
    }

    /// The disks of an image, the one that the server starts from first. One that lies in Cinder is made readable when
    /// it is its turn.
    pub fn disks(&self, image: &ServerImage) -> Vec<Option<String>> {
        let found = snapshots(&image.document);
        if found.is_empty() { vec![None] } else { found.into_iter().map(Some).collect() }
    }

    /// Makes one of them readable.
    pub async fn open(&self, cx: &Context, image: &ServerImage, disk: Option<&str>, is_first: bool) -> Result<Disk> {
        let cloud = self.cloud(cx).await?;
        let Some(snapshot) = disk else { return Ok(of_document(image.document.clone(), None, None)) };
        let found = api::block(cx, &*cloud, "snapshot", snapshot).await?;
        let found = found.ok_or_else(|| SourceError::Incomplete(format!("snapshot {snapshot} is gone")))?;
        let volume = Some(text(&found, "volume_id").to_owned()).filter(|_| !is_first);
        let unit = self.unit(&image.name.server);
        let (document, export) = items::export(&self.openstack, cx, &*cloud, &unit, snapshot).await?;
        Ok(of_document(document, volume, Some(export)))
    }

    /// Takes away what disks were read through by runs that ended early: whoever has the list of jobs has all of it.
    pub async fn settle(&self, cx: &Context) -> Result<()> {
        let cloud = self.cloud(cx).await?;
        if !cloud.has(cx, Service::Volume).await? {
            return Ok(());
        }
        for volume in api::blocks(cx, &*cloud, "volume", (mark::SOURCE, &self.openstack.label)).await? {
            if let Some((run, purpose)) = mark::whose(&volume) {
                clean::drop_export(&cx.for_run(&run, purpose), &*cloud, text(&volume, "id")).await?;
            }
        }
        Ok(())
    }

    /// Its bytes. The end comes only when they hash to what Glance has.
    pub async fn fetch(&self, cx: &Context, disk: &Disk) -> Result<Box<dyn ByteStream>> {
        Ok(Box::new(Download::new(cx, self.cloud(cx).await?, &disk.document)))
    }

    /// Takes away what a disk was read through.
    pub async fn close(&self, cx: &Context, disk: &Disk) -> Result<()> {
        match &disk.export {
            Some(volume) => clean::drop_export(cx, &*self.cloud(cx).await?, volume).await,
            None => Ok(()),
        }
    }

    /// Removes an image of a server, and the snapshots that Nova made for it.
    pub async fn delete(&self, cx: &Context, image: &ServerImage) -> Result<()> {
        let cloud = self.cloud(cx).await?;
        self.drop_image(cx, &*cloud, &image.document).await
    }

    async fn drop_image(&self, cx: &Context, cloud: &dyn Cloud, image: &Value) -> Result<()> {
        let mut made = Vec::new();
        for snapshot in snapshots(image) {
            let found = api::block(cx, cloud, "snapshot", &snapshot).await?;
            made.extend(found.filter(|found| is_made_for(found, image)).map(|_| snapshot));
        }
        api::delete_image(cx, cloud, text(image, "id")).await?;
        clean::drop_snapshots(cx, cloud, made).await
    }
}

fn of_document(document: Value, volume: Option<String>, export: Option<String>) -> Disk {
    let hash = Some((text(&document, "os_hash_algo").to_owned(), text(&document, "os_hash_value").to_owned()));
    Disk {
        volume,
        image: text(&document, "id").to_owned(),
        bytes: document["size"].as_u64().unwrap_or(0),
        hash: hash.filter(|(_, value)| !value.is_empty()),
        document,
        export,
    }
}

/// The snapshots that an image maps, that of the disk to start from first.
fn snapshots(image: &Value) -> Vec<String> {
    let mut devices = api::mapped_devices(image);
    devices.sort_by_key(|device| device["boot_index"] != 0);
    let ids = devices.iter().map(|device| text(device, "snapshot_id").to_owned());
    ids.filter(|id| !id.is_empty()).collect()
}

fn is_made_for(snapshot: &Value, image: &Value) -> bool {
    text(snapshot, "name").strip_prefix(SNAPSHOT_OF) == Some(text(image, "name"))
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::bench::{Bench, surroundings};
    use crate::openstack::fake::FakeCloud;
    use tokio::sync::OnceCell;

    const SERVER: &str = "0a1b2c3d-0000-4000-8000-00000000000a";

    #[track_caller]
    fn check(name: &str, expected: Option<(&str, u64)>) {
        let parsed = ImageName::parse(name);
        let found = parsed.as_ref().map(|found| (found.project.as_str(), found.epoch));
        assert_eq!(found, expected, "{name}");
        assert!(parsed.is_none_or(|parsed| parsed.to_string() == name && parsed.server == SERVER));
    }

    #[test]
    fn a_name_is_read_from_its_end() {
        check(&format!("snapshot__demo/{SERVER}__1667300000"), Some(("demo", 1_667_300_000)));
        check(&format!("snapshot__other__project/{SERVER}__5"), Some(("other__project", 5)));
        check(&format!("snapshot__a/b/{SERVER}__5"), Some(("a/b", 5)));
        check(&format!("snapshot__demo/{SERVER}__5x"), None);
        check(&format!("snapshot__demo/{SERVER}__"), None);
        check(&format!("mine of snapshot__demo/{SERVER}__5"), None);
        check("snapshot__demo/vm1__5", None);
    }

    pub(in crate::openstack) fn project(cloud: &FakeCloud, state: &std::path::Path) -> Project {
        let clouds: Vec<Arc<dyn Cloud>> = vec![Arc::new(cloud.clone())];
        let openstack = Openstack {
            clouds: OnceCell::new_with(Some(clouds)),
            ..Openstack::new(OpenstackConfig::default(), surroundings("jcloud", state))
        };
        Project { openstack, name: "demo".to_owned() }
    }

    fn image(cloud: &FakeCloud, id: &str, name: &str, keys: &Value) {
        let mut image = json!({ "id": id, "name": name, "status": "active", "owner": "p" });
        image.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        cloud.state().images.insert(id.to_owned(), image);
    }

    #[tokio::test(start_paused = true)]
    async fn only_images_that_are_of_the_server_are_taken() {
        let (cloud, state) = (FakeCloud::new(), tempfile::tempdir().unwrap());
        let of = json!({ "instance_uuid": SERVER });
        image(&cloud, "second", &format!("snapshot__demo/{SERVER}__20"), &of);
        image(&cloud, "first", &format!("snapshot__demo/{SERVER}__9"), &of);
        image(&cloud, "copied", &format!("snapshot__demo/{SERVER}__3"), &json!({}));
        image(&cloud, "own", &format!("before upgrade of {SERVER}"), &of);
        image(&cloud, "other", &format!("snapshot__lab/{SERVER}__3"), &of);
        image(
            &cloud,
            "kept",
            &format!("snapshot__demo/{SERVER}__4"),
            &json!({"instance_uuid": SERVER, "protected": true}),
        );
        let (bench, project) = (Bench::new("r1"), project(&cloud, state.path()));
        let found = project.images(&bench.cx, &json!({ "id": SERVER })).await.unwrap();
        assert_eq!(found.iter().map(|image| image.id.as_str()).collect::<Vec<_>>(), ["first", "second"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_takes_only_the_snapshots_that_nova_made_for_it_along() {
        let (cloud, state) = (FakeCloud::new(), tempfile::tempdir().unwrap());
        let name = format!("snapshot__demo/{SERVER}__9");
        let devices = json!([{"snapshot_id": "made", "boot_index": 0}, {"snapshot_id": "foreign"}]).to_string();
        image(&cloud, "first", &name, &json!({ "block_device_mapping": devices }));
        for (id, of) in [("made", format!("snapshot for {name}")), ("foreign", "mine".to_owned())] {
            let snapshot = json!({"id": id, "name": of, "volume_id": "v", "status": "available", "metadata": {}});
            cloud.state().snapshots.insert(id.to_owned(), snapshot);
        }
        let (bench, project) = (Bench::new("r1"), project(&cloud, state.path()));
        let server = json!({ "id": SERVER, "os-extended-volumes:volumes_attached": [{ "id": "v" }] });
        let found = project.images(&bench.cx, &server).await.unwrap();
        project.delete(&bench.cx, &found[0]).await.unwrap();
        let state = cloud.state();
        assert!(!state.images.contains_key("first"));
        assert_eq!(state.snapshots.keys().collect::<Vec<_>>(), ["foreign"]);
    }
}
