//! What all parts of one archive share, and the two questions they ask it: did anything fail, is anything still going on.

use super::{
    builder::Builder,
    claims::{Claim, Reliance},
    gather::Gathered,
    journal::Journal,
    stats::Counters,
    window::Windows,
    writer::Writing,
};
use crate::{
    Repository, Result,
    error::RepoError,
    format::{BlobId, BlobKind, Chunker, Compression},
    index::Index,
    lock::LockWatch,
};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use tokio::sync::Notify;

/// One archive's common state.
pub(super) struct Shared {
    pub repo: Repository,
    pub index: Arc<Index>,
    /// What it has in common with the archives beside it.
    pub writing: Arc<Writing>,
    pub lock: LockWatch,
    pub compression: Compression,
    pub chunking: crate::format::Chunking,
    pub chunker: Chunker,
    pub windows: Windows,
    pub reliance: Arc<Reliance>,
    pub gathered: Gathered,
    pub builder: Mutex<Builder>,
    pub counters: Arc<Counters>,
    pub journal: Option<Arc<Journal>>,
    pub failure: Failure,
    pub work: AtomicUsize,
    /// Told when work ends, a directory is sealed, what is relied on is stored, or something fails.
    pub changed: Arc<Notify>,
}

/// The first error of an archive. Everything after it fails too.
#[derive(Default)]
pub(super) struct Failure {
    is_failed: AtomicBool,
    first: Mutex<Option<RepoError>>,
}

impl Shared {
    /// Fails if anything failed before, or the lock is lost.
    pub fn check(&self) -> Result<()> {
        if self.failure.is_failed.load(Ordering::Acquire) {
            return Err(self.first_failure());
        }
        self.lock.check().inspect_err(|_| self.stop())
    }

    /// Whether anything failed.
    pub fn is_failed(&self) -> bool {
        self.failure.is_failed.load(Ordering::Acquire)
    }

    /// Notes an error; the archive can never be committed afterwards.
    pub fn fail(&self, error: RepoError) {
        self.failure.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop();
    }

    fn stop(&self) {
        self.failure.is_failed.store(true, Ordering::Release);
        self.windows.close();
        self.gathered.clear();
        self.changed.notify_waiters();
    }

    /// The first error, for the first who asks; others learn that there was one.
    pub fn first_failure(&self) -> RepoError {
        let first = self.failure.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(|| RepoError::Torn("something failed before".into()))
    }

    /// Asks whether a blob is new, and if so claims it for the asker.
    pub fn claim(&self, kind: BlobKind, id: &BlobId) -> Claim {
        self.writing.claims.claim(&self.reliance, &self.index, kind, id)
    }

    /// Whether the index has a copy that will stay; its pack is then one that this archive relies on.
    pub fn use_stored(&self, kind: BlobKind, id: &BlobId) -> bool {
        self.reliance.use_stored(&self.index, kind, id)
    }

    pub fn builder(&self) -> MutexGuard<'_, Builder> {
        self.builder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is being computed, and every blob relied on is in a pack, which may still be open.
    pub fn is_packed(&self) -> bool {
        self.has_no_work() && (self.writing.is_dry || self.reliance.is_packed())
    }

    /// Whether nothing is being computed, and every blob relied on is stored.
    pub fn is_stored(&self) -> bool {
        self.has_no_work() && (self.writing.is_dry || self.reliance.is_stored())
    }

    fn has_no_work(&self) -> bool {
        self.work.load(Ordering::Acquire) == 0
    }

    /// Waits until `is_so`, asking again after every change. Fails when the archive does.
    pub async fn wait_until(self: &Arc<Self>, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        let _waiting = Gathered::wait(self);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.check()?;
            if is_so(self) {
                return Ok(());
            }
            changed.await;
        }
    }
}

/// One piece of work that is not done; dropping it says it is. A piece that panicked fails the archive.
pub(super) struct Work(Arc<Shared>);

impl Work {
    pub fn begin(shared: &Arc<Shared>) -> Self {
        shared.work.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(shared))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(RepoError::Torn("a computing job panicked".into()));
        }
        if self.0.work.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.changed.notify_waiters();
        }
    }
}
