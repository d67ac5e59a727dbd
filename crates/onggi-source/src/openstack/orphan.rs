//! What lies in a cloud under our names and belongs to nothing that is known any more.

use serde_json::Value;

use super::cloud::{Service, pages, text};
use super::{Openstack, api, mark};
use crate::context::Context;
use crate::source::Result;

/// What Nova calls the snapshots that it makes for an image.
const SNAPSHOT_OF: &str = "snapshot for onggi-";

/// Something without an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// `image`, `snapshot`, `volume`.
    pub kind: &'static str,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The project it lies in.
    pub project: String,
    /// Why it counts as one.
    pub why: String,
}

impl Openstack {
    /// Lists what dead runs of this source left, and snapshots that Nova made for images of ours that are gone. While
    /// another onggi works for this source, only the latter.
    pub async fn orphans(&self, cx: &Context) -> Result<Vec<Orphan>> {
        let is_free = self.claim()?;
        let mut found = Vec::new();
        for cloud in self.clouds(cx).await? {
            let project = cloud.project(cx).await?.name;
            let add = |kind, thing: &Value, why: String| {
                let (id, name) = (text(thing, "id").to_owned(), text(thing, "name").to_owned());
                Orphan { kind, id, name, project: project.clone(), why }
            };
            // Of all, because the snapshots of another onggi's images bear the same names.
            let images = api::images(cx, &**cloud, &[]).await?;
            let of_run = |thing: &Value| mark::whose(thing).filter(|_| is_free).map(|(run, _)| format!("of run {run}"));
            let own = images.iter().filter(|image| mark::is_own_image(image, &self.label));
            found.extend(own.filter_map(|image| Some(add("image", image, of_run(image)?))));
            if !cloud.has(cx, Service::Volume).await? {
                continue;
            }
            let volumes = api::blocks(cx, &**cloud, "volume", (mark::SOURCE, &self.label)).await?;
            found.extend(volumes.iter().filter_map(|volume| Some(add("volume", volume, of_run(volume)?))));
            let path = "/snapshots/detail".to_owned();
            for snapshot in pages(cx, &**cloud, Service::Volume, path, "snapshots", None).await? {
                let is_ours = mark::value(&snapshot, mark::SOURCE) == self.label;
                let mapped = |image: &Value| {
                    api::mapped_devices(image).iter().any(|device| device["snapshot_id"] == snapshot["id"])
                };
                if let Some(why) = of_run(&snapshot).filter(|_| is_ours) {
                    found.push(add("snapshot", &snapshot, why));
                } else if text(&snapshot, "name").starts_with(SNAPSHOT_OF) && !images.iter().any(mapped) && is_free {
                    found.push(add("snapshot", &snapshot, "its image is gone".to_owned()));
                }
            }
        }
        Ok(found)
    }

    /// Removes one of them.
    pub async fn remove_orphan(&self, cx: &Context, orphan: &Orphan) -> Result<()> {
        for cloud in self.clouds(cx).await? {
            if cloud.project(cx).await?.name != orphan.project {
                continue;
            }
            match orphan.kind {
                "image" => api::delete_image(cx, &**cloud, &orphan.id).await?,
                kind => api::delete_block(cx, &**cloud, kind, &orphan.id).await?,
            }
        }
        Ok(())
    }
}
