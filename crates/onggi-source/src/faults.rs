//! Scripted faults at the seam between an adapter and its system: every call there has a number, and each number can
//! be made to fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::context::Stop;
use crate::source::{Result, SourceError};

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It has no effect and fails.
    Error,
    /// It has its effect and fails all the same: the answer was lost.
    ErrorButDone,
    /// The run is stopped just before it; the call itself goes well.
    Stop(Stop),
    /// The process dies before the call.
    Gone,
    /// The process dies after the call had its effect, before the answer is seen.
    GoneButDone,
}

/// The script and the record of one system's calls. Clones share both.
#[derive(Clone, Default)]
pub struct Faults(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    gone: Notify,
}

#[derive(Default)]
struct State {
    calls: Vec<String>,
    script: BTreeMap<usize, Fault>,
    stop: Option<watch::Sender<Option<Stop>>>,
}

impl Faults {
    /// Scripts the call with this number, counted from 0 over the life of the system.
    pub fn at(&self, call: usize, fault: Fault) {
        self.state().script.insert(call, fault);
    }

    /// Forgets the script, not the record.
    pub fn clear(&self) {
        self.state().script.clear();
    }

    /// Names whom [`Fault::Stop`] stops.
    pub fn stops(&self, stop: watch::Sender<Option<Stop>>) {
        self.state().stop = Some(stop);
    }

    /// The calls so far, in order.
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// Ends when a call met [`Fault::Gone`] or [`Fault::GoneButDone`]; whoever waits for it then drops the run.
    pub async fn gone(&self) {
        self.0.gone.notified().await;
    }

    /// Makes one call on the system: `work` is its effect. A scripted failure is `Unreachable`.
    pub async fn call<T>(&self, name: impl Into<String>, work: impl Future<Output = Result<T>>) -> Result<T> {
        let name = name.into();
        let lost = SourceError::Unreachable(format!("{name}: scripted"));
        match self.record(name) {
            None => work.await,
            Some(Fault::Error) => Err(lost),
            Some(Fault::ErrorButDone) => {
                work.await?;
                Err(lost)
            }
            Some(Fault::Stop(stop)) => {
                if let Some(sender) = &self.state().stop {
                    sender.send_replace(Some(stop));
                }
                work.await
            }
            Some(Fault::Gone) => self.die().await,
            Some(Fault::GoneButDone) => {
                drop(work.await);
                self.die().await
            }
        }
    }

    /// Counts the call; the script applies to it once.
    fn record(&self, name: String) -> Option<Fault> {
        let mut state = self.state();
        let number = state.calls.len();
        state.calls.push(name);
        state.script.remove(&number)
    }

    async fn die<T>(&self) -> T {
        self.0.gone.notify_one();
        std::future::pending().await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
