//! A copy elsewhere: interrupted anywhere and given again, and into a place where nothing can be removed.

#![expect(clippy::unwrap_used, reason = "a test ends where its world is not as expected")]

mod common;

use async_trait::async_trait;
use bytes::Bytes;
use common::*;
use futures::stream::BoxStream;
use onggi_repo::{Lock, LockKind, Repository, Result, copy::plan_copy, lock::Unlock, verify::ReadData};
use onggi_storage::{
    FileInfo, FileType, Handle, Properties, Storage, StorageError,
    faulty::{Failure, Fault, Faulty, Rule},
    memory::Memory,
};
use std::{ops::Range, sync::Arc, time::Duration};

/// Points at which a copy is interrupted.
const POINTS: usize = 100;

fn files(day: u64) -> Files {
    Files::from([
        (b"dir".to_vec(), None),
        (b"dir/same".to_vec(), Some(noise(1, 700_000))),
        (b"dir/own".to_vec(), Some(noise(day, 300_000))),
    ])
}

/// Three snapshots, and an empty repository that cuts alike.
async fn two() -> (World, Memory) {
    let world = World::new().await;
    for day in 2..5 {
        back_up(&world.repo, &files(day)).await.unwrap();
    }
    let there = Memory::new().with_clock(Arc::new(world.clock.clone()));
    Repository::create(Arc::new(there.clone()), &password(), new(), env(&world.clock, "there")).await.unwrap();
    (world, there)
}

/// Copies all that is not there yet. The locks of both are the caller's.
async fn copy(world: &World, storage: Arc<dyn Storage>, lock: bool) -> Result<usize> {
    let here = world.open().await;
    let there = world.open_at(storage, "copies").await?;
    let their_lock = if lock { there.lock(LockKind::Shared, Duration::ZERO).await? } else { Lock::none() };
    here.load_index().await?;
    there.load_index().await?;
    let plan = plan_copy(here.snapshots().await?.found, &there.snapshots().await?.found);
    let copied = here.copy_to(&Lock::none(), &there, &their_lock, &plan).await?;
    their_lock.release().await?;
    assert_eq!(copied.problems, []);
    Ok(copied.snapshots.len())
}

/// All of it is there, whole, and restores.
async fn check(world: &World, there: &Memory, at: &str) {
    let repo = world.open_at(Arc::new(there.clone()), "looks").await.unwrap();
    repo.unlock(Unlock::All).await.unwrap();
    repo.load_index().await.unwrap();
    let found = repo.snapshots().await.unwrap().found;
    assert_eq!(found.len(), 3, "{at}");
    let mut days = Vec::new();
    for (_, snapshot) in &found {
        let read = read_all(&repo, snapshot.tree).await.unwrap();
        days.extend((2..5).find(|day| read == files(*day)));
    }
    days.sort_unstable();
    assert_eq!(days, [2, 3, 4], "{at}");
    let report = repo.verify(&Lock::none(), ReadData::All, &Arc::default()).await.unwrap();
    assert_eq!(report.problems, [], "{at}");
}

#[tokio::test]
async fn a_copy_interrupted_at_a_hundred_points_goes_on_and_leaves_its_source_alone() {
    let (world, there) = two().await;
    let whole = Arc::new(Faulty::new(Arc::new(there.copy())));
    assert_eq!(copy(&world, whole.clone(), true).await.unwrap(), 3);
    let (calls, source) = (whole.calls(), world.memory.files());
    let mut state = 7_u64;
    for point in 0..POINTS {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let nth = (state >> 33) as usize % calls;
        let fault = match point % 3 {
            0 => Fault::Stop,
            1 => Fault::ErrorButDone(Failure::Unreachable),
            _ => Fault::Prefix(Failure::Unreachable),
        };
        let at = format!("call {nth} of {calls}, {fault:?}");
        let memory = there.copy();
        let is_torn = matches!(fault, Fault::Prefix(_));
        let dying = Faulty::new(Arc::new(memory.clone())).with(Rule::new(fault).nth(nth).then_stop());
        let _ = copy(&world, Arc::new(dying), true).await; // it ends as it may
        if is_torn {
            remove_torn(&memory);
        }
        copy(&world, Arc::new(memory.clone()), true).await.unwrap_or_else(|error| panic!("{at}: {error:?}"));
        check(&world, &memory, &at).await;
    }
    assert!(world.memory.files() == source, "the source is as it was");
}

/// What a storage without atomic writes left; the operator moves it away.
fn remove_torn(memory: &Memory) {
    for (handle, content) in memory.files() {
        if handle.id().is_some_and(|id| id.0 != onggi_repo::kernel::hash::sha256(&content)) {
            futures::executor::block_on(memory.remove(handle)).unwrap();
        }
    }
}

/// A place where files can be made and read, and never changed or removed.
#[derive(Debug)]
struct CreateOnly(Memory);

#[async_trait]
impl Storage for CreateOnly {
    fn properties(&self) -> Properties {
        self.0.properties()
    }

    async fn prepare(&self) -> onggi_storage::Result<()> {
        self.0.prepare().await
    }

    async fn create(&self, handle: Handle, content: Bytes) -> onggi_storage::Result<()> {
        self.0.create(handle, content).await
    }

    async fn read(&self, handle: Handle, range: Option<Range<u64>>) -> onggi_storage::Result<Bytes> {
        self.0.read(handle, range).await
    }

    async fn stat(&self, handle: Handle) -> onggi_storage::Result<FileInfo> {
        self.0.stat(handle).await
    }

    fn list(&self, file_type: FileType) -> BoxStream<'_, onggi_storage::Result<FileInfo>> {
        self.0.list(file_type)
    }

    async fn remove(&self, _handle: Handle) -> onggi_storage::Result<()> {
        Err(StorageError::Denied("files here are only made".into()))
    }
}

#[tokio::test]
async fn a_place_where_nothing_can_be_removed_takes_a_copy_and_keeps_it() {
    let (world, there) = two().await;
    let storage: Arc<dyn Storage> = Arc::new(CreateOnly(there.clone()));
    assert_eq!(copy(&world, storage.clone(), false).await.unwrap(), 3);
    assert_eq!(copy(&world, storage.clone(), false).await.unwrap(), 0, "made once");
    check_unlocked(&world, &there).await;
    let files = there.files();
    let snapshot = files.iter().find(|(handle, _)| handle.file_type() == FileType::Snapshot).unwrap();
    assert!(storage.remove(snapshot.0.clone()).await.is_err());
}

async fn check_unlocked(world: &World, there: &Memory) {
    assert!(!there.files().iter().any(|(handle, _)| handle.file_type() == FileType::Lock), "no lock is left behind");
    check(world, there, "create only").await;
}
