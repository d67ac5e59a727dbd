//! What all parts of one archive share, and the two questions they ask it: did anything fail, is anything still going on.

use super::{
    builder::Builder,
    gather::Gathered,
    journal::Journal,
    packer::Packer,
    run::{RunTable, UsedPacks},
    seal::SealJob,
    stats::Counters,
    upload::{NewFiles, Upload},
    window::Windows,
};
use crate::{
    Repository, Result,
    budget::{BufferPool, ByteBudget},
    error::RepoError,
    format::{BlobId, BlobKind, Chunker, Compression},
    index::Index,
    lock::LockWatch,
};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use tokio::sync::{Notify, mpsc};

/// One archive's common state.
pub(super) struct Shared {
    pub repo: Repository,
    pub index: Arc<Index>,
    pub lock: LockWatch,
    pub compression: Compression,
    pub chunking: crate::format::Chunking,
    pub chunker: Chunker,
    pub is_dry: bool,
    pub windows: Windows,
    pub pool: BufferPool,
    pub packs: ByteBudget,
    pub run: RunTable,
    pub used: UsedPacks,
    pub gathered: Gathered,
    pub packer: Packer,
    pub waiting: mpsc::UnboundedSender<SealJob>,
    pub uploads: mpsc::UnboundedSender<Upload>,
    pub builder: Mutex<Builder>,
    pub counters: Counters,
    pub new_files: Mutex<NewFiles>,
    pub journal: Option<Journal>,
    pub failure: Failure,
    pub work: AtomicUsize,
    /// Packs that are closed and not confirmed.
    pub sending: AtomicUsize,
    /// Told when work ends, a directory is sealed, a pack grows or something fails.
    pub changed: Notify,
}

/// The first error of an archive. Everything after it fails too.
#[derive(Default)]
pub(super) struct Failure {
    is_failed: AtomicBool,
    first: Mutex<Option<RepoError>>,
}

/// Whether a blob must be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is stored, or on its way.
    Known,
    /// It is not, and the asker must store it: nobody else will.
    New,
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
        self.packs.close();
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
        let mut run = self.run.shard(id);
        if run.contains(&(kind, *id)) {
            return Claim::Known;
        }
        if self.use_stored(kind, id) {
            return Claim::Known;
        }
        run.insert((kind, *id));
        Claim::New
    }

    /// Whether the index has a copy that will stay; its pack is then one that this archive relies on.
    pub fn use_stored(&self, kind: BlobKind, id: &BlobId) -> bool {
        let found = self.index.live_number(kind, id);
        if let Some((number, _)) = found {
            self.used.mark(number);
        }
        found.is_some()
    }

    pub fn builder(&self) -> MutexGuard<'_, Builder> {
        self.builder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn new_files(&self) -> MutexGuard<'_, NewFiles> {
        self.new_files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is being computed or sent.
    pub fn is_idle(&self) -> bool {
        self.work.load(Ordering::Acquire) == 0
    }

    /// Whether every closed pack reached the storage.
    pub fn has_stored_all(&self) -> bool {
        self.sending.load(Ordering::Acquire) == 0
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

impl Drop for Shared {
    /// Between runs a daemon holds little.
    fn drop(&mut self) {
        self.pool.trim();
    }
}

/// One piece of work that is not done; dropping it says it is. A piece that panicked fails the archive.
pub(super) struct Work {
    shared: Arc<Shared>,
    is_pack: bool,
}

impl Work {
    pub fn begin(shared: &Arc<Shared>) -> Self {
        Self::new(shared, false)
    }

    /// A pack that is closed and must reach the storage.
    pub fn pack(shared: &Arc<Shared>) -> Self {
        shared.sending.fetch_add(1, Ordering::AcqRel);
        Self::new(shared, true)
    }

    fn new(shared: &Arc<Shared>, is_pack: bool) -> Self {
        shared.work.fetch_add(1, Ordering::AcqRel);
        Self { shared: Arc::clone(shared), is_pack }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail(RepoError::Torn("a computing job panicked".into()));
        }
        let was_last_pack = self.is_pack && self.shared.sending.fetch_sub(1, Ordering::AcqRel) == 1;
        if self.shared.work.fetch_sub(1, Ordering::AcqRel) == 1 || was_last_pack {
            self.shared.changed.notify_waiters();
        }
    }
}
