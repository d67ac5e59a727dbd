//! The fixed pool of threads that crunches bytes: chunking, hashing, compression, sealing. Async code carries bytes to
//! it and never crunches itself.

use crate::budget::{BufferPool, WriteBudget};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::{fmt, sync::Arc};
use tokio::sync::oneshot;

/// A pool of threads; clones share it.
#[derive(Clone)]
pub struct Compute {
    pool: Arc<ThreadPool>,
    buffers: BufferPool,
}

impl Compute {
    /// Starts that many threads, at least one.
    ///
    /// # Panics
    /// If the system refuses to start a thread.
    pub fn new(threads: usize) -> Self {
        let standard = WriteBudget::STANDARD;
        let buffers = BufferPool::new(standard.windows + standard.packs + WriteBudget::IDLE);
        Self { pool: pool("compute", threads.max(1), || {}), buffers }
    }

    /// As many threads beside these, which share their buffers. Each begins with `at_start`, such as giving up rights.
    ///
    /// # Panics
    /// If the system refuses to start a thread.
    #[must_use]
    pub fn beside(&self, name: &'static str, at_start: impl Fn() + Send + Sync + 'static) -> Self {
        Self { pool: pool(name, self.threads(), at_start), buffers: self.buffers.clone() }
    }

    /// Buffers for bytes on their way through these threads.
    pub(crate) fn buffers(&self) -> &BufferPool {
        &self.buffers
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Queues a job and goes on. A job must not wait for other jobs or for I/O that needs this pool.
    pub(crate) fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        self.pool.spawn(job);
    }

    /// Runs a job that borrows; the caller's thread waits for it.
    pub fn run_here<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        self.pool.install(job)
    }

    /// Runs a job and waits for its answer without blocking the caller's thread.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tx, rx) = oneshot::channel();
        self.pool.spawn(move || drop(tx.send(job())));
        rx.await.expect("a computing job does not panic")
    }
}

fn pool(name: &'static str, threads: usize, at_start: impl Fn() + Send + Sync + 'static) -> Arc<ThreadPool> {
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(move |index| format!("{name}-{index}"))
        .start_handler(move |_| at_start())
        .panic_handler(|_| tracing::error!("a computing job panicked; its run fails"))
        .build();
    Arc::new(pool.expect("the system starts threads"))
}

impl fmt::Debug for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compute({} threads)", self.threads())
    }
}
