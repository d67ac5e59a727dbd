//! What an archive holds in memory: as much as it was given, and nothing after its end.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

mod common;

use common::*;
use onggi_repo::{Archive, ArchiveOptions, Cutting, Lock, LockKind, Repository, WriteBudget};
use onggi_storage::recording::Recording;
use std::{sync::Arc, time::Duration};

async fn begin(repo: &Repository, options: ArchiveOptions) -> (Archive, Lock) {
    let lock = repo.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
    repo.load_index().await.unwrap();
    (Archive::begin(repo, &lock, options).await.unwrap(), lock)
}

#[tokio::test]
async fn directories_beyond_their_memory_are_spilled() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let files: Files = (0..500).map(|i| (format!("d{}/f{i:03}", i % 3).into_bytes(), Some(vec![1; i]))).collect();
    let plain = back_up(&world.repo, &files).await.unwrap();
    let budget = WriteBudget { trees: 10_000, ..WriteBudget::STANDARD };
    let options = ArchiveOptions { budget, spill: Some(folder.path().into()), ..ArchiveOptions::default() };
    let spilled = back_up_with(&world.repo, options, &files).await.unwrap();
    assert_eq!(spilled.snapshot.tree, plain.snapshot.tree);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the spill file has no name");
}

#[tokio::test]
async fn little_memory_is_enough() {
    let world = World::new().await;
    let budget = WriteBudget { windows: 1 << 20, packs: 1 << 20, trees: 1 << 10 };
    let files: Files = (0..12).map(|i| (vec![b'a' + i], Some(noise(u64::from(i), 3_000_000)))).collect();
    let options = ArchiveOptions { budget, ..ArchiveOptions::default() };
    let (archive, _lock) = begin(&world.repo, options).await;
    futures::future::try_join_all(files.iter().map(|(path, bytes)| put_file(&archive, path, bytes.as_ref().unwrap())))
        .await
        .unwrap();
    let done = archive.finish().await.unwrap().commit(draft()).await.unwrap();
    assert_eq!(read_all(&world.repo, done.snapshot.tree).await.unwrap(), files);
}

#[tokio::test]
async fn who_waits_for_memory_gets_what_short_contents_hold() {
    const LENGTH: usize = 60_000;
    let world = World::new().await;
    let budget = WriteBudget { windows: 1 << 20, ..WriteBudget::STANDARD };
    let (archive, _lock) = begin(&world.repo, ArchiveOptions { budget, ..ArchiveOptions::default() }).await;
    let mut open = Vec::new();
    for number in 0.. {
        let mut content = archive.content(Cutting::Default, Some(LENGTH as u64)).await.unwrap();
        // all memory is taken
        let Ok(window) = tokio::time::timeout(Duration::from_millis(100), content.window(LENGTH)).await else {
            content.abandon();
            break;
        };
        open.push((number, content, window.unwrap()));
    }
    assert!(open.len() > 8, "{}", open.len());
    let mut last = archive.content(Cutting::Default, Some(LENGTH as u64)).await.unwrap();
    let one_more = async { last.window(LENGTH).await.unwrap() };
    let give_back = async {
        // fewer than are sent on their way together
        for (number, mut content, mut window) in open.drain(..2) {
            window.copy_from_slice(&noise(number, LENGTH));
            content.write(window).await.unwrap();
            archive.put_file(format!("{number}").as_bytes(), file_node(), content.finish()).await.unwrap();
        }
    };
    let both = futures::future::join(one_more, give_back);
    let window = tokio::time::timeout(Duration::from_mins(1), both).await.expect("nobody waits for ever").0;
    drop(window);
    last.abandon();
    open.into_iter().for_each(|(_, content, _)| content.abandon());
    let done = archive.finish().await.unwrap().commit(draft()).await.unwrap();
    assert_eq!(walk(&world.repo, done.snapshot.tree).await.unwrap().len(), 2);
}

#[tokio::test]
async fn who_holds_memory_of_a_short_content_gets_the_rest_of_it() {
    const PIECE: usize = 64 << 10;
    let world = World::new().await;
    let budget = WriteBudget { windows: 1 << 20, ..WriteBudget::STANDARD };
    let (archive, _lock) = begin(&world.repo, ArchiveOptions { budget, ..ArchiveOptions::default() }).await;
    let mut open = Vec::new();
    for number in 0..100_u8 {
        let mut content = archive.content(Cutting::Default, Some(2 * PIECE as u64)).await.unwrap();
        // all memory is taken, by contents that need twice as much
        let Ok(window) = tokio::time::timeout(Duration::from_millis(100), content.window(PIECE)).await else {
            content.abandon();
            break;
        };
        open.push((number, content, window.unwrap()));
    }
    assert!((8..100).contains(&open.len()), "{}", open.len());
    let files = open.into_iter().map(async |(number, mut content, first)| {
        let second = content.window(PIECE).await.unwrap();
        for mut window in [first, second] {
            window.fill(number);
            content.write(window).await.unwrap();
        }
        archive.put_file(format!("{number}").as_bytes(), file_node(), content.finish()).await.unwrap();
    });
    let all = futures::future::join_all(files);
    let count = tokio::time::timeout(Duration::from_mins(1), all).await.expect("nobody waits for ever").len();
    let done = archive.finish().await.unwrap().commit(draft()).await.unwrap();
    assert_eq!(walk(&world.repo, done.snapshot.tree).await.unwrap().len(), count);
}

#[tokio::test]
async fn an_archive_that_is_dropped_leaves_nothing_behind() {
    let world = World::new().await;
    let storage = Arc::new(Recording::new(Arc::new(world.memory.clone())));
    let repo = world.open_at(storage.clone(), "one").await.unwrap();
    let (archive, lock) = begin(&repo, ArchiveOptions::default()).await;
    put_file(&archive, b"a", b"short").await.unwrap();
    drop(archive);
    lock.release().await.unwrap();
    drop(repo);
    for _ in 0..1000 {
        if Arc::strong_count(&storage) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} still hold the storage", Arc::strong_count(&storage));
}
