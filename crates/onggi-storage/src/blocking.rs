//! Calls that block run on threads of their own, away from those that serve tasks.

use std::panic;
use tokio::task::JoinError;

/// Runs a function that blocks; a panic in it goes on in the caller. Fails only while the runtime shuts down.
pub(crate) async fn run<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    tokio::task::spawn_blocking(act).await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => panic::resume_unwind(panic),
        Err(cancelled) => cancelled,
    })
}
