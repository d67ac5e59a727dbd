//! Pruning removes only what nothing needs, in two steps, and stops safely anywhere.

#![expect(clippy::unwrap_used, reason = "a test ends where its world is not as expected")]

mod common;

use common::*;
use onggi_repo::{
    Lock, LockKind, RepoError, Repository, Result,
    archive::Committed,
    forget::{ForgetOptions, Forgotten, Rules, plan_forget},
    format::{BlobKind, PackId, SnapshotId},
    index::PackState,
    prune::{MaxUnused, PruneOptions, PrunePlan, Pruned},
    verify::ReadData,
};
use onggi_storage::{
    FileType, Handle, Storage,
    faulty::{Fault, Faulty, ListFault, Rule},
};
use std::{sync::Arc, time::Duration};

const DAY: Duration = Duration::from_hours(24);

fn files(seed: u64) -> Files {
    let file = |name: &str, seed| (name.as_bytes().to_vec(), Some(noise(seed, 700_000)));
    Files::from([file("shared", 1), file("own", seed), file("second", seed + 100)])
}

/// Two snapshots that share one file.
async fn sample() -> (World, Committed, Committed) {
    let world = World::new().await;
    let first = back_up(&world.repo, &files(2)).await.unwrap();
    let second = back_up(&world.repo, &files(3)).await.unwrap();
    (world, first, second)
}

async fn forget(world: &World, id: SnapshotId) {
    world.memory.remove(id.handle()).await.unwrap();
}

fn thorough() -> PruneOptions {
    PruneOptions { max_unused: MaxUnused::Bytes(0), ..PruneOptions::default() }
}

async fn exclusive(repo: &Repository) -> Lock {
    repo.lock(LockKind::Exclusive, Duration::ZERO).await.unwrap()
}

async fn plan(world: &World, options: &PruneOptions) -> Result<PrunePlan> {
    let repo = world.open().await;
    let lock = exclusive(&repo).await;
    let plan = repo.plan_prune(&lock, options).await;
    lock.release().await.unwrap();
    plan
}

async fn prune_through(repo: &Repository, options: &PruneOptions) -> Result<(PrunePlan, Pruned)> {
    let lock = repo.lock(LockKind::Exclusive, Duration::ZERO).await?;
    let plan = repo.plan_prune(&lock, options).await?;
    let pruned = repo.prune(&lock, &plan).await?;
    lock.release().await?;
    Ok((plan, pruned))
}

async fn prune(world: &World, options: &PruneOptions) -> (PrunePlan, Pruned) {
    prune_through(&world.open().await, options).await.unwrap()
}

async fn assert_sound(world: &World, snapshots: &[(&Committed, Files)]) {
    let repo = world.open().await;
    let lock = repo.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
    let report = repo.verify(&lock, ReadData::All, &Arc::default()).await.unwrap();
    lock.release().await.unwrap();
    assert_eq!(report.problems, []);
    for (committed, files) in snapshots {
        assert_eq!(&read_all(&repo, committed.snapshot.tree).await.unwrap(), files);
    }
}

fn count(world: &World, file_type: FileType) -> usize {
    world.memory.files().iter().filter(|(handle, _)| handle.file_type() == file_type).count()
}

fn guard(answer: Result<PrunePlan>) -> &'static str {
    match answer {
        Err(RepoError::Refused { guard, .. }) => guard,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn nothing_is_done_while_everything_is_needed() {
    let (world, first, second) = sample().await;
    let (plan, pruned) = prune(&world, &thorough()).await;
    assert!(plan.is_empty(), "{plan}");
    assert_eq!(pruned, Pruned::default());
    assert_sound(&world, &[(&first, files(2)), (&second, files(3))]).await;
}

#[tokio::test]
async fn dead_packs_are_marked_first_and_removed_after_a_day() {
    let (world, first, second) = sample().await;
    forget(&world, first.id).await;
    let packs = count(&world, FileType::Pack);
    let (_, pruned) = prune(&world, &thorough()).await;
    assert!(pruned.marked > 0 && pruned.removed == 0, "{pruned:?}");
    assert!(count(&world, FileType::Pack) >= packs, "nothing is gone yet");
    let (plan, pruned) = prune(&world, &thorough()).await;
    assert!(!plan.waiting.is_empty() && pruned.removed == 0);
    world.clock.advance(DAY);
    let marked = plan.waiting.len();
    let (_, pruned) = prune(&world, &thorough()).await;
    assert_eq!(pruned.removed, marked);
    assert!(count(&world, FileType::Pack) < packs);
    let (plan, _) = prune(&world, &thorough()).await;
    assert!(plan.is_empty(), "{plan}");
    assert_sound(&world, &[(&second, files(3))]).await;
}

#[tokio::test]
async fn a_marked_pack_that_is_needed_again_comes_back() {
    let (world, first, second) = sample().await;
    let snapshot = world.memory.read(first.id.handle(), None).await.unwrap();
    forget(&world, first.id).await;
    prune(&world, &thorough()).await;
    world.memory.put(first.id.handle(), snapshot);
    world.clock.advance(2 * DAY);
    let (_, pruned) = prune(&world, &thorough()).await;
    assert!(pruned.recovered > 0, "{pruned:?}");
    let repo = world.open().await;
    repo.load_index().await.unwrap();
    assert_sound(&world, &[(&first, files(2)), (&second, files(3))]).await;
}

#[tokio::test]
async fn writers_do_not_build_upon_marked_packs() {
    let (world, first, second) = sample().await;
    forget(&world, first.id).await;
    prune(&world, &thorough()).await;
    let third = back_up(&world.open().await, &files(2)).await.unwrap();
    world.clock.advance(2 * DAY);
    prune(&world, &thorough()).await;
    assert_sound(&world, &[(&second, files(3)), (&third, files(2))]).await;
}

#[tokio::test]
async fn an_instant_run_removes_at_once_but_only_alone() {
    let (world, first, second) = sample().await;
    forget(&world, first.id).await;
    world.memory.put(PackId([7; 32]).handle(), vec![0; 100]);
    let options = PruneOptions { is_instant: true, ..thorough() };
    let repo = world.open().await;
    let shared = repo.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
    assert_eq!(guard(repo.plan_prune(&shared, &options).await), "instant");
    assert_eq!(guard(repo.plan_prune(&shared, &thorough()).await), "lock");
    shared.release().await.unwrap();
    let (_, pruned) = prune(&world, &options).await;
    assert!(pruned.removed > 0 && pruned.marked == 0);
    assert_sound(&world, &[(&second, files(3))]).await;
    assert!(plan(&world, &options).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_partly_needed_pack_is_repacked_only_beyond_the_limit() {
    // So many blobs that some pack surely holds both needed and unneeded ones.
    let many = |seed: u64| -> Files {
        let file = |name: String, seed| (name.into_bytes(), Some(format!("line {seed}\n").repeat(3000).into_bytes()));
        (0..20).flat_map(|i| [file(format!("shared{i}"), i), file(format!("own{i}"), seed + i)]).collect()
    };
    let world = World::new().await;
    let first = back_up(&world.repo, &many(100)).await.unwrap();
    let second = back_up(&world.repo, &many(200)).await.unwrap();
    forget(&world, first.id).await;
    let lax = PruneOptions { max_unused: MaxUnused::Unlimited, ..PruneOptions::default() };
    assert_eq!(plan(&world, &lax).await.unwrap().repack, []);
    let mut strict = thorough();
    assert!(!plan(&world, &strict).await.unwrap().repack.is_empty());
    strict.repack_bytes_max = Some(10);
    assert_eq!(plan(&world, &strict).await.unwrap().repack, []);
    let (_, pruned) = prune(&world, &thorough()).await;
    assert!(pruned.repacked > 0 && pruned.written_bytes > 0);
    assert_sound(&world, &[(&second, many(200))]).await;
}

#[tokio::test]
async fn what_an_interrupted_run_left_is_marked_and_removed_later() {
    let (world, first, second) = sample().await;
    world.memory.put(PackId([7; 32]).handle(), vec![0; 100]);
    let (_, pruned) = prune(&world, &thorough()).await;
    assert_eq!(pruned.removed, 0);
    world.clock.advance(DAY);
    assert_eq!(prune(&world, &thorough()).await.1.removed, 1);
    assert_sound(&world, &[(&first, files(2)), (&second, files(3))]).await;
}

#[tokio::test]
async fn a_run_that_is_older_than_the_mark_holds_the_removal_back() {
    let (world, first, _) = sample().await;
    let name = onggi_storage::OwnName::new("run-1").unwrap();
    let heartbeat = Handle::Own(onggi_storage::OwnFolder::Runs, name);
    world.memory.put(heartbeat.clone(), "{}");
    forget(&world, first.id).await;
    prune(&world, &thorough()).await;
    world.clock.advance(2 * DAY);
    assert_eq!(prune(&world, &thorough()).await.1.removed, 0);
    world.memory.remove(heartbeat).await.unwrap();
    assert!(prune(&world, &thorough()).await.1.removed > 0);
}

#[tokio::test]
async fn what_is_odd_is_refused() {
    let damage: [(&str, Damage); 4] = [
        ("index", |world, files| flip(world, &files, FileType::Index)),
        ("snapshot", |world, files| flip(world, &files, FileType::Snapshot)),
        ("pack-lost", |world, files| truncate(world, &files, BlobKind::Data)),
        ("pack-lost", |world, files| truncate(world, &files, BlobKind::Tree)),
    ];
    for (expected, damage) in damage {
        let (world, _, _) = sample().await;
        damage(&world, world.memory.files().into_iter().map(|(handle, _)| handle).collect());
        assert_eq!(guard(plan(&world, &thorough()).await), expected);
    }
    let (world, first, _) = sample().await;
    let before = PruneOptions { packs_before: Some(1000), ..thorough() };
    assert_eq!(guard(plan(&world, &before).await), "listing");
    forget(&world, first.id).await;
    let expected = PruneOptions { expected_snapshots: vec![first.id], ..thorough() };
    assert_eq!(guard(plan(&world, &expected).await), "snapshot-absent");
}

type Damage = fn(&World, Vec<Handle>);

fn flip(world: &World, files: &[Handle], file_type: FileType) {
    let handle = files.iter().find(|handle| handle.file_type() == file_type).unwrap().clone();
    let content = world.memory.files().into_iter().find(|(other, _)| *other == handle).unwrap().1;
    let mut content = content.to_vec();
    content[40] ^= 1;
    world.memory.put(handle, content);
}

/// Cuts every pack of a kind short, told by its size.
fn truncate(world: &World, _: &[Handle], kind: BlobKind) {
    for (handle, content) in world.memory.files() {
        let is_data = content.len() > 100_000;
        if handle.file_type() == FileType::Pack && is_data == (kind == BlobKind::Data) {
            // A blank at the end leaves all blobs readable: only the size tells.
            world.memory.put(handle, [&content[..], b" "].concat());
        }
    }
}

/// Everything of this type is held by an object lock.
async fn locked_world(world: &World, file_types: &[FileType]) -> (Repository, Arc<Faulty>) {
    let faulty = Arc::new(Faulty::new(Arc::new(world.memory.clone())));
    let repo = world.open_at(faulty.clone(), "two").await.unwrap();
    for file_type in file_types {
        faulty.add(Rule::new(Fault::Held).of(*file_type).always());
    }
    (repo, faulty)
}

#[tokio::test]
async fn what_an_object_lock_holds_is_kept_and_removed_when_it_ends() {
    for held in [&[FileType::Pack][..], &[FileType::Index], &[FileType::Index, FileType::Pack]] {
        let (world, first, second) = sample().await;
        forget(&world, first.id).await;
        let options = PruneOptions { is_instant: true, ..thorough() };
        let packs = count(&world, FileType::Pack);
        let (repo, faulty) = locked_world(&world, held).await;
        let (_, pruned) = prune_through(&repo, &options).await.unwrap();
        assert!(pruned.held > 0 && pruned.removed == 0, "{held:?}: {pruned:?}");
        assert_eq!(pruned.held_indexes > 0, held.contains(&FileType::Index));
        // Nothing that an index announces is gone, and a writer may build upon all of it.
        assert!(count(&world, FileType::Pack) >= packs);
        let third = back_up(&world.open().await, &files(2)).await.unwrap();
        assert_sound(&world, &[(&second, files(3)), (&third, files(2))]).await;
        forget(&world, third.id).await;
        faulty.heal();
        let (_, pruned) = prune_through(&repo, &options).await.unwrap();
        assert_eq!((pruned.held, pruned.held_indexes), (0, 0));
        assert!(pruned.removed > 0);
        assert_sound(&world, &[(&second, files(3))]).await;
        assert!(plan(&world, &options).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_snapshot_that_an_object_lock_holds_is_kept_and_counted() {
    let (world, first, second) = sample().await;
    let (repo, faulty) = locked_world(&world, &[FileType::Snapshot]).await;
    let lock = exclusive(&repo).await;
    let mut rules = Rules::default();
    rules.add("last", "1").unwrap();
    let now = "2026-09-02T00:00:00Z".parse().unwrap();
    let options = ForgetOptions { max: None, ..ForgetOptions::at(now) };
    let (candidates, _) = repo.forget_candidates().await.unwrap();
    let plan = plan_forget(&rules, candidates, &options).unwrap();
    assert_eq!(repo.forget(&lock, &plan).await.unwrap(), Forgotten { gone: 0, held: 1 });
    faulty.heal();
    lock.release().await.unwrap();
    assert_sound(&world, &[(&first, files(2)), (&second, files(3))]).await;
    let lock = exclusive(&repo).await;
    assert_eq!(repo.forget(&lock, &plan).await.unwrap(), Forgotten { gone: 1, held: 0 });
    lock.release().await.unwrap();
}

#[tokio::test]
async fn a_false_listing_never_costs_data() {
    let (origin, first, second) = sample().await;
    forget(&origin, first.id).await;
    let options = PruneOptions { is_instant: true, ..thorough() };
    let file_types = [FileType::Snapshot, FileType::Index, FileType::Pack];
    for (fault, file_type) in ListFault::ALL.into_iter().flat_map(|fault| file_types.map(|kind| (fault, kind))) {
        for nth in 0..4 {
            let world = World { memory: origin.memory.copy(), clock: origin.clock.clone(), repo: origin.repo.clone() };
            let faulty = Arc::new(Faulty::new(Arc::new(world.memory.clone())));
            let repo = world.open_at(faulty.clone(), "two").await.unwrap();
            faulty.add(Rule::new(Fault::List(fault)).of(file_type).nth(nth));
            drop(prune_through(&repo, &options).await);
            for (handle, _) in world.memory.files() {
                if handle.file_type() == FileType::Lock {
                    world.memory.remove(handle).await.unwrap();
                }
            }
            assert_sound(&world, &[(&second, files(3))]).await;
        }
    }
}

#[tokio::test]
async fn a_run_that_stops_anywhere_loses_nothing_and_can_be_repeated() {
    let (origin, first, second) = sample().await;
    forget(&origin, first.id).await;
    for instant in [true, false] {
        let options = PruneOptions { is_instant: instant, ..thorough() };
        for stop_after in 0.. {
            let world = World { memory: origin.memory.copy(), clock: origin.clock.clone(), repo: origin.repo.clone() };
            let faulty = Arc::new(Faulty::new(Arc::new(world.memory.clone())));
            let repo = world.open_at(faulty.clone(), "two").await.unwrap();
            faulty.add(Rule::new(Fault::Stop).mutating().nth(stop_after));
            let is_done = prune_through(&repo, &options).await.is_ok();
            for (handle, _) in world.memory.files() {
                if handle.file_type() == FileType::Lock {
                    world.memory.remove(handle).await.unwrap();
                }
            }
            assert_sound(&world, &[(&second, files(3))]).await;
            prune(&world, &options).await;
            assert_sound(&world, &[(&second, files(3))]).await;
            if is_done {
                break;
            }
        }
    }
}

#[tokio::test]
async fn marked_packs_are_still_read() {
    let (world, first, _) = sample().await;
    let snapshot = world.memory.read(first.id.handle(), None).await.unwrap();
    forget(&world, first.id).await;
    prune(&world, &thorough()).await;
    world.memory.put(first.id.handle(), snapshot);
    let repo = world.open().await;
    repo.load_index().await.unwrap();
    assert!(repo.index().all_packs().iter().any(|pack| matches!(pack.state, PackState::Tombstoned(Some(_)))));
    assert_eq!(read_all(&repo, first.snapshot.tree).await.unwrap(), files(2));
}
