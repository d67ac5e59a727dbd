//! Content of which a source knows what is unchanged: only the rest is read, and the chunks are those of a full read.

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
    watch::{Event, Live, Watch},
};
use onggi_source::{
    Capture, Chunking, Content, Context, Facts, Item, Items, Known, Layout, ReadAt, ReadError, Result, TreePath, Unit,
    UnitId, Version,
};
use onggi_storage::clock::{Clock, TestClock, random_below};
use std::{
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// A disk with holes that remembers where it was written.
#[derive(Clone)]
struct Disk {
    content: Vec<u8>,
    /// Sorted.
    unchanged: Vec<Range<u64>>,
    chunking: Chunking,
    version: Version,
}

struct DiskSource {
    disk: Disk,
    read: AtomicU64,
}

#[async_trait]
impl Capture for &DiskSource {
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        let item = Item::file(TreePath::new("disk.raw").unwrap()).with_chunking(self.disk.chunking);
        let item = item.with_version(self.disk.version.clone());
        out.push(item, Content::At(*self)).await?;
        Ok(Facts::new(cx.world.now()))
    }
}

#[async_trait]
impl ReadAt for DiskSource {
    async fn open(&self, _: &Context, known: &Known<'_>) -> Result<Layout, ReadError> {
        let disk = &self.disk;
        let same = if known.ranges.is_empty() { Vec::new() } else { disk.unchanged.clone() };
        Ok(Layout { same, ..Layout::dense(disk.content.len() as u64) })
    }
    async fn read(&self, _: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.read.fetch_add(buffer.len() as u64, Relaxed);
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self.disk.content[start..start + buffer.len()]);
        Ok(())
    }
}

/// One run; gives the report and the bytes read.
async fn run(bed: &Bed, disk: &Disk, wish: &Wish) -> (UnitReport, u64) {
    let source = DiskSource { disk: disk.clone(), read: AtomicU64::new(0) };
    let unit = Unit { id: UnitId::from("disk"), name: "disk".into() };
    let report = bed.one_with(&bench("r").cx, &Alone(&source), &unit, wish).await;
    assert!(bed.content("disk.raw").await == disk.content, "the content is that of the disk");
    (report, source.read.load(Relaxed))
}

async fn store(bed: &Bed, disk: &Disk, parents: Parents) -> (Vec<String>, u64) {
    let (report, read) = run(bed, disk, &Wish { parents, ..Wish::default() }).await;
    assert!(report.snapshot.is_some() && report.problems.is_empty(), "{report:#?}");
    let node = bed.node("disk.raw").await.unwrap();
    (node.chunks().iter().map(ToString::to_string).collect(), read)
}

fn noise(clock: &TestClock, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    clock.fill_random(&mut bytes);
    bytes
}

/// Overwrites a few places, and changes the length now and then.
fn change(clock: &TestClock, disk: &mut Disk) {
    let mut changed: Vec<Range<u64>> = Vec::new();
    for _ in 0..=random_below(clock, 2) {
        let length = 1 + random_below(clock, 100_000);
        let start = random_below(clock, disk.content.len() as u64 - length);
        let (from, to) = (usize::try_from(start).unwrap(), usize::try_from(start + length).unwrap());
        disk.content[from..to].copy_from_slice(&noise(clock, to - from));
        changed.push(start..start + length);
    }
    let old = disk.content.len() as u64;
    match random_below(clock, 4) {
        0 => disk.content.extend(noise(clock, 300_000)),
        1 => disk.content.truncate(disk.content.len() - 200_000),
        _ => {}
    }
    let length = old.min(disk.content.len() as u64);
    changed.sort_by_key(|range| range.start);
    let (mut position, mut unchanged) = (0, Vec::new());
    for range in changed {
        if range.start.min(length) > position {
            unchanged.push(position..range.start.min(length));
        }
        position = position.max(range.end);
    }
    if position < length {
        unchanged.push(position..length);
    }
    disk.unchanged = unchanged;
}

#[tokio::test]
async fn changed_extents_give_the_chunks_of_a_full_read() {
    for chunking in [Chunking::Default, Chunking::Fixed(64 << 10)] {
        let (clock, bed) = (TestClock::new(11), Bed::new().await);
        let mut content = noise(&clock, 24 << 20);
        content[5 << 20..9 << 20].fill(0);
        let mut disk = Disk { content, unchanged: Vec::new(), chunking, version: Version::Unknown };
        let length = disk.content.len() as u64;
        assert_eq!(store(&bed, &disk, Parents::Nothing).await.1, length);
        for _ in 0..3 {
            change(&clock, &mut disk);
            let (chunks, read) = store(&bed, &disk, Parents::Newest).await;
            let (expected, all) = store(&bed, &disk, Parents::Nothing).await;
            assert_eq!(chunks, expected, "{chunking:?}");
            assert_eq!(all, disk.content.len() as u64);
            assert!(read <= all, "{read} of {all}");
        }
        disk.unchanged = std::iter::once(0..disk.content.len() as u64).collect();
        let (_, read) = store(&bed, &disk, Parents::Newest).await;
        assert!(read < length / 20, "nothing changed, a sample is read: {read}");
    }
}

/// A disk that says that all of it is unchanged.
async fn unchanged(bed: &Bed, chunking: Chunking) -> Disk {
    let content = noise(&TestClock::new(12), 24 << 20);
    let version = Version::Token(b"generation 1".to_vec());
    let mut disk = Disk { content, unchanged: Vec::new(), chunking, version };
    bed::stored(&run(bed, &disk, &Wish::default()).await.0);
    disk.unchanged = std::iter::once(0..disk.content.len() as u64).collect();
    disk
}

#[track_caller]
fn is_exposed(report: &UnitReport) {
    bed::check(report, UnitOutcome::StoredWithProblems, 3);
    let classes: Vec<_> = report.problems.first.iter().map(|problem| problem.class.as_str()).collect();
    assert_eq!(classes, ["untrue"], "{report:#?}");
}

#[tokio::test]
async fn a_block_map_that_lies_is_found_by_a_sample_and_all_is_read() {
    let bed = Bed::new().await;
    let mut disk = unchanged(&bed, Chunking::Fixed(64 << 10)).await;
    disk.version = Version::Unknown;
    disk.content = noise(&TestClock::new(13), disk.content.len());
    let (report, read) = run(&bed, &disk, &Wish::default()).await;
    is_exposed(&report);
    assert!(read >= disk.content.len() as u64);
}

#[tokio::test]
async fn every_nth_run_reads_what_is_said_to_be_unchanged() {
    let bed = Bed::new().await;
    let wish = Wish { full_read_every: 2, ..Wish::default() };
    let mut disk = unchanged(&bed, Chunking::Default).await;
    let all = disk.content.len() as u64;
    for expected in [0, all, 0, all] {
        let (report, read) = run(&bed, &disk, &wish).await;
        bed::stored(&report);
        assert_eq!((read, report.figures.files_unmodified), (expected, 1), "{report:#?}");
    }
    disk.version = Version::Unknown;
    for expected in [0, all] {
        let (report, read) = run(&bed, &disk, &wish).await;
        bed::stored(&report);
        assert!(read < all / 20 || read == expected, "of a block map the same holds: {read}");
    }
}

#[tokio::test]
async fn a_version_that_is_given_twice_is_found_by_the_nth_run() {
    let bed = Bed::new().await;
    let wish = Wish { full_read_every: 2, ..Wish::default() };
    let mut disk = unchanged(&bed, Chunking::Default).await;
    let before = disk.content.clone();
    bed::stored(&run(&bed, &disk, &wish).await.0);
    disk.content[20 << 20] ^= 1;
    let (report, read) = run(&bed, &disk, &wish).await;
    is_exposed(&report);
    assert!(before != disk.content && read > disk.content.len() as u64);
    disk.unchanged.clear();
    bed::stored(&run(&bed, &disk, &wish).await.0);
}

#[derive(Default)]
struct Watched(OnceLock<Arc<Live>>);

impl Watch for Watched {
    fn event(&self, event: Event) {
        match event {
            Event::Started { live, .. } => drop(self.0.set(live)),
            Event::Item { path, .. } if path.as_bytes() == b"disk.raw" => {
                assert_eq!(self.0.get().unwrap().bytes.get(), LENGTH, "before the file counts as done");
            }
            _ => {}
        }
    }
}

const LENGTH: u64 = 24 << 20;

#[tokio::test]
async fn the_bytes_of_a_long_file_are_counted_while_it_is_read() {
    let bed = Bed::new().await;
    let mut disk = unchanged(&bed, Chunking::Default).await;
    for version in [Version::Token(b"generation 1".to_vec()), Version::Unknown] {
        disk.version = version;
        let wish = Wish { watch: Arc::new(Watched::default()), ..Wish::default() };
        bed::stored(&run(&bed, &disk, &wish).await.0);
    }
    disk.unchanged.clear();
    let wish = Wish { watch: Arc::new(Watched::default()), ..Wish::default() };
    bed::stored(&run(&bed, &disk, &wish).await.0);
}
