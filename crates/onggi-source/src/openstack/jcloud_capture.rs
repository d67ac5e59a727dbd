//! An image that the script's work made of a server, as a capture like those of the kind `openstack`: with the same
//! documents and disks, at the same places, so that a restore makes a server of it.
//!
//! The image is the script's and is never marked or removed here; only what a volume is read through is made and goes.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::capture::{From, Part, parts_of, root};
use super::cloud::{Cloud, text};
use super::items::Taken;
use super::jcloud::{Project, ServerImage};
use super::{Openstack, api};
use crate::Timestamp;
use crate::context::Context;
use crate::source::{Base, Capabilities, Capture, Image, Remnant, Result, Source, SourceError, Unit};

/// Where a root disk is when the cloud does not say.
const DEVICE: &str = "/dev/vda";

/// One image of a server.
pub struct Captured<'a> {
    project: &'a Project,
    server: &'a Value,
    image: &'a ServerImage,
}

impl<'a> Captured<'a> {
    /// The image as a capture. Touches nothing.
    pub fn new(project: &'a Project, server: &'a Value, image: &'a ServerImage) -> Self {
        Self { project, server, image }
    }

    /// What is stored; `None` if its name has no moment.
    pub fn remnant(&self) -> Option<Remnant> {
        let seen_at = Timestamp::from_second(i64::try_from(self.image.name.epoch).ok()?).ok()?;
        let name = format!("{}/{}", self.project.name, text(self.server, "name"));
        let unit = Unit { id: text(self.server, "id").into(), name };
        Some(Remnant { unit, mark: None, seen_at, complete: self.image.is_active, what: self.image.id.clone() })
    }

    async fn parts(&self, cx: &Context, cloud: &dyn Cloud, unit: &Unit) -> Result<Vec<Part>> {
        let image = &self.image.document;
        let mut volumes = Vec::new();
        for device in api::mapped_devices(image) {
            let snapshot = api::block(cx, cloud, "snapshot", text(&device, "snapshot_id")).await?.unwrap_or_default();
            let id = text(&snapshot, "volume_id");
            let volume = if id.is_empty() { None } else { api::block(cx, cloud, "volume", id).await? };
            // A volume may have gone since; its snapshot holds what it held.
            volumes.push(volume.unwrap_or_else(|| json!({ "id": id, "size": snapshot["size"] })));
        }
        let parts = parts_of(image, &volumes, unit);
        if !parts.is_empty() {
            return Ok(parts);
        }
        let device = Some(text(self.server, "OS-EXT-SRV-ATTR:root_device_name")).filter(|name| !name.is_empty());
        Ok(vec![root(device.unwrap_or(DEVICE), From::Image(self.image.id.clone()))])
    }
}

#[async_trait]
impl Source for Captured<'_> {
    fn capabilities(&self) -> Capabilities {
        Capabilities { freezes: false, image: Image::Fixed, chains: false, destinations: &[] }
    }

    async fn preflight(&self, _cx: &Context) -> Result<()> {
        Ok(())
    }

    async fn discover(&self, _cx: &Context) -> Result<Vec<Unit>> {
        Ok(self.remnant().into_iter().map(|remnant| remnant.unit).collect())
    }

    /// The image is there already.
    async fn capture<'a>(&'a self, _cx: &Context, _unit: &Unit, _base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        Err(SourceError::Unsupported("capture of images that another tool makes"))
    }

    async fn remnants(&self, _cx: &Context) -> Result<Vec<Remnant>> {
        Ok(self.remnant().into_iter().collect())
    }

    async fn reopen<'a>(&'a self, cx: &Context, remnant: &Remnant) -> Result<Box<dyn Capture + 'a>> {
        let cloud = self.project.cloud(cx).await?;
        let parts = self.parts(cx, &*cloud, &remnant.unit).await?;
        let source: &Openstack = &self.project.openstack;
        let cloud: Arc<dyn Cloud> = cloud;
        Ok(Box::new(Taken::new(source, cloud, &remnant.unit, self.server.clone(), parts, remnant.seen_at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;
    use crate::openstack::fake::FakeCloud;
    use crate::openstack::jcloud::ImageName;
    use crate::openstack::jcloud::tests::project;
    use crate::recorder::Recorder;

    #[tokio::test(start_paused = true)]
    async fn an_image_of_the_script_is_a_capture_with_documents_and_disks() {
        let (cloud, state, bench) = (FakeCloud::new(), tempfile::tempdir().unwrap(), Bench::new("r1"));
        let project = project(&cloud, state.path());
        let server = cloud.state().servers["s"].clone();
        let name = ImageName { project: "demo".to_owned(), server: "s".to_owned(), epoch: 1_700_000_000 };
        let id = project.begin(&bench.cx, &name).await.unwrap();
        let document = cloud.state().images[&id].clone();
        let image = ServerImage { id, name, is_active: true, document };
        let captured = Captured::new(&project, &server, &image);
        let remnant = captured.remnant().unwrap();
        assert_eq!((remnant.unit.name.as_str(), remnant.seen_at.as_second()), ("demo/web", 1_700_000_000));
        let sink = Recorder::new(&bench.cx);
        let facts = captured.reopen(&bench.cx, &remnant).await.unwrap().items(&bench.cx, &sink).await.unwrap();
        let lines = sink.commit(facts).unwrap().lines();
        for file in ["server.json", "disks.json", "disks/00-root.raw"] {
            assert!(
                lines.iter().any(|line| line.starts_with(&format!("openstack/R/p/s/{file} "))),
                "{file}: {lines:?}"
            );
        }
        assert!(cloud.state().images.contains_key(&image.id), "it goes when it is stored, not before");
    }
}
