//! What all archives that are written at once into one repository have in common: the memory, the blobs on their way,
//! the open packs and the uploads.
//!
//! So three servers that were made from one image cost the image once, hosts beside each other need little more memory
//! than one, and none fills the storage with small packs. An archive that fails or is dropped takes nothing from the
//! others: what it claimed is stored in any case. Only what concerns the storage itself fails all.

use super::{
    ArchiveOptions,
    claims::Claims,
    packer::Packer,
    seal::{self, SealJob},
    shared::Shared,
    upload::{self, Upload},
    window::CommonWindows,
};
use crate::{
    Repository, WriteBudget,
    budget::{BufferPool, ByteBudget},
    error::RepoError,
    format::ChunkSizes,
    index::Index,
    task::Task,
};
use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use tokio::sync::{Notify, mpsc};

/// Keeps the common part going as long as an archive holds it.
pub(crate) struct Writer {
    pub(super) writing: Arc<Writing>,
    _tasks: [Task; 2],
}

impl Writer {
    /// The one that other archives use at present, or a new one.
    pub(super) fn join(repo: &Repository, options: &ArchiveOptions, sizes: ChunkSizes) -> Arc<Self> {
        if options.dry_run {
            return Arc::new(Self::start(repo, options, sizes));
        }
        let mut present = repo.writer().lock().unwrap_or_else(PoisonError::into_inner);
        let index = repo.index();
        let fits = |writer: &Arc<Self>| !writer.writing.is_failed() && Arc::ptr_eq(&writer.writing.index, &index);
        present.upgrade().filter(fits).unwrap_or_else(|| {
            let writer = Arc::new(Self::start(repo, options, sizes));
            *present = Arc::downgrade(&writer);
            writer
        })
    }

    fn start(repo: &Repository, options: &ArchiveOptions, sizes: ChunkSizes) -> Self {
        let (waiting, jobs) = mpsc::unbounded_channel();
        let (uploads, packs) = mpsc::unbounded_channel();
        let pool = repo.env().compute.buffers().clone();
        let WriteBudget { windows, packs: packs_max, trees } = options.budget;
        let writing = Arc::new(Writing {
            index: repo.index(),
            is_dry: options.dry_run,
            windows: Arc::new(CommonWindows::new(windows, sizes.max.into(), pool.clone())),
            awaited: AtomicUsize::new(0),
            pool,
            packs: ByteBudget::new(packs_max),
            trees: TreeBudget::new(trees),
            claims: Claims::new(),
            packer: Packer::new(packs_max),
            waiting,
            uploads,
            archives: Mutex::default(),
            is_failed: AtomicBool::new(false),
            changed: Notify::new(),
            repo: repo.clone(),
        });
        let connections = options.connections.unwrap_or_else(|| repo.at_once()).max(1);
        let tasks = [
            Task::start(seal::waiting_room(Arc::clone(&writing), jobs)),
            Task::start(upload::uploader(Arc::clone(&writing), packs, connections)),
        ];
        Self { writing, _tasks: tasks }
    }
}

impl Drop for Writer {
    /// Nobody writes any more; what reads back or waits for the next run holds little.
    fn drop(&mut self) {
        self.writing.pool.trim();
    }
}

/// The common part.
pub(super) struct Writing {
    pub repo: Repository,
    pub index: Arc<Index>,
    pub is_dry: bool,
    pub windows: Arc<CommonWindows>,
    /// How many wait for memory that somebody's gathered chunks may hold.
    pub awaited: AtomicUsize,
    pub pool: BufferPool,
    pub packs: ByteBudget,
    pub trees: TreeBudget,
    pub claims: Claims,
    pub packer: Packer,
    pub waiting: mpsc::UnboundedSender<SealJob>,
    pub uploads: mpsc::UnboundedSender<Upload>,
    archives: Mutex<Vec<Weak<Shared>>>,
    is_failed: AtomicBool,
    /// Told when a pack grows.
    pub changed: Notify,
}

impl Writing {
    /// Takes an archive in, which fails if the others did.
    pub fn enter(&self, archive: &Arc<Shared>) {
        let mut archives = self.archives.lock().unwrap_or_else(PoisonError::into_inner);
        archives.retain(|archive| archive.strong_count() > 0);
        archives.push(Arc::downgrade(archive));
        if self.is_failed() {
            archive.fail(RepoError::Torn("what is written beside it failed".into()));
        }
    }

    /// All archives that are there.
    pub fn archives(&self) -> Vec<Arc<Shared>> {
        self.archives.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether nothing can be stored any more.
    pub fn is_failed(&self) -> bool {
        self.is_failed.load(Ordering::Acquire)
    }

    /// Ends all archives: what some rely on cannot be stored.
    pub fn fail(&self, error: &RepoError) {
        self.is_failed.store(true, Ordering::Release);
        self.packs.close();
        for archive in self.archives() {
            archive.fail(error.again());
        }
        self.changed.notify_waiters();
    }
}

/// A job of the common part. One that panicked fails all archives, since nobody else stores what it had.
pub(super) struct InHand(pub Arc<Writing>);

impl Drop for InHand {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(&RepoError::Torn("a computing job panicked".into()));
        }
    }
}

/// Memory for the directories of all archives that are not complete; each has an equal part.
#[derive(Debug, Clone)]
pub(super) struct TreeBudget(Arc<u64>);

impl TreeBudget {
    fn new(total: u64) -> Self {
        Self(Arc::new(total))
    }

    /// Bytes for each of those who hold a copy of the original.
    pub fn part(&self) -> usize {
        let copies = (Arc::strong_count(&self.0) - 1).max(1);
        usize::try_from(*self.0 / copies as u64).unwrap_or(usize::MAX)
    }
}
