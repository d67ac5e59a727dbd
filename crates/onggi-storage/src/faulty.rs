//! A storage with faults: scripted ones that hit an exact call, or seeded ones that hit by chance but replay exactly.
//!
//! The worst a storage does is to answer with an error after it did what was asked, so that comes first and most often.

mod chance;
mod fault;
mod lists;

#[cfg(test)]
mod tests;

pub use chance::Chance;
pub use fault::{Failure, Fault, ListFault, Rule};

use crate::{Advice, FileInfo, FileType, Handle, Properties, Result, Storage, StorageError, recording::Call};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    future,
    stream::{self, BoxStream, StreamExt, TryStreamExt},
};
use jiff::Timestamp;
use lists::History;
use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Puts faults between a caller and an inner storage.
///
/// `prepare`, `create`, `remove` and `remove_leftovers` are the mutating calls. Rules are asked in order and the first that matches a call decides; then chance is asked, if there is any. After
/// [`Fault::Stop`] or a fault with `then_stop` nothing reaches the inner storage any more: the caller's process is as
/// good as dead. A test then opens the inner storage anew and looks at what is left.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn Storage>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    chance: Option<Chance>,
    calls: usize,
    mutations: usize,
    injected: Vec<(Call, Fault)>,
    stopped: bool,
    /// The next mutating call is done before everything stops.
    one_more: bool,
    history: History,
}

impl Faulty {
    /// No faults, until rules or chance are added.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// Adds a rule behind those that are there.
    #[must_use]
    pub fn with(self, rule: Rule) -> Self {
        self.add(rule);
        self
    }

    /// Adds faults by chance.
    #[must_use]
    pub fn with_chance(self, chance: Chance) -> Self {
        self.lock().chance = Some(chance);
        self
    }

    /// Adds a rule while calls go on.
    pub fn add(&self, rule: Rule) {
        self.lock().rules.push(rule);
    }

    /// Ends all faults, a stop included.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.rules.clear();
        (state.chance, state.stopped, state.one_more) = (None, false, false);
    }

    /// How many calls there were that change what is stored: the range of `k` in a loop over all crash points.
    pub fn mutations(&self) -> usize {
        self.lock().mutations
    }

    /// How many calls there were in all.
    pub fn calls(&self) -> usize {
        self.lock().calls
    }

    /// Which calls were hit, by what.
    pub fn injected(&self) -> Vec<(Call, Fault)> {
        self.lock().injected.clone()
    }

    /// Whether everything fails since a stop.
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to a call; `None` if it is done as asked.
    fn decide(&self, call: &Call) -> Option<Fault> {
        self.lock().decide(call)
    }

    /// Does a call, or what a fault makes of it that concerns neither content nor answer.
    async fn act<T: Send>(&self, fault: Option<Fault>, act: impl Future<Output = Result<T>> + Send) -> Result<T> {
        match fault {
            None | Some(Fault::Done) => act.await,
            Some(Fault::ErrorButDone(failure)) => act.await.and(Err(failure.error())),
            Some(Fault::Hang) => future::pending().await,
            Some(fault) => Err(fault.failure().error()),
        }
    }

    /// Leaves broken content under the final name.
    async fn tear(&self, handle: Handle, content: Bytes, failure: Failure) -> Result<()> {
        self.inner.create(handle, content).await?;
        Err(failure.error())
    }
}

impl State {
    fn decide(&mut self, call: &Call) -> Option<Fault> {
        let mutating = call.is_mutating();
        self.calls += 1;
        self.mutations += usize::from(mutating);
        if self.stopped {
            return Some(Fault::Error(Failure::Unreachable));
        }
        if self.one_more && mutating {
            (self.stopped, self.one_more) = (true, false);
            return Some(Fault::ErrorButDone(Failure::Unreachable));
        }
        let ruled = self.rules.iter_mut().find_map(|rule| rule.hit(call));
        let (fault, then_stop) = ruled.or_else(|| Some((self.chance.as_mut()?.draw(call)?, false)))?;
        self.injected.push((call.clone(), fault.clone()));
        self.one_more |= fault == Fault::Swapped;
        self.stopped |= (then_stop && !self.one_more) || fault == Fault::Stop;
        Some(fault)
    }
}

#[async_trait]
impl Storage for Faulty {
    fn properties(&self) -> Properties {
        self.inner.properties()
    }

    async fn prepare(&self) -> Result<()> {
        let fault = self.decide(&Call::Prepare);
        self.act(fault, self.inner.prepare()).await
    }

    async fn create(&self, handle: Handle, content: Bytes) -> Result<()> {
        match self.decide(&Call::Create(handle.clone(), content.len() as u64)) {
            Some(Fault::Lie) => Ok(()),
            Some(Fault::Prefix(failure)) => self.tear(handle, content.slice(..content.len() / 2), failure).await,
            Some(Fault::Zeros(failure)) => self.tear(handle, vec![0; content.len()].into(), failure).await,
            fault => {
                let noted = async {
                    self.inner.create(handle.clone(), content).await?;
                    self.lock().history.created(handle);
                    Ok(())
                };
                self.act(fault, noted).await
            }
        }
    }

    async fn read(&self, handle: Handle, range: Option<Range<u64>>) -> Result<Bytes> {
        let fault = self.decide(&Call::Read(handle.clone(), range.clone()));
        match fault {
            Some(Fault::NotThere) => Err(StorageError::NotFound(handle)),
            Some(Fault::ShortBody | Fault::FlippedBit | Fault::Shifted) => {
                let content = self.inner.read(handle, range).await?;
                Ok(fault.map_or(content.clone(), |fault| fault.spoil(&content)))
            }
            fault => self.act(fault, self.inner.read(handle, range)).await,
        }
    }

    async fn stat(&self, handle: Handle) -> Result<FileInfo> {
        match self.decide(&Call::Stat(handle.clone())) {
            Some(Fault::NotThere) => Err(StorageError::NotFound(handle)),
            fault => self.act(fault, self.inner.stat(handle)).await,
        }
    }

    fn list(&self, file_type: FileType) -> BoxStream<'_, Result<FileInfo>> {
        let fault = self.decide(&Call::List(file_type));
        if fault.is_none() {
            return self.inner.list(file_type);
        }
        let listed = async move {
            let whole = self.inner.list(file_type).try_collect::<Vec<_>>();
            match fault {
                Some(Fault::List(fault)) => {
                    whole.await.map(|files| fault.apply(files, file_type, &self.lock().history))
                }
                fault => self.act(fault, whole).await.map(|files| files.into_iter().map(Ok).collect()),
            }
        };
        stream::once(listed).map_ok(stream::iter).try_flatten().boxed()
    }

    async fn remove(&self, handle: Handle) -> Result<()> {
        match self.decide(&Call::Remove(handle.clone())) {
            Some(Fault::Lie) => Ok(()),
            Some(Fault::Held) => Err(StorageError::Immutable(handle)),
            fault => {
                let noted = async {
                    let info = self.inner.stat(handle.clone()).await?;
                    self.inner.remove(handle).await?;
                    self.lock().history.removed(info);
                    Ok(())
                };
                self.act(fault, noted).await
            }
        }
    }

    async fn remove_leftovers(&self, before: Timestamp) -> Result<u64> {
        let fault = self.decide(&Call::RemoveLeftovers);
        self.act(fault, self.inner.remove_leftovers(before)).await
    }

    fn advise(&self, handle: &Handle, advice: Advice) {
        self.inner.advise(handle, advice);
    }
}
