//! The content of one file: written by the caller, cut, and at last a list of chunk ids.

use super::{
    chunk::{Chunk, ChunkJob},
    claims::Claim,
    cut::{Rule, Scan, Stream},
    gather::Gathered,
    seal::{Plain, store},
    shared::{Shared, Work},
    stats::add,
    window::{Slot, Window},
};
use crate::{
    Result,
    budget::Closed,
    error::RepoError,
    format::{BlobId, BlobKind, ChunkSizes, Chunker, Chunking},
    sabotage,
};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// How a content is cut into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cutting {
    /// As the repository's configuration says.
    Default,
    /// By content, with chunks of about `mean` bytes.
    Content {
        /// Rounded down to a power of two.
        mean: u32,
    },
    /// At multiples of so many bytes, at most 8 MiB.
    Fixed(u32),
    /// Each write is one chunk.
    AsGiven,
}

/// Takes the content of one file in order. End it with `finish` or `abandon`; one that is merely dropped was
/// interrupted, and the archive can then not be committed.
pub struct ContentWriter {
    shared: Arc<Shared>,
    state: Arc<ContentState>,
    slot: Option<Slot>,
    /// Windows in the caller's hands.
    held: usize,
    /// How many chunks a checkpoint holds already.
    noted: usize,
    is_ended: bool,
}

/// A content that was written and may not be hashed to its end yet. Give it to `put_file`, or abandon it.
pub struct PendingContent {
    shared: Arc<Shared>,
    state: Arc<ContentState>,
    is_ended: bool,
}

/// What a content came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredContent {
    /// Its chunks in order.
    pub chunks: Vec<BlobId>,
    /// Bytes.
    pub length: u64,
    /// What the source says of its version, for the run journal.
    pub token: Option<String>,
}

/// Stands where an id is not known yet.
const UNKNOWN: BlobId = BlobId([0; 32]);

pub(super) type WhenDone = Box<dyn FnOnce(&Arc<Shared>, StoredContent) + Send>;

/// What the writer and the jobs of one content share.
pub(super) struct ContentState {
    chunker: Option<Chunker>,
    inner: Mutex<Inner>,
    /// Told when a segment is scanned, and when a chunk has its id.
    progress: Notify,
}

struct Inner {
    stream: Stream,
    ids: Vec<BlobId>,
    /// Bytes of each chunk.
    lengths: Vec<u32>,
    /// Ids that are still unknown.
    missing: usize,
    is_ended: bool,
    is_abandoned: bool,
    token: Option<String>,
    when_done: Option<WhenDone>,
}

impl ContentWriter {
    /// `length`: what the content is expected to have, if that is known; short ones need no slot.
    pub(super) async fn start(shared: &Arc<Shared>, cutting: Cutting, length: Option<u64>) -> Result<Self> {
        shared.check()?;
        let rule = rule(shared, cutting);
        let small = u64::from(shared.chunker.sizes().min);
        let slot = match length {
            Some(length) if length <= small => None,
            _ => Some(shared.windows.slot().await.map_err(|Closed| shared.first_failure())?),
        };
        let chunker = if let Rule::Rabin(chunker) = &rule { Some(chunker.clone()) } else { None };
        let inner = Inner {
            stream: Stream::new(rule),
            ids: Vec::new(),
            lengths: Vec::new(),
            missing: 0,
            is_ended: false,
            is_abandoned: false,
            token: None,
            when_done: None,
        };
        let state = Arc::new(ContentState { chunker, inner: Mutex::new(inner), progress: Notify::new() });
        Ok(Self { shared: Arc::clone(shared), state, slot, held: 0, noted: 0, is_ended: false })
    }

    /// A buffer of `length` bytes (at most `WINDOW_MAX`) to read into and give to `write`. Waits until memory is free, so
    /// no more than `READ_AHEAD` of them may be held back.
    pub async fn window(&mut self, length: usize) -> Result<Window> {
        self.shared.check()?;
        if self.slot.is_none() && !self.is_empty() {
            // It was announced as short and is not.
            self.take_slot().await?;
        }
        let window = match self.shared.windows.try_take(length) {
            Some(window) => window,
            None => self.wait_for(length).await?,
        };
        self.held += 1;
        Ok(window)
    }

    async fn wait_for(&mut self, length: usize) -> Result<Window> {
        let _waiting = Gathered::wait_for_memory(&self.shared);
        if self.slot.is_none() && self.held > 0 {
            // Who holds some of what all wait for, and waits for more of it, must not: others do the same.
            self.take_slot().await?;
        }
        self.shared.windows.take(self.slot.as_ref(), length).await.map_err(|Closed| self.shared.first_failure())
    }

    async fn take_slot(&mut self) -> Result<()> {
        self.slot = Some(self.shared.windows.slot().await.map_err(|Closed| self.shared.first_failure())?);
        Ok(())
    }

    /// Bytes taken so far.
    pub fn len(&self) -> u64 {
        self.state.inner().stream.len()
    }

    /// Whether nothing was taken yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the next bytes.
    #[expect(clippy::unused_async, reason = "that it need not wait today is no promise")]
    pub async fn write(&mut self, window: Window) -> Result<()> {
        self.shared.check()?;
        add(&self.shared.counters.bytes_read, window.len() as u64);
        self.held = self.held.saturating_sub(1);
        let scan = self.state.inner().stream.write(window);
        match scan {
            None => self.state.cut(&self.shared),
            Some(scan) => self.state.scan(&self.shared, scan),
        }
        Ok(())
    }

    /// Takes bytes that lie elsewhere, by copying them into windows. With `Cutting::AsGiven` they are one chunk if they
    /// have at most `WINDOW_MAX` bytes.
    pub async fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let step = if self.state.is_given() { super::WINDOW_MAX } else { super::WINDOW_LENGTH };
        for piece in bytes.chunks(step) {
            let mut window = self.window(piece.len()).await?;
            window.copy_from_slice(piece);
            self.write(window).await?;
        }
        Ok(())
    }

    /// Takes a hole.
    #[expect(clippy::unused_async, reason = "that it need not wait today is no promise")]
    pub async fn zeros(&mut self, length: u64) -> Result<()> {
        self.shared.check()?;
        if length > 0 {
            self.state.inner().stream.zeros(length);
            self.state.cut(&self.shared);
        }
        Ok(())
    }

    /// Takes chunks over from an earlier content: id and length in bytes of each. What was written before ends in a cut
    /// here. `Missing` if the repository has lost one of them.
    pub async fn keep(&mut self, chunks: &[(BlobId, u64)]) -> Result<()> {
        for (id, _) in chunks {
            if !self.shared.use_stored(BlobKind::Data, id) {
                return Err(RepoError::Missing(format!("data blob {}", id.short())));
            }
        }
        if chunks.is_empty() {
            return Ok(());
        }
        self.end_chunk().await?;
        let mut inner = self.state.inner();
        for (id, length) in chunks {
            inner.ids.push(*id);
            inner.lengths.push(*length as u32);
            inner.stream.skip(*length);
        }
        Ok(())
    }

    /// Waits until the cuts in everything written so far are known, and returns the last of them, as an offset.
    pub async fn last_cut(&mut self) -> Result<u64> {
        self.known(|inner| inner.stream.is_all_scanned().then(|| inner.stream.open())).await
    }

    /// Waits until the id of every chunk that can be cut from what was written is known. That is computing alone and waits
    /// for no storage.
    pub async fn settle(&mut self) -> Result<()> {
        self.last_cut().await?;
        self.state.cut(&self.shared);
        self.known(|inner| (inner.missing == 0).then_some(())).await
    }

    /// Waits until something is known, asking again after every step of the jobs. Fails when the archive does.
    async fn known<T>(&self, ask: impl Fn(&Inner) -> Option<T>) -> Result<T> {
        let _waiting = Gathered::wait(&self.shared);
        loop {
            let (progress, changed) = (self.state.progress.notified(), self.shared.changed.notified());
            tokio::pin!(progress, changed);
            progress.as_mut().enable();
            changed.as_mut().enable();
            self.shared.check()?;
            if let Some(answer) = ask(&self.state.inner()) {
                return Ok(answer);
            }
            tokio::select! {
                () = progress => {}
                () = changed => {}
            }
        }
    }

    /// The chunks whose ids became known since the last call, with the number of those before them.
    pub(super) fn take_chunks(&mut self) -> (usize, Vec<(BlobId, u64)>) {
        let before = self.noted;
        let chunks: Vec<_> = {
            let inner = self.state.inner();
            let all = inner.ids.iter().zip(&inner.lengths).skip(before);
            all.take_while(|(id, _)| **id != UNKNOWN).map(|(id, length)| (*id, u64::from(*length))).collect()
        };
        self.noted += chunks.len();
        (before, chunks)
    }

    /// Forces a cut at the present end.
    async fn end_chunk(&mut self) -> Result<()> {
        self.last_cut().await?;
        self.state.inner().stream.close();
        self.state.cut(&self.shared);
        Ok(())
    }

    /// Says that the content is complete.
    pub fn finish(mut self) -> PendingContent {
        self.is_ended = true;
        {
            let mut inner = self.state.inner();
            inner.stream.close();
            inner.is_ended = true;
        }
        self.state.cut(&self.shared);
        PendingContent { shared: Arc::clone(&self.shared), state: Arc::clone(&self.state), is_ended: false }
    }

    /// Gives the content up, because it cannot be read: the archive goes on without it.
    pub fn abandon(mut self) {
        self.is_ended = true;
        self.state.abandon();
    }
}

impl Drop for ContentWriter {
    fn drop(&mut self) {
        if !self.is_ended {
            self.state.abandon();
            if !sabotage::INTERRUPTION_IGNORED.is_on() {
                self.shared.fail(RepoError::Torn("a content was interrupted".into()));
            }
        }
    }
}

impl PendingContent {
    /// The same, with what its source says of its version: a resumed run takes it over only under an equal one.
    #[must_use]
    pub fn with_token(self, token: Option<String>) -> Self {
        self.state.inner().token = token;
        self
    }

    /// Gives the content up: it changed while it was read, or its file cannot be described.
    pub fn abandon(mut self) {
        self.is_ended = true;
    }

    /// Waits for the chunk ids.
    pub(super) fn when_done(mut self, act: WhenDone) {
        self.is_ended = true;
        let mut inner = self.state.inner();
        inner.when_done = Some(act);
        ContentState::complete(&self.shared, inner);
    }
}

impl Drop for PendingContent {
    fn drop(&mut self) {
        if !self.is_ended {
            self.shared.fail(RepoError::Torn("a content belongs to no file".into()));
        }
    }
}

impl ContentState {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_given(&self) -> bool {
        self.chunker.is_none()
    }

    fn abandon(&self) {
        self.inner().is_abandoned = true;
    }

    /// Queues the scan of a segment; its cuts follow from the same job.
    fn scan(self: &Arc<Self>, shared: &Arc<Shared>, scan: Scan) {
        let (state, owner, work) = (Arc::clone(self), Arc::clone(shared), Work::begin(shared));
        shared.repo.env().compute.spawn(move || {
            if let Some(chunker) = state.chunker.as_ref().filter(|_| !owner.is_failed()) {
                let needed_from = state.inner().stream.needed_from(scan.segment);
                let candidates = scan.run(chunker, needed_from);
                state.inner().stream.scanned(scan.segment, candidates);
                drop(scan);
                state.cut(&owner);
            }
            state.progress.notify_waiters();
            drop(work);
        });
    }

    /// Cuts off every chunk whose end is known and sends it on.
    fn cut(self: &Arc<Self>, shared: &Arc<Shared>) {
        let mut jobs = Vec::new();
        let mut inner = self.inner();
        if inner.is_abandoned {
            return;
        }
        while let Some(chunk) = inner.stream.next_chunk() {
            inner.lengths.push(chunk.len() as u32);
            if let Some(id) = chunk.id_of_hole() {
                inner.ids.push(id);
                store_hole(shared, id, chunk);
                continue;
            }
            let (place, work) = (inner.ids.len(), Work::begin(shared));
            inner.ids.push(UNKNOWN);
            inner.missing += 1;
            jobs.push(ChunkJob { content: Arc::clone(self), place, chunk, work });
        }
        Self::complete(shared, inner);
        for job in jobs {
            Gathered::add(shared, job);
        }
    }

    /// Notes the id of the chunk at a place.
    pub fn resolve(&self, shared: &Arc<Shared>, place: usize, id: BlobId) {
        let mut inner = self.inner();
        inner.ids[place] = id;
        inner.missing -= 1;
        Self::complete(shared, inner);
        self.progress.notify_waiters();
    }

    /// Hands the content out once it is whole and someone waits for it.
    fn complete(shared: &Arc<Shared>, mut inner: MutexGuard<'_, Inner>) {
        let is_whole = inner.is_ended && inner.missing == 0 && inner.stream.is_all_cut();
        if is_whole && let Some(act) = inner.when_done.take() {
            let content = StoredContent {
                chunks: std::mem::take(&mut inner.ids),
                length: inner.stream.len(),
                token: inner.token.take(),
            };
            drop(inner);
            act(shared, content);
        }
    }
}

/// A piece of a hole has a known id; its bytes are stored once.
fn store_hole(shared: &Arc<Shared>, id: BlobId, chunk: Chunk) {
    if shared.claim(BlobKind::Data, &id) == Claim::New {
        let (owner, work) = (Arc::clone(shared), Work::begin(shared));
        shared.repo.env().compute.spawn(move || {
            store(&owner, BlobKind::Data, id, Plain::Chunk(chunk));
            drop(work);
        });
    }
}

fn rule(shared: &Shared, cutting: Cutting) -> Rule {
    let fixed = |size: u32| Rule::Fixed(size.clamp(1, super::WINDOW_MAX as u32));
    match (cutting, shared.chunking) {
        (Cutting::AsGiven, _) => Rule::Given,
        (Cutting::Fixed(size), _) | (Cutting::Default, Chunking::Fixed(size)) => fixed(size),
        (Cutting::Default, Chunking::Rabin(_)) => Rule::Rabin(shared.chunker.clone()),
        (Cutting::Content { mean }, _) => {
            // No chunk may be longer than what a long content's reserve is made for.
            let mean = mean.min(ChunkSizes::DEFAULT.mean);
            Rule::Rabin(Chunker::new(shared.repo.config().polynomial, ChunkSizes::around(mean)))
        }
    }
}

impl fmt::Debug for ContentWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentWriter({} bytes)", self.len())
    }
}

impl fmt::Debug for PendingContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingContent")
    }
}
