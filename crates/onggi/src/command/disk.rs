//! `--disk IMAGE` of `onggi ls` and `onggi restore`: a disk image in a snapshot, and how its parts are shown.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use onggi_engine::exit::Exit;
use onggi_engine::restore::{DiskPart, DiskTree, RestoreError, SnapshotTree, journal_note};
use onggi_repo::format::NodeKind;
use onggi_source::TreePath;
use onggi_source::disk::DiskError;
use serde_json::json;

use super::ls::tree_path;
use super::restore::located;
use crate::escape::escape;
use crate::failure::Failure;
use crate::figure;
use crate::query::Found;
use crate::session::{Opened, Session};

/// What to do with an image that is not read.
const WHOLE: &str = "onggi restore without --disk brings the whole image back, for programs that read it";

/// Opens the image that is meant, and says what of it is not as it was.
pub async fn open(
    session: &Session,
    opened: &Opened,
    (_, snapshot): &Found,
    image: &OsStr,
) -> Result<DiskTree, Failure> {
    let act = || format!("open the disk image {}", escape(image.as_bytes()));
    let tree = SnapshotTree::new(opened.repo.clone(), vec![snapshot.tree], Vec::new());
    let path = located(&tree, snapshot, &tree_path(image.as_bytes())?).await?;
    let found = tree.find(&path).await.map_err(|error| Failure::repository(act(), &error))?;
    let node = found.map(|entry| entry.node).filter(|node| node.kind == NodeKind::File);
    let node = node.ok_or_else(|| Failure::new(Exit::Failed, act()).because("it is no file in this snapshot"))?;
    let disk = DiskTree::open(&opened.repo, &node).await.map_err(|error| match error {
        DiskError::Unsupported(_) => failure(act(), &error.into()).hint(WHOLE),
        error => failure(act(), &error.into()),
    })?;
    let parts = disk.parts().await;
    if parts.is_empty() || parts.iter().all(|part| part.summary.is_err()) {
        return Err(nothing(act(), parts));
    }
    for part in parts {
        if let Some(note) = part.summary.as_ref().ok().and_then(journal_note) {
            session.output.talk(format_args!("  /{}: {note}", part.name));
        }
    }
    Ok(disk)
}

/// Nothing on the disk is read: what was seen, and what to do.
fn nothing(act: String, parts: &[DiskPart]) -> Failure {
    let mut failure = Failure::new(Exit::Failed, act);
    for part in parts {
        if let Err(error) = &part.summary {
            let name = if part.name.is_empty() { "the disk" } else { &part.name };
            failure = failure.because(format!("{name}: {error}"));
        }
    }
    if parts.is_empty() {
        failure = failure.because("its partition table has no partitions");
    }
    failure.hint(WHOLE)
}

/// Refuses a path in a partition that is not read, or that is not there.
pub async fn check(disk: &DiskTree, wanted: &TreePath) -> Result<(), Failure> {
    let act = || format!("look for /{} on the disk", escape(wanted.as_bytes()));
    let Some(first) = wanted.components().next() else { return Ok(()) };
    let parts = disk.parts().await;
    if let Some(DiskPart { summary: Err(error), .. }) = parts.iter().find(|part| part.name.as_bytes() == first) {
        return Err(Failure::new(Exit::Failed, act()).because(error));
    }
    match disk.find(wanted).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => {
            Err(Failure::new(Exit::Failed, act()).because("it is not there").hint("`onggi ls --disk` shows what is"))
        }
        Err(error) => Err(failure(act(), &error.into())),
    }
}

/// Why something of a snapshot or a disk in it cannot be had.
pub fn failure(act: String, error: &RestoreError) -> Failure {
    match error {
        RestoreError::Repository(error) => Failure::repository(act, error),
        RestoreError::Disk(DiskError::Read(error)) => match error.get_ref().and_then(|cause| cause.downcast_ref()) {
            Some(cause) => Failure::repository(act, cause),
            None => Failure::new(Exit::Failed, act).because("the image ends early").because(error),
        },
        RestoreError::Disk(error) => Failure::new(Exit::Failed, act).chain(error),
        error => Failure::new(Exit::Failed, act).chain(error),
    }
}

/// Shows the parts of a disk. `false` where it has no partitions: then its root is to be listed.
pub fn show_parts(session: &Session, parts: &[DiskPart]) -> bool {
    for part in parts {
        show_part(session, part);
    }
    parts.iter().any(|part| part.part.number.is_some())
}

fn show_part(session: &Session, part: &DiskPart) {
    let output = &session.output;
    let label = part.summary.as_ref().map(|summary| summary.label.as_slice()).unwrap_or_default();
    if output.is_json() {
        return output.json(json!({
            "message_type": "partition",
            "number": part.part.number,
            "path": format!("/{}", part.name),
            "start": part.part.start,
            "size": part.part.length,
            "file_system": part.part.kind,
            "label": String::from_utf8_lossy(label),
            "state": part.part.state,
            "error": part.summary.as_ref().err().map(ToString::to_string),
        }));
    }
    let mut line = format!(
        "/{:<8} {:<10} {:>12}",
        part.name,
        part.part.kind.as_deref().unwrap_or("unknown"),
        figure::bytes(part.part.length)
    );
    if !label.is_empty() {
        line = format!("{line}  {}", escape(label));
    }
    if let Err(error) = &part.summary {
        line = format!("{line}  ({error})");
    }
    if part.part.number.is_some() {
        output.data(line);
    } else {
        output.talk(line);
    }
}
