//! A tree of images that JCloud wrote, to be imported: `<project>/<server id>/<epoch>_<image id>`. Each moment of a server is
//! a remnant of that tool; nothing of it is ever changed.
//!
//! The disk in an image is stored, under the same name for each moment, so that what two moments share is stored once.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::disk::{Fetched, chunking, look};
use super::jcloud::{DOCUMENT, FileName, is_id};
use crate::Timestamp;
use crate::context::{Context, Problem, Spool};
use crate::item::{Content, Item, Metadata};
use crate::path::TreePath;
use crate::source::{Base, Capabilities, Capture, Facts, Image, Items, Remnant, Result, Source, SourceError, Unit};
use crate::spool::FileSpool;

/// Where all of it lies in a snapshot.
const ROOT: &str = "jcloud";
/// Folders above a server's: the backup folder, the staging folder's name, the project.
const DEPTH_MAX: usize = 3;
/// Files in one tree; more are no images of servers.
const FILES_MAX: usize = 1_000_000;

/// A folder of projects.
pub struct JcloudTree {
    folder: PathBuf,
}

/// One moment of one server.
struct Moment {
    unit: Unit,
    folder: PathBuf,
    epoch: u64,
    files: Vec<String>,
}

impl Moment {
    fn at(&self) -> Option<Timestamp> {
        Timestamp::from_second(i64::try_from(self.epoch).ok()?).ok()
    }

    /// Without its first disk it is none.
    fn is_whole(&self) -> bool {
        self.files
            .iter()
            .any(|name| !name.ends_with(DOCUMENT) && FileName::parse(name).is_some_and(|found| found.volume.is_none()))
    }
}

impl JcloudTree {
    /// The tree in this folder. Touches nothing.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn moments(&self, cx: &Context) -> Result<Vec<Moment>> {
        let (mut found, mut files) = (Vec::new(), 0);
        walk(cx, &self.folder, 0, &mut found, &mut files)?;
        found.sort_by(|one: &Moment, other| (&one.unit.id, one.epoch).cmp(&(&other.unit.id, other.epoch)));
        Ok(found)
    }
}

/// Gathers the moments below a folder.
fn walk(cx: &Context, folder: &Path, depth: usize, found: &mut Vec<Moment>, files: &mut usize) -> Result<()> {
    let failed = |error| SourceError::Denied(format!("list {}: {error}", folder.display()));
    let server = folder.file_name().and_then(|name| name.to_str()).filter(|name| is_id(name));
    let project = folder.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        cx.check()?;
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() && depth < DEPTH_MAX && server.is_none() {
            walk(cx, &entry.path(), depth + 1, found, files)?;
        }
        let (Some(server), Ok(name), true) = (server, entry.file_name().into_string(), kind.is_file()) else {
            continue;
        };
        let Some(epoch) = FileName::parse(&name).map(|found| found.epoch) else { continue };
        *files += 1;
        if *files > FILES_MAX {
            return Err(SourceError::Denied(format!("more than {FILES_MAX} files lie there")));
        }
        let own = found.iter_mut().find(|one| one.epoch == epoch && one.folder == folder);
        if let Some(moment) = own {
            moment.files.push(name);
            continue;
        }
        let unit = Unit { id: server.into(), name: format!("{project}/{server}") };
        found.push(Moment { unit, folder: folder.to_owned(), epoch, files: vec![name] });
    }
    Ok(())
}

#[async_trait]
impl Source for JcloudTree {
    fn capabilities(&self) -> Capabilities {
        Capabilities { freezes: false, image: Image::Fixed, chains: false, destinations: &[] }
    }

    /// There must be an image.
    async fn preflight(&self, cx: &Context) -> Result<()> {
        if self.moments(cx)?.is_empty() {
            let text = format!("{} has no file like <project>/<server id>/<epoch>_<image id>", self.folder.display());
            return Err(SourceError::Denied(text));
        }
        Ok(())
    }

    async fn discover(&self, cx: &Context) -> Result<Vec<Unit>> {
        let mut units: Vec<_> = self.moments(cx)?.into_iter().map(|moment| moment.unit).collect();
        units.dedup();
        Ok(units)
    }

    /// What lies there was captured by others.
    async fn capture<'a>(&'a self, _cx: &Context, _unit: &Unit, _base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        Err(SourceError::Unsupported("capture of images that another tool makes"))
    }

    async fn remnants(&self, cx: &Context) -> Result<Vec<Remnant>> {
        let remnant = |moment: &Moment| {
            let what = format!("{}/{}", moment.unit.name, moment.epoch);
            let (unit, complete) = (moment.unit.clone(), moment.is_whole());
            Some(Remnant { unit, mark: None, seen_at: moment.at()?, complete, what })
        };
        Ok(self.moments(cx)?.iter().filter_map(remnant).collect())
    }

    async fn reopen<'a>(&'a self, cx: &Context, remnant: &Remnant) -> Result<Box<dyn Capture + 'a>> {
        let mut moments = self.moments(cx)?.into_iter();
        let own = moments.find(|one| one.unit.id == remnant.unit.id && one.at() == Some(remnant.seen_at));
        Ok(Box::new(own.ok_or(SourceError::Gone)?))
    }
}

#[async_trait]
impl Capture for Moment {
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        let taken_at = self.at().ok_or(SourceError::Gone)?;
        let wrong = |error: crate::path::BadComponent| SourceError::Incomplete(error.to_string());
        let root = TreePath::new(ROOT).map_err(wrong)?.join(self.unit.id.as_str()).map_err(wrong)?;
        let folder = Metadata { mode: 0o700, mtime: taken_at, ..Metadata::default() };
        for path in [TreePath::new(ROOT).map_err(wrong)?, root.clone()] {
            out.push(Item::directory(path).with_metadata(folder.clone()), Content::None).await?;
        }
        self.files.sort();
        let mut names: Vec<_> = self.files.iter().filter_map(|name| Some((stored_name(name)?, name))).collect();
        names.sort();
        for (stored, name) in &names {
            let path = self.folder.join(name);
            let opened = File::open(&path).and_then(FileSpool::filled);
            let spool = opened.map_err(|error| SourceError::Incomplete(format!("open {}: {error}", path.display())))?;
            let spool: Arc<dyn Spool> = Arc::new(spool);
            let metadata = |size| Metadata { mode: 0o600, mtime: taken_at, links: 1, size, ..Metadata::default() };
            let item = |name: &str, size| {
                Ok::<_, SourceError>(Item::file(root.join(name).map_err(wrong)?).with_metadata(metadata(size)))
            };
            if name.ends_with(DOCUMENT) {
                out.push(item(stored, spool.length())?.secret(), Content::At(&*spool)).await?;
                continue;
            }
            if spool.length() == 0 {
                let text = format!("{} is empty: JCloud wrote that of a server on a volume", path.display());
                cx.problem(Problem { class: "empty-image", path: None, text });
            }
            match look(cx, spool, None).await? {
                Fetched::Disk(disk, _) => {
                    let length = disk.length();
                    let item = item(&format!("{stored}.raw"), length)?.with_chunking(chunking(length));
                    out.push(item, Content::At(&disk)).await?;
                }
                Fetched::File(spool, why) => {
                    let text = format!("{} is stored as it is, not as a disk: {why}", path.display());
                    cx.problem(Problem { class: "verbatim", path: None, text });
                    out.push(item(&format!("{stored}.image"), spool.length())?, Content::At(&*spool)).await?;
                }
            }
        }
        for path in [root.clone(), TreePath::new(ROOT).map_err(wrong)?] {
            out.leave(&path).await?;
        }
        Ok(Facts { roots: vec![root], ..Facts::new(taken_at) })
    }
}

/// The name that a disk has at each moment: `root`, or its volume's id.
fn stored_name(name: &str) -> Option<String> {
    let found = FileName::parse(name)?;
    let end = if name.ends_with(DOCUMENT) { DOCUMENT } else { "" };
    Some(format!("{}{end}", found.volume.unwrap_or("root")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;
    use crate::recorder::Recorder;

    const SERVER: &str = "0a1b2c3d-0000-4000-8000-00000000000a";
    const IMAGE: &str = "0a1b2c3d-0000-4000-8000-00000000000b";

    fn tree(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name.replace("SERVER", SERVER).replace("IMAGE", IMAGE));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        folder
    }

    #[tokio::test]
    async fn each_moment_of_a_server_is_one() {
        let folder = tree(&[
            ("snapshots/other__project/SERVER/20_IMAGE", b"disk"),
            ("snapshots/other__project/SERVER/20_IMAGE.json", b"{}"),
            ("snapshots/other__project/SERVER/9_IMAGE", b"disk"),
            ("snapshots/other__project/SERVER/notes", b"mine"),
            ("snapshots/other__project/readme/9_IMAGE", b"mine"),
        ]);
        let bench = Bench::new("r1");
        let found = JcloudTree::new(folder.path().to_owned()).remnants(&bench.cx).await.unwrap();
        let shown: Vec<_> = found.iter().map(|one| (one.unit.name.as_str(), one.seen_at.as_second())).collect();
        let name = format!("other__project/{SERVER}");
        assert_eq!(shown, [(name.as_str(), 9), (name.as_str(), 20)]);
        assert!(found.iter().all(|one| one.mark.is_none() && one.complete));
    }

    #[tokio::test]
    async fn a_moment_is_stored_under_names_that_stay() {
        let folder = tree(&[("demo/SERVER/9_IMAGE", &[7; 4096]), ("demo/SERVER/9_IMAGE.SERVER", &[8; 512])]);
        let (bench, source) = (Bench::new("r1"), JcloudTree::new(folder.path().to_owned()));
        let found = source.remnants(&bench.cx).await.unwrap();
        let recorder = Recorder::new(&bench.cx);
        let mut capture = source.reopen(&bench.cx, &found[0]).await.unwrap();
        let facts = capture.items(&bench.cx, &recorder).await.unwrap();
        let lines = recorder.commit(facts).unwrap().lines();
        for name in ["root.raw".to_owned(), format!("{SERVER}.raw")] {
            assert!(lines.iter().any(|line| line.contains(&name)), "{lines:?}");
        }
    }

    #[tokio::test]
    async fn a_folder_without_images_is_refused() {
        let folder = tree(&[("demo/vm1/9_IMAGE", b"disk")]);
        let error = JcloudTree::new(folder.path().to_owned()).preflight(&Bench::new("r1").cx).await.unwrap_err();
        assert!(error.to_string().contains("has no file like"), "{error}");
    }
}
