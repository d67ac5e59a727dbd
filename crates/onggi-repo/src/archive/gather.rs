//! Short chunks go to the computing threads several at a time: a thread that is woken for each would spend as long on
//! waking as on the chunk.
//!
//! Nothing waits here for ever: whoever waits for what jobs do says so, and until it has it every job goes at once.

use super::{chunk::ChunkJob, shared::Shared, writer::Writing};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

/// Chunks up to this length are gathered, in bytes; longer ones take much longer than a thread takes to wake.
const SHORT: u64 = 64 << 10;
/// Jobs of one batch.
const JOBS: usize = 32;
/// Bytes of one batch: little of the memory for what is read.
const BYTES: u64 = 256 << 10;

/// Jobs that no thread has yet.
#[derive(Default)]
pub(super) struct Gathered {
    batch: Mutex<Batch>,
    /// How many wait for what jobs do.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Batch {
    jobs: Vec<ChunkJob>,
    bytes: u64,
}

/// Somebody waits for what jobs do; until this is dropped none of the archive is held back.
pub(super) struct Waiting(Arc<Shared>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.gathered.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Somebody waits for memory; until this is dropped none of any archive is held back.
pub(super) struct WaitingForMemory(Arc<Writing>);

impl Drop for WaitingForMemory {
    fn drop(&mut self) {
        self.0.awaited.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Ends what was begun but not sent, with the archive: each job holds what holds it. Nor is its journal written on, which
/// the next attempt opens.
pub(super) struct Emptied(pub(super) Arc<Shared>);

impl Drop for Emptied {
    fn drop(&mut self) {
        self.0.gathered.clear();
        self.0.journal.iter().for_each(|journal| journal.close());
    }
}

impl Gathered {
    /// Takes a job, and sends it on its way now or with others.
    pub fn add(shared: &Arc<Shared>, job: ChunkJob) {
        if job.chunk.len() > SHORT {
            return send(shared, vec![job]);
        }
        let gathered = &shared.gathered;
        let mut batch = gathered.batch.lock().unwrap_or_else(PoisonError::into_inner);
        batch.bytes += job.chunk.len();
        batch.jobs.push(job);
        // asked under the lock: who begins to wait counts itself first and takes the batch then
        let is_awaited = gathered.waiting.load(Ordering::Acquire) + shared.writing.awaited.load(Ordering::Acquire) > 0;
        if is_awaited || batch.jobs.len() >= JOBS || batch.bytes >= BYTES {
            let jobs = std::mem::take(&mut *batch).jobs;
            drop(batch);
            send(shared, jobs);
        }
    }

    /// Sends what is there, and from now on everything at once.
    pub fn wait(shared: &Arc<Shared>) -> Waiting {
        shared.gathered.waiting.fetch_add(1, Ordering::AcqRel);
        send(shared, shared.gathered.take());
        Waiting(Arc::clone(shared))
    }

    /// The same for all archives at once: the memory is common.
    pub fn wait_for_memory(shared: &Arc<Shared>) -> WaitingForMemory {
        shared.writing.awaited.fetch_add(1, Ordering::AcqRel);
        for archive in shared.writing.archives() {
            send(&archive, archive.gathered.take());
        }
        WaitingForMemory(Arc::clone(&shared.writing))
    }

    /// Gives up what is there.
    pub fn clear(&self) {
        drop(self.take());
    }

    fn take(&self) -> Vec<ChunkJob> {
        std::mem::take(&mut *self.batch.lock().unwrap_or_else(PoisonError::into_inner)).jobs
    }
}

fn send(shared: &Arc<Shared>, jobs: Vec<ChunkJob>) {
    if !jobs.is_empty() {
        let owner = Arc::clone(shared);
        shared.repo.env().compute.spawn(move || jobs.into_iter().for_each(|job| job.run(&owner)));
    }
}
