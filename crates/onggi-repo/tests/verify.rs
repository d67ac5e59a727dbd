//! Verifying finds every kind of damage and names it; a sound repository gives no problem.

#![expect(clippy::unwrap_used, reason = "a test ends where its world is not as expected")]

mod common;

use common::*;
use onggi_repo::{
    LockKind,
    format::{BlobKind, PackId},
    verify::{ReadData, VerifyReport},
};
use onggi_storage::{FileType, Handle, Storage};
use std::{sync::Arc, time::Duration};

fn files() -> Files {
    Files::from([
        (b"dir".to_vec(), None),
        (b"dir/random".to_vec(), Some(noise(1, 3 << 20))),
        (b"dir/text".to_vec(), Some(b"some lines\n".repeat(90_000))),
        (b"empty".to_vec(), Some(Vec::new())),
    ])
}

async fn sample() -> World {
    let world = World::new().await;
    back_up(&world.repo, &files()).await.unwrap();
    world
}

async fn verify(world: &World, data: ReadData) -> VerifyReport {
    let repo = world.open().await;
    let lock = repo.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
    let report = repo.verify(&lock, data, &Arc::default()).await.unwrap();
    lock.release().await.unwrap();
    report
}

#[track_caller]
fn assert_classes(report: &VerifyReport, expected: &[&str]) {
    let mut classes: Vec<_> = report.problems.iter().map(|problem| problem.class).collect();
    classes.sort_unstable();
    classes.dedup();
    assert_eq!(classes, expected, "{:?}", report.problems);
}

/// The files of one type with their content.
fn of_type(world: &World, file_type: FileType) -> Vec<(Handle, Vec<u8>)> {
    let files = world.memory.files().into_iter().filter(|(handle, _)| handle.file_type() == file_type);
    files.map(|(handle, content)| (handle, content.to_vec())).collect()
}

async fn remove(world: &World, handle: &Handle) {
    world.memory.remove(handle.clone()).await.unwrap();
}

/// The packs that hold blobs of this kind.
async fn packs(world: &World, kind: BlobKind) -> Vec<Handle> {
    let repo = world.open().await;
    repo.load_index().await.unwrap();
    let packs = repo.index().all_packs().into_iter().filter(|pack| pack.kind == Some(kind));
    packs.map(|pack| pack.id.handle()).collect()
}

#[tokio::test]
async fn a_sound_repository_has_no_problem() {
    let world = sample().await;
    let report = verify(&world, ReadData::All).await;
    assert_classes(&report, &[]);
    assert_eq!(report.hints, []);
    assert_eq!((report.snapshots, report.unused_blobs), (1, 0));
    assert_eq!(report.packs_read as usize, report.packs);
    assert!(report.bytes_read > 3 << 20);
}

#[tokio::test]
async fn a_lost_pack_is_named_with_the_files_that_need_it() {
    let world = sample().await;
    let lost = packs(&world, BlobKind::Data).await.swap_remove(0);
    remove(&world, &lost).await;
    let report = verify(&world, ReadData::None).await;
    assert_classes(&report, &["blob-lost", "pack-missing"]);
    assert!(report.problems.iter().any(|problem| problem.what == lost.to_string()));
}

#[tokio::test]
async fn a_lost_tree_is_named_by_its_path() {
    let world = sample().await;
    for lost in packs(&world, BlobKind::Tree).await {
        remove(&world, &lost).await;
    }
    assert_classes(&verify(&world, ReadData::None).await, &["pack-missing", "tree-lost"]);
}

#[tokio::test]
async fn a_truncated_pack_is_seen_without_reading_data() {
    let world = sample().await;
    let pack = packs(&world, BlobKind::Data).await.swap_remove(0);
    let content = world.memory.read(pack.clone(), None).await.unwrap();
    world.memory.put(pack, content.slice(..content.len() - 1));
    assert_classes(&verify(&world, ReadData::None).await, &["blob-lost", "pack-size"]);
}

#[tokio::test]
async fn a_flipped_bit_anywhere_in_a_pack_is_found_by_reading_data() {
    let world = sample().await;
    let pack = packs(&world, BlobKind::Data).await.swap_remove(0);
    let content = world.memory.read(pack.clone(), None).await.unwrap();
    for at in [0, 20, content.len() / 2, content.len() - 30, content.len() - 2] {
        let mut damaged = content.to_vec();
        damaged[at] ^= 1;
        world.memory.put(pack.clone(), damaged);
        assert_classes(&verify(&world, ReadData::None).await, &[]);
        let report = verify(&world, ReadData::All).await;
        assert!(report.problems.iter().any(|problem| problem.class == "pack-damaged"), "byte {at}");
        let is_body = at < content.len() / 2 + 1;
        assert_eq!(report.problems.iter().any(|problem| problem.class == "blob-damaged"), is_body, "byte {at}");
    }
}

#[tokio::test]
async fn a_damaged_index_and_a_damaged_snapshot_are_named() {
    for (file_type, class) in [(FileType::Index, "index-damaged"), (FileType::Snapshot, "snapshot-damaged")] {
        let world = sample().await;
        let (handle, mut content) = of_type(&world, file_type).swap_remove(0);
        content[40] ^= 1;
        world.memory.put(handle, content);
        let report = verify(&world, ReadData::None).await;
        assert!(report.problems.iter().any(|problem| problem.class == class), "{:?}", report.problems);
    }
}

#[tokio::test]
async fn a_damaged_index_hides_no_further_damage() {
    let world = sample().await;
    back_up(&world.open().await, &Files::from([(b"other".to_vec(), Some(noise(5, 100_000)))])).await.unwrap();
    let (handle, mut content) = of_type(&world, FileType::Index).swap_remove(0);
    content[40] ^= 1;
    world.memory.put(handle, content);
    let report = verify(&world, ReadData::All).await;
    assert_classes(&report, &["index-damaged"]);
}

#[tokio::test]
async fn a_pack_with_the_content_of_another_is_found() {
    let world = sample().await;
    let packs = packs(&world, BlobKind::Data).await;
    let content = world.memory.read(packs[0].clone(), None).await.unwrap();
    let other = PackId::of(b"another name").handle();
    world.memory.put(other, content);
    assert_classes(&verify(&world, ReadData::All).await, &[]);
    let [a, b] = [&packs[0], &packs[1]];
    let (one, two) =
        (world.memory.read(a.clone(), None).await.unwrap(), world.memory.read(b.clone(), None).await.unwrap());
    world.memory.put(a.clone(), two);
    world.memory.put(b.clone(), one);
    let report = verify(&world, ReadData::All).await;
    assert!(report.is_damaged(), "{report:?}");
}

#[tokio::test]
async fn a_pack_that_nobody_announces_is_a_hint_only() {
    let world = sample().await;
    world.memory.put(PackId([7; 32]).handle(), vec![1, 2, 3]);
    let report = verify(&world, ReadData::All).await;
    assert_classes(&report, &[]);
    assert_eq!(report.hints[0].class, "pack-unreferenced");
}

#[tokio::test]
async fn all_parts_together_read_everything() {
    let world = sample().await;
    let mut read = 0;
    for n in 1..=3 {
        read += verify(&world, ReadData::Part { n, of: 3 }).await.packs_read;
    }
    assert_eq!(read as usize, verify(&world, ReadData::None).await.packs);
    assert_eq!(verify(&world, ReadData::Bytes(1)).await.packs_read, 1);
    assert_eq!(verify(&world, ReadData::Percent(100.0)).await.packs_read, read);
}
