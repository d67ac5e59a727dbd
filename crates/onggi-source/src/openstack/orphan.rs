//! What lies in a cloud under our names and belongs to nothing that is known any more.
//!
//! Only what bears this onggi's mark is ever removed, and only what is an orphan still when it is looked at once more.

use std::time::Duration;

use serde_json::Value;

use super::cloud::{Cloud, Service, pages, text};
use super::{Openstack, api, mark};
use crate::Timestamp;
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
    /// It bears our mark, and not only a name like ours.
    pub is_marked: bool,
    /// When it was made, as the cloud's clock has it.
    pub made_at: Option<Timestamp>,
}

impl Orphan {
    /// Whether it may be removed: it is ours, and older than what may still be in the making.
    pub fn is_removable(&self, now: Timestamp, grace: Duration) -> bool {
        let is_old = |made_at| Duration::try_from(now.duration_since(made_at)).is_ok_and(|age| age >= grace);
        self.is_marked && self.made_at.is_some_and(is_old)
    }
}

impl Openstack {
    /// Lists what dead runs of this source left, and snapshots that Nova made for images of ours that are gone. While
    /// another onggi works for this source there is none that is known to be one.
    pub async fn orphans(&self, cx: &Context) -> Result<Vec<Orphan>> {
        let mut found = Vec::new();
        if !self.claim()? {
            return Ok(found);
        }
        for cloud in self.clouds(cx).await? {
            found.extend(self.orphans_of(cx, &**cloud).await?);
        }
        Ok(found)
    }

    async fn orphans_of(&self, cx: &Context, cloud: &dyn Cloud) -> Result<Vec<Orphan>> {
        let project = cloud.project(cx).await?.name;
        let mut found = Vec::new();
        let add = |kind, thing: &Value, is_marked, why: String| Orphan {
            kind,
            id: text(thing, "id").to_owned(),
            name: text(thing, "name").to_owned(),
            project: project.clone(),
            why,
            is_marked,
            made_at: made_at(thing),
        };
        // Of all, because the snapshots of another onggi's images bear the same names.
        let images = api::images(cx, cloud, &[]).await?;
        let of_run = |thing: &Value| mark::whose(thing).map(|(run, _)| format!("of run {run}"));
        let own = images.iter().filter(|image| mark::is_own_image(image, &self.label));
        found.extend(own.filter_map(|image| Some(add("image", image, true, of_run(image)?))));
        if !cloud.has(cx, Service::Volume).await? {
            return Ok(found);
        }
        let volumes = api::blocks(cx, cloud, "volume", (mark::SOURCE, &self.label)).await?;
        found.extend(volumes.iter().filter_map(|volume| Some(add("volume", volume, true, of_run(volume)?))));
        let path = "/snapshots/detail".to_owned();
        for snapshot in pages(cx, cloud, Service::Volume, path, "snapshots", None).await? {
            let source = mark::value(&snapshot, mark::SOURCE);
            let is_ours = source == self.label;
            let mapped =
                |image: &Value| api::mapped_devices(image).iter().any(|device| device["snapshot_id"] == snapshot["id"]);
            if let Some(why) = of_run(&snapshot).filter(|_| is_ours) {
                found.push(add("snapshot", &snapshot, true, why));
            } else if text(&snapshot, "name").starts_with(SNAPSHOT_OF)
                && (is_ours || source.is_empty())
                && !images.iter().any(mapped)
            {
                found.push(add("snapshot", &snapshot, is_ours, "its image is gone".to_owned()));
            }
        }
        Ok(found)
    }

    /// Removes one of them, if it is one still and older than this; `false` if it was left.
    pub async fn remove_orphan(&self, cx: &Context, orphan: &Orphan, grace: Duration) -> Result<bool> {
        self.must_claim()?;
        for cloud in self.clouds(cx).await? {
            if cloud.project(cx).await?.name != orphan.project {
                continue;
            }
            let again = self.orphans_of(cx, &**cloud).await?;
            let is_still = again.iter().any(|one| one == orphan && one.is_removable(cx.world.now(), grace));
            if !is_still {
                return Ok(false);
            }
            match orphan.kind {
                "image" => api::delete_image(cx, &**cloud, &orphan.id).await?,
                kind => api::delete_block(cx, &**cloud, kind, &orphan.id).await?,
            }
            return Ok(true);
        }
        Ok(false)
    }
}

/// When a thing was made. Cinder's times have no zone; they are UTC.
fn made_at(thing: &Value) -> Option<Timestamp> {
    let text = text(thing, "created_at");
    format!("{}Z", text.trim_end_matches('Z')).parse().or_else(|_| text.parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(is_marked: bool, made_at: Option<&str>, expected: bool) {
        let orphan = Orphan {
            kind: "image",
            id: "i".to_owned(),
            name: "onggi-r-i".to_owned(),
            project: "demo".to_owned(),
            why: "of run r".to_owned(),
            is_marked,
            made_at: made_at.map(|text| text.parse().unwrap()),
        };
        let now = "2026-11-03T12:00:00Z".parse().unwrap();
        assert_eq!(orphan.is_removable(now, Duration::from_hours(1)), expected, "{orphan:?}");
    }

    #[test]
    fn only_what_is_ours_and_old_goes() {
        check(true, Some("2026-11-03T10:59:59Z"), true);
        check(true, Some("2026-11-03T11:30:00Z"), false);
        check(true, Some("2026-11-03T13:00:00Z"), false);
        check(true, None, false);
        check(false, Some("2026-01-01T00:00:00Z"), false);
    }

    #[test]
    fn times_of_all_services_are_read() {
        for text in ["2026-11-03T12:00:00Z", "2026-11-03T12:00:00.000000"] {
            let thing = serde_json::json!({ "created_at": text });
            assert_eq!(made_at(&thing), Some("2026-11-03T12:00:00Z".parse().unwrap()), "{text}");
        }
    }
}
