//! Locks: who excludes whom, what is stale, how long a lock lives without renewal; and what a writer that lost its lock
//! may still do, which is nothing.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

mod common;

use common::*;
use jiff::SignedDuration;
use onggi_repo::{Archive, ArchiveOptions, Lock, LockKind, RepoError, Repository, Unlock};
use onggi_storage::{Clock as _, FileType, Storage, memory::Memory};
use std::{sync::Arc, time::Duration};

use LockKind::{Exclusive, Reading, Shared};

const MINUTE: Duration = Duration::from_mins(1);

async fn take(repo: &Repository, kind: LockKind) -> Result<Lock, RepoError> {
    repo.lock(kind, Duration::ZERO).await
}

#[track_caller]
fn is_locked(answer: &Result<Lock, RepoError>) {
    assert!(matches!(answer, Err(RepoError::Locked(_))), "{answer:?}");
}

fn locks(memory: &Memory) -> usize {
    memory.files().iter().filter(|(handle, _)| handle.file_type() == FileType::Lock).count()
}

/// Lets five minutes pass for a living process: until it renewed its lock, or lost it.
async fn live(world: &World, lock: &Lock) {
    let names = || world.memory.files().into_iter().map(|(handle, _)| handle);
    let lock_files = || names().filter(|handle| handle.file_type() == FileType::Lock).collect::<Vec<_>>();
    let before = lock_files();
    world.clock.advance(5 * MINUTE);
    while lock.check().is_ok() && (lock_files() == before || lock_files().len() > 1) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn only_shared_locks_allow_each_other() {
    let world = World::new().await;
    let other = world.open().await;
    let all = [Reading, Shared, Exclusive];
    for (held, asked) in all.iter().flat_map(|held| all.iter().map(move |asked| (*held, *asked))) {
        let is_allowed = held != Exclusive && asked != Exclusive;
        let lock = take(&world.repo, held).await.unwrap();
        let answer = take(&other, asked).await;
        assert_eq!(answer.is_ok(), is_allowed, "{held:?} {asked:?}");
        if let Ok(answer) = answer {
            answer.release().await.unwrap();
        }
        lock.release().await.unwrap();
        assert_eq!(locks(&world.memory), 0, "a refused lock leaves nothing");
    }
}

#[tokio::test]
async fn who_only_reads_does_not_wait() {
    let world = World::new().await;
    for (kind, waits) in [(Reading, false), (Shared, true), (Exclusive, true)] {
        let before = world.clock.elapsed();
        take(&world.repo, kind).await.unwrap().release().await.unwrap();
        assert_eq!(world.clock.elapsed() > before, waits, "{kind:?}");
    }
}

#[tokio::test]
async fn a_refusal_names_the_holder() {
    let world = World::new().await;
    let _lock = take(&world.repo, Shared).await.unwrap();
    let error = take(&world.open().await, Exclusive).await.unwrap_err().to_string();
    assert!(
        error.starts_with("repository is locked by operator@one (process 4000000, shared, 2026-09-01T12:00:0"),
        "{error}"
    );
}

#[tokio::test]
async fn who_is_asked_to_end_leaves_no_lock_behind() {
    let world = World::new().await;
    let holder = take(&world.repo, Exclusive).await.unwrap();
    let other = world.open().await;
    is_locked(&other.lock_unless(Shared, 10 * MINUTE, async {}).await);
    assert_eq!(locks(&world.memory), 1, "only the holder's");
    holder.release().await.unwrap();
    let lock = other.lock_unless(Shared, Duration::ZERO, async {}).await.unwrap();
    lock.release().await.unwrap();
    assert_eq!(locks(&world.memory), 0, "what was taken is handed out, to be released");
}

#[tokio::test]
async fn waiting_ends_with_the_other_lock_or_the_time() {
    let world = World::new().await;
    let lock = take(&world.repo, Exclusive).await.unwrap();
    let other = world.open().await;
    let start = world.clock.now_elapsed();
    is_locked(&other.lock(Shared, 2 * MINUTE).await);
    let waited = world.clock.now_elapsed().saturating_sub(start);
    assert!((2 * MINUTE..3 * MINUTE).contains(&waited), "{waited:?}");
    let (waiting, released) = tokio::join!(other.lock(Shared, 10 * MINUTE), lock.release());
    released.unwrap();
    waiting.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_lock_is_renewed_while_its_holder_lives() {
    let world = World::new().await;
    let lock = take(&world.repo, Shared).await.unwrap();
    let before = world.repo.locks().await.unwrap();
    for _ in 0..12 {
        live(&world, &lock).await;
    }
    lock.check().unwrap();
    let after = world.repo.locks().await.unwrap();
    assert_eq!(after.len(), 1);
    assert_ne!(before[0].id, after[0].id);
    assert_eq!(world.open().await.unlock(Unlock::Stale).await.unwrap(), []);
    lock.release().await.unwrap();
    assert_eq!(locks(&world.memory), 0);
}

#[tokio::test]
async fn a_lock_that_others_removed_is_lost() {
    let world = World::new().await;
    let lock = take(&world.repo, Shared).await.unwrap();
    assert_eq!(world.open().await.unlock(Unlock::All).await.unwrap().len(), 1);
    live(&world, &lock).await;
    assert!(matches!(lock.check(), Err(RepoError::LockLost(_))));
    assert_eq!(locks(&world.memory), 0, "a lost lock is not written again");
}

#[tokio::test]
async fn a_process_that_slept_too_long_stops() {
    let world = World::new().await;
    let lock = take(&world.repo, Shared).await.unwrap();
    world.clock.advance(23 * MINUTE);
    assert!(matches!(lock.check(), Err(RepoError::LockLost(_))));
}

#[tokio::test]
async fn stale_locks_block_until_they_are_removed() {
    let world = World::new().await;
    drop(take(&world.repo, Exclusive).await.unwrap());
    world.clock.advance(31 * MINUTE);
    let other = world.open().await;
    is_locked(&take(&other, Shared).await);
    assert_eq!(other.unlock(Unlock::Stale).await.unwrap().len(), 1);
    take(&other, Exclusive).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_younger_lock_is_not_stale_whatever_its_own_clock_says() {
    let world = World::new().await;
    // Written by a host whose clock is a day behind.
    write_lock(&world, "two-days-ago", 4_000_000, SignedDuration::from_hours(-24)).await;
    assert_eq!(world.repo.unlock(Unlock::Stale).await.unwrap(), [], "the storage received it just now");
    world.clock.advance(31 * MINUTE);
    assert_eq!(world.repo.unlock(Unlock::Stale).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_local_clock_that_is_ahead_makes_no_lock_stale() {
    let world = World::new().await;
    let server_time = onggi_storage::clock::TestClock::new(1);
    let memory = world.memory.copy().with_clock(Arc::new(server_time));
    let repo = world.open_at(Arc::new(memory.clone()), "one").await.unwrap();
    drop(take(&repo, Shared).await.unwrap());
    // Our wall clock jumps; the storage's does not.
    world.clock.jump(SignedDuration::from_hours(5));
    assert_eq!(repo.unlock(Unlock::Stale).await.unwrap(), []);
    assert!(repo.storage_time().await.unwrap().is_skewed());
}

#[tokio::test]
async fn a_lock_of_a_dead_process_of_this_host_is_stale_at_once() {
    let world = World::new().await;
    write_lock(&world, "one", 4_194_303, SignedDuration::ZERO).await;
    write_lock(&world, "elsewhere", 4_194_303, SignedDuration::ZERO).await;
    let removed = world.repo.unlock(Unlock::Stale).await.unwrap();
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].file.as_ref().unwrap().hostname, "one");
}

#[tokio::test]
async fn an_unreadable_lock_is_read_again_and_then_blocks() {
    let world = World::new().await;
    let garbage = onggi_storage::Handle::new(FileType::Lock, onggi_storage::FileId([9; 32]));
    world.memory.put(garbage.clone(), b"garbage".as_slice());
    is_locked(&take(&world.repo, Shared).await);
    let pauses: Vec<u64> = world.clock.sleeps().iter().map(Duration::as_secs).filter(|secs| *secs > 0).collect();
    assert_eq!(pauses, [1, 2, 4, 8]);
    world.memory.remove(garbage.clone()).await.unwrap();
    world.memory.put(garbage, b"".as_slice());
    take(&world.repo, Exclusive).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_lost_lock_stops_the_archive() {
    let world = World::new().await;
    let lock = take(&world.repo, Shared).await.unwrap();
    world.repo.load_index().await.unwrap();
    let archive = Archive::begin(&world.repo, &lock, ArchiveOptions::default()).await.unwrap();
    put_file(&archive, b"a", b"content").await.unwrap();
    world.clock.advance(23 * MINUTE);
    let answer = put_file(&archive, b"b", b"content").await;
    assert!(matches!(answer, Err(RepoError::LockLost(_))), "{answer:?}");
    assert!(archive.finish().await.is_err());
    assert_eq!(world.repo.snapshots().await.unwrap().found, []);
}

/// Leaves the lock of a process that is gone and whose clock was off.
async fn write_lock(world: &World, hostname: &str, pid: u32, off: SignedDuration) {
    let time = onggi_repo::Clock::now(&world.clock).checked_add(off).unwrap();
    let mut env = env(&onggi_storage::clock::TestClock::at(time, 99), hostname);
    env.host.pid = pid;
    let storage: Arc<dyn Storage> = Arc::new(world.memory.clone());
    let repo = Repository::open(storage, &password(), onggi_repo::OpenOptions::default(), env).await.unwrap();
    drop(take(&repo, Shared).await.unwrap());
}

/// The measured time of a clock.
trait Elapsed {
    fn now_elapsed(&self) -> Duration;
}

impl Elapsed for onggi_storage::clock::TestClock {
    fn now_elapsed(&self) -> Duration {
        onggi_repo::Clock::elapsed(self)
    }
}
