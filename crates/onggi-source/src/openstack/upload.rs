//! A stored disk on its way back into a cloud: as a qcow2 without what is empty, or as it is.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::cloud::{Ask, Cloud, Service, document, text};
use super::image::{Piece, Qcow2Plan};
use super::{api, mark};
use crate::carrier::lost;
use crate::context::Context;
use crate::path::TreePath;
use crate::source::{ByteStream, Known, ReadAt, ReadError, Result, SourceError, Stored};

/// How much is read at once, in bytes; a cluster of a qcow2.
const STEP_BYTES: u64 = 64 << 10;
/// Uploads of one disk until it is given up.
const ATTEMPTS_MAX: u32 = 3;
/// Properties that belong to the image that a server was captured by, not to the disk in it.
const DROPPED: &[&str] = &[
    "id",
    "self",
    "file",
    "schema",
    "status",
    "size",
    "virtual_size",
    "checksum",
    "created_at",
    "updated_at",
    "owner",
    "locations",
    "direct_url",
    "stores",
    "visibility",
    "protected",
    "tags",
    "name",
    "disk_format",
    "container_format",
    "base_image_ref",
    "instance_uuid",
    "image_type",
    "image_location",
    "image_state",
    "user_id",
    "owner_user_name",
    "owner_project_name",
    "boot_roles",
    "owner_id",
    "kernel_id",
    "ramdisk_id",
    "os_hidden",
    "block_device_mapping",
    "bdm_v2",
    "root_device_name",
    "min_disk",
    "min_ram",
    "image_id",
    "image_name",
];

/// What of an image's properties goes with its disk to another one.
pub(super) fn properties(base: &Value) -> Map<String, Value> {
    let own = base.as_object().cloned().unwrap_or_default();
    let stays = |key: &str| {
        !DROPPED.contains(&key)
            && !["os_hash_", "os_glance", "onggi.", "signature_"].iter().any(|start| key.starts_with(start))
    };
    own.into_iter().filter(|(key, value)| stays(key) && value.is_string()).collect()
}

/// In which form a disk is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Without what is empty.
    Qcow2,
    /// As it is: what clouds on Ceph want, since only that is cloned without copying.
    Raw,
    /// A file that was stored as the cloud gave it.
    AsStored,
}

/// What an image is to be.
pub(super) struct Wanted<'a> {
    pub(super) name: String,
    pub(super) disk_format: &'a str,
    pub(super) container_format: &'a str,
    pub(super) form: Form,
    pub(super) properties: Map<String, Value>,
}

/// Makes an image with a stored file's content, and answers it once Glance has all of it.
pub(super) async fn upload(
    cx: &Context,
    cloud: &dyn Cloud,
    from: &dyn Stored,
    path: &TreePath,
    wanted: Wanted<'_>,
) -> Result<Value> {
    let content = from.open(path).await?;
    let length = content.open(cx, &Known::default()).await.map_err(lost)?.length;
    let plan = match wanted.form {
        Form::Qcow2 => Some(plan(cx, &*content, length).await?),
        Form::Raw | Form::AsStored => None,
    };
    let mut body = wanted.properties;
    body.insert("name".to_owned(), json!(wanted.name));
    body.insert("disk_format".to_owned(), json!(wanted.disk_format));
    body.insert("container_format".to_owned(), json!(wanted.container_format));
    body.insert("visibility".to_owned(), json!("private"));
    let mut last = None;
    for _ in 0..ATTEMPTS_MAX {
        cx.check()?;
        let made =
            document(cx, cloud, Ask::post(Service::Image, "/images", Value::Object(body.clone())).long()).await?;
        let id = text(&made, "id").to_owned();
        let sent_length = plan.as_ref().map_or(length, Qcow2Plan::length);
        let mut sending = Sending::new(&*content, length, plan.as_ref());
        match cloud.fill(cx, &id, sent_length, &mut sending).await {
            Ok(()) => {
                let image = api::image(cx, cloud, &id).await?;
                let image = image.filter(|image| text(image, "status") == "active");
                return image.ok_or_else(|| SourceError::Incomplete(format!("image {id} did not become active")));
            }
            // One that was refused for its size stays as it is for ever: it goes, and so does one that broke off.
            Err(error) => {
                api::delete_image(&cx.for_cleanup(std::time::Duration::from_mins(1)), cloud, &id).await?;
                match SourceError::from(error) {
                    SourceError::Full(text) => {
                        return Err(SourceError::Full(format!("the project's image quota: {text}")));
                    }
                    error if error.is_transient() => last = Some(error),
                    error => return Err(error),
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| SourceError::Incomplete("the image was not taken".to_owned())))
}

/// Reads the disk once for where it is empty: a qcow2 says that in its head.
async fn plan(cx: &Context, content: &dyn ReadAt, length: u64) -> Result<Qcow2Plan> {
    let mut data: Vec<Range<u64>> = Vec::new();
    let mut buffer = vec![0; STEP_BYTES as usize];
    let mut offset = 0;
    while offset < length {
        cx.check()?;
        let step = STEP_BYTES.min(length - offset);
        let part = &mut buffer[..step as usize];
        content.read(cx, offset, part).await.map_err(lost)?;
        if part.iter().any(|byte| *byte != 0) {
            match data.last_mut() {
                Some(last) if last.end == offset => last.end = offset + step,
                _ => data.push(offset..offset + step),
            }
        }
        offset += step;
    }
    Qcow2Plan::new(length, data).map_err(SourceError::from)
}

/// A disk's bytes in the order in which they are sent.
struct Sending<'a> {
    content: &'a dyn ReadAt,
    pieces: Box<dyn Iterator<Item = Piece> + Send + 'a>,
    open: Option<Piece>,
}

impl<'a> Sending<'a> {
    fn new(content: &'a dyn ReadAt, length: u64, plan: Option<&'a Qcow2Plan>) -> Self {
        let pieces: Box<dyn Iterator<Item = Piece> + Send + 'a> = match plan {
            Some(plan) => Box::new(plan.pieces()),
            None => Box::new(std::iter::once(Piece::Disk(0..length))),
        };
        Self { content, pieces, open: None }
    }
}

#[async_trait]
impl ByteStream for Sending<'_> {
    async fn next(&mut self, cx: &Context) -> Result<Option<Bytes>, ReadError> {
        cx.check()?;
        loop {
            let Some(piece) = self.open.take().or_else(|| self.pieces.next()) else { return Ok(None) };
            match piece {
                Piece::Bytes(bytes) if bytes.is_empty() => {}
                Piece::Bytes(bytes) => return Ok(Some(bytes.into())),
                Piece::Zeros(0) => {}
                Piece::Zeros(left) => {
                    let step = left.min(STEP_BYTES);
                    self.open = Some(Piece::Zeros(left - step));
                    return Ok(Some(vec![0; step as usize].into()));
                }
                Piece::Disk(range) if range.is_empty() => {}
                Piece::Disk(range) => {
                    let step = (range.end - range.start).min(STEP_BYTES);
                    let mut buffer = vec![0; step as usize];
                    self.content.read(cx, range.start, &mut buffer).await?;
                    self.open = Some(Piece::Disk(range.start + step..range.end));
                    return Ok(Some(buffer.into()));
                }
            }
        }
    }
}

/// The marks of a restore, as an image has them.
pub(super) fn marked(
    cx: &Context,
    label: &str,
    unit: &crate::source::Unit,
    mut own: Map<String, Value>,
) -> Map<String, Value> {
    own.extend(mark::mark(cx, label, unit));
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_old_image_does_not_go_along() {
        let base = json!({
            "id": "a", "os_hash_value": "x", "hw_qemu_guest_agent": "yes", "os_type": "linux", "instance_uuid": "b",
            "onggi.run": "r", "kernel_id": "k", "min_disk": 1, "os_glance_importing_to_stores": "s",
        });
        let kept = properties(&base);
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["hw_qemu_guest_agent", "os_type"]);
    }
}
