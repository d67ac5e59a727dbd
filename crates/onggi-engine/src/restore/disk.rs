//! A disk image in a snapshot as a tree: its partitions as directories `part1`, `part2`, and what is in them; of a disk
//! without partitions what is on it. Nothing is brought here but what is looked at, and nothing is mounted.
//!
//! Readers of file systems block, so they work on threads that may. One file system is open at a time.

use super::compare::fill;
use super::destination::Destination;
use super::origin::Content;
use super::tree::TreeEntry;
use crate::blobs::Blobs;
use crate::node;
use crate::report::chain;
use onggi_repo::{
    Compute, ContentReader, FetchSink, Problem, RepoError, Repository,
    format::{BlobId, BlobKind, Node, NodeKind, Time},
};
use onggi_source::disk::{Disk, DiskError, FileSystem, Journal, Part, Place, Run, Stat, Summary};
use onggi_source::openstack::image::ImageBytes;
use onggi_source::{Chunking, Item, Secrecy, TreePath, Version};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

/// The most of a content that is read at once, in bytes.
const PIECE: usize = 4 << 20;
/// Longer reads go past the cache: they are of contents, which are read once.
const CACHED_MAX: usize = 1 << 20;
/// How many entries are looked at in one go.
const STEP: usize = 128;
/// Of so many files it is remembered what room they take.
const ALLOCATED_MAX: usize = 1 << 16;

/// A disk in an image that a snapshot has.
#[derive(Clone)]
pub struct DiskTree {
    inner: Arc<Inner>,
}

struct Inner {
    repo: Repository,
    disk: Disk,
    /// Looked at once: a journal is read to its end for it.
    parts: OnceCell<Vec<DiskPart>>,
    /// The file system used last, by the index of its part.
    open: Mutex<Option<(usize, Arc<dyn FileSystem>)>>,
    /// Room that files take, by partition and inode.
    allocated: Mutex<HashMap<(u64, u64), u64>>,
}

/// A part of a disk, and what its file system says of itself.
#[derive(Debug)]
pub struct DiskPart {
    /// Where it is and what it seems to be.
    pub part: Part,
    /// Its directory in the tree; empty: the root.
    pub name: String,
    /// What is on it, or why it is not read.
    pub summary: Result<Summary, DiskError>,
}

impl std::fmt::Debug for DiskTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskTree").field("parts", &self.inner.disk.parts()).finish_non_exhaustive()
    }
}

/// The content of a stored file as an image.
struct StoredBytes {
    repo: Repository,
    runtime: Handle,
    reader: ContentReader,
    /// Of each chunk: the offset at which it ends.
    ends: Vec<(u64, BlobId)>,
    blobs: Blobs,
}

impl StoredBytes {
    fn new(repo: &Repository, content: &[BlobId]) -> Result<Self, RepoError> {
        let reader = repo.content_reader(content)?;
        let mut end = 0;
        let ends = content.iter().map(|id| {
            end += repo.blob_length(BlobKind::Data, id).map_or(0, u64::from);
            (end, *id)
        });
        let ends = ends.collect();
        Ok(Self { repo: repo.clone(), runtime: Handle::current(), reader, ends, blobs: Blobs::default() })
    }
}

impl ImageBytes for StoredBytes {
    fn read_exact_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.reader.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if buffer.len() > CACHED_MAX {
            return match self.runtime.block_on(self.reader.read_at(offset, buffer)) {
                Ok(count) if count == buffer.len() => Ok(()),
                Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => Err(io::Error::other(error)),
            };
        }
        let mut index = self.ends.partition_point(|(end, _)| *end <= offset);
        while !buffer.is_empty() {
            let (Some((end, id)), start) = (self.ends.get(index), index.checked_sub(1).map_or(0, |at| self.ends[at].0))
            else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let blob = self.runtime.block_on(self.blobs.get(&self.repo, *id, end - start));
            let blob = blob.map_err(io::Error::other)?;
            let part = blob.get((offset - start) as usize..).unwrap_or_default();
            let count = part.len().min(buffer.len());
            buffer[..count].copy_from_slice(&part[..count]);
            buffer = &mut buffer[count..];
            offset += count as u64;
            index += 1;
        }
        Ok(())
    }
}

impl DiskTree {
    /// Opens the image that a file of a snapshot is.
    pub async fn open(repo: &Repository, image: &Node) -> Result<Self, DiskError> {
        let bytes = StoredBytes::new(repo, image.chunks()).map_err(io::Error::other)?;
        let length = bytes.reader.len();
        let disk = blocking(move || Disk::open(Arc::new(bytes), length)).await?;
        let (parts, open, allocated) = (OnceCell::new(), Mutex::default(), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { repo: repo.clone(), disk, parts, open, allocated }) })
    }

    /// Where the image is.
    pub fn repository(&self) -> &Repository {
        &self.inner.repo
    }

    /// The parts of the disk, each with what its file system says of itself.
    pub async fn parts(&self) -> &[DiskPart] {
        let look = || {
            let inner = self.inner.clone();
            blocking(move || {
                let parts = inner.disk.parts().iter().enumerate();
                let look = |(index, part): (usize, &Part)| DiskPart {
                    part: part.clone(),
                    name: part.number.map_or_else(String::new, |number| format!("part{number}")),
                    summary: inner.file_system(index).map(|open| open.summary().clone()),
                };
                parts.map(look).collect()
            })
        };
        self.inner.parts.get_or_init(look).await
    }

    /// The entry at a path; the root has none and gives `None`, as does what is not there.
    pub async fn find(&self, path: &TreePath) -> Result<Option<TreeEntry>, DiskError> {
        let (inner, path) = (self.inner.clone(), path.clone());
        blocking(move || {
            let mut found = None;
            for (depth, name) in path.components().enumerate() {
                if depth == 0 && inner.has_partitions() {
                    found = inner.partitions().into_iter().find(|entry| entry.node.name == name);
                } else {
                    found = inner.child(found.as_ref(), name)?;
                }
                if found.is_none() {
                    break;
                }
            }
            Ok(found)
        })
        .await
    }

    /// The entries of a directory, of the root without one; and why there may be more.
    pub(super) async fn list(&self, directory: Option<&TreeEntry>) -> (DiskEntries, Option<DiskError>) {
        let (inner, directory) = (self.inner.clone(), directory.cloned());
        let mut entries =
            DiskEntries { inner: inner.clone(), part: 0, names: Vec::new().into_iter(), ready: Vec::new() };
        if directory.is_none() && inner.has_partitions() {
            let listed = blocking(move || inner.partitions()).await;
            entries.ready = listed.into_iter().rev().collect();
            return (entries, None);
        }
        let listed = blocking(move || {
            let (part, inode) = inner.place(directory.as_ref())?;
            let open = inner.file_system(part)?;
            let inode = inode.unwrap_or_else(|| open.root());
            open.list(inode).map(|listing| (part, listing))
        });
        match listed.await {
            Ok((part, listing)) => {
                (entries.part, entries.names) = (part, listing.entries.into_iter());
                (entries, listing.fault)
            }
            Err(error) => (entries, Some(error)),
        }
    }

    /// Bytes that a file takes, as its inode says; of one that was not looked at lately its length.
    pub(super) fn allocated(&self, node: &Node) -> u64 {
        let allocated = self.inner.allocated().get(&(node.device_id, node.inode)).copied();
        allocated.unwrap_or(node.size)
    }

    pub(super) async fn is_same(&self, destination: Arc<Destination>, path: TreePath, content: Content) -> bool {
        let inner = self.inner.clone();
        blocking(move || inner.is_same(&destination, &path, &content).unwrap_or(false)).await
    }

    pub(super) async fn fetch(&self, contents: Vec<Content>, sink: Arc<dyn FetchSink>, hands: Compute) {
        let inner = self.inner.clone();
        blocking(move || {
            for (key, content) in contents.iter().enumerate() {
                if sink.is_stopped() {
                    return;
                }
                inner.pour(key, content, &*sink, &hands);
            }
        })
        .await;
    }
}

async fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(job).await.expect("a reader of disks does not panic")
}

/// The entries of a directory on a disk, looked at when it is their turn.
pub struct DiskEntries {
    inner: Arc<Inner>,
    part: usize,
    names: std::vec::IntoIter<(Vec<u8>, u64)>,
    /// Those that were looked at, the last first.
    ready: Vec<TreeEntry>,
}

impl std::fmt::Debug for DiskEntries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskEntries").field("part", &self.part).field("left", &self.left()).finish_non_exhaustive()
    }
}

impl DiskEntries {
    pub(super) fn left(&self) -> usize {
        self.names.len() + self.ready.len()
    }

    pub(super) async fn next(&mut self) -> Option<TreeEntry> {
        if self.ready.is_empty() {
            let names: Vec<_> = self.names.by_ref().take(STEP).collect();
            if names.is_empty() {
                return None;
            }
            let (inner, part) = (self.inner.clone(), self.part);
            let look = move || names.into_iter().rev().map(|(name, inode)| inner.entry(part, name, inode)).collect();
            self.ready = blocking(look).await;
        }
        self.ready.pop()
    }
}

/// Fills a buffer from an offset of a file.
type ReadPiece<'a> = dyn Fn(u64, &mut [u8]) -> Result<(), DiskError> + 'a;

impl Inner {
    fn has_partitions(&self) -> bool {
        self.disk.parts().iter().any(|part| part.number.is_some())
    }

    fn allocated(&self) -> MutexGuard<'_, HashMap<(u64, u64), u64>> {
        self.allocated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file_system(&self, index: usize) -> Result<Arc<dyn FileSystem>, DiskError> {
        let open = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = open().as_ref().filter(|(known, _)| *known == index) {
            return Ok(known.clone());
        }
        let part = self.disk.parts().get(index).ok_or_else(|| DiskError::Unsupported("it is not there".into()))?;
        let opened = self.disk.file_system(part)?;
        *open() = Some((index, opened.clone()));
        Ok(opened)
    }

    /// What partition an entry is of, by its index.
    fn part(&self, number: u64) -> Result<usize, DiskError> {
        let number = u32::try_from(number).ok().filter(|number| *number != 0);
        let found = self.disk.parts().iter().position(|part| part.number == number);
        found.ok_or_else(|| DiskError::Unsupported("this partition is not there".into()))
    }

    /// The part and the inode of a directory; of a partition's none.
    fn place(&self, directory: Option<&TreeEntry>) -> Result<(usize, Option<u64>), DiskError> {
        let Some(entry) = directory else { return Ok((0, None)) };
        let inode = (entry.node.inode != 0).then_some(entry.node.inode);
        Ok((self.part(entry.node.device_id)?, inode))
    }

    /// The partitions as directories. One that is not read can be seen and not entered.
    fn partitions(&self) -> Vec<TreeEntry> {
        let parts = self.disk.parts().iter().enumerate();
        let entry = |(index, part): (usize, &Part)| {
            let number = part.number?;
            let name = format!("part{number}").into_bytes();
            let root = self.file_system(index).ok().map(|open| self.entry(index, name.clone(), open.root()));
            Some(root.filter(|root| root.node.kind == NodeKind::Dir).unwrap_or_else(|| {
                let mut node = Node::new(name, NodeKind::Dir, 0o755, Time::utc(jiff::Timestamp::UNIX_EPOCH));
                node.device_id = u64::from(number);
                TreeEntry { node, trees: Vec::new() }
            }))
        };
        parts.filter_map(entry).collect()
    }

    fn child(&self, directory: Option<&TreeEntry>, name: &[u8]) -> Result<Option<TreeEntry>, DiskError> {
        if directory.is_some_and(|entry| entry.node.kind != NodeKind::Dir) {
            return Ok(None);
        }
        let (part, inode) = self.place(directory)?;
        let open = self.file_system(part)?;
        let listing = open.list(inode.unwrap_or_else(|| open.root()))?;
        match listing.entries.into_iter().find(|(found, _)| found == name) {
            Some((name, inode)) => Ok(Some(self.entry(part, name, inode))),
            None => listing.fault.map_or(Ok(None), Err),
        }
    }

    /// An entry; one whose inode cannot be read is of a kind that is not restored.
    fn entry(&self, part: usize, name: Vec<u8>, inode: u64) -> TreeEntry {
        let number = self.disk.parts().get(part).and_then(|part| part.number).map_or(0, u64::from);
        let stat = self.file_system(part).and_then(|open| open.stat(inode));
        let node = match stat {
            Ok(stat) => self.node(stat, number),
            Err(error) => {
                tracing::debug!(inode, %error, "an inode cannot be read");
                let kind = NodeKind::Other("damaged inode".into());
                Node::new(Vec::new(), kind, 0, Time::utc(jiff::Timestamp::UNIX_EPOCH))
            }
        };
        TreeEntry { node: Node { name, inode, device_id: number, ..node }, trees: Vec::new() }
    }

    fn node(&self, stat: Stat, part: u64) -> Node {
        let (length, inode) = (stat.metadata.size, stat.metadata.inode.unwrap_or(0));
        let mut allocated = self.allocated();
        if allocated.len() >= ALLOCATED_MAX {
            allocated.clear();
        }
        allocated.insert((part, inode), stat.allocated);
        let item = Item {
            path: TreePath::root(),
            kind: stat.kind,
            metadata: stat.metadata,
            version: Version::Unknown,
            chunking: Chunking::Default,
            secrecy: Secrecy::Normal,
        };
        Node { size: length, ..node::of_item(&item) }
    }

    /// Brings a content to the sink. What cannot be read is told as lost.
    fn pour(&self, key: usize, content: &Content, sink: &dyn FetchSink, hands: &Compute) {
        let (mut done, mut buffer) = (0, Vec::new());
        let lost = |from: u64, to: u64, error: &DiskError| {
            let problem = Problem { class: "damaged", what: format!("inode {}", content.inode.1), text: chain(error) };
            hands.run_here(|| sink.lost(key, from, to - from, problem));
        };
        let mut take = |open: &dyn FileSystem, run: Run| {
            if run.offset > done {
                hands.run_here(|| sink.hole(key, done, run.offset - done));
            }
            done = run.offset + run.length;
            let at = match run.place {
                Place::Here(bytes) => {
                    hands.run_here(|| sink.write(key, run.offset, &bytes));
                    return Ok(());
                }
                Place::At(at) => at,
            };
            for from in (0..run.length).step_by(PIECE) {
                if sink.is_stopped() {
                    return Err(DiskError::Unsupported("stopped".into()));
                }
                buffer.resize((run.length - from).min(PIECE as u64) as usize, 0);
                let offset = run.offset + from;
                match open.read(at + from, &mut buffer) {
                    Ok(()) if buffer.iter().all(|byte| *byte == 0) => {
                        hands.run_here(|| sink.hole(key, offset, buffer.len() as u64));
                    }
                    Ok(()) => hands.run_here(|| sink.write(key, offset, &buffer)),
                    Err(error) => lost(offset, offset + buffer.len() as u64, &error),
                }
            }
            Ok(())
        };
        let read = self
            .part(content.inode.0)
            .and_then(|part| self.file_system(part))
            .and_then(|open| open.runs(content.inode.1, &mut |run| take(&*open, run)));
        match read {
            _ if sink.is_stopped() => return,
            Err(error) if content.length > done => lost(done, content.length, &error),
            Ok(()) if content.length > done => hands.run_here(|| sink.hole(key, done, content.length - done)),
            _ => {}
        }
        hands.run_here(|| sink.done(key));
    }

    /// Compares a file with a content, hole by hole and piece by piece.
    fn is_same(&self, destination: &Destination, path: &TreePath, content: &Content) -> Result<bool, DiskError> {
        let Ok(file) = destination.open_file(path) else { return Ok(false) };
        let (mut done, mut is_same, mut buffer, mut other) = (0, true, Vec::new(), Vec::new());
        let mut compare = |from: u64, to: u64, read: &ReadPiece<'_>| {
            for at in (from..to).step_by(PIECE) {
                let length = (to - at).min(PIECE as u64) as usize;
                buffer.resize(length, 0);
                other.resize(length, 0);
                read(at, &mut buffer)?;
                is_same = is_same && fill(&file, at, &mut other) == Ok(length) && buffer == other;
                if !is_same {
                    return Err(DiskError::Unsupported("it differs".into()));
                }
            }
            Ok(())
        };
        let zeros = |_, buffer: &mut [u8]| {
            buffer.fill(0);
            Ok(())
        };
        let open = self.file_system(self.part(content.inode.0)?)?;
        open.runs(content.inode.1, &mut |run| {
            compare(done, run.offset, &zeros)?;
            done = run.offset + run.length;
            match &run.place {
                Place::Here(bytes) => compare(run.offset, done, &|at, buffer| {
                    let from = (at - run.offset) as usize;
                    buffer.copy_from_slice(&bytes[from..from + buffer.len()]);
                    Ok(())
                }),
                Place::At(at) => {
                    compare(run.offset, done, &|offset, buffer| open.read(at + (offset - run.offset), buffer))
                }
            }
        })?;
        compare(done, content.length, &zeros)?;
        Ok(fill(&file, content.length, &mut [0]) == Ok(0))
    }
}

/// What became of the journal, where it matters.
pub fn journal_note(summary: &Summary) -> Option<String> {
    match &summary.journal {
        Journal::Empty | Journal::Replayed(0) => None,
        Journal::Replayed(blocks) => Some(format!("it was in use: {blocks} blocks are read from its journal")),
        Journal::Unread(why) if summary.kind == "xfs" => {
            Some(format!("{why}: what was changed shortly before may be missing or old if it was in use"))
        }
        Journal::Unread(why) => Some(format!("its journal cannot be used ({why}): the last changes are not seen")),
    }
}
