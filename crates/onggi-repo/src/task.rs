//! Background tasks that end with their owner. The only place in this crate that starts one.

use std::future::Future;
use tokio::task::JoinHandle;

/// A running task; dropping it ends the task at its next `await`.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    /// Starts a task on the current runtime.
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    pub fn start(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
