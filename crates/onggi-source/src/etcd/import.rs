//! Files that `etcdctl snapshot save` left in a folder, to be imported: each is a remnant of that tool, proved as far as
//! a file alone can be, and stored with its own time. Nothing in the folder is ever changed.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use sha2::{Digest as _, Sha256};

use super::capture::push;
use super::snapshot::TRAILER_BYTES;
use super::verify::examine;
use crate::context::{Context, Problem, UnitId};
use crate::item::Layout;
use crate::path::TreePath;
use crate::source::{
    Base, Capabilities, Capture, Facts, Image, Items, Known, ReadAt, ReadError, Remnant, Result, Source, SourceError,
    Unit,
};

/// Files in one folder; a day of one each minute for a month has fewer.
const FILES_MAX: usize = 50_000;
/// How much is hashed at once, in bytes.
const STEP_BYTES: usize = 64 << 10;
/// What the names of the usual CronJob begin with.
const PREFIX: &str = "etcd-snapshot-";
/// Their time.
const TIME_FORM: &str = "%Y-%m-%d_%H-%M-%S";

/// A folder of snapshot files.
pub struct SnapshotFiles {
    folder: PathBuf,
    unit: Unit,
    zone: Option<TimeZone>,
}

impl SnapshotFiles {
    /// The files in this folder, which are a cluster's of this name. Times in names are of the zone; without one only
    /// those that name UTC are believed, and others have the time of their last change. Touches nothing.
    pub fn new(folder: PathBuf, cluster: &str, zone: Option<TimeZone>) -> Self {
        Self { folder, unit: Unit { id: UnitId::new(cluster), name: cluster.to_owned() }, zone }
    }

    /// Where the files lie in the tree: `etcd/<cluster>`.
    pub fn root(&self) -> Result<TreePath> {
        let root = TreePath::new("etcd").and_then(|root| root.join(&self.unit.name));
        root.map_err(|error| SourceError::Denied(format!("name the cluster: {error}")))
    }

    /// When a snapshot was taken, by its name, or else when its file was last changed.
    fn taken_at(&self, name: &str, changed_at: Timestamp) -> Timestamp {
        let named = || {
            let (time, zone) = name.strip_prefix(PREFIX)?.strip_suffix(".db")?.split_at_checked(19)?;
            let time = DateTime::strptime(TIME_FORM, time).ok()?;
            let zone = match (zone.trim_start_matches(['_', '-']), &self.zone) {
                ("UTC" | "GMT" | "Z", _) => TimeZone::UTC,
                (_, Some(zone)) => zone.clone(),
                // Letters of a zone are not unique in the world.
                _ => return None,
            };
            time.to_zoned(zone).ok().map(|time| time.timestamp())
        };
        named().unwrap_or(changed_at)
    }
}

#[async_trait]
impl Source for SnapshotFiles {
    fn capabilities(&self) -> Capabilities {
        Capabilities { freezes: false, image: Image::Fixed, chains: false, destinations: &[] }
    }

    /// There must be a file.
    async fn preflight(&self, cx: &Context) -> Result<()> {
        if self.remnants(cx).await?.is_empty() {
            return Err(SourceError::Denied(format!("{} has no file with a name like *.db", self.folder.display())));
        }
        Ok(())
    }

    async fn discover(&self, _cx: &Context) -> Result<Vec<Unit>> {
        Ok(vec![self.unit.clone()])
    }

    /// What lies there was captured by others.
    async fn capture<'a>(&'a self, _cx: &Context, _unit: &Unit, _base: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        Err(SourceError::Unsupported("capture of files that another tool makes"))
    }

    /// The files, oldest first; links are none.
    async fn remnants(&self, cx: &Context) -> Result<Vec<Remnant>> {
        let failed = |error| SourceError::Denied(format!("list {}: {error}", self.folder.display()));
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            cx.check()?;
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let metadata = entry.metadata().map_err(failed)?;
            if !metadata.is_file() || Path::new(&name).extension().is_none_or(|extension| extension != "db") {
                continue;
            }
            if files.len() == FILES_MAX {
                return Err(SourceError::Denied(format!("more than {FILES_MAX} files lie there")));
            }
            let changed_at = Timestamp::new(metadata.mtime(), 0).unwrap_or_default();
            let seen_at = self.taken_at(&name, changed_at);
            files.push(Remnant { unit: self.unit.clone(), mark: None, seen_at, complete: true, what: name });
        }
        files.sort_by(|left, right| (left.seen_at, &left.what).cmp(&(right.seen_at, &right.what)));
        Ok(files)
    }

    async fn reopen<'a>(&'a self, cx: &Context, remnant: &Remnant) -> Result<Box<dyn Capture + 'a>> {
        cx.check()?;
        let path = self.folder.join(&remnant.what);
        let failed = |error: io::Error| SourceError::Denied(format!("open {}: {error}", path.display()));
        let file = File::open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let file = Arc::new(SnapshotFile { file, length });
        Ok(Box::new(Opened { file, root: self.root()?, taken_at: remnant.seen_at }))
    }
}

/// A file to be taken over.
struct Opened {
    file: Arc<SnapshotFile>,
    root: TreePath,
    taken_at: Timestamp,
}

/// One file.
struct SnapshotFile {
    file: File,
    length: u64,
}

#[async_trait]
impl Capture for Opened {
    /// A file whose bytes are not those that etcd sent is refused; one that is odd otherwise is stored as suspect.
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        let sha256 = self.file.confirm(cx).await?;
        let db_size = self.file.length - TRAILER_BYTES;
        let content: Arc<dyn ReadAt> = Arc::<SnapshotFile>::clone(&self.file);
        let examined = examine(cx, &content, db_size, None).await?;
        let mut tags = vec!["full".to_owned()];
        if examined.survey.revision > 0 {
            tags.push(format!("rev:{}", examined.survey.revision));
        }
        if let Some(fault) = &examined.fault {
            let text = format!("the snapshot is not what etcd writes: {fault}");
            cx.problem(Problem { class: "suspect", path: None, text });
            tags.push("suspect".to_owned());
        }
        push(out, &self.root, self.taken_at, self.file.length, &*self.file, None).await?;
        let notes = examined.notes(db_size, &sha256);
        let notes = serde_json::to_value(&notes).map_err(|error| SourceError::Incomplete(error.to_string()))?;
        Ok(Facts { roots: vec![self.root.clone()], tags, notes, ..Facts::new(self.taken_at) })
    }
}

impl SnapshotFile {
    /// The SHA-256 of the database, which must be that of the trailer.
    async fn confirm(&self, cx: &Context) -> Result<[u8; 32]> {
        let db_size = self.length.checked_sub(TRAILER_BYTES).filter(|size| *size > 0 && size % 512 == 0);
        let text = "the file has no trailer: it was cut, or copied from a member's folder";
        let db_size = db_size.ok_or_else(|| SourceError::Damaged(text.to_owned()))?;
        let (mut hash, mut step) = (Sha256::new(), vec![0; STEP_BYTES]);
        for offset in (0..db_size).step_by(STEP_BYTES) {
            tokio::task::coop::consume_budget().await;
            cx.check()?;
            let length = STEP_BYTES.min(usize::try_from(db_size - offset).unwrap_or(STEP_BYTES));
            self.fill(offset, &mut step[..length])?;
            hash.update(&step[..length]);
        }
        let mut trailer = [0; TRAILER_BYTES as usize];
        self.fill(db_size, &mut trailer)?;
        if trailer != <[u8; 32]>::from(hash.finalize()) {
            return Err(SourceError::Damaged("the file's SHA-256 is not that of its trailer".to_owned()));
        }
        Ok(trailer)
    }

    fn fill(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let read = self.file.read_exact_at(buffer, offset);
        read.map_err(|error| SourceError::Incomplete(format!("read the file: {error}")))
    }
}

#[async_trait]
impl ReadAt for SnapshotFile {
    async fn open(&self, _cx: &Context, _known: &Known<'_>) -> Result<Layout, ReadError> {
        Ok(Layout::dense(self.length))
    }

    async fn read(&self, cx: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        cx.check()?;
        Ok(self.fill(offset, buffer)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;
    use crate::etcd::fake::FILE;
    use crate::etcd::model::{Notes, SNAPSHOT_FILE};
    use crate::recorder::{RecordedTree, Recorder};

    fn files(folder: &Path, zone: Option<TimeZone>) -> SnapshotFiles {
        SnapshotFiles::new(folder.to_owned(), "prod", zone)
    }

    #[track_caller]
    fn check(name: &str, zone: Option<&str>, expected: &str) {
        let zone = zone.map(|zone| TimeZone::get(zone).unwrap());
        let at = files(Path::new("/"), zone).taken_at(name, Timestamp::UNIX_EPOCH);
        assert_eq!(at.to_string(), expected, "{name}");
    }

    #[test]
    fn a_name_tells_the_time_if_its_zone_is_sure() {
        check("etcd-snapshot-2020-03-04_05-06-07_UTC.db", None, "2020-03-04T05:06:07Z");
        check("etcd-snapshot-2020-03-04_05-06-07_KST.db", Some("Asia/Seoul"), "2020-03-03T20:06:07Z");
        check("etcd-snapshot-2020-03-04_05-06-07_KST.db", None, "1970-01-01T00:00:00Z");
        check("etcd-snapshot-2020-02-30_05-06-07_UTC.db", None, "1970-01-01T00:00:00Z");
        check("backup.db", None, "1970-01-01T00:00:00Z");
    }

    async fn import(file: &[u8]) -> Result<(RecordedTree, Vec<String>)> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("etcd-snapshot-2020-03-04_05-06-07_UTC.db"), file).unwrap();
        std::fs::write(folder.path().join("other"), "").unwrap();
        let (bench, files) = (Bench::new("r1"), files(folder.path(), None));
        let found = files.remnants(&bench.cx).await.unwrap();
        assert_eq!(found.len(), 1);
        let sink = Recorder::new(&bench.cx);
        let facts = files.reopen(&bench.cx, &found[0]).await?.items(&bench.cx, &sink).await?;
        Ok((sink.commit(facts)?, bench.seen.problem_lines()))
    }

    #[tokio::test]
    async fn a_file_is_stored_as_it_is_with_its_own_time() {
        let (tree, problems) = import(FILE).await.unwrap();
        let path = TreePath::new("etcd/prod").unwrap().join(SNAPSHOT_FILE).unwrap();
        assert_eq!(tree.items[&path].content, FILE);
        assert_eq!(tree.facts[0].taken_at.to_string(), "2020-03-04T05:06:07Z");
        let notes: Notes = serde_json::from_value(tree.facts[0].notes.clone()).unwrap();
        assert_eq!((notes.revision, notes.verified.as_str(), problems.len()), (50, "L2", 0));
    }

    #[tokio::test]
    async fn a_file_that_etcd_did_not_send_so_is_refused() {
        // Without its trailer, within it, and anywhere before.
        let anywhere = (0..10).map(|number| number * 7919 % FILE.len());
        for length in [31, 32, 4096, FILE.len() - 32, FILE.len() - 1].into_iter().chain(anywhere) {
            assert!(matches!(import(&FILE[..length]).await, Err(SourceError::Damaged(_))), "{length}");
        }
        // In each page, whether it is a meta, a branch, a leaf or free; in a value; in the trailer.
        let value = FILE.windows(9).position(|window| window == b"value of ").unwrap();
        for at in (20..FILE.len()).step_by(4096).chain([value, FILE.len() - 7]) {
            let mut flipped = FILE.to_vec();
            flipped[at] ^= 1;
            let error = import(&flipped).await.unwrap_err().to_string();
            assert_eq!(error, "content is damaged: the file's SHA-256 is not that of its trailer", "{at}");
        }
    }
}
