//! Spare copies of config and keys: what is wrong with one is told, mended on request, and none lets a removed password
//! in.

mod common;

use common::*;
use onggi_repo::{LockKind, RemoveKey, Repository, format::KdfCost, verify::ReadData};
use onggi_storage::{FileType, Handle, OwnFolder, Storage, memory::Memory};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

fn of(memory: &Memory, file_type: FileType) -> Handle {
    let mut handles = memory.files().into_iter().map(|(handle, _)| handle);
    handles.find(|handle| handle.file_type() == file_type).unwrap()
}

/// The copy whose name begins so.
fn copy(memory: &Memory, start: &str) -> Handle {
    let mut handles = memory.files().into_iter().map(|(handle, _)| handle);
    handles.find(|handle| matches!(handle, Handle::Own(_, name) if name.as_str().starts_with(start))).unwrap()
}

async fn told(repo: &Repository) -> Vec<String> {
    let lock = repo.lock(LockKind::Exclusive, Duration::ZERO).await.unwrap();
    let report = repo.verify(&lock, ReadData::None, &Arc::default()).await.unwrap();
    lock.release().await.unwrap();
    report.problems.iter().filter(|problem| problem.class == "spare-copy").map(ToString::to_string).collect()
}

fn without_quarantine(memory: &Memory) -> BTreeMap<String, Vec<u8>> {
    let files = memory.files().into_iter();
    let kept = files.filter(|(handle, _)| handle.file_type() != FileType::Own(OwnFolder::Quarantine));
    kept.map(|(handle, content)| (handle.path(), content.to_vec())).collect()
}

/// Spoils a sound repository, looks what is told, mends it, and insists that it is as before the spoiling.
async fn check(spoil: impl AsyncFn(&Memory), expected: &str) {
    let world = World::new().await;
    let before = without_quarantine(&world.memory);
    spoil(&world.memory).await;
    let repo = world.open().await;
    let problems = told(&repo).await;
    assert!(problems.len() == 1 && problems[0].contains(expected), "{problems:?}");
    mend(&repo).await;
    assert_eq!(told(&repo).await, Vec::<String>::new());
    assert!(world.open().await.problems().is_empty());
    assert!(without_quarantine(&world.memory) == before, "the repository is not what it was");
}

async fn mend(repo: &Repository) {
    let lock = repo.lock(LockKind::Exclusive, Duration::ZERO).await.unwrap();
    let plan = repo.plan_repair_copies(&lock).await.unwrap();
    repo.repair_copies(&lock, &plan).await.unwrap();
    lock.release().await.unwrap();
}

#[tokio::test]
async fn sound_and_missing_copies_are_no_problem() {
    let world = World::new().await;
    assert_eq!(told(&world.repo).await, Vec::<String>::new());
    for start in ["config", "key-"] {
        world.memory.remove(copy(&world.memory, start)).await.unwrap();
    }
    assert_eq!(told(&world.repo).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_damaged_copy_is_written_anew_from_its_original() {
    for (start, original) in [("config", "is not what config is"), ("key-", "is not what key ")] {
        for content in ["", "damaged"] {
            check(async |memory| memory.put(copy(memory, start), content), original).await;
        }
    }
}

#[tokio::test]
async fn a_lost_or_damaged_original_is_written_anew_from_its_copy() {
    for file_type in [FileType::Config, FileType::Key] {
        check(async |memory| memory.put(of(memory, file_type), "damaged"), "is lost or damaged").await;
        check(async |memory| memory.remove(of(memory, file_type)).await.unwrap(), "is lost or damaged").await;
    }
}

#[tokio::test]
async fn a_copy_that_is_damaged_like_its_original_goes_to_the_quarantine() {
    let world = World::new().await;
    let lost = world.repo.add_key(&"battery staple".into(), KdfCost::testing()).await.unwrap();
    for handle in [lost.handle(), copy(&world.memory, &format!("key-{lost}"))] {
        world.memory.put(handle, "damaged");
    }
    let problems = told(&world.repo).await;
    assert!(problems.len() == 1 && problems[0].contains("is lost or damaged too"), "{problems:?}");
    mend(&world.repo).await;
    assert_eq!(told(&world.repo).await, Vec::<String>::new());
}

/// As restic removes a key: it knows no copies.
#[tokio::test]
async fn a_copy_of_a_removed_key_is_told_and_removed() {
    let world = World::new().await;
    let removed = world.repo.add_key(&"battery staple".into(), KdfCost::testing()).await.unwrap();
    world.memory.remove(removed.handle()).await.unwrap();
    let problems = told(&world.repo).await;
    assert!(problems.len() == 1 && problems[0].contains("may still open the repository"), "{problems:?}");
    mend(&world.repo).await;
    let files = without_quarantine(&world.memory);
    assert!(!files.keys().any(|name| name.contains(&removed.to_string())), "{:?}", files.keys());
}

#[tokio::test]
async fn a_key_that_we_remove_leaves_no_copy() {
    let world = World::new().await;
    let removed = world.repo.add_key(&"battery staple".into(), KdfCost::testing()).await.unwrap();
    let lock = world.repo.lock(LockKind::Exclusive, Duration::ZERO).await.unwrap();
    world.repo.remove_key(removed, RemoveKey::Other, &lock).await.unwrap();
    lock.release().await.unwrap();
    assert_eq!(told(&world.repo).await, Vec::<String>::new());
}
