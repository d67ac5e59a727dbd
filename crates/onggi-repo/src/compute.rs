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
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(|index| format!("compute-{index}"))
            .panic_handler(|_| tracing::error!("a computing job panicked; its run fails"))
            .build()
            .expect("the system starts threads");
        let standard = WriteBudget::STANDARD;
        Self { pool: Arc::new(pool), buffers: BufferPool::new(standard.windows + standard.packs) }
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

    /// Runs a job and waits for its answer without blocking the caller's thread.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tx, rx) = oneshot::channel();
        self.pool.spawn(move || drop(tx.send(job())));
        rx.await.expect("a computing job does not panic")
    }
}

impl fmt::Debug for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compute({} threads)", self.threads())
    }
}
