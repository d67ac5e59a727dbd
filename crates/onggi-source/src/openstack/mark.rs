//! The mark on all that this source makes in a cloud: properties of images, metadata of snapshots, volumes and servers.
//!
//! Of what is stored and stays there the run and the purpose are taken off, so that it is told apart from what a run
//! still works on. What only looks like ours is not ours: a server that was started from one of our images hands its
//! properties on to images that its owner makes.

use serde_json::{Map, Value, json};

use super::cloud::text;
use crate::context::{Context, Purpose, RunId};
use crate::source::Unit;

pub(super) const RUN: &str = "onggi.run";
pub(super) const PURPOSE: &str = "onggi.purpose";
pub(super) const SERVER: &str = "onggi.server";
/// Which onggi: host and source.
pub(super) const SOURCE: &str = "onggi.source";
/// So many objects the capture is made of, each marked like this.
pub(super) const PARTS: &str = "onggi.parts";
/// The run that stored it, on what stays.
pub(super) const STORED: &str = "onggi.stored";
/// On a server: the run that stopped it, and starts it again.
pub(super) const STOPPED: &str = "onggi.stopped";
/// On the same server: which onggi that is.
pub(super) const STOPPED_BY: &str = "onggi.stopped-by";
/// What all names begin with.
const PREFIX: &str = "onggi-";

/// The words of a purpose.
pub(super) fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Backup => "backup",
        Purpose::Restore => "restore",
        Purpose::Drill => "drill",
    }
}

/// The mark of a run for a unit.
pub(super) fn mark(cx: &Context, label: &str, unit: &Unit) -> Map<String, Value> {
    let pairs = [(RUN, cx.run.as_str()), (PURPOSE, purpose(cx.purpose)), (SERVER, unit.id.as_str()), (SOURCE, label)];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect()
}

/// The name of something that a run makes for a unit; `of` tells several apart.
pub(super) fn name(cx: &Context, of: &str) -> String {
    format!("{PREFIX}{}-{of}", cx.run)
}

/// Where a thing's marks stand: beside its own members in an image, in `metadata` of all else.
fn marks_of(thing: &Value) -> &Value {
    thing.get("metadata").filter(|metadata| metadata.is_object()).unwrap_or(thing)
}

/// Notes marks that a thing was given in the cloud; `null` took one off, and reads like none.
pub(super) fn note(thing: &mut Value, marks: &Map<String, Value>) {
    if thing["metadata"].is_object() {
        // Cinder takes all of it in place of the old.
        thing["metadata"] = Value::Object(marks.clone());
        return;
    }
    for (key, value) in marks {
        thing[key] = value.clone();
    }
}

/// A mark of a thing; empty where it has none.
pub(super) fn value<'a>(thing: &'a Value, key: &str) -> &'a str {
    text(marks_of(thing), key)
}

/// Whether this onggi made an image, not its owner from a server that was started from one.
pub(super) fn is_own_image(image: &Value, label: &str) -> bool {
    let of = text(image, "instance_uuid");
    let server = value(image, SERVER);
    value(image, SOURCE) == label && text(image, "name").starts_with(PREFIX) && (of.is_empty() || of == server)
}

/// Whether an image is a capture of whatever onggi: such come and go with each run.
pub(super) fn is_capture(image: &Value) -> bool {
    text(image, "name").starts_with(PREFIX) && !value(image, SOURCE).is_empty()
}

/// Whether a thing is of this run for this unit.
pub(super) fn is_of(thing: &Value, cx: &Context, unit: &Unit) -> bool {
    value(thing, RUN) == cx.run.as_str()
        && value(thing, PURPOSE) == purpose(cx.purpose)
        && value(thing, SERVER) == unit.id.as_str()
}

/// Whose work a thing is in; `None` of what is stored.
pub(super) fn whose(thing: &Value) -> Option<(RunId, Purpose)> {
    let run = Some(value(thing, RUN)).filter(|run| !run.is_empty())?;
    let all = [Purpose::Backup, Purpose::Restore, Purpose::Drill];
    let purpose = all.into_iter().find(|one| purpose(*one) == value(thing, PURPOSE))?;
    Some((RunId::from(run), purpose))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_inherited_our_marks_is_not_ours() {
        let image = |name: &str, of: &str| json!({"name": name, "instance_uuid": of, SOURCE: "h/s", SERVER: "a"});
        assert!(is_own_image(&image("onggi-r1-a", "a"), "h/s"));
        assert!(is_own_image(&image("onggi-r1-a", ""), "h/s"));
        assert!(!is_own_image(&image("onggi-r1-a", "b"), "h/s"), "of another server");
        assert!(!is_own_image(&image("mine", ""), "h/s"), "under another name");
        assert!(!is_own_image(&image("onggi-r1-a", "a"), "h/other"));
    }
}
