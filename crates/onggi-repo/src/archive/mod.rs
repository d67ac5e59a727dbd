//! Writing a snapshot: contents and items go in, in any order and from many tasks; a root tree comes out; committing it
//! is the last step of all.
//!
//! The way of the bytes: the caller reads into windows (bounded memory) → jobs on the computing threads scan them, cut,
//! hash, ask for duplicates, compress, seal, prove the seal, and fill packs → async uploads → index files. Jobs never
//! wait; what must wait for memory or the storage waits in async tasks.
//!
//! What can be committed is a type: `Archive::finish` gives a [`Finished`] only if nothing failed and no content was
//! interrupted, and only that has `commit`.

mod builder;
mod chunk;
mod claims;
mod commit;
mod content;
mod cut;
mod directory;
mod gather;
mod journal;
mod packer;
mod parent;
mod seal;
mod shared;
mod stats;
mod upload;
mod window;
mod writer;
mod zeros;

pub use commit::{Committed, Finished, SnapshotDraft};
pub use content::{ContentWriter, Cutting, PendingContent, StoredContent};
pub use parent::{Origin, ParentNode, is_unchanged};
pub use stats::ArchiveStats;
pub use window::{READ_AHEAD, WINDOW_LENGTH, WINDOW_MAX, Window};
pub(crate) use writer::Writer;
pub use zeros::{id_of_zeros, length_of_zeros};

use crate::{
    Repository, Result, WriteBudget,
    error::RepoError,
    format::{BlobId, BlobKind, ChunkSizes, Chunker, Chunking, Compression, Node, NodeKind, PackId, SnapshotId},
    lock::{Lock, LockKind},
    sabotage,
};
use builder::{Builder, Complete};
use claims::Reliance;
use gather::{Emptied, Gathered};
use journal::{Earlier, Journal};
use parent::Parents;
use shared::{Failure, Shared, Work};
use stats::add;
use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicUsize},
};
use tokio::sync::Notify;
use window::Windows;

/// How to write an archive.
#[derive(Debug, Clone)]
pub struct ArchiveOptions {
    /// Snapshots to compare with, the most alike first.
    pub parents: Vec<SnapshotId>,
    /// How hard to compress.
    pub compression: Compression,
    /// Memory of all archives that are written at once; who begins first decides.
    pub budget: WriteBudget,
    /// Where the run journal is; `None`: an interrupted run cannot be resumed.
    pub journal: Option<PathBuf>,
    /// A private folder for the spill file; `None`: directories that are not left stay in memory.
    pub spill: Option<PathBuf>,
    /// Uploads of all archives at once; `None`: what the storage says is useful.
    pub connections: Option<usize>,
    /// Reads, chunks and counts, but stores nothing.
    pub dry_run: bool,
}

impl Default for ArchiveOptions {
    fn default() -> Self {
        Self {
            parents: Vec::new(),
            compression: Compression::DEFAULT,
            budget: WriteBudget::STANDARD,
            journal: None,
            spill: None,
            connections: None,
            dry_run: false,
        }
    }
}

/// A snapshot being written. All methods may be called from many tasks at once. Dropping it commits nothing; what is
/// stored already will be found by the next run. Archives of one repository may be written at once: what several of them
/// find new is stored once, each is whole and proved by itself, and none suffers when another is dropped or fails.
pub struct Archive {
    shared: Arc<Shared>,
    parents: Parents,
    parent: Option<SnapshotId>,
    started: jiff::Timestamp,
    _writer: Arc<Writer>,
    _emptied: Emptied,
}

impl Archive {
    /// Starts an archive. The lock must be held and the index loaded, in this order, or blobs may be counted as stored
    /// that someone else just removed.
    pub async fn begin(repo: &Repository, lock: &Lock, options: ArchiveOptions) -> Result<Self> {
        debug_assert_ne!(lock.kind(), LockKind::Reading, "a writer needs more");
        lock.check()?;
        repo.check_version()?;
        let mut roots = Vec::new();
        for parent in &options.parents {
            roots.push(repo.snapshot(*parent).await?.tree);
        }
        let (journal, earlier) = match &options.journal {
            Some(path) => Journal::open(path, repo).map(|(journal, earlier)| (Some(journal), earlier))?,
            None => (None, None),
        };
        let (writer, shared) = share(repo, lock, &options, journal)?;
        let (earlier, stored): (Option<Earlier>, Option<Vec<PackId>>) = earlier.unzip();
        adopt(&shared, stored.unwrap_or_default()).await?;
        let parents = Parents::new(repo, roots, earlier);
        let started = repo.env().clock.now();
        let parent = options.parents.first().copied();
        Ok(Self { _emptied: Emptied(Arc::clone(&shared)), shared, parents, parent, started, _writer: writer })
    }

    /// What the journal of an interrupted run or a parent snapshot has at a path (components joined by `/`).
    pub async fn parent(&self, path: &[u8]) -> Result<Option<ParentNode>> {
        self.shared.check()?;
        Ok(self.parents.find(path).await)
    }

    /// Whether every chunk of a node is still stored and will stay.
    pub fn can_keep(&self, node: &Node) -> bool {
        node.chunks().iter().all(|id| self.shared.index.live(BlobKind::Data, id).is_some())
    }

    /// How far an interrupted run came with a long file, if the source's token is still the same: chunks from its start,
    /// as far as all of them are stored.
    pub fn resume(&self, path: &[u8], token: &str) -> Vec<(BlobId, u64)> {
        let mut chunks = self.parents.checkpoint(path, token);
        let is_lost = |(id, _): &(BlobId, u64)| self.shared.index.live(BlobKind::Data, id).is_none();
        chunks.truncate(chunks.iter().position(is_lost).unwrap_or(chunks.len()));
        chunks
    }

    /// Starts the content of a file. `length`: what it is expected to have, if known. Waits while too many long contents
    /// are being written.
    pub async fn content(&self, cutting: Cutting, length: Option<u64>) -> Result<ContentWriter> {
        ContentWriter::start(&self.shared, cutting, length).await
    }

    /// Adds a file. The node's content and size come from the content.
    pub async fn put_file(&self, path: &[u8], node: Node, content: PendingContent) -> Result<()> {
        self.shared.check()?;
        let counter = match self.parents.find(path).await {
            Some(before) if before.kind == NodeKind::File => &self.shared.counters.files_changed,
            _ => &self.shared.counters.files_new,
        };
        let path = path.to_vec();
        let taken = named(node, &path).and_then(|node| self.shared.builder().put_waiting(&path, node));
        if let Err(error) = taken {
            content.abandon();
            return Err(error);
        }
        add(counter, 1);
        let work = Work::begin(&self.shared);
        content.when_done(Box::new(move |shared, content| {
            resolve(shared, &path, content);
            drop(work);
        }));
        Ok(())
    }

    /// Adds a file with the content that a parent has; owner, mode, times and all else come from `node`. `false` if the
    /// repository has lost a part of that content: it must be read again.
    #[expect(clippy::unused_async, reason = "that it need not wait today is no promise")]
    pub async fn keep_file(&self, path: &[u8], node: Node, parent: &Node) -> Result<bool> {
        self.shared.check()?;
        if !parent.chunks().iter().all(|id| self.shared.use_stored(BlobKind::Data, id)) {
            return Ok(false);
        }
        let node = if sabotage::OLD_METADATA_KEPT.is_on() { parent.clone() } else { node };
        let mut node = named(node, path)?;
        node.content = Some(parent.chunks().to_vec());
        node.size = parent.size;
        self.shared.builder().put(path, &node)?;
        add(&self.shared.counters.files_unmodified, 1);
        add(&self.shared.counters.total_bytes_processed, node.size);
        // The journal need not have it: a run that goes on where this one ends has the same parent.
        Ok(true)
    }

    /// Adds a directory, a symlink, or anything else without content. The root itself has no metadata in this format.
    pub async fn put(&self, path: &[u8], node: Node) -> Result<()> {
        self.shared.check()?;
        if path.is_empty() && node.kind == NodeKind::Dir {
            return Ok(());
        }
        let node = named(node, path)?;
        if node.kind != NodeKind::Dir {
            add(&self.shared.counters.others, 1);
            return self.shared.builder().put(path, &node);
        }
        let before = self.parents.find(path).await.and_then(|before| before.subtree);
        self.shared.builder().put_directory(path, node, before)
    }

    /// Promises that nothing more comes below a directory. Its metadata may still come.
    #[expect(clippy::unused_async, reason = "that it need not wait today is no promise")]
    pub async fn leave(&self, path: &[u8]) -> Result<()> {
        self.shared.check()?;
        let complete = self.shared.builder().leave(path);
        seal_all(&self.shared, complete);
        Ok(())
    }

    /// Notes in the journal how far a long content came, so that an interrupted run can go on there. `token` says that
    /// the source's content is still the same.
    pub fn checkpoint(&self, path: &[u8], token: &str, content: &mut ContentWriter) {
        if let Some(journal) = &self.shared.journal {
            let (before, chunks) = content.take_chunks();
            journal.checkpoint(path, token, before, &chunks);
        }
    }

    /// Stores and announces what was found new so far, so that an interruption after this loses none of it.
    pub async fn flush(&self) -> Result<()> {
        self.store_all().await?;
        self.shared.repo.announce(&self.shared.index).await
    }

    /// Waits until all that was given so far is stored.
    async fn store_all(&self) -> Result<()> {
        // what was read last is still on its way to a pack
        self.shared.wait_until(Shared::is_packed).await?;
        packer::close_all(&self.shared.writing);
        self.shared.wait_until(Shared::is_stored).await
    }

    /// Figures so far.
    pub fn stats(&self) -> ArchiveStats {
        self.shared.counters.read()
    }

    /// Ends the archive: all contents hashed, all directories sealed, all packs stored, all index files written. Fails if
    /// anything failed or was interrupted at any time.
    pub async fn finish(self) -> Result<Finished> {
        let shared = &self.shared;
        self.leave(b"").await?;
        shared.wait_until(|shared| shared.builder().root().is_some()).await?;
        self.store_all().await?;
        if !sabotage::SNAPSHOT_BEFORE_INDEX.is_on() {
            shared.repo.announce(&shared.index).await?;
        }
        shared.check()?;
        let root = shared.builder().root().expect("waited for it");
        Ok(Finished::new(self, root))
    }
}

fn share(
    repo: &Repository,
    lock: &Lock,
    options: &ArchiveOptions,
    journal: Option<Journal>,
) -> Result<(Arc<Writer>, Arc<Shared>)> {
    let chunking = repo.config().chunking().map_err(|fault| RepoError::format("config", fault))?;
    let sizes = if let Chunking::Rabin(sizes) = chunking { sizes } else { ChunkSizes::DEFAULT };
    let writer = Writer::join(repo, options, sizes);
    let writing = &writer.writing;
    let spill = options
        .spill
        .clone()
        .map(|folder| (folder, format!("spill-{:032x}", u128::from_le_bytes(repo.env().random()))));
    let (journal, changed) = (journal.map(Arc::new), Arc::new(Notify::new()));
    let packs = writing.index.all_packs().len();
    let shared = Arc::new(Shared {
        index: Arc::clone(&writing.index),
        writing: Arc::clone(writing),
        lock: lock.watch(),
        compression: options.compression,
        chunking,
        chunker: Chunker::new(repo.config().polynomial, sizes),
        windows: Windows::new(Arc::clone(&writing.windows)),
        reliance: Arc::new(Reliance::new(packs, journal.clone(), Arc::clone(&changed))),
        gathered: Gathered::default(),
        builder: Mutex::new(Builder::new(writing.trees.clone(), spill)),
        counters: Arc::default(),
        journal,
        failure: Failure::default(),
        work: AtomicUsize::new(0),
        changed,
        repo: repo.clone(),
    });
    writing.enter(&shared);
    Ok((writer, shared))
}

/// Announces packs that an interrupted run stored without announcing them. Those that are not whole are left to prune.
async fn adopt(shared: &Arc<Shared>, packs: Vec<PackId>) -> Result<()> {
    for id in packs {
        if shared.index.pack(&id).is_some() {
            continue;
        }
        let Ok(info) = shared.repo.fresh().stat(id.handle()).await else { continue };
        match shared.repo.read_header(id, info.size).await {
            Ok(entries) => {
                if let Some((number, _)) = shared.index.add_pending(id, &entries) {
                    shared.reliance.use_pack(number);
                }
            }
            Err(error) if error.is_damage() || error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The node under the name of its path.
fn named(mut node: Node, path: &[u8]) -> Result<Node> {
    node.name = builder::split(path)?.1.to_vec();
    Ok(node)
}

/// A file's content is whole: renders the file, and seals its directory if that was the last one.
fn resolve(shared: &Arc<Shared>, path: &[u8], mut content: StoredContent) {
    add(&shared.counters.total_bytes_processed, content.length);
    let token = content.token.take();
    let resolved = shared.builder().resolve(path, content);
    match resolved {
        Err(error) => shared.fail(error),
        Ok((json, complete)) => {
            if let Some(journal) = &shared.journal {
                journal.file(path, &json, token.as_deref());
            }
            if let Some(complete) = complete {
                builder::seal(shared, complete);
            }
        }
    }
}

/// Directories sealed by one job.
const SEALED_AT_ONCE: usize = 16;

fn seal_all(shared: &Arc<Shared>, complete: Vec<Complete>) {
    let mut complete = complete.into_iter().peekable();
    while complete.peek().is_some() {
        let some: Vec<Complete> = complete.by_ref().take(SEALED_AT_ONCE).collect();
        let (owner, work) = (Arc::clone(shared), Work::begin(shared));
        shared.repo.env().compute.spawn(move || {
            for one in some {
                builder::seal(&owner, one);
            }
            drop(work);
        });
    }
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Archive into {:?}", self.shared.repo)
    }
}
