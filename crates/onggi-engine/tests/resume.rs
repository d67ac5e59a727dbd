//! A long file whose reading was interrupted: the next run goes on at the last cut, if the file is still the same.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "backup/alone.rs"]
mod alone;
#[path = "backup/bed.rs"]
#[expect(dead_code, reason = "shared with the tests of backups")]
mod bed;

use alone::Alone;
use async_trait::async_trait;
use bed::{Bed, Wish, bench};
use onggi_engine::{
    backup::Parents,
    report::{UnitOutcome, UnitReport},
};
use onggi_repo::archive::WINDOW_LENGTH;
use onggi_source::{
    Capture, Content, Context, Facts, Item, Items, Known, Layout, Metadata, ReadAt, ReadError, Result, Stop, TreePath,
    Unit, UnitId, Version,
};
use onggi_storage::clock::{Clock, TestClock};
use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};
use tokio::sync::watch;

const LENGTH: usize = 24 << 20;
/// The run is stopped when a read reaches this.
const STOP_AT: u64 = 16 << 20;

/// A disk that stops the run that reads it.
struct Disk {
    content: Vec<u8>,
    version: Version,
    seconds: i64,
    stop: Option<watch::Sender<Option<Stop>>>,
    /// A read is refused as torn by a change once, after which the run is stopped.
    changes: AtomicBool,
    read: AtomicU64,
}

#[async_trait]
impl Capture for &Disk {
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        let mtime = jiff::Timestamp::from_second(self.seconds).unwrap();
        let metadata = Metadata { mtime, size: self.content.len() as u64, ..Metadata::default() };
        let small = Item::file(TreePath::new("small").unwrap()).with_metadata(metadata.clone());
        out.push(small.with_version(self.version.clone()), Content::Inline("small".into())).await?;
        let item = Item::file(TreePath::new("disk.raw").unwrap()).with_metadata(metadata);
        out.push(item.with_version(self.version.clone()), Content::At(*self)).await?;
        Ok(Facts::new(cx.world.now()))
    }
}

#[async_trait]
impl ReadAt for Disk {
    async fn open(&self, _: &Context, _: &Known<'_>) -> Result<Layout, ReadError> {
        Ok(Layout::dense(self.content.len() as u64))
    }
    async fn read(&self, _: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        if offset >= STOP_AT
            && let Some(stop) = &self.stop
        {
            if self.changes.swap(false, Relaxed) {
                let text = "it changed".into();
                return Err(ReadError::Item(onggi_source::Problem { class: "changed", path: None, text }));
            }
            stop.send_replace(Some(Stop::Cancelled));
        }
        self.read.fetch_add(buffer.len() as u64, Relaxed);
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self.content[start..start + buffer.len()]);
        Ok(())
    }
}

fn disk(version: Version) -> Disk {
    let mut content = vec![0; LENGTH];
    TestClock::new(5).fill_random(&mut content);
    Disk { content, version, seconds: 1, stop: None, changes: AtomicBool::new(false), read: AtomicU64::new(0) }
}

/// One run; gives the report and the bytes read.
async fn run(bed: &Bed, disk: &mut Disk, journal: Option<&Path>, stops: bool) -> (UnitReport, u64) {
    let bench = bench("r");
    disk.stop = stops.then(|| bench.stop.clone());
    disk.read = AtomicU64::new(0);
    let unit = Unit { id: UnitId::from("disk"), name: "disk".into() };
    let wish = Wish { parents: Parents::Nothing, journal: journal.map(Path::to_owned), ..Wish::default() };
    let report = bed.one_with(&bench.cx, &Alone(&*disk), &unit, &wish).await;
    (report, disk.read.load(Relaxed))
}

/// Interrupts a run, lets `meanwhile` happen, and gives what the next run reads.
async fn resumed(mut disk: Disk, meanwhile: impl FnOnce(&mut Disk)) -> u64 {
    let (bed, folder) = (Bed::new().await, tempfile::tempdir().unwrap());
    let journal = folder.path().join("journal");
    let (report, _) = run(&bed, &mut disk, Some(&journal), true).await;
    assert_eq!(report.outcome, UnitOutcome::Stopped, "{report:#?}");
    assert!(bed.snapshots().await.is_empty() && journal.exists());
    meanwhile(&mut disk);
    let (report, read) = run(&bed, &mut disk, Some(&journal), false).await;
    bed::stored(&report);
    assert!(bed.content("disk.raw").await == disk.content, "the content is that of the disk");
    assert!(!journal.exists(), "nothing is left to resume");
    let resumed = bed.node("disk.raw").await.unwrap();
    bed::stored(&run(&bed, &mut disk, None, false).await.0);
    let whole = bed.node("disk.raw").await.unwrap();
    assert_eq!(resumed.chunks(), whole.chunks(), "the chunks are those of a full read");
    read
}

/// The whole disk.
const ALL: u64 = LENGTH as u64;

#[tokio::test]
async fn an_interrupted_file_goes_on_at_its_last_cut() {
    for version in [Version::Stat, Version::Token(b"generation 1".to_vec())] {
        let read = resumed(disk(version.clone()), |_| {}).await;
        // What was read and not yet cut is read again, and at least one chunk was cut. The read that the stop meets still
        // counts.
        let least = ALL - STOP_AT - WINDOW_LENGTH as u64;
        assert!((least..ALL).contains(&read), "{read} of {ALL} with {version:?}");
    }
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_is_read_from_its_start() {
    let read = resumed(disk(Version::Stat), |disk| {
        disk.seconds += 1;
        disk.content[1000] ^= 1;
    });
    assert_eq!(read.await, ALL);
    let read = resumed(disk(Version::Token(b"generation 1".to_vec())), |disk| {
        disk.version = Version::Token(b"generation 2".to_vec());
        disk.content[1000] ^= 1;
    });
    assert_eq!(read.await, ALL);
}

#[tokio::test]
async fn a_file_without_a_version_is_read_from_its_start() {
    assert_eq!(resumed(disk(Version::Unknown), |_| {}).await, ALL);
}

#[tokio::test]
async fn what_was_read_of_a_changing_file_is_not_gone_on_with() {
    let mut changing = disk(Version::Stat);
    changing.changes = AtomicBool::new(true);
    assert_eq!(resumed(changing, |disk| disk.content[1000] ^= 1).await, ALL);
}

#[tokio::test]
async fn a_finished_file_is_taken_over_only_under_its_token() {
    let (bed, folder) = (Bed::new().await, tempfile::tempdir().unwrap());
    let journal = folder.path().join("journal");
    let mut disk = disk(Version::Token(b"generation 1".to_vec()));
    run(&bed, &mut disk, Some(&journal), true).await;
    let (report, _) = run(&bed, &mut disk, Some(&journal), false).await;
    assert_eq!(report.figures.files_unmodified, 1, "the small file: {report:#?}");
    run(&bed, &mut disk, Some(&journal), true).await;
    disk.version = Version::Token(b"generation 2".to_vec());
    let (report, _) = run(&bed, &mut disk, Some(&journal), false).await;
    bed::stored(&report);
    assert_eq!(report.figures.files_unmodified, 0, "{report:#?}");
}
