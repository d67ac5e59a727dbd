//! A crash at every call that changes what is stored, with every outcome that the call may have had: what was
//! acknowledged stays, what is listed is whole, and the same command, given again, ends where an undisturbed one does.

mod common;

use common::*;
use futures::future::LocalBoxFuture;
use onggi_repo::{
    LockKind, OpenOptions, RepoError, Repository, Result,
    format::{KdfCost, SnapshotId},
    lock::Unlock,
    prune::{MaxUnused, PruneOptions},
    verify::ReadData,
};
use onggi_storage::{
    Handle, Storage,
    faulty::{Fault, Faulty, Rule},
    memory::Memory,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// What must be there: acknowledged snapshots and what each restores to.
type Kept = BTreeMap<SnapshotId, Files>;

/// A command on a prepared repository.
struct Scenario {
    world: World,
    kept: Kept,
    /// What a snapshot that the command makes holds.
    made: Option<Files>,
    act: fn(Repository) -> LocalBoxFuture<'static, Result<Option<SnapshotId>>>,
}

fn old() -> Files {
    Files::from([
        (b"d".to_vec(), None),
        (b"d/shared".to_vec(), Some(noise(1, 600_000))),
        (b"old".to_vec(), Some(noise(2, 70_000))),
    ])
}

fn new() -> Files {
    Files::from([
        (b"d".to_vec(), None),
        (b"d/shared".to_vec(), Some(noise(1, 600_000))),
        (b"new".to_vec(), Some(noise(3, 1_300_000))),
        (b"text".to_vec(), Some(b"line by line\n".repeat(1000))),
    ])
}

async fn prepared(snapshots: &[fn() -> Files]) -> (World, Kept) {
    let world = World::new().await;
    let mut kept = Kept::new();
    for files in snapshots {
        kept.insert(back_up(&world.repo, &files()).await.unwrap().id, files());
    }
    (world, kept)
}

/// The command on a copy of what was prepared, through faults; then the oracle; then the command again, undisturbed.
async fn crash(scenario: &Scenario, fault: &Fault, nth: usize) {
    let at = format!("call {nth}, {fault:?}");
    let memory = scenario.world.memory.copy();
    let rule = Rule::new(fault.clone()).mutating().nth(nth).then_stop();
    let faulty = Faulty::new(Arc::new(memory.clone())).with(rule);
    let mut kept = scenario.kept.clone();
    if let Ok(repo) = scenario.world.open_at(Arc::new(faulty), "dies").await
        && let Ok(Some(id)) = (scenario.act)(repo).await
    {
        kept.insert(id, scenario.made.clone().unwrap());
    }
    let torn = torn_files(&memory);
    check(scenario, &memory, &kept, &torn, &at).await;
    let again = || async { scenario.world.open_at(Arc::new(memory.clone()), "goes on").await.unwrap() };
    let mut done = (scenario.act)(again().await).await;
    if let (Err(RepoError::Refused { .. }), false) = (&done, torn.is_empty()) {
        // A guard does not go on beside damage; the operator moves the torn file away and repeats.
        again().await.unlock(Unlock::All).await.unwrap();
        for handle in &torn {
            memory.remove(handle.clone()).await.unwrap();
        }
        done = (scenario.act)(again().await).await;
    }
    if let Some(id) = done.unwrap_or_else(|error| panic!("{at}: again: {error:?}")) {
        kept.insert(id, scenario.made.clone().unwrap());
    }
    check(scenario, &memory, &kept, &torn, &at).await;
}

/// Files that a storage without atomic writes leaves under a name that they do not have the hash of.
fn torn_files(memory: &Memory) -> Vec<Handle> {
    let is_torn = |handle: &Handle, content: &[u8]| {
        handle.id().is_some_and(|id| id.0 != onggi_repo::kernel::hash::sha256(content))
    };
    memory.files().into_iter().filter(|(handle, content)| is_torn(handle, content)).map(|(handle, _)| handle).collect()
}

/// The oracle: after the operator has removed the locks of the dead, all that is kept restores, all that is listed is
/// whole, and damage is found nowhere but in torn files.
async fn check(scenario: &Scenario, memory: &Memory, kept: &Kept, torn: &[Handle], at: &str) {
    let repo =
        scenario.world.open_at(Arc::new(memory.clone()), "looks").await.unwrap_or_else(|e| panic!("{at}: {e:?}"));
    repo.unlock(Unlock::All).await.unwrap_or_else(|error| panic!("{at}: unlock: {error:?}"));
    repo.load_index().await.unwrap_or_else(|error| panic!("{at}: load: {error:?}"));
    let found = repo.snapshots().await.unwrap().found;
    for id in kept.keys() {
        assert!(found.iter().any(|(found, _)| found == id), "{at}: an acknowledged snapshot is gone");
    }
    for (id, snapshot) in &found {
        let files = read_all(&repo, snapshot.tree).await.unwrap_or_else(|error| panic!("{at}: restore: {error:?}"));
        match kept.get(id) {
            Some(expected) => assert!(files == *expected, "{at}: a kept snapshot differs"),
            None => assert!(Some(&files) == scenario.made.as_ref(), "{at}: a listed snapshot is not whole"),
        }
    }
    let lock = repo.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
    let report = repo.verify(&lock, ReadData::All, &Arc::default()).await.unwrap();
    lock.release().await.unwrap();
    let names: Vec<String> = torn.iter().flat_map(|torn| [torn.to_string(), torn.id().unwrap().to_string()]).collect();
    for problem in report.problems {
        let is_torn = names.iter().any(|name| problem.what.contains(name) || name.contains(&problem.what));
        assert!(is_torn, "{at}: {problem:?}");
    }
}

/// Every call, every outcome. Answers how many runs that were.
async fn sweep(scenario: Scenario) -> usize {
    let memory = scenario.world.memory.copy();
    let counting = Arc::new(Faulty::new(Arc::new(memory)));
    let repo = scenario.world.open_at(counting.clone(), "counts").await.unwrap();
    (scenario.act)(repo).await.unwrap();
    let calls = counting.mutations();
    for nth in 0..calls {
        for fault in &Fault::CRASHES {
            crash(&scenario, fault, nth).await;
        }
    }
    println!("{} runs: {calls} calls, {} outcomes", calls * Fault::CRASHES.len(), Fault::CRASHES.len());
    calls * Fault::CRASHES.len()
}

fn act_backup(repo: Repository) -> LocalBoxFuture<'static, Result<Option<SnapshotId>>> {
    Box::pin(async move { Ok(Some(back_up(&repo, &new()).await?.id)) })
}

#[tokio::test]
async fn a_first_backup_survives_a_crash_anywhere() {
    let (world, kept) = prepared(&[]).await;
    sweep(Scenario { world, kept, made: Some(new()), act: act_backup }).await;
}

#[tokio::test]
async fn a_later_backup_survives_a_crash_anywhere() {
    let (world, kept) = prepared(&[old]).await;
    sweep(Scenario { world, kept, made: Some(new()), act: act_backup }).await;
}

fn act_prune(repo: Repository) -> LocalBoxFuture<'static, Result<Option<SnapshotId>>> {
    Box::pin(async move {
        let lock = repo.lock(LockKind::Exclusive, Duration::ZERO).await?;
        let options = PruneOptions { max_unused: MaxUnused::Bytes(0), ..PruneOptions::default() };
        let plan = repo.plan_prune(&lock, &options).await?;
        repo.prune(&lock, &plan).await?;
        lock.release().await?;
        Ok(None)
    })
}

/// Two snapshots of which the older one was forgotten.
async fn forgotten() -> (World, Kept) {
    let (world, mut kept) = prepared(&[old, new]).await;
    let forgotten = *kept.iter().find(|(_, files)| **files == old()).unwrap().0;
    kept.remove(&forgotten);
    world.memory.remove(forgotten.handle()).await.unwrap();
    (world, kept)
}

#[tokio::test]
async fn a_prune_survives_a_crash_anywhere() {
    let (world, kept) = forgotten().await;
    sweep(Scenario { world, kept, made: None, act: act_prune }).await;
}

#[tokio::test]
async fn the_second_step_of_a_prune_survives_a_crash_anywhere() {
    let (world, kept) = forgotten().await;
    act_prune(world.open().await).await.unwrap();
    world.clock.advance(Duration::from_hours(24 * 30));
    sweep(Scenario { world, kept, made: None, act: act_prune }).await;
}

#[tokio::test]
async fn changing_the_password_survives_a_crash_anywhere() {
    let (world, kept) = prepared(&[old]).await;
    fn act(repo: Repository) -> LocalBoxFuture<'static, Result<Option<SnapshotId>>> {
        Box::pin(async move {
            let lock = repo.lock(LockKind::Exclusive, Duration::ZERO).await?;
            repo.change_password(&password(), KdfCost::testing(), &lock).await?;
            lock.release().await?;
            Ok(None)
        })
    }
    sweep(Scenario { world, kept, made: None, act }).await;
}

#[tokio::test]
async fn an_interrupted_init_leaves_a_repository_or_says_what_is_there() {
    let counting = Arc::new(Faulty::new(Arc::new(Memory::new())));
    let world = World::new().await;
    let create = |storage: Arc<dyn Storage>| {
        let env = env(&world.clock, "one");
        async move { Repository::create(storage, &password(), common::new(), env).await }
    };
    create(counting.clone()).await.unwrap();
    for nth in 0..counting.mutations() {
        for fault in &Fault::CRASHES {
            let memory = Memory::new();
            let rule = Rule::new(fault.clone()).mutating().nth(nth).then_stop();
            let done = create(Arc::new(Faulty::new(Arc::new(memory.clone())).with(rule))).await;
            let env = env(&world.clock, "two");
            let open = Repository::open(Arc::new(memory.clone()), &password(), OpenOptions::default(), env).await;
            match (done, open) {
                (_, Ok(repo)) => assert!(back_up(&repo, &old()).await.is_ok(), "call {nth}, {fault:?}"),
                (Ok(_), Err(error)) => panic!("call {nth}, {fault:?}: acknowledged, but {error:?}"),
                (Err(_), Err(_)) => match create(Arc::new(memory)).await {
                    Ok(_) | Err(RepoError::AlreadyExists(_)) => {}
                    Err(error) => panic!("call {nth}, {fault:?}: {error:?}"),
                },
            }
        }
    }
}
