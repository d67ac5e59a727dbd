//! Locks as restic writes them: files that say who works here, shared or exclusive. A lock renews itself from a task it
//! owns; whoever works under it asks `check` and stops when it is lost.
//!
//! Stale locks are never skipped: they block until `unlock` removes them, as in restic.

mod age;
mod reading;
mod refresh;
mod unlock;

pub use age::StorageTime;
pub use unlock::Unlock;

use crate::{
    Repository, Result,
    error::{Act, RepoError},
    format::{LockFile, LockId, Time},
    task::Task,
};
use jiff::Timestamp;
use onggi_storage::{FileType, clock};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Between writing a lock and looking again for others.
const SETTLE: Duration = Duration::from_millis(200);
/// A lock is renewed this long after it was written.
const REFRESH: Duration = Duration::from_mins(5);
/// Without a renewal for this long all work stops.
const LOST_AFTER: Duration = Duration::from_secs(22 * 60 + 30);
/// Older ones are stale.
pub const STALE_AFTER: Duration = Duration::from_mins(30);
/// A waiter looks again after this long, or up to half as long again.
const RETRY: Duration = Duration::from_secs(5);

/// Which other locks a lock allows beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Other shared locks, for reading only. Taken without the pause after writing it: who removes things and could not
    /// see it in time is met by an error, not by a loss.
    Reading,
    /// Other shared locks: writing that removes nothing, or reading that must not fail.
    Shared,
    /// None.
    Exclusive,
}

/// Who holds a lock, as the lock file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The lock file.
    pub id: LockId,
    /// What it says; `None` if it cannot be read.
    pub file: Option<LockFile>,
    /// When the storage received it, by the storage's clock.
    pub modified_at: Option<Timestamp>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            None => write!(f, "unreadable lock {}", self.id.short()),
            Some(lock) => {
                let kind = if lock.exclusive { "exclusive" } else { "shared" };
                write!(f, "{}@{} (process {}, {kind}, {})", lock.username, lock.hostname, lock.pid, lock.time)
            }
        }
    }
}

/// A held lock. Release it; a dropped one stays in the storage until it is stale and `unlock` removes it.
#[derive(Debug)]
pub struct Lock {
    shared: Option<Arc<Held>>,
    kind: LockKind,
    task: Option<Task>,
}

/// What the owner and the renewing task share.
#[derive(Debug)]
struct Held {
    repo: Repository,
    kind: LockKind,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    id: LockId,
    /// Measured time of the last renewal.
    refreshed: Duration,
    /// The longest time between two renewals so far.
    gap: Duration,
    lost: Option<String>,
}

impl Repository {
    /// Takes a lock, trying again until `wait` is over.
    ///
    /// `Locked` names who holds the conflicting ones. Its future may not be dropped once polled: the lock file may be
    /// written by then. Who may be asked to end calls `lock_unless`.
    pub async fn lock(&self, kind: LockKind, wait: Duration) -> Result<Lock> {
        self.lock_unless(kind, wait, std::future::pending()).await
    }

    /// The same, but waits no longer once `stop` is done: the attempt under way ends in good order, and what it took is
    /// returned.
    pub async fn lock_unless(&self, kind: LockKind, wait: Duration, stop: impl Future<Output = ()>) -> Result<Lock> {
        let clock = &self.env().clock;
        let mut stop = std::pin::pin!(stop);
        let deadline = clock.elapsed() + wait;
        loop {
            let holders = match self.try_lock(kind).await? {
                Ok(id) => return Ok(Lock::start(self, kind, id)),
                Err(holders) => holders,
            };
            let left = deadline.saturating_sub(clock.elapsed());
            if left.is_zero() {
                return Err(RepoError::Locked(holders));
            }
            let jitter = clock::random_below(&**clock, RETRY.as_millis() as u64 / 2);
            tokio::select! {
                () = clock.sleep((RETRY + Duration::from_millis(jitter)).min(left)) => {}
                () = &mut stop => return Err(RepoError::Locked(holders)),
            }
        }
    }

    /// One attempt: look, write, wait for storages that show late what was written, look again.
    async fn try_lock(&self, kind: LockKind) -> Result<Result<LockId, Vec<Holder>>> {
        let before = self.conflicts(kind, None).await?;
        if !before.is_empty() {
            return Ok(Err(before));
        }
        let id = self.write_lock(kind).await?;
        if kind != LockKind::Reading {
            self.env().clock.sleep(SETTLE).await;
        }
        match self.conflicts(kind, Some(id)).await {
            Ok(after) if after.is_empty() => Ok(Ok(id)),
            answer => {
                let handle = id.handle();
                self.storage().remove(handle.clone()).await.act(|| format!("remove {handle}"))?;
                answer.map(Err)
            }
        }
    }

    async fn conflicts(&self, kind: LockKind, own: Option<LockId>) -> Result<Vec<Holder>> {
        let mut holders = self.locks().await?;
        holders.retain(|holder| Some(holder.id) != own && is_conflict(kind, holder));
        Ok(holders)
    }

    async fn write_lock(&self, kind: LockKind) -> Result<LockId> {
        let host = &self.env().host;
        let lock = LockFile {
            time: Time::utc(self.env().clock.now()),
            exclusive: kind == LockKind::Exclusive,
            hostname: host.hostname.clone(),
            username: host.username.clone(),
            pid: host.pid,
            uid: host.uid,
            gid: host.gid,
        };
        self.save_json(FileType::Lock, lock.print()).await.map(LockId::from)
    }
}

/// An unreadable lock may be exclusive.
fn is_conflict(kind: LockKind, other: &Holder) -> bool {
    kind == LockKind::Exclusive || other.file.as_ref().is_none_or(|lock| lock.exclusive)
}

impl Lock {
    /// Stands for a lock where none is written: reading without one, or a storage that refuses deletions.
    ///
    /// It allows what a shared lock allows. The publish fence then always looks at every pack again.
    pub fn none() -> Self {
        Self { shared: None, kind: LockKind::Shared, task: None }
    }

    fn start(repo: &Repository, kind: LockKind, id: LockId) -> Self {
        let state = State { id, refreshed: repo.env().clock.elapsed(), gap: Duration::ZERO, lost: None };
        let held = Arc::new(Held { repo: repo.clone(), kind, state: Mutex::new(state) });
        let task = Task::start(refresh::keep(Arc::clone(&held)));
        Self { shared: Some(held), kind, task: Some(task) }
    }

    /// Which kind it is.
    pub fn kind(&self) -> LockKind {
        self.kind
    }

    /// Fails once the lock is lost, or was not renewed for so long that others may take it for stale.
    pub fn check(&self) -> Result<()> {
        self.watch().check()
    }

    /// Removes the lock file. A lock that others removed is no fault here: `check` tells.
    pub async fn release(mut self) -> Result<()> {
        self.task = None;
        let Some(held) = self.shared.take() else { return Ok(()) };
        let handle = held.state().id.handle();
        match held.repo.storage().remove(handle.clone()).await {
            Err(error) if error.is_not_found() => Ok(()),
            answer => answer.act(|| format!("remove {handle}")),
        }
    }

    /// A view of the lock that outlives no renewal: it can be asked, not released.
    pub(crate) fn watch(&self) -> LockWatch {
        LockWatch(self.shared.clone())
    }
}

/// What an archive keeps of its lock.
#[derive(Debug, Clone)]
pub(crate) struct LockWatch(Option<Arc<Held>>);

impl LockWatch {
    pub fn check(&self) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |held| held.check())
    }

    /// The longest time the lock was not renewed; `None` if there is no lock at all.
    pub fn gap(&self) -> Option<Duration> {
        self.0.as_ref().map(|held| held.gap())
    }
}

impl Held {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<()> {
        let now = self.repo.env().clock.elapsed();
        let state = self.state();
        if let Some(reason) = &state.lost {
            return Err(RepoError::LockLost(reason.clone()));
        }
        let age = now.saturating_sub(state.refreshed);
        if age > LOST_AFTER {
            return Err(RepoError::LockLost(format!("not renewed for {} minutes", age.as_secs() / 60)));
        }
        Ok(())
    }

    fn gap(&self) -> Duration {
        let now = self.repo.env().clock.elapsed();
        let state = self.state();
        state.gap.max(now.saturating_sub(state.refreshed))
    }
}
