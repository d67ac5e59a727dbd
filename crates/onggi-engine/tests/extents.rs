//! Content of which a source knows what is unchanged: only the rest is read, and the chunks are those of a full read.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "backup/bed.rs"]
#[expect(dead_code, reason = "shared with the tests of backups")]
mod bed;

use async_trait::async_trait;
use bed::{Bed, Wish, bench};
use onggi_engine::backup::Parents;
use onggi_source::{
    Base, Capabilities, Capture, Chunking, Content, Context, Facts, Image, Item, Items, Known, Layout, ReadAt,
    ReadError, Result, Source, TreePath, Unit, UnitId,
};
use onggi_storage::clock::{Clock, TestClock, random_below};
use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// A disk with holes that remembers where it was written.
#[derive(Clone)]
struct Disk {
    content: Vec<u8>,
    /// Sorted.
    unchanged: Vec<Range<u64>>,
    chunking: Chunking,
}

struct DiskSource {
    disk: Disk,
    read: AtomicU64,
}

struct Reading<'a>(&'a DiskSource);

#[async_trait]
impl Source for DiskSource {
    fn capabilities(&self) -> Capabilities {
        Capabilities { freezes: false, image: Image::Fixed, chains: false, destinations: &[] }
    }
    async fn preflight(&self, _: &Context) -> Result<()> {
        Ok(())
    }
    async fn discover(&self, _: &Context) -> Result<Vec<Unit>> {
        Ok(vec![])
    }
    async fn capture<'a>(&'a self, _: &Context, _: &Unit, _: Option<&Base>) -> Result<Box<dyn Capture + 'a>> {
        Ok(Box::new(Reading(self)))
    }
}

#[async_trait]
impl Capture for Reading<'_> {
    async fn items(&mut self, cx: &Context, out: &dyn Items) -> Result<Facts> {
        let item = Item::file(TreePath::new("disk.raw").unwrap()).with_chunking(self.0.disk.chunking);
        out.push(item, Content::At(self)).await?;
        Ok(Facts::new(cx.world.now()))
    }
}

#[async_trait]
impl ReadAt for Reading<'_> {
    async fn open(&self, _: &Context, known: &Known<'_>) -> Result<Layout, ReadError> {
        let disk = &self.0.disk;
        let same = if known.ranges.is_empty() { Vec::new() } else { disk.unchanged.clone() };
        Ok(Layout { same, ..Layout::dense(disk.content.len() as u64) })
    }
    async fn read(&self, _: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.0.read.fetch_add(buffer.len() as u64, Relaxed);
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&self.0.disk.content[start..start + buffer.len()]);
        Ok(())
    }
}

async fn store(bed: &Bed, disk: &Disk, parents: Parents) -> (Vec<String>, u64) {
    let source = DiskSource { disk: disk.clone(), read: AtomicU64::new(0) };
    let unit = Unit { id: UnitId::from("disk"), name: "disk".into() };
    let report = bed.one_with(&bench("r").cx, &source, &unit, &Wish { parents, ..Wish::default() }).await;
    assert!(report.snapshot.is_some() && report.problems.is_empty(), "{report:#?}");
    let node = bed.node("disk.raw").await.unwrap();
    assert!(bed.content("disk.raw").await == disk.content, "the content is that of the disk");
    (node.chunks().iter().map(ToString::to_string).collect(), source.read.load(Relaxed))
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
        let mut disk = Disk { content, unchanged: Vec::new(), chunking };
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
        assert_eq!(store(&bed, &disk, Parents::Newest).await.1, 0, "nothing changed, nothing is read");
    }
}
