//! Carries artifacts away, exploded: what the last backup has is taken over unread, the rest travels in archives that
//! are taken apart on arrival, and the machines say with hashes of their own whether all of it arrived.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::mpsc;

use super::archive::{Member, Part, STEP_BYTES, split};
use super::arrived::Arrived;
use super::config::{Incremental, Verify};
use super::known::Known;
use super::listing::Listed;
use super::site::{Made, Of, Site};
use super::{Active, Bosh};
use crate::bosh::Artifact;
use crate::bosh::record::Record;
use crate::bosh::tar::{Checksums, Kept};
use crate::context::{Context, Problem, Progress, each};
use crate::item::{Content, Item, Metadata, Version};
use crate::path::TreePath;
use crate::source::{Base, Capture, Facts, Items, Result, SourceError, Unit};

/// Pieces between a connection and the repository.
const PIECES_MAX: usize = 8;
/// What an artifact of a job holds that only names what lies in a bucket.
const POINTER: &[u8] = b"blobstore.json";

pub(super) struct BoshCapture<'a> {
    pub(super) source: &'a Bosh,
    pub(super) unit: Unit,
    pub(super) active: Arc<Active>,
    pub(super) base: Option<Base>,
    pub(super) taken_at: Timestamp,
    pub(super) arrived: Arrived,
}

/// What one reading gathers.
#[derive(Default)]
struct Gathered {
    /// In the order in which they ended.
    artifacts: Vec<(Artifact, Checksums)>,
    known: Known,
    external: Vec<String>,
    /// What artifacts took on each machine, in bytes.
    took: BTreeMap<usize, u64>,
}

#[async_trait]
impl Capture for BoshCapture<'_> {
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        let read = self.source.alive(cx, &self.unit, Box::pin(self.read(cx, out))).await;
        self.active.noted(cx, read)
    }

    fn early(&self) -> Option<Facts> {
        let root = path_of(&self.unit).ok()?;
        Some(Facts { roots: vec![root], tags: vec![self.source.mode_tag()], ..Facts::new(self.taken_at) })
    }
}

impl BoshCapture<'_> {
    async fn read(&self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        let site = self.active.site();
        let root = path_of(&self.unit)?;
        let reading = Reading {
            cx,
            out,
            site,
            source: self.source,
            root: &root,
            known: self.base.as_ref().map(Known::of).unwrap_or_default(),
            arrived: &self.arrived,
            taken_at: self.taken_at,
            lines: site.places().iter().map(|_| tokio::sync::Mutex::default()).collect(),
            gathered: Mutex::default(),
        };
        reading.folders().await?;
        let artifacts = site.artifacts(Of::Backup);
        let width = usize::from(self.source.config.drain.parallel_max);
        each(width, &artifacts, async |made: &Made| reading.artifact(made).await).await?;
        let Gathered { mut artifacts, known, external, took } =
            reading.gathered.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.source.note_took(&self.unit, site, &took);
        // Sorted, so that what says the same is the same.
        artifacts.sort();
        let mut record = Record::default();
        for (artifact, sums) in artifacts {
            record.add(&artifact, sums);
        }
        record.backup_activity.start_time = shown(self.taken_at);
        record.backup_activity.finish_time = Some(shown(cx.world.now()));
        let scripts = serde_json::to_vec_pretty(&site.scripts()).ok();
        let manifest = site.manifest().map(|manifest| manifest.as_bytes().to_vec());
        about(out, &root, self.taken_at, &record, scripts, manifest).await?;
        let external = external.into_iter().map(|job| format!("external-data:{job}"));
        let tags = [self.source.mode_tag()].into_iter().chain(external).collect();
        let notes =
            json!({ "files": known.value(), "held-seconds": self.active.held().map(|held| held.as_secs_f64()) });
        Ok(Facts { roots: vec![root], tags, notes, ..Facts::new(self.taken_at) })
    }
}

/// Pushes what is said of artifacts.
pub(super) async fn about(
    out: &dyn Items,
    root: &TreePath,
    at: Timestamp,
    record: &Record,
    scripts: Option<Vec<u8>>,
    manifest: Option<Vec<u8>>,
) -> Result<()> {
    let folder = join(root, b"_meta")?;
    out.push(directory(at, folder.clone()), Content::None).await?;
    let files = [("metadata", Some(record.text().into_bytes())), ("scripts.json", scripts), ("manifest.yml", manifest)];
    for (name, text) in files {
        let Some(text) = text else { continue };
        let size = text.len() as u64;
        let metadata = Metadata { mode: 0o600, mtime: at, links: 1, size, ..Metadata::default() };
        let item = Item::file(join(&folder, name.as_bytes())?).with_metadata(metadata);
        // A manifest has every password of its platform.
        let item = if name == "manifest.yml" { item.secret() } else { item };
        out.push(item, Content::Inline(text.into())).await?;
    }
    Ok(())
}

struct Reading<'a> {
    cx: &'a Context,
    out: &'a dyn Items,
    site: &'a dyn Site,
    source: &'a Bosh,
    root: &'a TreePath,
    /// What the last backup says of its files.
    known: Known,
    arrived: &'a Arrived,
    taken_at: Timestamp,
    /// One for each machine, whose connection brings one archive at a time.
    lines: Vec<tokio::sync::Mutex<()>>,
    gathered: Mutex<Gathered>,
}

/// Files of one artifact that travel, by name.
type Travelers = HashMap<Vec<u8>, Item>;
/// Files that a machine is to hash, each with what is expected, if anything is.
type Unproved = Vec<(Vec<u8>, Option<String>)>;

impl Reading<'_> {
    /// The folders above all artifacts, each once.
    async fn folders(&self) -> Result<()> {
        let mut folders = std::collections::BTreeSet::new();
        let places = self.site.artifacts(Of::Backup).into_iter().map(|made| place_of(self.root, &made.artifact));
        for place in places.collect::<Result<Vec<_>>>()? {
            let above = std::iter::successors(place.parent(), TreePath::parent);
            folders.extend(above.take_while(|path| !path.is_root()));
        }
        folders.extend(
            std::iter::successors(Some(self.root.clone()), TreePath::parent).take_while(|path| !path.is_root()),
        );
        for folder in folders {
            self.out.push(directory(self.taken_at, folder), Content::None).await?;
        }
        Ok(())
    }

    async fn artifact(&self, made: &Made) -> Result<()> {
        let (cx, place) = (self.cx, place_of(self.root, &made.artifact)?);
        let listed = self.site.list(cx, made).await?;
        let bytes = listed.iter().map(|entry| entry.metadata.size).sum();
        cx.monitor.progress(Progress::Expect { items: Some(listed.len() as u64), bytes: Some(bytes) });
        self.tell_of_pointer(&made.artifact, &listed);
        let own: u64 = listed.iter().map(|entry| entry.own_bytes).sum();
        *self.gathered().took.entry(made.place).or_default() += own;
        let stats: HashMap<String, (u64, Timestamp)> =
            listed.iter().map(|entry| (member(&entry.name), (entry.metadata.size, entry.metadata.mtime))).collect();
        let (mut sums, mut unproved, mut travelers) = (Checksums::new(), Unproved::new(), Travelers::new());
        let before = self.arrived.of(&made.artifact);
        for entry in listed {
            cx.check()?;
            let Some(item) = self.item(&place, &entry)? else { continue };
            if !item.kind.is_file() {
                self.out.push(item, Content::None).await?;
                continue;
            }
            if self.source.config.drain.incremental == Incremental::Never || !self.out.reuse(&item).await? {
                travelers.insert(entry.name, item);
                continue;
            }
            let name = member(&entry.name);
            let known = self.known.sum(&made.artifact, &name, stats[&name]);
            let is_believed = before.is_proved || self.source.config.drain.verify == Verify::Remote && known.is_some();
            match before.sums.get(&name).or(known).cloned() {
                Some(sum) if is_believed => drop(sums.insert(name, sum)),
                expected => unproved.push((entry.name, expected)),
            }
        }
        let names: Vec<Vec<u8>> = travelers.keys().cloned().collect();
        let asked: Vec<Vec<u8>> = unproved.iter().map(|(name, _)| name).chain(&names).cloned().collect();
        // The machine hashes what it sends meanwhile, and both are waited for: what arrived is kept even if the other fails.
        let (arrived, there) = tokio::join!(self.carry(made, travelers), self.hashed(made, &asked));
        let (arrived, there) = (arrived?, there?);
        unproved.extend(names.into_iter().map(|name| {
            let sum = arrived.get(&member(&name)).cloned();
            (name, sum)
        }));
        prove(&made.artifact, &unproved, &there)?;
        sums.extend(there);
        self.arrived.prove(&made.artifact);
        let seen = sums.iter().filter_map(|(name, sum)| {
            let (length, time) = stats.get(name)?;
            Some((name.clone(), (*length, *time, sum.clone())))
        });
        let mut gathered = self.gathered();
        gathered.known.note(&made.artifact, seen);
        gathered.artifacts.push((made.artifact.clone(), sums));
        Ok(())
    }

    fn item(&self, place: &TreePath, entry: &Listed) -> Result<Option<Item>> {
        let mut path = place.clone();
        for name in entry.name.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            path = join(&path, name)?;
        }
        let Some(kind) = entry.kind.clone() else {
            self.cx.problem(Problem {
                class: "special",
                path: Some(path),
                text: "it is no file that can be stored".into(),
            });
            return Ok(None);
        };
        let version = if kind.is_file() { Version::Stat } else { Version::Unknown };
        Ok(Some(Item::new(path, kind).with_metadata(entry.metadata.clone()).with_version(version)))
    }

    /// Brings files over in one archive; the SHA-256 of each.
    async fn carry(&self, made: &Made, mut travelers: Travelers) -> Result<Checksums> {
        if travelers.is_empty() {
            return Ok(Checksums::new());
        }
        // What a connection brings is handed to its channels by one task and in the order in which it came. An archive whose
        // reader waits for room in the repository holds all others up; if those have the room, nobody ever goes on.
        let _line = self.cx.unless_stopped(self.lines[made.place].lock()).await?;
        let room = u32::try_from(2 * PIECES_MAX * STEP_BYTES).unwrap_or(u32::MAX);
        let _room = self.cx.unless_stopped(self.cx.memory.acquire_many(room)).await?;
        let mut names: Vec<Vec<u8>> = travelers.keys().cloned().collect();
        names.sort();
        let (sender, arriving) = mpsc::channel(PIECES_MAX);
        let (apart, mut parts) = mpsc::channel(PIECES_MAX);
        let splitting = tokio::task::spawn_blocking(move || split(Kept::new(arriving, std::io::sink()), &apart));
        // It takes the receiver with it, so that whoever sends learns of an early end.
        let left = &mut travelers;
        let pushing = async move { self.push_all(made, left, &mut parts).await };
        let (packed, pushed) = tokio::join!(self.site.pack(self.cx, made, &names, sender), pushing);
        let whole = splitting.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        // A connection that broke explains whatever ended too early.
        let packed = match packed {
            Err(error) if error.is_transient() => return Err(error),
            packed => packed,
        };
        let sums = pushed?;
        // An archive that is cut is explained by what sent it, any other fault of it by itself.
        if whole.as_ref().err().is_none_or(|error| error.kind() == std::io::ErrorKind::UnexpectedEof) {
            packed?;
        }
        whole.map_err(|error| SourceError::Incomplete(format!("archive of {}: {error}", made.artifact.name())))?;
        match travelers.keys().next() {
            None => Ok(sums),
            Some(name) => Err(SourceError::Incomplete(format!("{} did not arrive", String::from_utf8_lossy(name)))),
        }
    }

    async fn push_all(
        &self,
        made: &Made,
        travelers: &mut Travelers,
        parts: &mut mpsc::Receiver<Part>,
    ) -> Result<Checksums> {
        let mut sums = Checksums::new();
        while let Some(part) = self.cx.unless_stopped(parts.recv()).await? {
            let Part::Member(arrived) = part else {
                return Err(SourceError::Incomplete("an archive begins in a file".to_owned()));
            };
            let name = arrived.name;
            let Some(item) = travelers.remove(&name) else {
                let text = format!("{} came unasked", String::from_utf8_lossy(&name));
                return Err(SourceError::Incomplete(text));
            };
            let mut content = Member::new(parts);
            self.out.push(item, Content::Stream(&mut content)).await?;
            let sum = content.finish(self.cx).await?;
            self.arrived.note(&made.artifact, &member(&name), &sum);
            sums.insert(member(&name), sum);
        }
        Ok(sums)
    }

    /// What the machine reads of these files.
    async fn hashed(&self, made: &Made, names: &[Vec<u8>]) -> Result<Checksums> {
        if names.is_empty() { Ok(Checksums::new()) } else { self.site.sums(self.cx, made, names).await }
    }

    /// A job that keeps its data in a bucket stores only where they are.
    fn tell_of_pointer(&self, artifact: &Artifact, listed: &[Listed]) {
        let mut files = listed.iter().filter(|entry| entry.kind.as_ref().is_some_and(crate::Kind::is_file));
        if !matches!((files.next(), files.next()), (Some(only), None) if only.name == POINTER) {
            return;
        }
        let job = artifact.name();
        let text = format!("{job} stores only where its data lie in a bucket, which needs a copy by other means");
        self.cx.monitor.progress(Progress::Phase(text));
        self.gathered().external.push(job.to_owned());
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compares what is here with what the machine reads.
fn prove(artifact: &Artifact, unproved: &Unproved, there: &Checksums) -> Result<()> {
    for (name, expected) in unproved {
        let name = member(name);
        let proved = there.get(&name);
        if proved.is_none() || expected.as_ref().is_some_and(|expected| Some(expected) != proved) {
            let artifact = artifact.name();
            return Err(SourceError::Incomplete(format!("checksums don't match for {name} of {artifact}")));
        }
    }
    Ok(())
}

/// The root of a unit.
pub(super) fn path_of(unit: &Unit) -> Result<TreePath> {
    join(&join(&TreePath::root(), b"bosh")?, unit.name.as_bytes())
}

/// Where an artifact is stored.
pub(super) fn place_of(root: &TreePath, artifact: &Artifact) -> Result<TreePath> {
    match artifact {
        Artifact::Custom(name) => join(&join(root, b"_custom")?, name.as_bytes()),
        Artifact::Instance { group, index, job } => {
            join(&join(&join(root, group.as_bytes())?, index.as_bytes())?, job.as_bytes())
        }
    }
}

pub(super) fn join(path: &TreePath, name: &[u8]) -> Result<TreePath> {
    path.join(name).map_err(|error| SourceError::Refused(error.to_string()))
}

/// How a file is called in an archive.
pub(super) fn member(name: &[u8]) -> String {
    format!("./{}", String::from_utf8_lossy(name))
}

pub(super) fn directory(at: Timestamp, path: TreePath) -> Item {
    let metadata = Metadata { mode: 0o755, mtime: at, ..Metadata::default() };
    Item::directory(path).with_metadata(metadata)
}

fn shown(at: Timestamp) -> String {
    at.strftime("%Y/%m/%d %H:%M:%S UTC").to_string()
}
