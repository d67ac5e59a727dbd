//! A snapshot as an artifact directory that `bbr` restores. What it would stumble over is refused before anything is
//! written, because it stumbles in the middle of a restore.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use tokio::sync::mpsc;

use super::archive::Builder;
use super::capture::{join, member, place_of};
use super::restore::{Reader, below};
use crate::bosh::artifact::{Artifact, Directory};
use crate::bosh::drain::compare;
use crate::bosh::tar::{Checksums, Kept, checksums};
use crate::context::{Context, Problem};
use crate::item::Kind;
use crate::path::TreePath;
use crate::source::{Entry, Result, SourceError, Stored};

/// Pieces between the repository and the disk.
const PIECES_MAX: usize = 8;
/// What ends a name for `xargs`, or is more than itself to it.
const STUMBLING: &[u8] = b" \t\n\r\x0b\x0c'\"\\";

/// What happens to what cannot be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfits {
    /// The export is refused.
    Refused,
    /// They are left out, and told.
    LeftOut,
}

/// Writes an artifact directory below `parent`, and answers where.
pub async fn export(cx: &Context, from: &dyn Stored, parent: &Path, misfits: Misfits) -> Result<PathBuf> {
    let facts = from.facts().last().cloned();
    let (facts, root) = facts
        .and_then(|facts| facts.roots.first().cloned().map(|root| (facts, root)))
        .ok_or_else(|| SourceError::Damaged("it does not say where its artifacts are".to_owned()))?;
    let reader = Reader { cx, from };
    let record = reader.record(&root).await?;
    let mut artifacts = Vec::new();
    for (artifact, sums) in record.artifacts() {
        let place = place_of(&root, &artifact)?;
        let entries = fitting(cx, from, &place, misfits).await?;
        let is_kept = |name: &String| entries.iter().any(|(other, _)| member(other) == *name);
        let sums: Checksums = match misfits {
            Misfits::Refused => sums.clone(),
            Misfits::LeftOut => {
                sums.iter().filter(|(name, _)| is_kept(name)).map(|(a, b)| (a.clone(), b.clone())).collect()
            }
        };
        artifacts.push((artifact, entries, sums));
    }
    let manifest = join(&join(&root, b"_meta")?, b"manifest.yml")?;
    let manifest = if reader.has(&manifest).await? { Some(reader.text(&manifest).await?) } else { None };
    let name = String::from_utf8_lossy(root.name().unwrap_or_default()).into_owned();
    let unwritten =
        |error: std::io::Error| SourceError::unwritten(&format!("write below {}", parent.display()), &error);
    let directory = Directory::create(parent, &name, facts.taken_at, TimeZone::UTC).map_err(unwritten)?;
    if let Some(manifest) = manifest {
        directory.write("manifest.yml", &manifest).map_err(unwritten)?;
    }
    for (artifact, entries, sums) in &artifacts {
        write(cx, from, &directory, artifact, entries, sums).await?;
    }
    directory.finish(cx.world.now()).map_err(unwritten)?;
    Ok(directory.path().to_owned())
}

/// Everything in an artifact, the folder itself first; or why it cannot be exported.
async fn fitting(cx: &Context, from: &dyn Stored, place: &TreePath, misfits: Misfits) -> Result<Vec<(Vec<u8>, Entry)>> {
    let top = place.parent().unwrap_or_else(TreePath::root);
    let top = from.list(&top).await?.into_iter().find(|entry| entry.path == *place);
    let mut entries: Vec<(Vec<u8>, Entry)> = top.map(|entry| (Vec::new(), entry)).into_iter().collect();
    let mut folders = vec![place.clone()];
    while let Some(folder) = folders.pop() {
        cx.check()?;
        for entry in from.list(&folder).await? {
            let name = below(place, &entry.path);
            if let Some(why) = misfit(&name, &entry.kind) {
                if misfits == Misfits::Refused {
                    return Err(SourceError::Refused(format!("{} {why}, which bbr cannot restore", entry.path)));
                }
                cx.problem(Problem { class: "left-out", path: Some(entry.path), text: format!("it {why}") });
                continue;
            }
            if entry.kind.is_directory() {
                folders.push(entry.path.clone());
            }
            entries.push((name, entry));
        }
    }
    Ok(entries)
}

fn misfit(name: &[u8], kind: &Kind) -> Option<&'static str> {
    match kind {
        Kind::File | Kind::Directory if name.iter().any(|byte| STUMBLING.contains(byte)) => {
            Some("has a blank, a quote or a backslash in its name")
        }
        Kind::File | Kind::Directory => None,
        Kind::Symlink(_) => Some("is a symbolic link"),
        Kind::Fifo | Kind::Socket | Kind::BlockDevice(_) | Kind::CharDevice(_) => Some("is no regular file"),
    }
}

async fn write(
    cx: &Context,
    from: &dyn Stored,
    directory: &Directory,
    artifact: &Artifact,
    entries: &[(Vec<u8>, Entry)],
    sums: &Checksums,
) -> Result<()> {
    let name = artifact.file_name();
    let unwritten = |error: std::io::Error| SourceError::unwritten(&format!("write {name}"), &error);
    let mut file = directory.new_file(artifact).map_err(unwritten)?;
    let (to, arriving) = mpsc::channel(PIECES_MAX);
    let writing = tokio::task::spawn_blocking(move || {
        let sums = checksums(Kept::new(arriving, &mut file))?;
        file.sync_all().map(|()| sums)
    });
    let builder = Builder { cx, from, to };
    let build = async {
        for (name, entry) in entries {
            builder.add(name, entry).await?;
        }
        builder.end().await
    };
    let built = build.await;
    // A disk that is full explains an archive that nobody takes.
    let written = writing.await.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(unwritten)?;
    built?;
    compare(sums, &written).map_err(|cause| SourceError::Damaged(format!("{name}: {cause}")))?;
    directory.add(artifact, written).map_err(unwritten)
}
