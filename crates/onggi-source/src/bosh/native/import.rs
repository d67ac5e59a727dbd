//! An artifact directory that `bbr` wrote, as one foreign capture: its archives are taken apart and stored file by file, as
//! if they had been carried away by this source.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::DateTime;
use serde_json::json;
use tokio::sync::mpsc;

use super::archive::{Arrived, Member, Part, split};
use super::capture::{about, directory, join, member, path_of, place_of};
use crate::bosh::artifact::{Artifact, Directory};
use crate::bosh::drain::compare;
use crate::bosh::record::Record;
use crate::bosh::tar::Checksums;
use crate::context::{Context, Problem, UnitId};
use crate::item::{Content, Item, Kind, Version};
use crate::path::TreePath;
use crate::source::{Base, Capabilities, Capture, Facts, Image, Items, Remnant, Result, Source, SourceError, Unit};

/// Pieces between the disk and the repository.
const PIECES_MAX: usize = 8;

/// One artifact directory; nothing in it is changed.
pub struct ArtifactDirectory {
    path: PathBuf,
}

impl ArtifactDirectory {
    /// The directory with the file `metadata`; nothing is touched.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn open(&self) -> Result<Directory> {
        let refused = |error| SourceError::Refused(format!("read {}: {error}", self.path.join("metadata").display()));
        Directory::open(&self.path).map_err(refused)
    }

    /// The platform's name and the moment, out of the directory's own name.
    fn named(&self) -> Result<(String, Timestamp)> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let read = name.rsplit_once('_').and_then(|(name, time)| {
            let time: DateTime = DateTime::strptime("%Y%m%dT%H%M%SZ", time).ok()?;
            Some((name.to_owned(), time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp()))
        });
        let text = format!("{name} is not called <name>_<time>, as in cf_20261120T111131Z");
        read.filter(|(name, _)| !name.is_empty()).ok_or(SourceError::Refused(text))
    }

    /// The platform that it is of.
    pub fn unit(&self) -> Result<Unit> {
        let (name, _) = self.named()?;
        Ok(Unit { id: UnitId::new(name.clone()), name })
    }
}

#[async_trait]
impl Source for ArtifactDirectory {
    fn capabilities(&self) -> Capabilities {
        Capabilities { freezes: false, image: Image::Fixed, chains: false, destinations: &[] }
    }

    /// Each archive that is listed is there; others are told.
    async fn preflight(&self, cx: &Context) -> Result<()> {
        let record = self.open()?.record();
        let listed: Vec<String> = record.artifacts().iter().map(|(artifact, _)| artifact.file_name()).collect();
        if listed.is_empty() {
            return Err(SourceError::Refused("it lists no artifact: its backup failed".to_owned()));
        }
        if let Some(missing) = listed.iter().find(|name| !self.path.join(name).is_file()) {
            return Err(SourceError::Refused(format!("{missing} is listed and not there")));
        }
        let refused = |error| SourceError::Refused(format!("list {}: {error}", self.path.display()));
        for entry in std::fs::read_dir(&self.path).map_err(refused)? {
            let name = entry.map_err(refused)?.file_name().to_string_lossy().into_owned();
            if Path::new(&name).extension().is_some_and(|extension| extension == "tar") && !listed.contains(&name) {
                cx.problem(Problem {
                    class: "unlisted",
                    path: None,
                    text: format!("{name} is not listed: it may be cut"),
                });
            }
        }
        Ok(())
    }

    async fn discover(&self, _cx: &Context) -> Result<Vec<Unit>> {
        Ok(vec![self.unit()?])
    }

    async fn capture<'a>(&'a self, _cx: &Context, _unit: &Unit, _base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        Err(SourceError::Unsupported("a new backup of an artifact directory"))
    }

    async fn remnants(&self, _cx: &Context) -> Result<Vec<Remnant>> {
        let (unit, (_, seen_at)) = (self.unit()?, self.named()?);
        let what = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(vec![Remnant { unit, mark: None, seen_at, complete: true, what }])
    }

    async fn reopen<'a>(&'a self, _cx: &Context, remnant: &Remnant) -> Result<Box<dyn Capture + 'a>> {
        let directory = Arc::new(self.open()?);
        Ok(Box::new(FromDirectory { directory, unit: remnant.unit.clone(), taken_at: remnant.seen_at }))
    }
}

struct FromDirectory {
    directory: Arc<Directory>,
    unit: Unit,
    taken_at: Timestamp,
}

#[async_trait]
impl Capture for FromDirectory {
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        let (root, record) = (path_of(&self.unit)?, self.directory.record());
        let mut folders = std::collections::BTreeSet::from([root.clone()]);
        for (artifact, _) in record.artifacts() {
            let place = place_of(&root, &artifact)?;
            folders.extend(std::iter::successors(place.parent(), TreePath::parent).filter(|path| !path.is_root()));
        }
        folders.extend(root.parent().filter(|path| !path.is_root()));
        for folder in folders {
            out.push(directory(self.taken_at, folder), Content::None).await?;
        }
        for (artifact, sums) in record.artifacts() {
            self.artifact(cx, out, &place_of(&root, &artifact)?, &artifact, sums).await?;
        }
        let manifest = std::fs::read(self.directory.path().join("manifest.yml")).ok();
        about(out, &root, self.taken_at, &record, None, manifest).await?;
        let tags = vec![format!("mode:{}", if is_director(&record) { "director" } else { "deployment" })];
        let notes = json!({ "record": record });
        Ok(Facts { roots: vec![root], tags, notes, ..Facts::new(self.taken_at) })
    }
}

impl FromDirectory {
    async fn artifact(
        &self,
        cx: &Context,
        out: &dyn Items,
        place: &TreePath,
        artifact: &Artifact,
        sums: &Checksums,
    ) -> Result<()> {
        let name = artifact.file_name();
        let damaged = |error: std::io::Error| SourceError::Damaged(format!("{name}: {error}"));
        let file = BufReader::new(self.directory.file(artifact).map_err(damaged)?);
        let (apart, mut parts) = mpsc::channel(PIECES_MAX);
        let splitting = tokio::task::spawn_blocking(move || split(file, &apart));
        let pushed = async move { push_all(cx, out, place, &mut parts).await }.await;
        let whole = splitting.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        // An archive that is cut says so itself; of a sink that refuses only its own words count.
        let found = match (pushed, whole) {
            (Ok(_) | Err(SourceError::Incomplete(_)), Err(error)) => return Err(damaged(error)),
            (pushed, _) => pushed?,
        };
        compare(&found, sums).map_err(|cause| SourceError::Damaged(format!("{name}: {cause}")))
    }
}

async fn push_all(
    cx: &Context,
    out: &dyn Items,
    place: &TreePath,
    parts: &mut mpsc::Receiver<Part>,
) -> Result<Checksums> {
    let mut sums = Checksums::new();
    while let Some(part) = cx.unless_stopped(parts.recv()).await? {
        let Part::Member(arrived) = part else {
            return Err(SourceError::Incomplete("an archive begins in a file".to_owned()));
        };
        let Arrived { name, kind, metadata } = *arrived;
        let mut path = place.clone();
        for part in name.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            path = join(&path, part)?;
        }
        let is_file = kind == Kind::File;
        let version = if is_file { Version::Stat } else { Version::Unknown };
        let item = Item::new(path, kind).with_metadata(metadata).with_version(version);
        if !is_file {
            out.push(item, Content::None).await?;
            continue;
        }
        let mut content = Member::new(parts);
        out.push(item, Content::Stream(&mut content)).await?;
        sums.insert(member(&name), content.finish(cx).await?);
    }
    Ok(sums)
}

/// A Director is the one pseudo instance of this name.
fn is_director(record: &Record) -> bool {
    matches!(record.instances.as_slice(), [only] if only.name == "bosh" && only.index == "0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;
    use crate::bosh::native::export::{Misfits, export};
    use crate::item::Metadata;
    use crate::recorder::Recorder;

    fn own(job: &str) -> Artifact {
        Artifact::Instance { group: "bosh".into(), index: "0".into(), job: job.into() }
    }

    /// An artifact directory with one archive, as GNU tar writes it.
    fn made(folder: &Path, script: &str) -> PathBuf {
        let at = "2026-11-20T11:11:31Z".parse().unwrap();
        let directory = Directory::create(folder, "10.0.0.6", at, jiff::tz::TimeZone::UTC).unwrap();
        let tar = directory.path().join("bosh-0-db.tar");
        let line = format!("mkdir x && cd x && {script} && tar -c -f '{}' . && cd .. && rm -r x", tar.display());
        let status = std::process::Command::new("sh").args(["-c", &line]).current_dir(folder).status().unwrap();
        assert!(status.success());
        directory.add(&own("db"), directory.checksums_of_file(&own("db")).unwrap()).unwrap();
        directory.write("manifest.yml", b"name: d\n").unwrap();
        directory.finish(at).unwrap();
        directory.path().to_owned()
    }

    async fn taken(path: PathBuf) -> Result<crate::recorder::RecordedTree> {
        let (bench, source) = (Bench::new("r1"), ArtifactDirectory::new(path));
        source.preflight(&bench.cx).await?;
        let remnant = source.remnants(&bench.cx).await?.remove(0);
        assert_eq!(remnant.seen_at, "2026-11-20T11:11:31Z".parse::<Timestamp>().unwrap());
        let mut capture = source.reopen(&bench.cx, &remnant).await?;
        let sink = Recorder::new(&bench.cx);
        let facts = capture.items(&bench.cx, &sink).await?;
        drop(capture);
        sink.commit(facts)
    }

    const TREE: &str = "mkdir sub && echo a > a && head -c 300000 /dev/zero > sub/big && : > sub/zero && ln a b";

    #[tokio::test]
    async fn a_directory_comes_in_and_goes_out_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = made(folder.path(), "mkdir sub && echo a > a && head -c 300000 /dev/zero > sub/big && : > sub/zero");
        let tree = taken(path.clone()).await.unwrap();
        let names: Vec<_> =
            tree.items.keys().map(|path| String::from_utf8_lossy(path.as_bytes()).into_owned()).collect();
        assert!(names.contains(&"bosh/10.0.0.6/bosh/0/db/sub/zero".to_owned()), "{names:?}");
        assert!(names.contains(&"bosh/10.0.0.6/_meta/manifest.yml".to_owned()), "{names:?}");
        let (out, bench) = (tempfile::tempdir().unwrap(), Bench::new("r2"));
        let exported = export(&bench.cx, &tree, out.path(), Misfits::Refused).await.unwrap();
        assert_eq!(exported.file_name(), path.file_name());
        let (before, after) = (Directory::open(&path).unwrap(), Directory::open(&exported).unwrap());
        assert_eq!(after.record().instances, before.record().instances);
        assert_eq!(after.checksums_of_file(&own("db")).unwrap(), before.checksums_of_file(&own("db")).unwrap());
        let list = std::process::Command::new("tar").arg("-tf").arg(exported.join("bosh-0-db.tar")).output().unwrap();
        let list = String::from_utf8(list.stdout).unwrap();
        assert!(list.lines().all(|line| line.starts_with("./")) && list.contains("./sub/big"), "{list}");
    }

    #[tokio::test]
    async fn what_is_cut_or_changed_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = made(folder.path(), "echo a > a && head -c 300000 /dev/zero > big");
        let tar = path.join("bosh-0-db.tar");
        let whole = std::fs::read(&tar).unwrap();
        let mut changed = whole.clone();
        *changed.iter_mut().find(|byte| **byte == b'a').unwrap() = b'c';
        for bytes in [&whole[..100_000], &changed] {
            std::fs::write(&tar, bytes).unwrap();
            assert!(matches!(taken(path.clone()).await, Err(SourceError::Damaged(_))));
        }
        std::fs::remove_file(&tar).unwrap();
        assert!(matches!(taken(path).await, Err(SourceError::Refused(text)) if text.contains("bosh-0-db.tar")));
    }

    #[tokio::test]
    async fn what_bbr_cannot_restore_is_refused_or_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut tree = taken(made(folder.path(), "echo a > a")).await.unwrap();
        let place = TreePath::new("bosh/10.0.0.6/bosh/0/db").unwrap();
        for (name, kind) in [("link", Kind::Symlink(b"a".to_vec())), ("a b", Kind::Directory), ("pipe", Kind::Fifo)] {
            let mut other = tree.clone();
            let item = Item::new(place.join(name).unwrap(), kind).with_metadata(Metadata::default());
            let recorded = crate::recorder::Recorded { item: item.clone(), content: bytes::Bytes::new() };
            other.items.insert(item.path.clone(), recorded);
            let (out, bench) = (tempfile::tempdir().unwrap(), Bench::new("r2"));
            let refused = export(&bench.cx, &other, out.path(), Misfits::Refused).await;
            assert!(matches!(refused, Err(SourceError::Refused(_))), "{name}");
            assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "nothing is written");
            export(&bench.cx, &other, out.path(), Misfits::LeftOut).await.unwrap();
            assert_eq!(bench.seen.problem_lines().len(), 1, "{name}");
        }
        tree.items.clear();
        let out = tempfile::tempdir().unwrap();
        assert!(export(&Bench::new("r3").cx, &tree, out.path(), Misfits::Refused).await.is_err());
    }

    #[tokio::test]
    async fn hard_links_in_an_archive_are_told() {
        let folder = tempfile::tempdir().unwrap();
        // The reference fails on them while it makes the archive; one of another maker is no directory of it.
        assert!(matches!(taken(made(folder.path(), TREE)).await, Err(SourceError::Damaged(_))));
    }
}
