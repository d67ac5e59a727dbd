//! Reading the contents of many files at once: planned by pack, in few large reads, with bounded memory. Blobs arrive in
//! the order of the storage, not of the files; each was authenticated and hashed before it is handed out.

use crate::{
    Compute, Repository, Result,
    archive::length_of_zeros,
    budget::{ByteBudget, Permit},
    error::{Act, Problem, RepoError, chain},
    format::{BlobId, BlobKind, MasterKey, blob},
    index::Location,
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Notify;

/// The content of one file.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// The caller's name for it.
    pub key: usize,
    /// Its chunks.
    pub content: Vec<BlobId>,
}

/// Where fetched content goes. Called from computing threads, for different places at once.
pub trait FetchSink: Send + Sync {
    /// Verified bytes at an offset of a file.
    fn write(&self, key: usize, offset: u64, bytes: &[u8]);
    /// Bytes that are all zero: a place for a hole.
    fn hole(&self, key: usize, offset: u64, length: u64);
    /// Bytes that no copy could give. Their length is known from the index, or 0 if that has lost the blob too; offsets
    /// after such a blob are wrong by what it had.
    fn lost(&self, key: usize, offset: u64, length: u64, problem: Problem);
    /// Everything of this file was handed out.
    fn done(&self, key: usize);
    /// Asked before each read; `true` ends the fetch early.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// How to fetch.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Reads at once; 0: what the storage says is useful.
    pub connections: usize,
    /// Bytes read and not yet handed out.
    pub memory: u64,
    /// Who opens what was read and calls the sink; `None`: the repository's own threads.
    pub threads: Option<Compute>,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self { connections: 0, memory: 48 << 20, threads: None }
    }
}

/// Unneeded bytes between two blobs that are read rather than asked for twice.
const GAP_MAX: u32 = 1 << 20;
/// The longest read.
const PART_MAX: u64 = 32 << 20;

/// Where a blob's plaintext goes.
#[derive(Debug, Clone, Copy)]
struct Place {
    file: u32,
    offset: u64,
}

struct Wanted {
    id: BlobId,
    location: Location,
    places: Vec<Place>,
}

/// One read: neighbouring blobs of one pack.
struct Part {
    blobs: Vec<Wanted>,
    start: u64,
    end: u64,
}

/// What all reads of one fetch share.
struct Shared {
    repo: Repository,
    threads: Compute,
    sink: Arc<dyn FetchSink>,
    files: Vec<File>,
    running: AtomicUsize,
    finished: Notify,
    retries: Mutex<Vec<(Wanted, RepoError)>>,
}

struct File {
    key: usize,
    missing: AtomicUsize,
}

impl Repository {
    /// Reads the contents of many files. Lost blobs are told to the sink and do not end the fetch.
    pub async fn fetch(&self, files: Vec<Fetch>, sink: Arc<dyn FetchSink>, options: FetchOptions) -> Result<()> {
        let threads = options.threads.unwrap_or_else(|| self.env().compute.clone());
        let (repo, told) = (self.clone(), sink.clone());
        let (plan, wanted) = threads.run(move || plan(&repo, files, &told)).await;
        let shared = Arc::new(Shared {
            repo: self.clone(),
            threads,
            sink,
            files: plan,
            running: AtomicUsize::new(0),
            finished: Notify::new(),
            retries: Mutex::default(),
        });
        let connections = if options.connections == 0 { self.at_once() } else { options.connections };
        let part_max = (options.memory / (2 * connections as u64)).clamp(1 << 20, PART_MAX);
        let budget = ByteBudget::new(options.memory);
        let parts = stream::iter(parts(wanted, part_max));
        parts
            .take_while(|_| std::future::ready(!shared.sink.is_stopped()))
            .for_each_concurrent(connections, |part| read_part(&shared, &budget, part))
            .await;
        shared.wait().await;
        let retries = std::mem::take(&mut *shared.retries());
        for (wanted, error) in retries {
            if shared.sink.is_stopped() {
                break;
            }
            retry(&shared, wanted, &error).await;
        }
        Ok(())
    }
}

/// Resolves contents to blobs with their places. Empty files are done at once, unknown blobs lost at once.
fn plan(repo: &Repository, files: Vec<Fetch>, sink: &Arc<dyn FetchSink>) -> (Vec<File>, Vec<Wanted>) {
    let index = repo.index();
    let mut by_id: HashMap<BlobId, usize> = HashMap::new();
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut plan = Vec::with_capacity(files.len());
    for (number, file) in files.into_iter().enumerate() {
        let (mut offset, mut missing) = (0, 0);
        for id in file.content {
            let at = by_id.get(&id).copied().or_else(|| {
                let location = index.all(BlobKind::Data, &id).into_iter().next()?;
                by_id.insert(id, wanted.len());
                wanted.push(Wanted { id, location, places: Vec::new() });
                Some(wanted.len() - 1)
            });
            let Some(at) = at else {
                let text = "no index names this blob".into();
                sink.lost(file.key, offset, 0, Problem { class: "blob-missing", what: id.to_string(), text });
                continue;
            };
            let length = u64::from(wanted[at].location.plaintext_length());
            if length_of_zeros(&id) == Some(length) {
                sink.hole(file.key, offset, length);
            } else {
                wanted[at].places.push(Place { file: number as u32, offset });
                missing += 1;
            }
            offset += length;
        }
        if missing == 0 {
            sink.done(file.key);
        }
        plan.push(File { key: file.key, missing: AtomicUsize::new(missing) });
    }
    wanted.retain(|wanted| !wanted.places.is_empty());
    (plan, wanted)
}

/// Neighbours in a pack become one read, up to a length.
fn parts(mut wanted: Vec<Wanted>, part_max: u64) -> Vec<Part> {
    wanted.sort_by_key(|wanted| (wanted.location.pack, wanted.location.offset));
    let mut parts: Vec<Part> = Vec::new();
    for wanted in wanted {
        let start = u64::from(wanted.location.offset);
        let end = start + u64::from(wanted.location.length);
        match parts.last_mut() {
            Some(part)
                if part.blobs[0].location.pack == wanted.location.pack
                    && start <= part.end + u64::from(GAP_MAX)
                    && end - part.start <= part_max =>
            {
                part.end = part.end.max(end);
                part.blobs.push(wanted);
            }
            _ => parts.push(Part { start, end, blobs: vec![wanted] }),
        }
    }
    parts
}

/// Reads one part and queues its blobs for the computing threads. The permit ends with the last of them.
async fn read_part(shared: &Arc<Shared>, budget: &ByteBudget, part: Part) {
    let Ok(permit) = budget.take((part.end - part.start) as usize).await else { return };
    let handle = part.blobs[0].location.pack.handle();
    let read = shared.repo.storage().read(handle.clone(), Some(part.start..part.end)).await;
    let (content, error) = match read.act(|| format!("read {handle}")) {
        Ok(content) => (content, None),
        Err(error) => (Bytes::new(), Some(chain(&error))),
    };
    let permit = Arc::new(permit);
    for wanted in part.blobs {
        if let Some(error) = &error {
            let error = RepoError::Missing(error.clone());
            shared.retries().push((wanted, error));
            continue;
        }
        let start = (u64::from(wanted.location.offset) - part.start) as usize;
        let sealed = content.slice(start..start + wanted.location.length as usize);
        spawn(shared, wanted, sealed, Arc::clone(&permit));
    }
}

fn spawn(shared: &Arc<Shared>, wanted: Wanted, sealed: Bytes, permit: Arc<Permit>) {
    shared.running.fetch_add(1, Ordering::AcqRel);
    let owner = Running(Arc::clone(shared));
    shared.threads.spawn(move || {
        let shared = &owner.0;
        let buffers = shared.threads.buffers();
        let mut scratch = buffers.take(wanted.location.length as usize);
        let mut plaintext = buffers.take(wanted.location.plaintext_length() as usize);
        match decode(shared.repo.master(), &wanted, &sealed, &mut scratch, &mut plaintext) {
            Ok(()) => shared.hand_out(&wanted.places, &plaintext),
            Err(error) => shared.retries().push((wanted, error)),
        }
        drop((sealed, permit));
    });
}

fn decode(
    key: &MasterKey,
    wanted: &Wanted,
    sealed: &[u8],
    scratch: &mut Vec<u8>,
    plaintext: &mut Vec<u8>,
) -> Result<()> {
    blob::decode_blob_into(key, sealed, wanted.location.uncompressed_length, wanted.id, scratch, plaintext)
        .map_err(|fault| RepoError::format(format!("blob {}", wanted.id.short()), fault))
}

/// Any other copy of a blob whose first one failed.
async fn retry(shared: &Arc<Shared>, wanted: Wanted, first: &RepoError) {
    let owner = Arc::clone(shared);
    match shared.repo.blob(BlobKind::Data, wanted.id).await {
        Ok(plaintext) => shared.threads.run(move || owner.hand_out(&wanted.places, &plaintext)).await,
        Err(error) => {
            let text = format!("{}; {}", chain(first), chain(&error));
            shared.threads.run(move || owner.give_up(&wanted, &text)).await;
        }
    }
}

impl Shared {
    fn hand_out(&self, places: &[Place], plaintext: &[u8]) {
        for place in places {
            let file = &self.files[place.file as usize];
            self.sink.write(file.key, place.offset, plaintext);
            self.count(file);
        }
    }

    fn give_up(&self, wanted: &Wanted, text: &str) {
        let length = u64::from(wanted.location.plaintext_length());
        for place in &wanted.places {
            let file = &self.files[place.file as usize];
            let problem = Problem { class: "blob-lost", what: wanted.id.to_string(), text: text.into() };
            self.sink.lost(file.key, place.offset, length, problem);
            self.count(file);
        }
    }

    fn count(&self, file: &File) {
        if file.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.sink.done(file.key);
        }
    }

    fn retries(&self) -> std::sync::MutexGuard<'_, Vec<(Wanted, RepoError)>> {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait(&self) {
        loop {
            let finished = self.finished.notified();
            tokio::pin!(finished);
            finished.as_mut().enable();
            if self.running.load(Ordering::Acquire) == 0 {
                return;
            }
            finished.await;
        }
    }
}

/// A blob on the computing threads.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.finished.notify_waiters();
        }
    }
}
