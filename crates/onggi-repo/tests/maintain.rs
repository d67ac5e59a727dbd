//! Copying, repairing, comparing, counting and tagging.

#![expect(clippy::unwrap_used, reason = "a test ends where its world is not as expected")]

mod common;

use common::*;
use onggi_repo::{
    Lock, LockKind, Repository,
    copy::plan_copy,
    diff::{Change, Difference},
    format::{BlobKind, PackId, SnapshotId},
    repair::{DAMAGED_SUFFIX, REPAIRED},
    rewrite::TagChange,
    verify::{ReadData, VerifyReport},
};
use onggi_storage::{FileType, Handle, OwnFolder, Storage, clock::TestClock, memory::Memory};
use std::{sync::Arc, time::Duration};

fn files() -> Files {
    Files::from([
        (b"dir".to_vec(), None),
        (b"dir/random".to_vec(), Some(noise(1, 3 << 20))),
        (b"dir/text".to_vec(), Some(b"some lines\n".repeat(90_000))),
        (b"other".to_vec(), None),
        (b"other/small".to_vec(), Some(b"small".to_vec())),
    ])
}

async fn locked(repo: &Repository, kind: LockKind) -> Lock {
    let lock = repo.lock(kind, Duration::ZERO).await.unwrap();
    repo.load_index().await.unwrap();
    lock
}

async fn verify(repo: &Repository, data: ReadData) -> VerifyReport {
    let lock = repo.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
    let report = repo.verify(&lock, data, &Arc::default()).await.unwrap();
    lock.release().await.unwrap();
    report
}

async fn packs(repo: &Repository, kind: BlobKind) -> Vec<PackId> {
    repo.load_index().await.unwrap();
    repo.index().all_packs().into_iter().filter(|pack| pack.kind == Some(kind)).map(|pack| pack.id).collect()
}

fn flip(memory: &Memory, handle: &Handle, at: usize) {
    let (_, content) = memory.files().into_iter().find(|(other, _)| other == handle).unwrap();
    let mut content = content.to_vec();
    content[at] ^= 1;
    memory.put(handle.clone(), content);
}

async fn only_snapshot(repo: &Repository) -> (SnapshotId, onggi_repo::format::Snapshot) {
    repo.snapshots().await.unwrap().found.remove(0)
}

/// A second repository that cuts alike.
async fn elsewhere(clock: &TestClock) -> Repository {
    let memory = Memory::new().with_clock(Arc::new(clock.clone()));
    Repository::create(Arc::new(memory), &"other password".into(), new(), env(clock, "there")).await.unwrap()
}

async fn copy(here: &Repository, there: &Repository) -> (usize, onggi_repo::copy::Copied) {
    let plan = plan_copy(here.snapshots().await.unwrap().found, &there.snapshots().await.unwrap().found);
    let (lock, their_lock) = (locked(here, LockKind::Shared).await, locked(there, LockKind::Shared).await);
    let copied = here.copy_to(&lock, there, &their_lock, &plan).await.unwrap();
    lock.release().await.unwrap();
    their_lock.release().await.unwrap();
    (plan.present.len(), copied)
}

#[tokio::test]
async fn a_copy_restores_the_same_and_is_made_once() {
    let world = World::new().await;
    back_up(&world.repo, &files()).await.unwrap();
    let there = elsewhere(&world.clock).await;
    assert!(world.repo.cuts_like(&there));
    let (present, copied) = copy(&world.repo, &there).await;
    assert_eq!((present, copied.snapshots.len(), copied.problems.as_slice()), (0, 1, &[][..]));
    let (id, snapshot) = only_snapshot(&there).await;
    assert_eq!((snapshot.original, id), (Some(copied.snapshots[0].0), copied.snapshots[0].1));
    assert_eq!(read_all(&there, snapshot.tree).await.unwrap(), files());
    assert_eq!(verify(&there, ReadData::All).await.problems, []);
    let (present, copied) = copy(&world.repo, &there).await;
    assert_eq!((present, copied.snapshots.len()), (1, 0));
    // And it does not come back as a new one.
    assert_eq!(copy(&there, &world.repo).await.0, 1);
}

#[tokio::test]
async fn a_second_copy_moves_only_what_is_new() {
    let world = World::new().await;
    back_up(&world.repo, &files()).await.unwrap();
    let there = elsewhere(&world.clock).await;
    copy(&world.repo, &there).await;
    let mut changed = files();
    changed.insert(b"other/new".to_vec(), Some(b"new".to_vec()));
    back_up(&world.repo, &changed).await.unwrap();
    let (_, copied) = copy(&world.repo, &there).await;
    assert_eq!(copied.blobs, 3, "one chunk, its directory, the root");
    assert_eq!(verify(&there, ReadData::All).await.problems, []);
    assert_eq!(there.snapshots().await.unwrap().found.len(), 2);
}

#[tokio::test]
async fn a_snapshot_that_lost_something_is_not_copied_and_the_others_are() {
    let world = World::new().await;
    back_up(&world.repo, &files()).await.unwrap();
    let lost = packs(&world.repo, BlobKind::Data).await;
    let good = Files::from([(b"alone".to_vec(), Some(noise(9, 900_000)))]);
    back_up(&world.repo, &good).await.unwrap();
    for pack in lost {
        flip(&world.memory, &pack.handle(), 100);
    }
    let there = elsewhere(&world.clock).await;
    let (_, copied) = copy(&world.open().await, &there).await;
    assert_eq!(copied.snapshots.len(), 1);
    assert_eq!(copied.problems[0].class, "blob-damaged");
    assert_eq!(verify(&there, ReadData::All).await.problems, []);
    assert_eq!(read_all(&there, only_snapshot(&there).await.1.tree).await.unwrap(), good);
}

#[tokio::test]
async fn a_lost_index_is_made_anew_from_the_packs() {
    for damage in ["removed", "flipped"] {
        let world = World::new().await;
        back_up(&world.repo, &files()).await.unwrap();
        let indexes: Vec<_> =
            world.memory.files().into_iter().filter(|(handle, _)| handle.file_type() == FileType::Index).collect();
        for (handle, _) in indexes {
            match damage {
                "removed" => world.memory.remove(handle).await.unwrap(),
                _ => flip(&world.memory, &handle, 40),
            }
        }
        let repo = world.open().await;
        let lock = repo.lock(LockKind::Exclusive, Duration::ZERO).await.unwrap();
        let plan = repo.plan_repair_index(&lock).await.unwrap();
        assert!(!plan.announce.is_empty() && plan.problems.is_empty());
        repo.repair_index(&lock, &plan).await.unwrap();
        assert!(repo.plan_repair_index(&lock).await.unwrap().is_empty());
        lock.release().await.unwrap();
        assert_eq!(verify(&repo, ReadData::All).await.problems, []);
        assert_eq!(read_all(&repo, only_snapshot(&repo).await.1.tree).await.unwrap(), files());
    }
}

#[tokio::test]
async fn entries_of_lost_packs_are_dropped() {
    let world = World::new().await;
    back_up(&world.repo, &files()).await.unwrap();
    let lost = packs(&world.repo, BlobKind::Data).await[0];
    world.memory.remove(lost.handle()).await.unwrap();
    let repo = world.open().await;
    let lock = locked(&repo, LockKind::Exclusive).await;
    let plan = repo.plan_repair_index(&lock).await.unwrap();
    assert_eq!(plan.drop, [lost]);
    repo.repair_index(&lock, &plan).await.unwrap();
    assert!(repo.index().pack(&lost).is_none());
}

#[tokio::test]
async fn good_blobs_of_a_damaged_pack_are_saved() {
    let world = World::new().await;
    back_up(&world.repo, &files()).await.unwrap();
    let trees = packs(&world.repo, BlobKind::Tree).await;
    let damaged = packs(&world.repo, BlobKind::Data).await;
    for pack in &damaged {
        // in the first blob, however short it is: the lot decides which one that is
        flip(&world.memory, &pack.handle(), 20);
    }
    let repo = world.open().await;
    let lock = locked(&repo, LockKind::Exclusive).await;
    let plan = repo.plan_repair_packs(&lock, &damaged).await.unwrap();
    assert_eq!(plan.packs.iter().map(|salvage| salvage.lost.len()).sum::<usize>(), damaged.len());
    let saved: usize = plan.packs.iter().map(|salvage| salvage.good.len()).sum();
    assert!(saved > 0);
    repo.repair_packs(&lock, &plan).await.unwrap();
    lock.release().await.unwrap();
    let quarantined =
        world.memory.files().into_iter().filter(|(handle, _)| matches!(handle, Handle::Own(OwnFolder::Quarantine, _)));
    assert_eq!(quarantined.count(), damaged.len());
    let report = verify(&repo, ReadData::All).await;
    assert!(report.problems.iter().all(|problem| problem.class == "blob-lost"), "{:?}", report.problems);
    assert!(trees.iter().all(|pack| repo.index().pack(pack).is_some()));
}

#[tokio::test]
async fn a_snapshot_keeps_all_that_is_not_lost() {
    let world = World::new().await;
    back_up(&world.repo, &files()).await.unwrap();
    let repo = world.open().await;
    repo.load_index().await.unwrap();
    let before = walk(&repo, only_snapshot(&repo).await.1.tree).await.unwrap();
    let lost = before[&b"dir/random".to_vec()].chunks()[0];
    let pack = repo.index().all(BlobKind::Data, &lost)[0].pack;
    let lock = locked(&repo, LockKind::Exclusive).await;
    let offset = repo.index().all(BlobKind::Data, &lost)[0].offset as usize;
    flip(&world.memory, &pack.handle(), offset + 50);
    let plan = repo.plan_repair_packs(&lock, &[pack]).await.unwrap();
    repo.repair_packs(&lock, &plan).await.unwrap();
    let plan = repo.plan_repair_snapshots(&lock, repo.snapshots().await.unwrap().found).await.unwrap();
    assert_eq!((plan.snapshots.len(), plan.hopeless.len(), plan.lost.len()), (1, 0, 1));
    let repaired = repo.repair_snapshots(&lock, &plan, true).await.unwrap();
    lock.release().await.unwrap();
    assert_eq!(verify(&repo, ReadData::All).await.problems, []);
    let (id, snapshot) = only_snapshot(&repo).await;
    assert_eq!(repaired, [(snapshot.original.unwrap(), id)]);
    assert!(snapshot.has_tag(REPAIRED) && snapshot.has_tag("partial"));
    let restored = read_all(&repo, snapshot.tree).await.unwrap();
    let mut expected = files();
    let whole = expected.remove(&b"dir/random".to_vec()).unwrap().unwrap();
    let renamed = [&b"dir/random"[..], DAMAGED_SUFFIX].concat();
    let left = restored[&renamed].clone().unwrap();
    assert!(whole.ends_with(&left) && left.len() < whole.len());
    expected.insert(renamed, Some(left));
    assert_eq!(restored, expected);
}

#[tokio::test]
async fn a_lost_directory_becomes_empty_and_its_siblings_stay() {
    let world = World::new().await;
    back_up(&world.repo, &files()).await.unwrap();
    let repo = world.open().await;
    let lock = locked(&repo, LockKind::Exclusive).await;
    let (_, snapshot) = only_snapshot(&repo).await;
    let dir = walk(&repo, snapshot.tree).await.unwrap()[&b"dir".to_vec()].subtree.unwrap();
    let copy = repo.index().all(BlobKind::Tree, &dir)[0];
    flip(&world.memory, &copy.pack.handle(), copy.offset as usize + 30);
    let repo = world.open_at(Arc::new(world.memory.clone()), "one").await.unwrap();
    repo.load_index().await.unwrap();
    let plan = repo.plan_repair_snapshots(&lock, repo.snapshots().await.unwrap().found).await.unwrap();
    assert_eq!(plan.snapshots.len(), 1);
    repo.repair_snapshots(&lock, &plan, true).await.unwrap();
    let restored = read_all(&repo, only_snapshot(&repo).await.1.tree).await.unwrap();
    let mut expected = files();
    expected.retain(|path, _| !path.starts_with(b"dir/"));
    assert_eq!(restored, expected);
}

#[tokio::test]
async fn differences_are_named_with_their_paths() {
    let world = World::new().await;
    let old = back_up(&world.repo, &files()).await.unwrap();
    let mut changed = files();
    changed.remove(&b"dir/text".to_vec());
    changed.insert(b"other/small".to_vec(), Some(b"larger".to_vec()));
    changed.insert(b"added".to_vec(), None);
    changed.insert(b"added/new".to_vec(), Some(b"new".to_vec()));
    let new = back_up(&world.repo, &changed).await.unwrap();
    let mut found = Vec::new();
    let note = |change: Change| found.push((String::from_utf8(change.path).unwrap(), change.difference, change.sizes));
    world.repo.diff(old.snapshot.tree, new.snapshot.tree, note).await.unwrap();
    let expected = [
        ("added", Difference::Added, (0, 0)),
        ("added/new", Difference::Added, (0, 3)),
        ("dir/text", Difference::Removed, (990_000, 0)),
        ("other/small", Difference::Content, (5, 6)),
    ];
    assert_eq!(found, expected.map(|(path, difference, sizes)| (path.to_owned(), difference, sizes)));
}

#[tokio::test]
async fn figures_count_files_per_snapshot_and_blobs_once() {
    let world = World::new().await;
    back_up(&world.repo, &files()).await.unwrap();
    back_up(&world.repo, &files()).await.unwrap();
    let (stats, problems) = world.repo.stats(&world.repo.snapshots().await.unwrap().found).await.unwrap();
    assert_eq!(problems, []);
    let bytes = (3 << 20) + 990_000 + 5;
    assert_eq!((stats.snapshots, stats.files, stats.restore_bytes), (2, 6, 2 * bytes));
    assert!(stats.plaintext_bytes > bytes && stats.plaintext_bytes < bytes + 10_000);
    assert!(stats.stored_bytes < stats.pack_bytes && stats.pack_bytes < bytes);
}

#[tokio::test]
async fn changed_tags_make_a_new_snapshot_that_knows_its_origin() {
    let world = World::new().await;
    let first = back_up(&world.repo, &files()).await.unwrap();
    let lock = locked(&world.repo, LockKind::Exclusive).await;
    let change = TagChange::Edit { add: vec!["x".into()], remove: vec!["onggi".into()] };
    let second = world.repo.change_tags(&lock, first.id, &change).await.unwrap().unwrap();
    assert_eq!(world.repo.change_tags(&lock, second, &change).await.unwrap(), None);
    let third = world.repo.change_tags(&lock, second, &TagChange::Set(Vec::new())).await.unwrap().unwrap();
    let (id, snapshot) = only_snapshot(&world.repo).await;
    assert_eq!((id, snapshot.original, snapshot.tags.len()), (third, Some(first.id), 0));
}
