//! Archives that are written at once, or one after the other in one process: each stands alone, whatever becomes of
//! the others, though what is new is stored once.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

mod common;

use common::*;
use onggi_repo::{
    Archive, ArchiveOptions, Cutting, Lock, LockKind, RepoError, Repository, WriteBudget, archive::Committed,
};
use onggi_storage::{
    FileType,
    faulty::{Failure, Fault, Faulty, Rule},
    recording::CallKind,
};
use std::{sync::Arc, time::Duration};

async fn lock(repo: &Repository) -> Lock {
    let lock = repo.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
    repo.load_index().await.unwrap();
    lock
}

async fn begin(repo: &Repository, lock: &Lock) -> Archive {
    Archive::begin(repo, lock, ArchiveOptions::default()).await.unwrap()
}

async fn commit(archive: Archive) -> Committed {
    archive.finish().await.unwrap().commit(draft()).await.unwrap()
}

/// More than the open packs hold.
fn long() -> Files {
    (0..100).map(|number| (vec![b'A' + number], Some(noise(u64::from(number), 900_000)))).collect()
}

fn packs(world: &World) -> usize {
    world.memory.files().iter().filter(|(handle, _)| handle.file_type() == FileType::Pack).count()
}

/// Waits until something was uploaded.
async fn first_pack(world: &World) {
    while packs(world) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What somebody finds who opens the repository anew.
async fn read_anew(world: &World, done: &Committed) -> Files {
    let repo = world.open().await;
    repo.load_index().await.unwrap();
    read_all(&repo, done.snapshot.tree).await.unwrap()
}

fn new_data(done: &Committed) -> u64 {
    done.snapshot.summary.as_ref().unwrap().figures.data_blobs
}

#[tokio::test]
async fn what_a_dropped_archive_stored_is_announced_by_the_one_that_builds_on_it() {
    let world = World::new().await;
    let lock = lock(&world.repo).await;
    let dropped = begin(&world.repo, &lock).await;
    put_all(&dropped, &long()).await.unwrap();
    first_pack(&world).await;
    drop(dropped);
    let archive = begin(&world.repo, &lock).await;
    put_all(&archive, &long()).await.unwrap();
    let done = commit(archive).await;
    assert!(read_anew(&world, &done).await == long());
}

#[tokio::test]
async fn what_an_archive_beside_stored_is_announced_too() {
    let world = World::new().await;
    let lock = lock(&world.repo).await;
    let (one, other) = (begin(&world.repo, &lock).await, begin(&world.repo, &lock).await);
    put_all(&one, &long()).await.unwrap();
    first_pack(&world).await;
    put_all(&other, &long()).await.unwrap();
    let done = commit(other).await;
    drop(one);
    assert!(read_anew(&world, &done).await == long());
}

#[tokio::test]
async fn archives_at_once_store_the_same_content_once() {
    let world = World::new().await;
    let lock = lock(&world.repo).await;
    let alone = {
        let world = World::new().await;
        back_up(&world.repo, &long()).await.unwrap()
    };
    let archives = [begin(&world.repo, &lock).await, begin(&world.repo, &lock).await, begin(&world.repo, &lock).await];
    let files = long();
    futures::future::try_join_all(archives.iter().map(|archive| put_all(archive, &files))).await.unwrap();
    let done = futures::future::join_all(archives.into_iter().map(commit)).await;
    assert_eq!(done.iter().map(new_data).sum::<u64>(), new_data(&alone));
    for done in &done {
        assert_eq!(done.snapshot.tree, alone.snapshot.tree);
        assert!(read_anew(&world, done).await == files);
    }
}

#[tokio::test]
async fn what_a_dropped_archive_has_claimed_is_stored_for_the_others() {
    let world = World::new().await;
    let lock = lock(&world.repo).await;
    let dropped = begin(&world.repo, &lock).await;
    let archive = begin(&world.repo, &lock).await;
    // It fits into the open packs, so that nothing of it is stored yet.
    let files = Files::from([(b"a".to_vec(), Some(noise(1, 3_000_000))), (b"b".to_vec(), Some(b"b".to_vec()))]);
    put_all(&dropped, &files).await.unwrap();
    put_all(&archive, &files).await.unwrap();
    drop(dropped);
    let done = commit(archive).await;
    assert!(read_anew(&world, &done).await == files);
}

#[tokio::test]
async fn a_torn_archive_does_not_tear_those_beside_it() {
    let world = World::new().await;
    let lock = lock(&world.repo).await;
    let (torn, archive) = (begin(&world.repo, &lock).await, begin(&world.repo, &lock).await);
    let mut content = torn.content(Cutting::Default, None).await.unwrap();
    content.write_bytes(&noise(1, 5_000_000)).await.unwrap();
    drop(content);
    let files = Files::from([(b"a".to_vec(), Some(noise(1, 5_000_000)))]);
    put_all(&archive, &files).await.unwrap();
    assert!(matches!(torn.finish().await, Err(RepoError::Torn(_))));
    let done = commit(archive).await;
    assert!(read_anew(&world, &done).await == files);
}

#[tokio::test]
async fn what_was_flushed_is_stored_though_another_claimed_it() {
    let world = World::new().await;
    let lock = lock(&world.repo).await;
    let (one, other) = (begin(&world.repo, &lock).await, begin(&world.repo, &lock).await);
    for archive in [&one, &other] {
        put_file(archive, b"a", &noise(1, 1_000_000)).await.unwrap();
    }
    other.flush().await.unwrap();
    drop((one, other));
    let files = Files::from([(b"a".to_vec(), Some(noise(1, 1_000_000)))]);
    assert_eq!(new_data(&back_up(&world.open().await, &files).await.unwrap()), 0, "all of it is there");
}

#[tokio::test]
async fn a_full_storage_fails_all_and_says_so_to_each() {
    let world = World::new().await;
    let faulty = Arc::new(Faulty::new(Arc::new(world.memory.clone())));
    let repo = world.open_at(faulty.clone(), "one").await.unwrap();
    let lock = lock(&repo).await;
    let (one, other) = (begin(&repo, &lock).await, begin(&repo, &lock).await);
    faulty.add(Rule::new(Fault::Error(Failure::Full)).on(CallKind::Create).of(FileType::Pack));
    put_file(&one, b"a", &noise(1, 1_000_000)).await.unwrap();
    put_file(&other, b"b", &noise(2, 1_000_000)).await.unwrap();
    for archive in [one, other] {
        let error = archive.finish().await.unwrap_err();
        assert!(error.is_full(), "{error}");
    }
    // Room was made.
    faulty.heal();
    let files = Files::from([(b"a".to_vec(), Some(noise(1, 1_000_000)))]);
    let archive = begin(&repo, &lock).await;
    put_all(&archive, &files).await.unwrap();
    assert!(read_anew(&world, &commit(archive).await).await == files);
}

#[tokio::test]
async fn each_goes_on_though_all_have_long_contents_open() {
    const MANY: usize = 12;
    let world = World::new().await;
    let lock = lock(&world.repo).await;
    let budget = WriteBudget { windows: 1 << 20, packs: 1 << 20, trees: 1 << 10 };
    let options = ArchiveOptions { budget, ..ArchiveOptions::default() };
    let mut open = Vec::new();
    for _ in 0..MANY {
        let archive = Archive::begin(&world.repo, &lock, options.clone()).await.unwrap();
        let content = archive.content(Cutting::Default, None).await.unwrap();
        open.push((archive, content));
    }
    // The last begun comes first: nobody waits for another's content.
    for (seed, (_, content)) in open.iter_mut().enumerate().rev() {
        content.write_bytes(&noise(seed as u64, 6_000_000)).await.unwrap();
    }
    for (seed, (archive, content)) in open.into_iter().enumerate() {
        archive.put_file(b"a", file_node(), content.finish()).await.unwrap();
        let expected = Files::from([(b"a".to_vec(), Some(noise(seed as u64, 6_000_000)))]);
        assert!(read_anew(&world, &commit(archive).await).await == expected);
    }
}
