//! A snapshot that is stored while it arrives: who reads what is not there yet waits for it.
//!
//! If the stream breaks, what was read belongs to no snapshot; it is read once more, from another one that then lies in
//! the spool whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use tokio::sync::watch;

use super::snapshot::{Coming, Received, TRAILER_BYTES};
use crate::context::{Context, Problem, Spool};
use crate::item::Layout;
use crate::source::{Known, ReadAt, ReadError, Result};

/// The content of the stored file.
pub(super) struct Tail {
    state: watch::Sender<State>,
    /// The beginning that the reader knows of.
    opened: AtomicU32,
}

#[derive(Clone)]
struct State {
    spool: Arc<dyn Spool>,
    /// Bytes of all of it.
    length: u64,
    /// Bytes that can be read.
    there: u64,
    /// It came to its confirmed end.
    is_whole: bool,
    /// How often a stream was begun anew.
    begun_anew: u32,
}

impl Tail {
    pub fn new(coming: &Coming) -> Self {
        let (spool, length) = (Arc::clone(coming.spool()), coming.length());
        let state = State { spool, length, there: 0, is_whole: false, begun_anew: 0 };
        Self { state: watch::Sender::new(state), opened: AtomicU32::new(0) }
    }

    /// So many bytes lie in the spool.
    pub fn came(&self, there: u64) {
        self.state.send_modify(|state| state.there = there);
    }

    /// The stream broke; another is begun.
    pub fn broke(&self) {
        self.state.send_modify(|state| state.begun_anew += 1);
    }

    /// All of it is there.
    pub fn ended(&self, received: &Received) {
        self.state.send_modify(|state| {
            state.spool = Arc::clone(&received.spool);
            state.length = received.db_size + TRAILER_BYTES;
            (state.there, state.is_whole) = (state.length, true);
        });
    }

    /// Waits until what was opened is as wanted. Of a stream that cannot be had at all nobody is told: who reads it ends
    /// with it.
    async fn wait(&self, cx: &Context, is_wanted: impl Fn(&State) -> bool) -> Result<State, ReadError> {
        let opened = self.opened.load(Ordering::Acquire);
        let mut told = self.state.subscribe();
        let wanted = told.wait_for(|state| state.begun_anew != opened || is_wanted(state));
        // The sender is here.
        let Ok(state) = cx.unless_stopped(wanted).await?.map(|state| state.clone()) else {
            return std::future::pending().await;
        };
        if state.begun_anew != opened {
            let text = "the stream broke, another snapshot is read".to_owned();
            return Err(ReadError::Item(Problem { class: "changed", path: None, text }));
        }
        Ok(state)
    }
}

#[async_trait]
impl ReadAt for Tail {
    async fn open(&self, cx: &Context, _known: &Known<'_>) -> Result<Layout, ReadError> {
        loop {
            self.opened.store(self.state.borrow().begun_anew, Ordering::Release);
            match self.wait(cx, |state| state.is_whole || state.begun_anew == 0).await {
                Ok(state) => return Ok(Layout::dense(state.length)),
                // Begun anew in between: that one is opened.
                Err(ReadError::Item(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn read(&self, cx: &Context, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let end = offset + buffer.len() as u64;
        let state = self.wait(cx, |state| end <= state.there).await?;
        state.spool.read(cx, offset, buffer).await
    }

    async fn confirm(&self, cx: &Context) -> Result<(), ReadError> {
        self.wait(cx, |state| state.is_whole).await.map(drop)
    }
}
