//! A crash at every call that changes what is stored, with every outcome that the call may have had: what was
//! acknowledged stays, what is listed is whole, and the same command, given again, ends where an undisturbed one does.

mod common;

use common::*;
use futures::{FutureExt, future::LocalBoxFuture};
use onggi_repo::{
    ArchiveOptions, LockKind, OpenOptions, RepoError, Repository, Result,
    copy::plan_copy,
    forget::{ForgetOptions, ForgetPlan, Rules, plan_forget},
    format::{KdfCost, SnapshotId},
    lock::Unlock,
    prune::{MaxUnused, PruneOptions},
    verify::ReadData,
};
use onggi_storage::{
    FileType, Handle, Storage,
    faulty::{Fault, Faulty, Rule},
    memory::Memory,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// What must be there: acknowledged snapshots and what each restores to.
type Kept = BTreeMap<SnapshotId, Files>;

/// What a command is to answer: the snapshot that it made, if it makes one.
type Act = Box<dyn Fn(Repository) -> LocalBoxFuture<'static, Result<Option<SnapshotId>>>>;

/// A command on a prepared repository.
struct Scenario {
    world: World,
    kept: Kept,
    /// What a snapshot that the command makes, or takes away, holds.
    made: Option<Files>,
    act: Act,
    /// Puts back what the command has outside of the repository.
    rewind: Box<dyn Fn()>,
}

impl Scenario {
    fn new(
        (world, kept): (World, Kept),
        made: Option<Files>,
        act: impl Fn(Repository) -> LocalBoxFuture<'static, Result<Option<SnapshotId>>> + 'static,
    ) -> Self {
        Self { world, kept, made, act: Box::new(act), rewind: Box::new(|| {}) }
    }
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
    (scenario.rewind)();
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
        // Nothing is read from a copy while its original is good; but none may outlive a key.
        if problem.class == "spare-copy" && !problem.text.contains("may still open") {
            continue;
        }
        let is_torn = names.iter().any(|name| problem.what.contains(name) || name.contains(&problem.what));
        assert!(is_torn, "{at}: {problem:?}");
    }
}

/// Every call, every outcome.
async fn sweep(what: &str, scenario: Scenario) {
    let memory = scenario.world.memory.copy();
    let counting = Arc::new(Faulty::new(Arc::new(memory)));
    let repo = scenario.world.open_at(counting.clone(), "counts").await.unwrap();
    (scenario.rewind)();
    (scenario.act)(repo).await.unwrap();
    let calls = counting.mutations();
    for nth in 0..calls {
        for fault in &Fault::CRASHES {
            crash(&scenario, fault, nth).await;
        }
    }
    tell(what, calls);
}

/// For the ledger of docs/reliability.md.
fn tell(what: &str, calls: usize) {
    println!(
        "ledger: stopped at every changing call, {} outcomes: {what} | {}",
        Fault::CRASHES.len(),
        calls * Fault::CRASHES.len()
    );
}

fn act_backup(repo: Repository) -> LocalBoxFuture<'static, Result<Option<SnapshotId>>> {
    async move { Ok(Some(back_up(&repo, &new()).await?.id)) }.boxed_local()
}

#[tokio::test]
async fn a_first_backup_survives_a_crash_anywhere() {
    sweep("first backup", Scenario::new(prepared(&[]).await, Some(new()), act_backup)).await;
}

#[tokio::test]
async fn a_later_backup_survives_a_crash_anywhere() {
    sweep("later backup", Scenario::new(prepared(&[old]).await, Some(new()), act_backup)).await;
}

#[tokio::test]
async fn a_resumed_backup_survives_a_crash_anywhere() {
    let (world, kept) = prepared(&[old]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let options = {
        let path = path.clone();
        move || ArchiveOptions { journal: Some(path.clone()), ..ArchiveOptions::default() }
    };
    // The packs are stored and in the journal, no index names them.
    let rule = Rule::new(Fault::Stop).of(FileType::Index).mutating().then_stop();
    let faulty = Faulty::new(Arc::new(world.memory.clone())).with(rule);
    let dies = world.open_at(Arc::new(faulty), "dies").await.unwrap();
    back_up_with(&dies, options(), &new()).await.unwrap_err();
    world.open().await.unlock(Unlock::All).await.unwrap();
    let journal = std::fs::read(&path).unwrap();
    assert!(journal.windows(4).any(|bytes| bytes.eq_ignore_ascii_case(b"pack")), "there is something to resume");
    let act = move |repo: Repository| {
        let options = options();
        async move { Ok(Some(back_up_with(&repo, options, &new()).await?.id)) }.boxed_local()
    };
    let mut scenario = Scenario::new((world, kept), Some(new()), act);
    scenario.rewind = Box::new(move || std::fs::write(folder.path().join("journal"), &journal).unwrap());
    sweep("resumed backup", scenario).await;
}

async fn plan_to_keep_one(repo: &Repository) -> Result<ForgetPlan> {
    let mut rules = Rules::default();
    rules.add("last", "1").unwrap();
    let (candidates, _) = repo.forget_candidates().await?;
    let now = "2026-09-02T00:00:00Z".parse().unwrap();
    plan_forget(&rules, candidates, &ForgetOptions { max: None, is_shrinking_fine: true, ..ForgetOptions::at(now) })
}

#[tokio::test]
async fn a_forget_survives_a_crash_anywhere() {
    let (world, mut kept) = prepared(&[old, new]).await;
    let plan = plan_to_keep_one(&world.open().await).await.unwrap();
    let [doomed] = plan.forgotten()[..] else { panic!("one of two is forgotten") };
    let content = kept.remove(&doomed);
    let act = |repo: Repository| {
        async move {
            let lock = repo.lock(LockKind::Exclusive, Duration::ZERO).await?;
            repo.forget(&lock, &plan_to_keep_one(&repo).await?).await?;
            lock.release().await?;
            Ok(None)
        }
        .boxed_local()
    };
    sweep("forget", Scenario::new((world, kept), content, act)).await;
}

#[tokio::test]
async fn a_copy_survives_a_crash_anywhere() {
    let (origin, _) = prepared(&[new]).await;
    let origin = Arc::new(origin);
    let act = move |there: Repository| {
        let origin = origin.clone();
        async move {
            let here = origin.open().await;
            let (lock, their_lock) = (
                here.lock(LockKind::Shared, Duration::ZERO).await?,
                there.lock(LockKind::Shared, Duration::ZERO).await?,
            );
            here.load_index().await?;
            there.load_index().await?;
            let plan = plan_copy(here.snapshots().await?.found, &there.snapshots().await?.found);
            let copied = here.copy_to(&lock, &there, &their_lock, &plan).await;
            lock.release().await?;
            let copied = copied?;
            their_lock.release().await?;
            Ok(copied.snapshots.first().map(|(_, id)| *id))
        }
        .boxed_local()
    };
    sweep("copy", Scenario::new(prepared(&[old]).await, Some(new()), act)).await;
}

fn act_prune(repo: Repository) -> LocalBoxFuture<'static, Result<Option<SnapshotId>>> {
    async move {
        let lock = repo.lock(LockKind::Exclusive, Duration::ZERO).await?;
        let options = PruneOptions { max_unused: MaxUnused::Bytes(0), ..PruneOptions::default() };
        let plan = repo.plan_prune(&lock, &options).await?;
        repo.prune(&lock, &plan).await?;
        lock.release().await?;
        Ok(None)
    }
    .boxed_local()
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
    sweep("prune", Scenario::new(forgotten().await, None, act_prune)).await;
}

#[tokio::test]
async fn the_second_step_of_a_prune_survives_a_crash_anywhere() {
    let (world, kept) = forgotten().await;
    act_prune(world.open().await).await.unwrap();
    world.clock.advance(Duration::from_hours(24 * 30));
    sweep("second step of prune", Scenario::new((world, kept), None, act_prune)).await;
}

#[tokio::test]
async fn changing_the_password_survives_a_crash_anywhere() {
    let act = |repo: Repository| {
        async move {
            let lock = repo.lock(LockKind::Exclusive, Duration::ZERO).await?;
            repo.change_password(&password(), KdfCost::testing(), &lock).await?;
            lock.release().await?;
            Ok(None)
        }
        .boxed_local()
    };
    sweep("change of the password", Scenario::new(prepared(&[old]).await, None, act)).await;
}

#[tokio::test]
async fn an_interrupted_init_is_ended_by_the_next() {
    let counting = Arc::new(Faulty::new(Arc::new(Memory::new())));
    let world = World::new().await;
    let create = |storage: Arc<dyn Storage>| {
        let env = env(&world.clock, "one");
        async move { Repository::create(storage, &password(), common::new(), env).await }
    };
    create(counting.clone()).await.unwrap();
    tell("init", counting.mutations());
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
                    Ok(_) => {}
                    // A key that is torn opens nothing; it may be somebody else's.
                    Err(RepoError::AlreadyExists(_)) if matches!(fault, Fault::Prefix(_) | Fault::Zeros(_)) => {}
                    Err(error) => panic!("call {nth}, {fault:?}: {error:?}"),
                },
            }
        }
    }
}
