//! Measures what it costs to walk a path: `walk PATH [read]` pushes all items into a sink that keeps nothing, and with
//! `read` also reads all contents. Prints items, bytes, and the time it took on the wall and on the processors.
#![expect(clippy::print_stdout, reason = "a tool for the terminal")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use onggi_source::bench::NoSecrets;
use onggi_source::paths::{Paths, PathsConfig};
use onggi_source::{
    Content, Context, Item, Items, Known, Monitor, Problem, Progress, Purpose, Pushed, ReadError, Result, RunId,
    Source, SourceError, Surroundings, TreePath,
};
use support::{Real, surroundings};
use tokio::sync::{Semaphore, watch};

struct Say;

impl Monitor for Say {
    fn problem(&self, problem: Problem) {
        println!("{problem}");
    }
    fn progress(&self, progress: Progress) {
        println!("{progress:?}");
    }
}

struct Count {
    cx: Context,
    read: bool,
    items: AtomicU64,
    bytes: AtomicU64,
}

#[async_trait]
impl Items for Count {
    async fn push(&self, item: Item, content: Content<'_>) -> Result<Pushed> {
        self.items.fetch_add(1, Ordering::Relaxed);
        if let (true, Content::At(content)) = (self.read, content) {
            match read(self, content).await {
                Ok(()) => {}
                Err(ReadError::Unit(error)) => return Err(error),
                Err(ReadError::Item(problem)) => self.cx.problem(problem),
            }
        }
        drop(item);
        Ok(Pushed::New)
    }
    async fn reuse(&self, _item: &Item) -> Result<bool> {
        Ok(false)
    }
    async fn leave(&self, _directory: &TreePath) -> Result<()> {
        Ok(())
    }
}

async fn read(count: &Count, content: &dyn onggi_source::ReadAt) -> Result<(), ReadError> {
    let layout = content.open(&count.cx, &Known::default()).await?;
    let mut window = vec![0; (2 << 20).min(usize::try_from(layout.length).unwrap_or(usize::MAX))];
    for range in layout.data {
        let mut offset = range.start;
        while offset < range.end {
            let length = usize::try_from(range.end - offset).unwrap_or(usize::MAX).min(window.len());
            content.read(&count.cx, offset, &mut window[..length]).await?;
            offset += length as u64;
            count.bytes.fetch_add(length as u64, Ordering::Relaxed);
        }
    }
    content.confirm(&count.cx).await
}

/// Seconds that this process spent on the processors.
fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default().as_secs_f64()
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    let path = arguments.get(1).cloned().unwrap_or_else(|| ".".to_owned());
    let surroundings =
        Surroundings { working_directory: PathBuf::from("/"), ..surroundings("walk", Arc::new(NoSecrets)) };
    let source = Paths::new(PathsConfig::new([PathBuf::from(path)]), surroundings)
        .map_err(|faults| SourceError::Denied(format!("{faults:?}")))?;
    let (_stop, receiver) = watch::channel(None);
    let (world, memory) = (Arc::new(Real(Instant::now())), Arc::new(Semaphore::new(32 << 20)));
    let cx = Context::new(RunId::from("walk"), Purpose::Backup, world, Arc::new(Say), memory, receiver);
    let read = arguments.get(2).is_some();
    let count = Count { cx: cx.clone(), read, items: AtomicU64::new(0), bytes: AtomicU64::new(0) };
    let (wall, processor) = (Instant::now(), processor_seconds());
    let unit = source.discover(&cx).await?.remove(0);
    source.capture(&cx, &unit, None).await?.items(&cx, &count).await?;
    let (wall, processor) = (wall.elapsed().as_secs_f64(), processor_seconds() - processor);
    let items = count.items.into_inner();
    let bytes = count.bytes.into_inner();
    let each = processor * 1e6 / items.max(1) as f64;
    println!("{items} items, {bytes} bytes, {wall:.3} s, {processor:.3} s of processor, {each:.2} us each");
    Ok(())
}
